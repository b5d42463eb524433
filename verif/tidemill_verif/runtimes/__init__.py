"""Outside runtimes as references: one-operator models for TensorFlow Lite Micro and ONNX Runtime."""
