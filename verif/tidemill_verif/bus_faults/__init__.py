"""Bus errors, resets and stuck buses on the Verilated NPU: no hang, legal AXI, the right report, nothing lost."""
