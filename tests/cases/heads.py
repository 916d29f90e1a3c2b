"""Cases of operators at the end of detectors and in spatial transformers."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]

_BOXES = [[0.5, 0.5, 3, 3], [1, 0, 4, 2], [0, 2, 2, 4]]


def _detector(*, second: bool) -> Callable[[], ModelProto]:
    """Boxes and scores at every position, the best of which are told, or looked at closer."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.add("Relu", net.conv(net.input(1, 3, 6, 6), 6, 3))
        boxes = net.add("Reshape", net.add("Sigmoid", net.conv(hidden, 4, 6)), net.constant([1, 4, 36]))
        boxes = net.add("Transpose", boxes, perm=[0, 2, 1])
        scores = net.add("Reshape", net.add("Sigmoid", net.conv(hidden, 2, 6)), net.constant([1, 2, 36]))
        limits = net.constant([5]), net.constant([0.5], "f"), net.constant([0.1], "f")
        found = net.add("NonMaxSuppression", boxes, scores, *limits, center_point_box=1)
        if not second:
            return net.done(found, net.add("ReduceSum", scores, net.constant([2])))
        place = net.add("Gather", found, net.constant(2), axis=1)
        regions = net.add("Gather", net.add("Squeeze", boxes, net.constant([0])), place)
        picture = net.add("Gather", found, net.constant(0), axis=1)
        crops = net.add("RoiAlign", hidden, regions, picture, output_height=2, output_width=2)
        features = net.add("Relu", net.gemm(net.add("Flatten", crops), 7, 24))
        return net.done(net.gemm(features, 3, 7))

    return make


def _regions(operator: str, *, opset: int = 17, **attributes: object) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        pictures = net.constant([0, 0, 0])
        return net.add(operator, x, net.constant(_BOXES, "f"), pictures, **attributes)

    return middle


def _pooled_regions(net: Net, x: str) -> str:
    regions = net.constant(np.pad(np.array(_BOXES), ((0, 0), (1, 0))), "f")
    return net.add("MaxRoiPool", x, regions, pooled_shape=[2, 2])


def _cropped(net: Net, x: str) -> str:
    regions, pictures = net.constant(np.array(_BOXES) / 4, "f"), net.constant([0, 0, 0], np.int32)
    return net.add("CropAndResize", x, regions, pictures, net.constant([3, 3], np.int32), domain="com.microsoft")


def _sampled(domain: str = "", opset: int = 17, **attributes: object) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(opset)
        hidden = net.conv(net.input("n", 3, 6, 6), 6, 3)
        grid = net.add("Tanh", net.input("n", 4, 5, 2))
        return net.done(net.conv(net.add("GridSample", hidden, grid, domain=domain, **attributes), 4, 6))

    return make


def _sampled_volume() -> ModelProto:
    net = Net(20)
    hidden = net.conv(net.input("n", 3, 4, 4, 4), 6, 3, kernel=(1, 1, 1))
    sampled = net.add("GridSample", hidden, net.add("Tanh", net.input("n", 3, 4, 5, 3)))
    return net.done(net.conv(sampled, 4, 6, kernel=(1, 1, 1)))


def _transformer() -> ModelProto:
    """A network turns its own features round."""
    net = Net(20)
    hidden = net.conv(net.input("n", 3, 6, 6), 6, 3)
    pooled = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", net.conv(hidden, 5, 6))))
    matrices = net.add("Reshape", net.gemm(pooled, 6, 5), net.constant([-1, 2, 3]))
    grid = net.add("AffineGrid", matrices, net.add("Shape", hidden))
    return net.done(net.conv(net.add("GridSample", hidden, grid), 4, 6))


def _loss(operator: str, outputs: int = 1) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net()
        scores = net.conv(net.input("n", 3, 4, 4), 6, 3)
        if operator == "NegativeLogLikelihoodLoss":
            scores = net.add("LogSoftmax", scores, axis=1)
        wanted = net.input("n", 4, 4, kind=7)
        return net.done(net.many(operator, outputs, scores, wanted, net.weight(6))[0])

    return make


_HEAD = (("POSITION", 2), ("POSITION", 4))
_ALIGN = {"output_height": 2, "output_width": 2, "sampling_ratio": 2}

CASES: tuple[Case, ...] = (
    Case(row("NonMaxSuppression"), "told", _detector(second=False), (6,), _HEAD[1:]),
    Case(row("NonMaxSuppression"), "two stages", _detector(second=True), (6, 7), _HEAD),
    Case(row("RoiAlign"), "opset 10", chain(_regions("RoiAlign", **_ALIGN), opset=10), (6,)),
    Case(row("RoiAlign"), "maxima", chain(_regions("RoiAlign", mode="max", **_ALIGN)), (6,)),
    Case(row("CropAndResize", domain="com.microsoft"), "of a layer", chain(_cropped), (6,)),
    Case(row("MaxRoiPool"), "of a layer", chain(_pooled_regions), (6,)),
    Case(row("GridSample"), "opset 16", _sampled(opset=16, mode="bilinear"), (6,)),
    Case(row("GridSample"), "nearest, aligned", _sampled(opset=20, mode="nearest", align_corners=1), (6,)),
    Case(row("GridSample"), "a volume", _sampled_volume, (6,)),
    Case(row("GridSample", domain="com.microsoft"), "contributed", _sampled("com.microsoft"), (6,)),
    Case(row("AffineGrid"), "spatial transformer", _transformer, (5, 6), (("POSITION", 3),)),
    Case(row("NegativeLogLikelihoodLoss"), "of scores", _loss("NegativeLogLikelihoodLoss"), (), (("MIXED", 6),)),
    Case(row("SoftmaxCrossEntropyLoss"), "of scores", _loss("SoftmaxCrossEntropyLoss"), (), (("MIXED", 6),)),
    Case(
        row("SoftmaxCrossEntropyLoss"),
        "with probabilities",
        _loss("SoftmaxCrossEntropyLoss", 2),
        (),
        (("MIXED", 6),),
    ),
)
