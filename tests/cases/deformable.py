"""Cases of DeformConv."""

from collections.abc import Callable

from net import Net
from onnx import ModelProto

from cases.case import Case, row

__all__ = ["CASES"]


def _deformable(
    *, group: int = 1, offsets: int = 1, mask: bool = True, bias: bool = True, opset: int = 19, depthwise: bool = False
) -> Callable[[], ModelProto]:
    """A layer of eight channels finds out where another looks at it."""

    def make() -> ModelProto:
        net = Net(opset)
        hidden = net.add("Relu", net.conv(net.input("n", 3, 5, 5), 8, 3))
        moved = net.conv(hidden, offsets * 18, 8, kernel=(3, 3), pads=[1] * 4)
        weighed = net.add("Sigmoid", net.conv(hidden, offsets * 9, 8, kernel=(3, 3), pads=[1] * 4)) if mask else ""
        made, groups = (8, 8) if depthwise else (6, group)
        more = [net.weight(made) if bias else "", *([weighed] if mask else [])]
        result = net.add(
            "DeformConv",
            hidden,
            net.weight(made, 8 // groups, 3, 3),
            moved,
            *more,
            pads=[1] * 4,
            group=groups,
            offset_group=offsets,
            kernel_shape=[3, 3],
        )
        return net.done(net.conv(net.add("Relu", result), 4, made))

    return make


_HEAD = (("POSITION", 9), ("POSITION", 18))
_TWO = (("POSITION", 18), ("POSITION", 36))
_ROW = row("DeformConv")

CASES: tuple[Case, ...] = (
    Case(_ROW, "with mask and bias", _deformable(), (6, 8), _HEAD),
    Case(_ROW, "without mask and bias", _deformable(mask=False, bias=False, opset=22), (6, 8), _HEAD[1:]),
    Case(_ROW, "grouped", _deformable(group=2), (6, 8), _HEAD),
    Case(_ROW, "two groups of offsets", _deformable(offsets=2), (6, 8), _TWO),
    Case(_ROW, "grouped, two groups of offsets", _deformable(group=2, offsets=2), (6, 8), _TWO),
    Case(_ROW, "depthwise", _deformable(depthwise=True), (8,), _HEAD),
    Case(_ROW, "depthwise, two groups of offsets", _deformable(depthwise=True, offsets=2), (8,), _TWO),
)
