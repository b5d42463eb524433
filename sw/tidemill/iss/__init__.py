"""The instruction set simulator: exact results, estimated cycles."""
