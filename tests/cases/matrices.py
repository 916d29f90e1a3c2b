"""Cases of operators on matrices."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]

_MICROSOFT = "com.microsoft"


def _turned(operator: str, domain: str = "", **attributes: int) -> Callable[[Net, str], str]:
    """The channels are columns of the matrices."""

    def middle(net: Net, x: str) -> str:
        last = net.add("Transpose", x, perm=[0, 2, 3, 1])
        return net.add("Transpose", net.add(operator, last, domain=domain, **attributes), perm=[0, 3, 1, 2])

    return middle


def _triangle(net: Net, x: str) -> str:
    return net.add("Trilu", x, net.constant(1), upper=0)


def _plain(operator: str, domain: str = "") -> Callable[[Net, str], str]:
    return lambda net, x: net.add(operator, x, domain=domain)


def _invertible(net: Net, x: str) -> str:
    """A diagonal is added that no other element reaches."""
    bounded = net.add("Tanh", x)
    diagonal = net.constant(np.eye(6) * 9, "f")
    return net.add("Inverse", net.add("Add", bounded, diagonal), domain=_MICROSOFT)


def _determinants(net: Net, x: str) -> str:
    return net.add("Unsqueeze", net.add("Det", net.add("Tanh", x)), net.constant([2, 3]))


def _diagonal(net: Net, x: str) -> str:
    flat = net.add("Flatten", net.add("GlobalMaxPool", x))
    return net.add("Add", x, net.add("Unsqueeze", net.add("EyeLike", flat), net.constant([2, 3])))


def _centres(metric: str) -> Callable[[], ModelProto]:
    """How far features are from five centres."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.gemm(net.input("n", 3), 6, 3)
        far = net.add("CDist", hidden, net.weight(5, 6), domain=_MICROSOFT, metric=metric)
        return net.done(net.gemm(far, 2, 5))

    return make


_MIXED = (("MIXED", 6),)
_CDIST = row("CDist", domain=_MICROSOFT)

CASES: tuple[Case, ...] = (
    Case(row("Trilu"), "of pictures", chain(_triangle), (6,)),
    Case(row("Trilu"), "of channels", chain(_turned("Trilu", upper=0)), (), _MIXED),
    Case(row("Trilu", domain=_MICROSOFT), "contributed", chain(_plain("Trilu", _MICROSOFT)), (6,)),
    Case(row("Det"), "of pictures", chain(_determinants), (6,)),
    Case(row("Inverse", domain=_MICROSOFT), "of pictures", chain(_invertible), (6,)),
    Case(row("EyeLike"), "of channels", chain(_diagonal), (), (("POSITION", 6),)),
    Case(_CDIST, "of features", _centres("sqeuclidean"), (5, 6), scaled=False),
    Case(_CDIST, "its root", _centres("euclidean"), (5, 6), scaled=False),
)
