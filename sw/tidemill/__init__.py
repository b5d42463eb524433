"""Tidemill: an open NPU and everything around it."""
