"""What differs from one family of FPGAs to the next: multipliers, clock, cells and the steps of the flow."""
