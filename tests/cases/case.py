"""What a case of an operator is: a small network, the groups that it has, and what of it cannot go."""

from collections.abc import Callable
from dataclasses import dataclass

from net import Net
from onnx import ModelProto

from onnxprune.ops.trace import Opened

__all__ = ["Case", "Row", "chain", "row"]

Row = tuple[str, str, int]
"""Domain, operator and first opset of a row of the table of rules."""

NOTHING = Opened()

Middle = Callable[[Net, str], str]


def row(operator: str, since: int = 1, domain: str = "") -> Row:
    """A row of the table."""
    return domain, operator, since


@dataclass(frozen=True)
class Case:
    """A network through whose operator a group goes.

    Attributes
    ----------
    row : tuple or None
        The row of the table that it is a case of; None for a case of how operators are put together.
    name : str
    make : callable
        Builds the network.
    groups : tuple of int
        Sizes of its groups, ascending.
    pins : tuple of (str, int)
        Purpose and number of the channels that a layer writes and that cannot go, other than the network's outputs.
    runs : bool
        False where onnxruntime cannot run the operator (at this opset): only groups and pins are tested then.
    scaled : bool
        Whether readers' weights are multiplied too; not where two activations are multiplied with one another.
    opened : Opened
        What is pinned by default and opened here.
    """

    row: Row | None
    name: str
    make: Callable[[], ModelProto]
    groups: tuple[int, ...]
    pins: tuple[tuple[str, int], ...] = ()
    runs: bool = True
    scaled: bool = True
    opened: Opened = NOTHING

    @property
    def identifier(self) -> str:
        """Name of the test."""
        if self.row is None:
            return self.name
        _, operator, since = self.row
        return f"{operator}-{since}-{self.name}" if since > 1 else f"{operator}-{self.name}"


def chain(
    middle: Middle, *, opset: int = 17, size: int = 6, made: int = 6, read: int | None = None
) -> Callable[[], ModelProto]:
    """A network of a convolution, some operators, and a convolution that reads them."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 3, size, size)
        hidden = net.conv(x, made, 3)
        return net.done(net.conv(middle(net, hidden), 4, made if read is None else read, bias=False))

    return make
