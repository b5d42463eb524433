"""The small system around the NPU that every board build uses: serial link, memory, arbiter (`docs/fpga/link.md`)."""
