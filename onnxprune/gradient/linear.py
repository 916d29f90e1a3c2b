"""Derivatives of products of matrices.

Y = AB:  Ā = ȲBᵀ, B̄ = AᵀȲ        Y = αA′B′ + βC, A′ being A or Aᵀ: the same, with what is turned turned back
einsum:  the gradient of an operand is the einsum of ȳ and all others into the operand's own letters
"""

import re
import string

from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES"]


def _matmul(op: Op, made: Gradients) -> Gradients:
    b, (first, second), gradient = op.b, op.node.input, made[0]
    assert gradient is not None
    ranks = op.rank(first), op.rank(second)
    # Of vectors: as matrices of one row or column.
    left = b.unsqueeze(first, [0]) if ranks[0] == 1 else first
    right = b.unsqueeze(second, [1]) if ranks[1] == 1 else second
    if ranks[1] == 1:
        gradient = b.unsqueeze(gradient, [-1])
    if ranks[0] == 1:
        gradient = b.unsqueeze(gradient, [-2])
    wide = tuple(max(rank, 2) for rank in ranks)
    found = Gradients([None, None])
    if op.wants(0):
        own = b.op("MatMul", gradient, b.swapped(right, wide[1]))
        found[0] = _narrowed(op, own, 0, max(wide))
    if op.wants(1) and wide[1] == 2 and wide[0] > 2:
        rows = (b.reshape(part, b.concat([b.ints(-1), b.size(part, -1)])) for part in (left, gradient))
        found[1] = b.like(b.op("Gemm", *rows, transA=1), second)
    elif op.wants(1):
        own = b.op("MatMul", b.swapped(left, wide[0]), gradient)
        found[1] = _narrowed(op, own, 1, max(wide))
    return found


def _narrowed(op: Op, gradient: str, place: int, rank: int) -> str:
    """Sum over the axes of a batch that an operand was repeated along, and give it the operand's shape."""
    name, b, own = op.reads(place), op.b, op.rank(op.reads(place))
    lead = rank - max(own, 2)
    summed = op.sum_repeated(gradient, op.y, name, own - 2, lead)
    return b.like(b.reduce_sum(summed, list(range(lead)), keep=True), name)


def _gemm(op: Op, made: Gradients) -> Gradients:
    b, gradient = op.b, made[0]
    assert gradient is not None
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    turned = op.attribute("transA", 0), op.attribute("transB", 0)
    first, second = op.node.input[:2]
    found = Gradients([None] * len(op.node.input))
    if op.wants(0):
        pair = (second, gradient) if turned[0] else (gradient, second)
        flags = {"transA": turned[1], "transB": 1} if turned[0] else {"transB": 1 - turned[1]}
        found[0] = b.op("Gemm", *pair, alpha=alpha, **flags)
    if op.wants(1):
        pair = (gradient, first) if turned[1] else (first, gradient)
        flags = {"transA": 1, "transB": turned[0]} if turned[1] else {"transA": 1 - turned[0]}
        found[1] = b.op("Gemm", *pair, alpha=alpha, **flags)
    if op.wants(2):
        summed = op.sum_to(gradient, op.y, op.reads(2))
        found[2] = summed if beta == 1.0 else b.mul(summed, beta)
    return found


def _einsum(op: Op, made: Gradients) -> Gradients:
    terms, right = _letters(op)
    gradient, found = made[0], Gradients()
    assert gradient is not None
    for place, term in enumerate(terms):
        if not op.wants(place):
            found.append(None)
            continue
        others = [other for number, other in enumerate(terms) if number != place]
        names = [name for number, name in enumerate(op.node.input) if number != place]
        if not set(term) <= set("".join([right, *others])):  # what was summed over by itself
            others, names = [*others, term], [*names, op.b.add(op.b.zeros(op.reads(place)), 1.0)]
        found.append(op.b.op("Einsum", gradient, *names, equation=f"{','.join([right, *others])}->{term}"))
    return found


def _letters(op: Op) -> tuple[list[str], str]:
    """Letters of each operand and of the result, where axes without letters get some, too."""
    equation = op.attribute("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    letters = re.sub(r"[,.]", "", left)
    if not arrow:
        right = ("..." if "..." in left else "") + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    free = [letter for letter in string.ascii_letters if letter not in letters]
    terms, sizes = [], dict[str, int]()
    for term, name in zip(left.split(","), op.node.input, strict=True):
        count = op.rank(name) - len(term.replace("...", ""))
        own = term.replace("...", "".join(free[:count][::-1]))
        if len(set(own)) < len(own):
            raise op.refusal(f"its equation {equation!r} takes a diagonal", "write that out")
        for letter, size in zip(own, op.sizes(name), strict=True):
            if sizes.setdefault(letter, size) != size:
                raise op.refusal(f"its equation {equation!r} repeats an operand", "write that out")
        terms.append(own)
    count = op.rank(op.y) - len(right.replace("...", ""))
    return terms, right.replace("...", "".join(free[:count][::-1]))


RULES: dict[tuple[str, str], Rule] = {("", "MatMul"): _matmul, ("", "Gemm"): _gemm, ("", "Einsum"): _einsum}
