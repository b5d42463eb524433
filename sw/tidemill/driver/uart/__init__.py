"""The NPU of a board on a serial line: frames, retries, the device `uart:PORT` (`docs/fpga/link.md`)."""
