"""A whole board in Verilator behind a pseudo-terminal: the driver cannot tell it from one on a cable."""
