"""Heads of attention through the doors: whole heads, or features within them, and what keeps them."""

from collections import Counter

import numpy as np
import onnx
import pytest
from cases import attention, transformers
from cases.case import Case
from onnx import ModelProto

import onnxprune
from onnxprune.errors import RefusedError
from onnxprune.rewrite import GroupPlan, Plan

HEADS, WIDTH, OTHER = 4, 4, 3


def network(name: str, family: tuple[Case, ...] = transformers.CASES) -> ModelProto:
    return next(case.make() for case in family if case.identifier == name)


def shapes(proto: ModelProto) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tensor.dims) for tensor in proto.graph.initializer if len(tensor.dims) == 2)


def test_whole_heads() -> None:
    result = onnxprune.prune(network("attention, MatMul and Add"), ratio=0.5, measure="channels")
    (group,) = result.report["groups"]
    assert (group["channels"], group["step"], group["kept"]) == (HEADS, 1, HEADS // 2)
    assert shapes(result.model) == Counter([(7, 8), (7, 8), (7, 6), (6, 2)])


def test_features_go_equally_from_each_head() -> None:
    options = {"measure": "channels", "allocation": "uniform", "best_effort": True, "head_dim": True}
    result = onnxprune.prune(network("attention, MatMul and Add"), ratio=0.5, **options)
    keys, values = result.report["groups"]
    assert (keys["channels"], keys["step"]) == (HEADS * WIDTH, HEADS)
    assert (values["channels"], values["step"]) == (HEADS * OTHER, HEADS)
    for planned, width in zip(result.plan.groups, (WIDTH, OTHER), strict=True):
        of_head = np.bincount(np.array(planned.kept) // width, minlength=HEADS)
        assert len(set(of_head.tolist())) == 1 and 0 < of_head[0] < width
    left = [group["kept"] for group in result.report["groups"]]
    assert shapes(result.model) == Counter([(7, left[0]), (7, left[0]), (7, left[1]), (left[1], 2)])
    twin = result.report["validation"]["twin"]
    assert twin["passed"] and twin["compared"] >= 2


def test_unequal_heads_are_refused() -> None:
    proto = network("attention, MatMul and Add")
    found = onnxprune.inspect(proto, head_dim=True)["groups"]
    kept = tuple(k for k in range(HEADS * WIDTH) if k != 1)
    plan = Plan("", (GroupPlan(found[0]["name"], HEADS * WIDTH, kept),), {"head_dim": True})
    with pytest.raises(RefusedError, match="heads of attention"):
        onnxprune.prune(proto, replay=plan, head_dim=True)


def test_the_scale_stays() -> None:
    """What the operator would take from the number of features is spelled out as it was."""
    proto = network("Attention-23-heads beside one another", attention.CASES)
    made = onnxprune.prune(proto, ratio=0.6, best_effort=True, head_dim=True).model
    node = next(node for node in made.graph.node if node.op_type == "Attention")
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    assert given["q_num_heads"] == given["kv_num_heads"] == HEADS
    assert given["scale"] == pytest.approx(1 / np.sqrt(3))


@pytest.mark.parametrize("operator", ["Attention-23", "MultiHeadAttention", "GroupQueryAttention", "Attention"])
def test_keys_from_outside_keep_their_heads(operator: str) -> None:
    """Keys and values of earlier words are inputs and outputs of a language model."""
    found = onnxprune.inspect(network(f"{operator}-earlier keys from outside", attention.CASES))
    reasons = {item["reason"] for item in found["pinned"] if item["channels"] in (2, HEADS)}
    assert any(reason.startswith("graph input: x") for reason in reasons)
