"""Operators at the end of detectors, in spatial transformers and in losses: coordinates are read at run time.

Features keep their channels' labels: y[n, c, i] depends on x[·, c, ·] alone. Only coordinates are held.
"""

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = ["RULES", "affine_grid", "grid_sample", "loss", "non_max_suppression", "region_align", "region_pool"]


def non_max_suppression(op: Op) -> Answer:
    """The answer is made of positions along every axis of boxes and scores."""
    for place in (0, 1):
        op.hold(place, range(len(op.shape(place))))
    return op.nothing()


def region_align(op: Op) -> Answer:
    """RoiAlign, CropAndResize: y[r, c] is made of positions of x[b[r], c] in box r."""
    op.hold(0, [0, *range(2, len(op.shape(0)))], Purpose.RUNTIME)
    return op.merge([(0, {1: 1}), (1, {0: 0}), (2, {0: 0})], op.out_shape())


def region_pool(op: Op) -> Answer:
    """MaxRoiPool: as RoiAlign, each box with its picture's number."""
    op.hold(0, [0, *range(2, len(op.shape(0)))], Purpose.RUNTIME)
    return op.merge([(0, {1: 1}), (1, {0: 0})], op.out_shape())


def grid_sample(op: Op) -> Answer:
    """y[n, c, p] is x[n, c] at the place that the grid names for p."""
    op.hold(0, range(2, len(op.shape(0))), Purpose.RUNTIME)
    positions = {axis: axis + 1 for axis in range(1, len(op.shape(1)) - 1)}
    return op.merge([(0, {0: 0, 1: 1}), (1, {0: 0, **positions})], op.out_shape())


def affine_grid(op: Op) -> Answer:
    """Places of a grid, moved by one matrix for each of the batch."""
    return op.carry(0, {0: 0})


def loss(op: Op) -> Answer:
    """A loss in training: all classes are compared with the one that is wanted."""
    for place in op.inputs:
        op.hold(place, range(len(op.shape(place))), Purpose.MIXED)
    return [op.nothing(place) for place in range(len(op.node.output))]


RULES: tuple[Rule, ...] = (
    Rule("NonMaxSuppression", non_max_suppression),
    Rule("RoiAlign", region_align),
    Rule("CropAndResize", region_align, domain="com.microsoft"),
    Rule("MaxRoiPool", region_pool),
    Rule("GridSample", grid_sample),
    Rule("GridSample", grid_sample, domain="com.microsoft"),
    Rule("AffineGrid", affine_grid),
    Rule("NegativeLogLikelihoodLoss", loss),
    Rule("SoftmaxCrossEntropyLoss", loss),
)
