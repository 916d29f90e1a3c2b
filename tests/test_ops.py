"""Every operator of the table, in every form it has: groups and pins as expected, pruned networks equal the twin."""

import numpy as np
import pytest
from cases import CASES
from cases.case import Case
from onnx import ModelProto
from oracle import SHARES, analyse, assert_sound, written_and_held

from onnxprune.graph.index import Index
from onnxprune.ops import RULES, find_rule


def symbolic(proto: ModelProto) -> list[dict[str, tuple[int, ...]]]:
    """The assumed input shapes, and others where a dimension is symbolic."""
    other = {}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_param for dim in dims):
            other[value.name] = tuple(dim.dim_value or 3 + 16 * (axis > 0) for axis, dim in enumerate(dims))
    return [{}, other] if other else [{}]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.identifier) for case in CASES])
def test_case(case: Case) -> None:
    proto = case.make()
    index = Index(proto)
    rules = [find_rule(index, node.domain, node.op_type) for node in index.nodes]
    assert case.row in {None, *((rule.domain, rule.operator, rule.since) for rule in rules if rule is not None)}
    found = analyse(proto, opened=case.opened)
    assert tuple(found.sizes) == tuple(sorted(case.groups))
    assert written_and_held(found) == sorted(case.pins)
    if case.runs:
        scaled = case.scaled and bool(case.groups)
        # The deviation of one channel alone is rounding noise.
        shares = SHARES[:-1] if case.opened.normalized else SHARES
        assert_sound(
            proto, np.random.default_rng(0), shares=shares, sizes=symbolic(proto), scaled=scaled, opened=case.opened
        )


def test_every_row_has_a_case() -> None:
    rows = {(domain, operator, rule.since) for (domain, operator), rules in RULES.items() for rule in rules}
    assert rows == {case.row for case in CASES} - {None}


def test_cases_have_names_of_their_own() -> None:
    names = [case.identifier for case in CASES]
    assert len(names) == len(set(names))
