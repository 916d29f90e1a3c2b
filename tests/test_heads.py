"""Heads of attention through the doors: whole heads, or features within them, and what keeps them."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from cases import attention, einsum, transformers
from cases.case import Case
from doors import prune_plain
from onnx import ModelProto
from oracle import TOLERANCE, analyse, assert_sound, prune, random_plan, twin_gap

import onnxprune
from onnxprune.errors import ModelError, RefusedError
from onnxprune.ops import einsum as equations
from onnxprune.ops import product
from onnxprune.ops.attending import Heads, Side
from onnxprune.ops.labels import Array
from onnxprune.ops.op import Op
from onnxprune.ops.trace import Opened
from onnxprune.rewrite import GroupPlan, Plan

Patch = pytest.MonkeyPatch
WHOLE, INSIDE = Opened(), Opened(inside_heads=True)

HEADS, WIDTH, OTHER = 4, 4, 3


def network(name: str, family: tuple[Case, ...] = transformers.CASES) -> ModelProto:
    return next(case.make() for case in family if case.identifier == name)


def shapes(proto: ModelProto) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tensor.dims) for tensor in proto.graph.initializer if len(tensor.dims) == 2)


def test_whole_heads() -> None:
    result = prune_plain(network("attention, MatMul and Add"), ratio=0.5, measure="channels")
    (group,) = result.report["groups"]
    assert (group["channels"], group["step"], group["kept"]) == (HEADS, 1, HEADS // 2)
    assert shapes(result.model) == Counter([(7, 8), (7, 8), (7, 6), (6, 2)])


def test_features_go_equally_from_each_head() -> None:
    options = {"measure": "channels", "allocation": "uniform", "best_effort": True, "head_dim": True}
    result = prune_plain(network("attention, MatMul and Add"), ratio=0.5, **options)
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
        prune_plain(proto, replay=plan, head_dim=True)


def test_the_scale_stays() -> None:
    """What the operator would take from the number of features is spelled out as it was."""
    proto = network("Attention-23-heads beside one another", attention.CASES)
    made = prune_plain(proto, ratio=0.6, best_effort=True, head_dim=True).model
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


# ---- faults that have to be seen ------------------------------------------------------------------------------------


def _heads_in_turn(patch: Patch) -> None:
    """Of four heads of queries the first and the third are taken to share a key."""
    original = Heads._tie_heads

    def tie_heads(self: Heads, *, free: bool) -> None:
        key = self.key.full
        assert key is not None
        self.key, self.times = Side(1, 4, key.shape[1], (2,), self.key.fixed, np.tile(key, (2, 1))), 1
        self.value = self.key
        original(self, free=free)

    patch.setattr(Heads, "_tie_heads", tie_heads)


def _scale_follows(patch: Patch) -> None:
    patch.setattr(Heads, "spell", lambda self, queries, keys="": None)


def _keys_go_apart(patch: Patch) -> None:
    """Features of keys are not tied to those of queries."""

    def tie_rows(self: product._Product, sites: list[product._Site]) -> Array:
        arrays = [site.bundle.array for site in sites if site.bundle is not None]
        for array in arrays:
            self.op.balance(array)
        return arrays[0]

    patch.setattr(product._Product, "_tie_rows", tie_rows)


def _rows_are_ragged(patch: Patch) -> None:
    """Any number of features of each head may go."""
    patch.setattr(Op, "balance", lambda self, array, whole=False: None)


def _letters_turn(patch: Patch) -> None:
    original = equations._of_output
    patch.setattr(equations, "_of_output", lambda terms, spelled: original(terms, spelled)[::-1])


_SHARED = ("Attention-23-two heads to one of keys", attention.CASES)
_PLAIN = ("attention, MatMul and Add", transformers.CASES)
_LETTERS = ("Einsum-12-attention, heads third, inside False", einsum.CASES)


@pytest.mark.parametrize(
    ("case", "fault", "opened"),
    [
        pytest.param(_SHARED, _heads_in_turn, WHOLE, id="heads that share keys"),
        pytest.param(("Attention-23-one head", attention.CASES), _scale_follows, WHOLE, id="scale"),
        pytest.param(_PLAIN, _keys_go_apart, INSIDE, id="features of keys"),
        pytest.param(_PLAIN, _rows_are_ragged, INSIDE, id="rows of equal length"),
        pytest.param(_LETTERS, _letters_turn, WHOLE, id="letters"),
    ],
)
def test_a_broken_rule_is_found(
    case: tuple[str, tuple[Case, ...]], fault: Callable[[Patch], None], opened: Opened, monkeypatch: Patch
) -> None:
    proto = network(*case)
    assert_sound(proto, np.random.default_rng(1), shares=(0.3, 0.6), opened=opened)
    fault(monkeypatch)
    rng = np.random.default_rng(1)
    gaps = []
    for share in (0.3, 0.5, 0.7):
        try:
            plan = random_plan(analyse(proto, opened=opened).coupling, rng, share)
            gaps.append(twin_gap(proto, plan, prune(proto, plan, opened=opened), rng, opened=opened)[0])
        except (ModelError, AssertionError, LookupError, ValueError):
            gaps.append(np.inf)
    assert max(gaps) > 100 * TOLERANCE
