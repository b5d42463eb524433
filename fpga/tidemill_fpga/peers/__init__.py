"""Systolic arrays side by side in one flow: ours in several shapes, and published ones."""
