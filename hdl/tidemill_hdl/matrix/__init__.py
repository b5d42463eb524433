"""The matrix engine: a weight-stationary systolic array and what feeds it."""
