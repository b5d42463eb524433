"""The driver: what a host does to run programs, on every kind of device."""
