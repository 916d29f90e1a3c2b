"""Operators of ONNX's first years that were experiments, and that onnxruntime still runs before opset 10."""

from onnxprune.ops.op import Op
from onnxprune.ops.pointwise import unary
from onnxprune.ops.rule import Answer, Rule

__all__ = ["RULES", "crop", "image_scaler"]


def image_scaler(op: Op) -> Answer:
    """ImageScaler: y[c] = s · x[c] + b[c], b being written in the node."""
    op.hold(0, [1])
    return op.same()


def crop(op: Op) -> Answer:
    """Crop: the borders of a picture go."""
    return op.carry(0, {0: 0, 1: 1})


RULES: tuple[Rule, ...] = (
    *(Rule(name, unary) for name in ("Affine", "ParametricSoftplus", "Scale", "ScaledTanh")),
    Rule("ImageScaler", image_scaler),
    Rule("Crop", crop),
)
