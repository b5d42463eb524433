"""The vector engine: elementwise operations, window folds, requantization, table look-up and lane reductions."""
