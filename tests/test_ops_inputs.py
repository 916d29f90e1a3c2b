"""No rule overlooks an input that has labels: what is not looked at could be removed behind the operator's back."""

import sys

import pytest
from cases import CASES
from cases.case import Case
from oracle import analyse

from onnxprune.ops.op import Op

# What these tell of an input stays true, or is frozen, when positions go.
BLIND = {"Shape", "Size", "OptionalHasElement", "SequenceLength"}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.identifier) for case in CASES])
def test_every_labelled_input_is_looked_at(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Op] = []

    class Seen(Op):
        def __init__(self, *more: object) -> None:
            super().__init__(*more)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(sys.modules["onnxprune.coupling.walk"], "Op", Seen)
    analyse(case.make(), opened=case.opened)
    overlooked = [
        (op.node.op_type, place)
        for op in made
        for place, name in enumerate(op.node.input)
        if name and place not in op._labels and name in op.trace.labels and op.trace.labels[name].bundles
    ]
    assert {operator for operator, _ in overlooked} <= BLIND, overlooked
    assert made, "the rules were asked"
