"""DeformConv: a convolution whose taps are moved, by offsets that groups of input channels share.

y[o] = Σ_i Σ_t w[o, i, t] · m[d(i), t] · x[i] at the place of t moved by p[d(i), t]; d(i) is the channel's offset group,
of each of which equally many channels have to stay.
"""

import numpy as np

from onnxprune.ops.convolution import convolve
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = ["RULES", "deformable"]


def deformable(op: Op) -> Answer:
    """W is (O, I/g, kernel…); inputs are x, W, offsets, bias and mask."""
    op.keep(2, 4)
    op.hold(0, [0])
    channels, groups = op.axis(0, 1), op.attribute("offset_group", 1)
    if channels is not None and groups > 1:
        op.balance(channels.reshape(groups, -1))
    return convolve(op, out_axis=0, in_axis=1, positions=int(np.prod(op.out_shape()[2:])), bias=3, alone=[])


RULES: tuple[Rule, ...] = (Rule("DeformConv", deformable),)
