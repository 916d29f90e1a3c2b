"""Writes nodes: one method per thing that a formula says, constants and names kept apart from those of the network.

A tensor is its name. Where a formula has a number, it may stand in a method's place of a tensor; it gets the type of
the tensor beside it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Builder", "Term"]

Term = str | float
"""A tensor by its name, or a number."""


class Builder:
    """Nodes and constants to be added to a network of operator set 17 or above.

    Parameters
    ----------
    opset : int
    taken : iterable of str
        Names that the network has.
    types : dict of str to int
        Element types of the network's tensors; those of new ones are added.
    prefix : str
        Of all new names.
    """

    def __init__(self, opset: int, taken: Iterable[str], types: dict[str, int], prefix: str = "gradient/") -> None:
        self.opset, self.prefix, self.types = opset, prefix, types
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[Any, ...], TensorProto] = {}
        self._taken = set(taken)
        self._number = 0

    # ---- names, constants, nodes ------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """Return a name that nothing has."""
        name = f"{self.prefix}{hint}"
        while name in self._taken:
            self._number += 1
            name = f"{self.prefix}{hint}_{self._number}"
        self._taken.add(name)
        return name

    def constant(self, value: Any, kind: int) -> str:
        """Store a value of some element type, once."""
        array = np.ascontiguousarray(value, dtype=helper.tensor_dtype_to_np_dtype(kind)).reshape(np.shape(value))
        key = (kind, array.shape, array.tobytes())
        if key not in self.constants:
            name = self.fresh("constant")
            self.constants[key] = numpy_helper.from_array(array, name)
            self.types[name] = kind
        return self.constants[key].name

    def ints(self, *values: int) -> str:
        """Store whole numbers as a list."""
        return self.constant(list(values), TensorProto.INT64)

    def make(self, operator: str, inputs: Sequence[str], count: int = 1, *, domain: str = "", **more: Any) -> list[str]:
        """Add a node with some outputs."""
        made = [self.fresh(operator) for _ in range(count)]
        self.nodes.append(helper.make_node(operator, list(inputs), made, domain=domain, **more))
        kind = next((self.types[name] for name in inputs if name in self.types), TensorProto.FLOAT)
        self.types.update(dict.fromkeys(made, kind))
        return made

    def op(self, operator: str, *terms: Term, kind: int = 0, **more: Any) -> str:
        """Add a node with one output of the first tensor's element type, or of type `kind`."""
        beside = next((self.types[t] for t in terms if isinstance(t, str) and t in self.types), TensorProto.FLOAT)
        inputs = [term if isinstance(term, str) else self.constant(term, beside) for term in terms]
        made = self.make(operator, inputs, **more)[0]
        self.types[made] = kind or beside
        return made

    # ---- arithmetic -------------------------------------------------------------------------------------------------

    def add(self, *terms: Term) -> str:
        """Sum of all."""
        return self._chained("Add", terms)

    def sub(self, first: Term, second: Term) -> str:
        """Difference."""
        return self.op("Sub", first, second)

    def mul(self, *terms: Term) -> str:
        """Product of all."""
        return self._chained("Mul", terms)

    def _chained(self, operator: str, terms: Sequence[Term]) -> str:
        found = terms[0]
        for term in terms[1:]:
            found = self.op(operator, found, term)
        assert isinstance(found, str)
        return found

    def div(self, first: Term, second: Term) -> str:
        """Quotient."""
        return self.op("Div", first, second)

    def square(self, term: str) -> str:
        """Square."""
        return self.op("Mul", term, term)

    def where(self, condition: str, yes: Term, no: Term) -> str:
        """Of two tensors, one of which may be a number, the first where a condition holds."""
        kind = next(self.types[term] for term in (yes, no) if isinstance(term, str))
        inputs = [term if isinstance(term, str) else self.constant(term, kind) for term in (yes, no)]
        return self.op("Where", condition, *inputs, kind=kind)

    def compare(self, operator: str, first: Term, second: Term) -> str:
        """Truth of a comparison."""
        return self.op(operator, first, second, kind=TensorProto.BOOL)

    def cast(self, term: str, kind: int) -> str:
        """The same of another element type."""
        return term if self.types.get(term) == kind else self.op("Cast", term, kind=kind, to=kind)

    # ---- sums and shapes --------------------------------------------------------------------------------------------

    def reduce_sum(self, term: str, axes: Sequence[int], *, keep: bool) -> str:
        """Sum over axes; over none the tensor itself."""
        return self.op("ReduceSum", term, self.ints(*axes), keepdims=int(keep)) if axes else term

    def sum_where_one(self, term: str, other: str, lead: int) -> str:
        """Sum over those axes, which stay, that another tensor, without the first `lead`, has of size one."""
        ones = self.op("NonZero", self.compare("Equal", self.shape(other), 1), kind=TensorProto.INT64)
        axes = self.add(self.reshape(ones, [-1]), lead)
        return self.op("ReduceSum", term, axes, keepdims=1, noop_with_empty_axes=1)

    def total(self, term: str) -> str:
        """Sum of all, a number."""
        return self.op("ReduceSum", term, keepdims=0)

    def mean(self, term: str, axes: Sequence[int]) -> str:
        """Mean over axes, which stay."""
        return self._reduced("ReduceMean", term, axes)

    def largest(self, term: str, axes: Sequence[int]) -> str:
        """Largest over axes, which stay."""
        return self._reduced("ReduceMax", term, axes)

    def shape(self, term: str, start: int = 0, end: int | None = None) -> str:
        """Sizes of some axes, as a list."""
        more = {"start": start} | ({} if end is None else {"end": end})
        return self.op("Shape", term, kind=TensorProto.INT64, **more)

    def size(self, term: str, axis: int) -> str:
        """Size of one axis, as a list of one."""
        return self.shape(term, axis, axis + 1) if axis != -1 else self.shape(term, -1)

    def product(self, term: str) -> str:
        """Product of a list of sizes, as a list of one."""
        return self._reduced("ReduceProd", term, [0])

    def _reduced(self, operator: str, term: str, axes: Sequence[int]) -> str:
        """A reduction whose axes are an input from operator set 18 on, and stay."""
        if self.opset >= 18:
            return self.op(operator, term, self.ints(*axes), keepdims=1)
        return self.op(operator, term, axes=list(axes), keepdims=1)

    def reshape(self, term: str, sizes: Sequence[int] | str) -> str:
        """The same elements in another shape, a zero taking over a size."""
        return self.op("Reshape", term, sizes if isinstance(sizes, str) else self.ints(*sizes))

    def like(self, term: str, other: str) -> str:
        """The same elements in the shape of another tensor."""
        return self.reshape(term, self.shape(other))

    def transpose(self, term: str, order: Sequence[int]) -> str:
        """Axes in another order."""
        return term if list(order) == sorted(order) else self.op("Transpose", term, perm=list(order))

    def unsqueeze(self, term: str, axes: Sequence[int]) -> str:
        """Further axes of size one."""
        return self.op("Unsqueeze", term, self.ints(*axes)) if axes else term

    def concat(self, terms: Sequence[str], axis: int = 0) -> str:
        """One behind the other along an axis."""
        return terms[0] if len(terms) == 1 else self.op("Concat", *terms, axis=axis)

    def expand(self, term: str, other: str) -> str:
        """Repeated to the shape of another tensor."""
        return self.op("Expand", term, self.shape(other))

    def slice(self, term: str, starts: str, ends: str, axes: Sequence[int], steps: Sequence[int] = ()) -> str:
        """A part along some axes, from and to what two lists say."""
        return self.op("Slice", term, starts, ends, self.ints(*axes), *([self.ints(*steps)] if steps else []))

    def zeros(self, other: str) -> str:
        """Zeros in the shape and type of another tensor."""
        dtype = helper.tensor_dtype_to_np_dtype(self.types[other])
        zero = numpy_helper.from_array(np.zeros(1, dtype=dtype))
        return self.op("ConstantOfShape", self.shape(other), kind=self.types[other], value=zero)

    def range(self, end: str) -> str:
        """Whole numbers from zero up to one that is a list of one."""
        scalar = [self.constant(0, TensorProto.INT64), self.reshape(end, []), self.constant(1, TensorProto.INT64)]
        return self.op("Range", *scalar)

    def swapped(self, term: str, rank: int) -> str:
        """The last two axes exchanged."""
        return self.transpose(term, [*range(rank - 2), rank - 1, rank - 2])

    def scatter(self, zeros: str, places: str, values: str, axis: int) -> str:
        """Values added up at places along an axis."""
        return self.op("ScatterElements", zeros, places, values, axis=axis, reduction="add")
