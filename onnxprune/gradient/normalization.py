"""Derivatives of normalisations and of softmax.

batch (inference)   y = (x − μ)·r·γ + β,  r = 1/√(σ² + ε):         x̄ = ȳ·γ·r,  μ̄ = −γr Σȳ,  σ̄² = −γr²/2 Σȳx̂
over axes           x̂ = (x − mean)/deviation, y = x̂·γ + β, ĝ = ȳ·γ:  x̄ = (ĝ − mean ĝ − x̂ · mean(ĝx̂))/deviation
root mean square    the same without the means of x and of ĝ
softmax             x̄ = y·(ȳ − Σ ȳy)          log-softmax  x̄ = ȳ − eʸ Σ ȳ
Lp (p = 2)          x̄ = (ȳ − y Σ ȳy)/‖x‖
LRN                 y = x·d^−β, d = k + α/n Σ x² around:  x̄ = ȳ·d^−β − 2αβ/n · x Σ ȳy/d around
"""

from collections.abc import Sequence

from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES"]


def _along(op: Op, vector: str, rank: int) -> str:
    """A number per channel, laid along the second axis."""
    return op.b.unsqueeze(vector, list(range(1, rank - 1)))


def _batch(op: Op, made: Gradients) -> Gradients:
    b, rank, gradient = op.b, op.rank(op.x), made[0]
    assert gradient is not None
    if op.attribute("training_mode", 0):
        raise op.refusal("it is in training mode", "export the network for inference")
    scale, mean, variance = op.reads(1), op.reads(3), op.reads(4)
    factor = b.op("Reciprocal", b.op("Sqrt", b.add(variance, op.attribute("epsilon", 1e-5))))
    others = [axis for axis in range(rank) if axis != 1]
    found, rate = Gradients([None] * 5), b.mul(scale, factor)
    if op.wants(0):
        found[0] = b.mul(gradient, _along(op, rate, rank))
    if op.wants(1) or op.wants(4):
        moved = b.mul(gradient, b.sub(op.x, _along(op, mean, rank)))
        along = b.mul(b.reduce_sum(moved, others, keep=False), factor)
        found[1], found[4] = along, b.mul(along, rate, factor, -0.5)
    if op.wants(2) or op.wants(3):
        total = b.reduce_sum(gradient, others, keep=False)
        found[2], found[3] = total, b.op("Neg", b.mul(total, rate))
    return found


def _standard(op: Op, x: str, axes: Sequence[int], *, centred: bool) -> tuple[str, str]:
    """x̂, and one over the deviation."""
    b = op.b
    moved = b.sub(x, b.mean(x, axes)) if centred else x
    spread = b.add(b.mean(b.square(moved), axes), op.attribute("epsilon", 1e-5))
    inverse = b.op("Reciprocal", b.op("Sqrt", spread))
    return b.mul(moved, inverse), inverse


def _back(op: Op, gradient: str, standard: tuple[str, str], axes: Sequence[int], *, centred: bool) -> str:
    """Gradient of x from that of x̂."""
    b, (value, inverse) = op.b, standard
    rest = b.sub(gradient, b.mul(value, b.mean(b.mul(gradient, value), axes)))
    if centred:
        rest = b.sub(rest, b.mean(gradient, axes))
    return b.mul(rest, inverse)


def _over_last(*, centred: bool) -> Rule:
    """Rule of what is taken over the last axes, from one on."""

    def rule(op: Op, made: Gradients) -> Gradients:
        b, rank, gradient = op.b, op.rank(op.x), made[0]
        if gradient is None or any(made[1:]):
            raise op.refusal("its statistics are read, too", "write it out")
        axes = list(range(op.attribute("axis", -1) % rank, rank))
        standard = _standard(op, op.x, axes, centred=centred)
        found = Gradients([None] * len(op.node.input))
        if op.wants(0):
            inner = b.mul(gradient, op.reads(1)) if op.reads(1) else gradient
            found[0] = _back(op, inner, standard, axes, centred=centred)
        if op.wants(1):
            found[1] = op.sum_to(b.mul(gradient, standard[0]), op.x, op.reads(1))
        if op.wants(2):
            found[2] = op.sum_to(gradient, op.x, op.reads(2))
        return found

    return rule


def _instance(op: Op, made: Gradients) -> Gradients:
    return _per_picture(op, made, op.x, list(range(2, op.rank(op.x))), each=True)


def _group(op: Op, made: Gradients) -> Gradients:
    groups = op.attribute("num_groups")
    grouped = op.b.reshape(op.x, [0, groups, -1])
    return _per_picture(op, made, grouped, [2], each=op.b.opset >= 21)


def _per_picture(op: Op, made: Gradients, x: str, axes: Sequence[int], *, each: bool) -> Gradients:
    """Of what is taken over parts of each picture; scale and shift for each channel, or each part."""
    b, rank, gradient = op.b, op.rank(op.x), made[0]
    assert gradient is not None

    def laid(vector: str) -> str:
        return _along(op, vector, rank)

    def parted(tensor: str) -> str:
        return tensor if x == op.x else b.like(tensor, x)

    standard = _standard(op, x, axes, centred=True)
    scaled = b.mul(gradient, laid(op.reads(1))) if each else gradient
    inner = parted(scaled) if each else b.mul(parted(gradient), b.unsqueeze(op.reads(1), [1]))
    found = Gradients([None] * 3)
    if op.wants(0):
        found[0] = b.like(_back(op, inner, standard, axes, centred=True), op.x)
    others = [axis for axis in range(rank) if axis != 1] if each else [0, 2]
    own, value = (gradient, b.like(standard[0], op.x)) if each else (parted(gradient), standard[0])
    if op.wants(1):
        found[1] = b.reduce_sum(b.mul(own, value), others, keep=False)
    if op.wants(2):
        found[2] = b.reduce_sum(own, others, keep=False)
    return found


def _softmax(op: Op, made: Gradients) -> Gradients:
    b, axis = op.b, op.attribute("axis", -1) % op.rank(op.x)
    assert made[0] is not None
    return [b.mul(op.y, b.sub(made[0], b.reduce_sum(b.mul(made[0], op.y), [axis], keep=True)))]


def _log_softmax(op: Op, made: Gradients) -> Gradients:
    b, axis = op.b, op.attribute("axis", -1) % op.rank(op.x)
    assert made[0] is not None
    return [b.sub(made[0], b.mul(b.op("Exp", op.y), b.reduce_sum(made[0], [axis], keep=True)))]


def _norm(op: Op, made: Gradients) -> Gradients:
    b, axis = op.b, op.attribute("axis", -1) % op.rank(op.x)
    assert made[0] is not None
    if op.attribute("p", 2) != 2:
        raise op.refusal("its norm is not Euclidean", "write it out")
    length = b.op("Sqrt", b.reduce_sum(b.square(op.x), [axis], keep=True))
    along = b.reduce_sum(b.mul(made[0], op.y), [axis], keep=True)
    return [b.div(b.sub(made[0], b.mul(op.y, along)), length)]


def _local(op: Op, made: Gradients) -> Gradients:
    b, size = op.b, op.attribute("size")
    assert made[0] is not None
    alpha, beta = op.attribute("alpha", 1e-4), op.attribute("beta", 0.75)
    ahead, behind = (size - 1) // 2, size // 2

    def windowed(tensor: str, pads: Sequence[int]) -> str:
        """Sum over the channels around each."""
        rows = b.reshape(tensor, b.concat([b.size(op.x, 0), b.ints(1), b.size(op.x, 1), b.ints(-1)]))
        own = [pads[0], 0, pads[1], 0]
        mean = b.op("AveragePool", rows, kernel_shape=[size, 1], pads=own, count_include_pad=1)
        return b.like(b.mul(mean, float(size)), op.x)

    base = b.add(b.mul(windowed(b.square(op.x), (ahead, behind)), alpha / size), op.attribute("bias", 1.0))
    around = windowed(b.div(b.mul(made[0], op.y), base), (behind, ahead))
    own = b.mul(made[0], b.op("Pow", base, -beta))
    return [b.sub(own, b.mul(op.x, around, 2.0 * alpha * beta / size))]


RULES: dict[tuple[str, str], Rule] = {
    ("", "BatchNormalization"): _batch,
    ("", "LayerNormalization"): _over_last(centred=True),
    ("", "RMSNormalization"): _over_last(centred=False),
    ("", "SimplifiedLayerNormalization"): _over_last(centred=False),
    ("", "InstanceNormalization"): _instance,
    ("", "GroupNormalization"): _group,
    ("", "LpNormalization"): _norm,
    ("", "LRN"): _local,
    ("", "Softmax"): _softmax,
    ("", "LogSoftmax"): _log_softmax,
}
