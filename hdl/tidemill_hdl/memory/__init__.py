"""Local memories: scratchpad and accumulators, built from banks behind fixed-priority arbiters."""
