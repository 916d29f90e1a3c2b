"""Shapes of all tensors, and the sizes that follow from the file: where ONNX's own inference stops, this goes on."""
