"""Functional and code coverage of the hardware: the plan, its sampling, merging and the report."""
