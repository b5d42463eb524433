"""Drivers and monitors that the benches share."""
