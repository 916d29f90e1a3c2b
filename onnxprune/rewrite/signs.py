"""Writing factors that depend on a weight's sign into the weights that read a group: W becomes W⁺ f⁺ − W⁻ f⁻.

What is read cannot be multiplied by such a factor, so no twin could be made that has it before its readers. It is
written where the weights lie, in their own shapes and before anything is taken out: the network that is sliced and the
one whose twin it is compared with both have it then.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.coupling import Coupling
from onnxprune.coupling.scales import multiplied
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.ops.trace import Block, Role
from onnxprune.rewrite.plan import GroupPlan, Plan

__all__ = ["signed_weights", "write_signed"]


def signed_weights(model: Model, index: Index, coupling: Coupling, planned: GroupPlan) -> dict[str, NDArray[Any]]:
    """Give the weights that read a group, once they are multiplied; nothing where no factor depends on a sign.

    Parameters
    ----------
    model : Model
    index, coupling
        What was found out about it.
    planned : GroupPlan

    Returns
    -------
    dict of str to ndarray
        By the tensors' names, in their shapes and types. Weights of what goes are as they were.
    """
    blocks = _blocks(coupling, planned)
    return {name: _multiplied(model, index.weights[name], coupling, planned, own) for name, own in blocks.items()}


def write_signed(model: Model, coupling: Coupling, plan: Plan) -> None:
    """Write all of them into a network, in place.

    Parameters
    ----------
    model : Model
        As it was analysed.
    coupling : Coupling
        Of it.
    plan : Plan
    """
    stored = Index(model.proto).weights if any(planned.negative for planned in plan.groups) else {}
    for planned in plan.groups:
        for name, blocks in _blocks(coupling, planned).items():
            make = partial(_multiplied, model, stored[name], coupling, planned, blocks)
            model.replace(stored[name], tuple(stored[name].dims), make)


def _blocks(coupling: Coupling, planned: GroupPlan) -> dict[str, list[Block]]:
    """Return what reads a group whose factors depend on signs, by the tensors' names."""
    found: dict[str, list[Block]] = {}
    for number in coupling.group_of[planned.name].blocks if planned.negative else ():
        block = coupling.trace.blocks[number]
        if block.use is not None and block.role is Role.READS:
            found.setdefault(block.use.tensor, []).append(block)
    return found


def _multiplied(
    model: Model, tensor: TensorProto, coupling: Coupling, planned: GroupPlan, blocks: list[Block]
) -> NDArray[Any]:
    factors = np.ones((2, int(coupling.unit_of.max(initial=-1)) + 1))
    factors[:, coupling.group_of[planned.name].units[list(planned.kept)]] = planned.by_sign
    value = model.array(tensor)
    for block in blocks:
        assert block.use is not None
        own = factors[:, coupling.unit_of[block.start : block.start + block.size]]
        value = multiplied(value.reshape(block.use.view), block.axes, own).reshape(value.shape)
    return value
