"""What a rule sees of a node, and answers: gradients of what the node reads, from those of what it makes.

With ȳ = ∂L/∂y for every output y, a rule returns x̄ = Σ_y (∂y/∂x)ᵀ ȳ for every input x, or nothing where there is
none: the input is no number that anything depends on smoothly, or nobody asks for it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxprune.errors import ModelError
from onnxprune.gradient.builder import Builder
from onnxprune.graph.index import Index, node_site
from onnxprune.shapes.infer import Shapes

__all__ = ["FLOATS", "Gradients", "Op", "Rule", "nothing"]

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})

Gradients = list[str | None]
"""Gradients of inputs or outputs, in their order; None where there is none. A rule may leave out the last ones, or say
more of them than there are."""


@dataclass(frozen=True)
class Op:
    """A node to be differentiated.

    Attributes
    ----------
    node : NodeProto
        Of the network with its gradient; a rule may ask it for further outputs.
    index, shapes
        What is known of the network.
    b : Builder
    wanted : collection of str
        Tensors whose gradients are asked for, by what is asked of the whole.
    """

    node: NodeProto
    index: Index
    shapes: Shapes
    b: Builder
    wanted: Collection[str]

    @property
    def x(self) -> str:
        """The first input."""
        return str(self.node.input[0])

    @property
    def y(self) -> str:
        """The first output."""
        return str(self.node.output[0])

    def reads(self, place: int) -> str:
        """Name of an input, empty where there is none."""
        return self.node.input[place] if place < len(self.node.input) else ""

    def wants(self, place: int) -> bool:
        """Tell whether anybody asks for the gradient of an input."""
        return self.reads(place) in self.wanted

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of an attribute."""
        for item in self.node.attribute:
            if item.name == name:
                value = helper.get_attribute_value(item)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def rank(self, name: str) -> int:
        """Number of axes of a tensor."""
        return len(self.sizes(name))

    def sizes(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor where symbolic dimensions are as assumed."""
        if name not in self.shapes.shapes:
            raise self.refusal(f"the shape of {name!r} is not known", "give --input-shape")
        return self.shapes.shapes[name]

    def is_fixed(self, name: str, axes: Sequence[int]) -> bool:
        """Tell whether sizes are the same whatever the inputs' symbolic dimensions are."""
        return all(self.shapes.is_static((name, axis)) for axis in axes)

    def fixed(self, name: str, axes: Sequence[int]) -> list[int]:
        """Sizes that have to be the same always."""
        if not self.is_fixed(name, axes):
            raise self.refusal(f"sizes of {name!r} are not fixed", "export it with fixed sizes of pictures")
        return [self.sizes(name)[axis] for axis in axes]

    def value(self, place: int) -> NDArray[Any] | None:
        """Value of an input that is stored, or follows from what is; None of others."""
        name = self.reads(place)
        if name in self.index.weights:
            return numpy_helper.to_array(self.index.weights[name])
        known = self.shapes.known.get(name)
        return known.value if known is not None and known.constant else None

    def sum_to(self, gradient: str, made: str, read: str) -> str:
        """Gradient of a tensor that was repeated: summed over the axes that it was repeated along."""
        lead = self.rank(made) - self.rank(read)
        summed = self.sum_repeated(gradient, made, read, self.rank(read), lead)
        return self.b.reduce_sum(summed, list(range(lead)), keep=False)

    def sum_repeated(self, gradient: str, made: str, read: str, count: int, lead: int) -> str:
        """Sum over those of the first axes of a tensor, laid behind `lead` others, that it was repeated along."""
        axes = [axis for axis in range(count) if self._is_repeated(made, axis + lead, read, axis)]
        if not self.is_fixed(read, axes):  # sizes of one are assumed
            return self.b.sum_where_one(gradient, read, lead)
        return self.b.reduce_sum(gradient, [axis + lead for axis in axes], keep=True)

    def _is_repeated(self, made: str, place: int, read: str, axis: int) -> bool:
        if self.sizes(read)[axis] != 1:
            return False
        return self.sizes(made)[place] != 1 or (self.is_fixed(read, [axis]) and not self.is_fixed(made, [place]))

    def refusal(self, fact: str, remedy: str) -> ModelError:
        """Say why this node is not differentiated."""
        return ModelError(f"{node_site(self.node)} cannot be differentiated: {fact}; {remedy}")


Rule = Callable[[Op, Gradients], Gradients]
"""Gradients of a node's inputs from those of its outputs, the first of which is there in any case but for `nothing`."""


def nothing(_: Op, __: Gradients) -> Gradients:
    """What is constant piece by piece, or no number: nothing passes."""
    return []
