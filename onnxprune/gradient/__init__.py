"""Derivatives of an ONNX graph, as another ONNX graph that onnxruntime runs; no framework takes part."""

from onnxprune.gradient.differentiate import RULES, Gradient, differentiate, raised
from onnxprune.gradient.losses import KINDS, Loss

__all__ = ["KINDS", "RULES", "Gradient", "Loss", "differentiate", "raised"]
