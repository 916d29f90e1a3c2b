"""Einsum: a product of tensors, each axis with a letter; letters that the output lacks are summed over.

Axes that an ellipsis stands for are numbered from the last one, so that they are aligned as in broadcasting. Without
"->" the output has those of the ellipsis first, then the letters that occur once, in alphabetical order.
"""

from collections import Counter
from collections.abc import Sequence

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.product import Term, product
from onnxprune.ops.rule import Answer, Rule

__all__ = ["RULES", "einsum"]

_Letters = tuple[str, ...]
_DOTS = "..."


def _of_input(text: str, rank: int) -> _Letters:
    before, dots, after = text.partition(_DOTS)
    count = rank - len(before) - len(after) if dots else 0
    return (*before, *(str(number) for number in range(count - 1, -1, -1)), *after)


def _of_output(terms: Sequence[_Letters], spelled: str | None) -> _Letters:
    shared = max((tuple(name for name in term if name.isdigit()) for term in terms), key=len)
    if spelled is not None:
        before, dots, after = spelled.partition(_DOTS)
        return (*before, *(shared if dots else ()), *after)
    counts = Counter(name for term in terms for name in term if not name.isdigit())
    return (*shared, *sorted(name for name, count in counts.items() if count == 1))


def einsum(op: Op) -> Answer:
    """y = Σ Π xᵢ as the equation says."""
    inputs, arrow, output = op.attribute("equation").decode().replace(" ", "").partition("->")
    names = zip(op.inputs, inputs.split(","), strict=True)
    terms = [Term(place, _of_input(name, len(op.shape(place)))) for place, name in names]
    result = _of_output([term.letters for term in terms], output if arrow else None)
    fits = all(len(term.letters) == len(op.shape(term.place)) for term in terms)
    if not fits or len(set(result)) < len(result) or len(result) != len(op.out_shape()):
        for place in op.inputs:
            op.trace.pin_all(op.labels(place), Purpose.MIXED, op.site)
        return op.nothing()
    return product(op, terms, result)


RULES: tuple[Rule, ...] = (Rule("Einsum", einsum, since=12),)
