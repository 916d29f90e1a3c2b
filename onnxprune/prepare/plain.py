"""What is made plain before a network is looked at: functions written out, decided branches taken, weights computed.

Each step leaves a network that computes the same, in which more can be said of channels. Where nothing is to be made
plain, nothing is touched.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from onnxprune.graph.index import weights_of
from onnxprune.graph.model import Model
from onnxprune.graph.respell import respell
from onnxprune.prepare.branches import take_branches
from onnxprune.prepare.hoist import Hoisted, hoist, is_worth_hoisting
from onnxprune.prepare.inline import inline_functions
from onnxprune.prepare.ordered import reshape_ordered
from onnxprune.prepare.states import open_states
from onnxprune.prepare.weights import fold_weights

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What was made plain.

    Attributes
    ----------
    functions : int
        Local functions that were written out.
    branches : int
        Ifs of which one branch is always taken, and was put in their place.
    weights : int
        Weights that were computed from stored ones, and are stored now.
    respelled : bool
        Whether anything was spelled otherwise that ONNX lets one say in several ways.
    sparse : frozenset of str
        Stored tensors that were sparse.
    hoisted : Hoisted
        Branches that were laid open, and are put back at the end.
    states : frozenset of (str, str)
        Inputs and outputs, each a state's, that have got a door.
    dropped : int
        Parameters that are gone for it.
    """

    functions: int = 0
    branches: int = 0
    weights: int = 0
    respelled: bool = False
    sparse: frozenset[str] = frozenset()
    hoisted: Hoisted = field(default_factory=Hoisted)
    states: frozenset[tuple[str, str]] = frozenset()
    dropped: int = 0

    def __bool__(self) -> bool:
        """Tell whether anything was changed."""
        return bool(self.functions or self.branches or self.weights or self.respelled or self.hoisted or self.states)


def prepare(
    model: Model,
    given: dict[str, tuple[int, ...]] | None = None,
    *,
    states: Sequence[str] = (),
    known: Collection[tuple[str, str]] = (),
    can_open: Callable[[Model], bool] = lambda model: False,
) -> Prepared:
    """Make a network plain, in place; a copy of it becomes the same.

    Parameters
    ----------
    model : Model
    given : dict of str to tuple of int, optional
        Shapes for inputs with symbolic dimensions.
    states : sequence of str
        "IN:OUT", inputs and outputs that are states which are handed back.
    known : collection of (str, str)
        Domain and name of operators that need no writing out, though the network has functions of their names.
    can_open : callable
        Told a copy of the network in which all branches are computed, tells whether that can be run.

    Returns
    -------
    Prepared
    """
    before = sum(weights_of(model.proto))
    functions = inline_functions(model, known)
    respelled, sparse = respell(model)
    branches = take_branches(model, given)
    hoisted = _laid_open(model, given, can_open)
    ordered = reshape_ordered(model, given)
    weights = fold_weights(model)
    opened = open_states(model, states)
    done = Prepared(functions, branches, weights, respelled or ordered > 0, sparse, hoisted, opened)
    return replace(done, dropped=before - sum(weights_of(model.proto))) if done else done


def _laid_open(model: Model, given: dict[str, tuple[int, ...]] | None, can_open: Callable[[Model], bool]) -> Hoisted:
    if not is_worth_hoisting(model):
        return Hoisted()
    trial = model.copy()
    hoist(trial, given)
    return hoist(model, given) if can_open(trial) else Hoisted()
