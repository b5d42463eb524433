"""The target `axi`: the NPU as one Verilog file with AXI ports, for any system on chip."""
