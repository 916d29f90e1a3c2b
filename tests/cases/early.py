"""Cases of operators of ONNX's first years."""

from collections.abc import Callable
from typing import Any

from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]


def _plain(operator: str, **attributes: Any) -> Callable[[], ModelProto]:
    return chain(lambda net, x: net.add(operator, x, **attributes), opset=9)


_BIASES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]

CASES: tuple[Case, ...] = (
    *(
        Case(row(name), "plain", _plain(name, alpha=0.5, beta=1.5), (6,))
        for name in ("Affine", "ParametricSoftplus", "ScaledTanh")
    ),
    Case(row("Scale"), "plain", _plain("Scale", scale=0.5), (6,)),
    Case(row("ImageScaler"), "of a layer", _plain("ImageScaler", scale=0.5, bias=_BIASES), (), (("POSITION", 6),)),
    Case(row("Crop"), "borders", _plain("Crop", border=[1, 0, 1, 2]), (6,)),
    Case(row("Crop"), "to a size", _plain("Crop", border=[1, 1, 1, 1], scale=[3, 2]), (6,)),
)
