"""Networks that run on the NPU out of the box."""
