"""What hits the bins of the plan: one module a block. Nothing is sampled, and nothing costs time, unless coverage is
wanted (`collect.wanted`)."""
