"""Derivatives of every operator that has a rule, against differences of onnx's own reference in float64."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy.special import erf
from slopes import CASES, Case

from onnxprune.gradient import RULES, Gradient, differentiate
from onnxprune.gradient.rule import nothing
from onnxprune.graph.runtime import CPU, Session

STEP = 1e-5


def model_of(case: Case, kind: int) -> tuple[ModelProto, dict[str, NDArray[Any]]]:
    """The case's node as a network, and its floats as inputs; all else is stored."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    names, inputs, stored, feeds = [], [], [], {}
    for place, value in enumerate(case.reads):
        if isinstance(value, str):
            names.append("")
            continue
        array = np.asarray(value)
        array = array.astype(dtype) if array.dtype == np.float64 else array
        names.append(f"x{place}")
        if array.dtype == dtype and np.asarray(value).dtype == np.float64 and place not in case.stored:
            inputs.append(helper.make_tensor_value_info(names[-1], kind, array.shape))
            feeds[names[-1]] = array
        else:
            stored.append(numpy_helper.from_array(array, names[-1]))
    made = [f"y{number}" for number in range(case.makes)]
    attributes = {k: (kind if k == "to" else v) for k, v in case.attributes.items()}
    if case.operator == "GroupNormalization":
        attributes["stash_type"] = kind
    node = helper.make_node(case.operator, names, made, "it", domain=case.domain, **attributes)
    outputs = [onnx.ValueInfoProto(name=made[0])]
    graph = helper.make_graph([node], "case", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)
    shape = value_of(model, feeds, linear=case.linear).shape
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(made[0], kind, shape))
    return model, feeds


class Erf(OpRun):  # type: ignore[misc]
    """onnx's own rounds to float32."""

    def _run(self, x: NDArray[Any]) -> tuple[NDArray[Any]]:
        return (erf(x),)


class Gelu(OpRun):  # type: ignore[misc]
    """onnx's own uses that."""

    def _run(self, x: NDArray[Any], approximate: str = "none") -> tuple[NDArray[Any]]:
        cubic = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        return (0.5 * x * (1 + (erf(x / np.sqrt(2)) if approximate == "none" else cubic)),)


class Mean(OpRun):  # type: ignore[misc]
    """onnx's own does not repeat."""

    def _run(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any]]:
        return (np.asarray(sum(arrays) / len(arrays)),)


def value_of(model: ModelProto, feeds: dict[str, NDArray[Any]], *, linear: bool) -> NDArray[Any]:
    if linear:
        return Session(model.SerializeToString(), (CPU,)).run(feeds)["y0"]
    return np.asarray(ReferenceEvaluator(model, new_ops=[Erf, Gelu, Mean]).run(["y0"], feeds)[0])


def run(gradient: Gradient, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    onnx.checker.check_model(gradient.proto)
    return Session(gradient.proto.SerializeToString(), (CPU,)).run(feeds)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_derivatives_are_those_of_differences(case: Case) -> None:
    single, feeds = model_of(case, TensorProto.FLOAT)
    exact, wide = (single, feeds) if case.linear else model_of(case, TensorProto.DOUBLE)
    step = 0.5 if case.linear else STEP
    value = value_of(exact, wide, linear=case.linear)
    seed = np.random.default_rng(3).standard_normal(value.shape)
    gradient = differentiate(single, list(feeds))
    assert gradient.seeds is not None
    found = run(gradient, {**feeds, gradient.seeds["y0"]: seed.astype(np.float32)})
    for name, array in wide.items():
        slopes = np.zeros(array.size)
        for place in range(array.size):
            moved = [array.copy().reshape(-1) for _ in range(2)]
            for number, sign in enumerate((step, -step)):
                moved[number][place] += sign
            up, down = (
                value_of(exact, {**wide, name: each.reshape(array.shape)}, linear=case.linear) for each in moved
            )
            slopes[place] = (seed * (up - down)).sum() / (2 * step)
        own = found[gradient.of[name]]
        assert own.shape == array.shape
        error = np.linalg.norm(own.ravel() - slopes) / max(np.linalg.norm(slopes), 1e-3)
        assert error < 1e-4, (name, own.ravel(), slopes)


def test_every_rule_has_cases() -> None:
    steps = {name for (domain, name), rule in RULES.items() if not domain and rule is nothing}
    tried = {case.operator for case in CASES}
    own = {name for domain, name in RULES if not domain}
    assert own - steps - tried == {"SimplifiedLayerNormalization", "Mod"}
