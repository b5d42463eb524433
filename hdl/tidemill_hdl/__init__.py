"""The Tidemill NPU in Amaranth: one block, one file, one public component."""
