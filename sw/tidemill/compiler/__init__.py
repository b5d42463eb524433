"""The compiler: from a TFLite or ONNX model to a program for the NPU."""
