"""Derivatives of every operator that has a rule, against differences of onnx's own reference in float64."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy.special import erf, softmax
from slopes import CASES, MICROSOFT, Case

from onnxprune.errors import ModelError, UsageError
from onnxprune.gradient import KINDS, RULES, Gradient, Loss, differentiate, raised
from onnxprune.gradient.rule import nothing
from onnxprune.graph.io import check
from onnxprune.graph.model import Model
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
    imports = [helper.make_opsetid("", case.opset)] + ([helper.make_opsetid(case.domain, 1)] if case.domain else [])
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
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


class LRN(OpRun):  # type: ignore[misc]
    """onnx's own takes samples for channels."""

    def _run(self, x: NDArray[Any], alpha: float, beta: float, bias: float, size: int) -> tuple[NDArray[Any]]:
        half = size // 2
        wide = np.pad(np.square(x), [(0, 0), (half, half), (0, 0), (0, 0)])
        total = sum(wide[:, k : k + x.shape[1]] for k in range(size))
        return (x * (bias + alpha / size * total) ** -beta,)


class Mean(OpRun):  # type: ignore[misc]
    """onnx's own does not repeat."""

    def _run(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any]]:
        return (np.asarray(sum(arrays) / len(arrays)),)


def tanh_gelu(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def exact_gelu(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))


def root_mean_square(x: NDArray[Any], scale: NDArray[Any], axis: int, epsilon: float) -> NDArray[Any]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    return np.asarray(x / np.sqrt(np.square(x).mean(axis=axes, keepdims=True) + epsilon) * scale)


class SimplifiedLayerNormalization(OpRun):  # type: ignore[misc]
    """onnxruntime's own, in ONNX's domain."""

    def _run(self, x: Any, scale: Any, axis: Any = None, epsilon: Any = None) -> tuple[NDArray[Any]]:
        return (root_mean_square(x, scale, -1 if axis is None else axis, epsilon or 1e-5),)


def contributed(name: str, function: Callable[..., NDArray[Any]]) -> type:
    """An operator of onnxruntime's domain, by what its documentation says of it."""

    def compute(self: OpRun, *arrays: NDArray[Any], **more: Any) -> tuple[NDArray[Any]]:
        return (function(*arrays, **{key: value for key, value in more.items() if value is not None}),)

    return type(name, (OpRun,), {"op_domain": MICROSOFT, "_run": compute, "run": _plain_run})


def _plain_run(self: OpRun, *arrays: Any, **_: Any) -> tuple[NDArray[Any]]:
    """Without a schema: attributes as the node has them."""
    given = {item.name: helper.get_attribute_value(item) for item in self.onnx_node.attribute}
    found: tuple[NDArray[Any]] = self._run(*arrays, **given)
    return found


OWN = [
    contributed("Gelu", exact_gelu),
    contributed("FastGelu", lambda x, bias=0.0: tanh_gelu(x + bias)),
    contributed("BiasGelu", lambda x, bias: exact_gelu(x + bias)),
    contributed("QuickGelu", lambda x, alpha=1.702: x / (1 + np.exp(-alpha * x))),
    type("SimplifiedLayerNormalization", (SimplifiedLayerNormalization,), {"run": _plain_run}),
]


def value_of(model: ModelProto, feeds: dict[str, NDArray[Any]], *, linear: bool) -> NDArray[Any]:
    if linear:
        return Session(model.SerializeToString(), (CPU,)).run(feeds)["y0"]
    return np.asarray(ReferenceEvaluator(model, new_ops=[Erf, Gelu, LRN, Mean, *OWN]).run(["y0"], feeds)[0])


def run(gradient: Gradient, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    check(Model(gradient.proto))  # which lets operators through that onnx does not know
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
    steps = {key for key, rule in RULES.items() if rule is nothing}
    assert RULES.keys() - steps == {(case.domain, case.operator) for case in CASES}


def of_floats(operator: str) -> bool:
    """Tell whether it makes floats of floats that it takes first."""
    schema = onnx.defs.get_schema(operator)
    kinds = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    return all(
        any("tensor(float)" in kinds.get(value.type_str, (value.type_str,)) for value in values)
        for values in (schema.outputs, schema.inputs[:1])
    )


STEPS = sorted(name for (_, name), rule in RULES.items() if rule is nothing)


@pytest.mark.parametrize("operator", [name for name in STEPS if of_floats(name)])
def test_nothing_passes_what_is_constant_piece_by_piece(operator: str) -> None:
    """All others of these take or make no floats."""
    net = Net()
    x = net.input(3, 3)
    proto = net.done(net.add("Add", x, net.add(operator, x)))
    gradient = differentiate(proto, [x])
    assert gradient.seeds is not None
    feeds = {
        x: np.arange(9, dtype=np.float32).reshape(3, 3) / 4,
        next(iter(gradient.seeds.values())): np.ones((3, 3), np.float32),
    }
    assert (run(gradient, feeds)[gradient.of[x]] == 1).all()


FREE = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "GlobalAveragePool", "GlobalMaxPool")


@pytest.mark.parametrize("case", [case for case in CASES if case.operator in FREE], ids=lambda case: case.name)
def test_sizes_of_pictures_may_be_others_than_assumed(case: Case) -> None:
    fixed, feeds = model_of(replace(case, linear=True), TensorProto.FLOAT)
    free, shape = ModelProto(), feeds["x0"].shape
    free.CopyFrom(fixed)
    places = [axis for axis in range(len(shape)) if axis != 1]
    sizes = [f"d{axis}" if axis in places else size for axis, size in enumerate(shape)]
    free.graph.input[0].CopyFrom(helper.make_tensor_value_info("x0", TensorProto.FLOAT, sizes))
    free.graph.output[0].type.tensor_type.ClearField("shape")
    assumed = tuple(size + 2 * (axis > 1) for axis, size in enumerate(shape))
    bound = str(case.attributes.get("auto_pad", "")).startswith("SAME") or "output_shape" in case.attributes
    if bound and case.operator != "MaxPool":
        with pytest.raises(ModelError, match=r"sizes of '..' are not fixed"):
            differentiate(free, list(feeds), input_shapes={"x0": assumed})
        return
    found = []
    seed = np.random.default_rng(3).standard_normal(value_of(fixed, feeds, linear=True).shape).astype(np.float32)
    for proto, known in ((fixed, None), (free, {"x0": assumed})):
        gradient = differentiate(proto, list(feeds), input_shapes=known)
        assert gradient.seeds is not None
        made = run(gradient, {**feeds, gradient.seeds["y0"]: seed})
        found.append({name: made[gradient.of[name]] for name in feeds})
    for name in feeds:
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case.operator == "Conv"], ids=lambda case: case.name)
def test_convolutions_whose_kernel_is_stored_are_differentiated_by_it_turned_round(case: Case) -> None:
    given, feeds = model_of(replace(case, linear=True), TensorProto.FLOAT)
    stored, values = ModelProto(), {"x0": feeds["x0"]}
    stored.CopyFrom(given)
    del stored.graph.input[1:]
    kept = [numpy_helper.from_array(value, name) for name, value in feeds.items() if name != "x0"]
    stored.graph.initializer.extend(kept)
    seed = np.random.default_rng(3).standard_normal(value_of(given, feeds, linear=True).shape).astype(np.float32)
    found = []
    for proto, own in ((given, feeds), (stored, values)):
        gradient = differentiate(proto, ["x0"])
        assert gradient.seeds is not None
        found.append(run(gradient, {**own, gradient.seeds["y0"]: seed})[gradient.of["x0"]])
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-5)
    if max(case.attributes.get("strides", [1])) == 1:
        assert all(node.op_type != "ConvTranspose" for node in gradient.proto.graph.node)


@pytest.mark.parametrize("run_size", [1, 3])
def test_sizes_of_one_that_are_assumed_are_summed_over_where_they_are_repeated(run_size: int) -> None:
    net = Net(seed=2)
    x, y = net.input("n", 4), net.input("n", 2, 4)
    sums = net.add("Mul", x, net.weight(3, 4))
    products = net.add("MatMul", y, net.weight(3, 4, 5))
    gradient = differentiate(net.done(sums, products), [x, y], input_shapes={x: (1, 4), y: (1, 2, 4)})
    rng = np.random.default_rng(1)
    seeds = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (3, 2, 5))]
    feeds = {x: np.ones((run_size, 4), np.float32), y: np.ones((run_size, 2, 4), np.float32)}
    found = run(gradient, {**feeds, **dict(zip((gradient.seeds or {}).values(), seeds, strict=True))})
    factors, weights = (numpy_helper.to_array(tensor).astype(float) for tensor in net.initializers)
    each = [seeds[0] * factors, seeds[1] @ weights.swapaxes(1, 2)]
    for name, wanted in zip((x, y), each, strict=True):
        own = wanted.sum(axis=0, keepdims=True) if run_size == 1 else wanted
        assert found[gradient.of[name]] == pytest.approx(own, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_floats_of_16_bits_are_differentiated_in_float32(kind: int) -> None:
    narrow = helper.tensor_dtype_to_np_dtype(kind)
    net = Net(seed=4)
    weight = net.rng.standard_normal((6, 4)).astype(narrow)
    net.initializers.append(numpy_helper.from_array(weight, "w"))
    x = net.input(3, 6, kind=kind)
    proto = net.done(net.add("Tanh", net.add("MatMul", x, "w")))
    proto.graph.output[0].type.tensor_type.elem_type = kind
    before = proto.SerializeToString()
    gradient = differentiate(proto, [x, "w"])
    assert proto.SerializeToString() == before and gradient.seeds is not None
    drawn = np.random.default_rng(5).standard_normal((3, 6)).astype(np.float32)
    found = run(gradient, {x: drawn, next(iter(gradient.seeds.values())): np.ones((3, 4), np.float32)})
    wide = weight.astype(np.float64)
    back = 1 - np.tanh(drawn @ wide) ** 2
    assert found[gradient.of[x]].dtype == np.float32
    np.testing.assert_allclose(found[gradient.of[x]], back @ wide.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[gradient.of["w"]], drawn.T @ back, rtol=1e-4, atol=1e-6)


# ---- whole networks --------------------------------------------------------------------------------------------------


def network(opset: int = 17, batch: str | int = "n") -> ModelProto:
    net = Net(opset)
    x = net.add("Relu", net.conv(net.input(batch, 3, 6, 6), 4, 3, kernel=(3, 3)))
    x = net.add("Add", x, net.add("Sigmoid", net.conv(x, 4, 4)))
    return net.done(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 5, 4))


def drawn(proto: ModelProto, count: int) -> dict[str, NDArray[Any]]:
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return {proto.graph.input[0].name: np.random.default_rng(1).standard_normal((count, *sizes)).astype(np.float32)}


def test_any_batch_runs_and_samples_add_up() -> None:
    proto = network()
    weights = [tensor.name for tensor in proto.graph.initializer if len(tensor.dims) > 1]
    gradient = differentiate(proto, weights)
    assert gradient.seeds is not None
    feeds, output = drawn(proto, 6), proto.graph.output[0].name
    seed = np.random.default_rng(2).standard_normal((6, 5)).astype(np.float32)
    session = Session(gradient.proto.SerializeToString(), (CPU,))

    def of(chosen: slice) -> dict[str, NDArray[Any]]:
        parts = {name: value[chosen] for name, value in feeds.items()}
        return session.run({**parts, gradient.seeds[output]: seed[chosen]})

    whole, parts = of(slice(None)), [of(slice(k, k + 1)) for k in range(6)]
    for name in weights:
        total = np.sum([part[gradient.of[name]] for part in parts], axis=0)
        assert whole[gradient.of[name]] == pytest.approx(total, rel=1e-4, abs=1e-5)
    assert next(value.name for value in gradient.proto.graph.output) == output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probabilities", [False, True])
def test_losses_are_what_they_say(kind: str, probabilities: bool) -> None:
    net = Net(17)
    scores = net.gemm(net.input("n", 6), 5, 6)
    proto = net.done(net.add("Softmax", scores) if probabilities else scores)
    loss = Loss(kind, proto.graph.output[0].name, probabilities=probabilities)
    (weight,) = [tensor.name for tensor in proto.graph.initializer if len(tensor.dims) == 2]
    gradient, feeds = differentiate(proto, [weight], loss=loss), drawn(proto, 4)
    value = Session(proto.SerializeToString(), (CPU,)).run(feeds)[loss.output].astype(np.float64)
    certain = np.log(value) if probabilities else np.log(softmax(value, axis=1))
    rng = np.random.default_rng(3)
    targets = np.array([0, 4, 2, 2]) if kind == "entropy" else rng.standard_normal((4, 5)).astype(np.float32)
    wanted = {
        "entropy": lambda: -certain[np.arange(4), targets].sum(),
        "prediction": lambda: -certain.max(axis=1).sum(),
        "kl": lambda: (softmax(targets, axis=1) * (np.log(softmax(targets, axis=1)) - certain)).sum(),
        "square": lambda: np.square(value - targets).sum(),
        "total": value.sum,
    }
    given = {gradient.targets: targets} if gradient.targets else {}
    found = run(gradient, {**feeds, **given})
    assert float(found[gradient.loss]) == pytest.approx(float(wanted[kind]()), rel=1e-4, abs=1e-4)
    slope = found[gradient.of[weight]]
    place = np.unravel_index(np.abs(slope).argmax(), slope.shape)
    stored = next(tensor for tensor in gradient.proto.graph.initializer if tensor.name == weight)
    original, losses = numpy_helper.to_array(stored), []
    for sign in (1e-2, -1e-2):
        moved = original.copy()
        moved[place] += sign
        stored.CopyFrom(numpy_helper.from_array(moved, weight))
        losses.append(float(run(gradient, {**feeds, **given})[gradient.loss]))
    if kind != "total" or not probabilities:  # which is constant
        assert slope[place] == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=2e-2)


def test_targets_that_are_no_class_have_no_loss() -> None:
    net = Net(17)
    scores = net.conv(net.input("n", 3, 4, 4), 5, 3)
    proto = net.done(scores)
    weight = proto.graph.initializer[0].name
    gradient = differentiate(proto, [weight], loss=Loss("entropy", scores, axis=1))
    x = next(iter(drawn(proto, 2).values()))
    classes = np.random.default_rng(3).integers(0, 5, (2, 4, 4))
    blank = np.random.default_rng(4).random(classes.shape) < 0.4
    found = run(
        gradient, {proto.graph.input[0].name: x, gradient.targets: np.where(blank, [[[-1, 255, 5, -100]]], classes)}
    )
    value = Session(proto.SerializeToString(), (CPU,)).run({proto.graph.input[0].name: x})[scores].astype(float)
    wanted = -np.log(np.take_along_axis(softmax(value, axis=1), classes[:, None], 1))[:, 0]
    assert float(found[gradient.loss]) == pytest.approx(wanted[~blank].sum(), rel=1e-5)
    residue = (softmax(value, axis=1) - np.eye(5)[classes].transpose(0, 3, 1, 2)) * ~blank[:, None]
    slope = np.einsum("nohw,nihw->oi", residue, x)
    assert found[gradient.of[weight]][:, :, 0, 0] == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_a_tensor_that_nothing_depends_on_has_zeros() -> None:
    net = Net(17)
    x = net.input("n", 6)
    beside = net.add("Sign", net.add("Relu", x))
    proto = net.done(net.add("Add", net.gemm(x, 5, 6), net.add("ReduceMax", beside, keepdims=1)))
    gradient, feeds = differentiate(proto, [beside]), drawn(proto, 3)
    seed = np.zeros((3, 5), np.float32)
    found = run(gradient, {**feeds, **dict.fromkeys((gradient.seeds or {}).values(), seed)})
    assert found[gradient.of[beside]].shape == (3, 6) and not found[gradient.of[beside]].any()


def test_old_operator_sets_are_raised() -> None:
    proto, new = network(9, batch=2), network(17, batch=2)
    names = [tensor.name for tensor in proto.graph.initializer if len(tensor.dims) > 1]
    results = []
    for each in (proto, new):
        gradient = differentiate(each, names)
        feeds = {**drawn(each, 2), **dict.fromkeys((gradient.seeds or {}).values(), np.ones((2, 5), np.float32))}
        results.append([run(gradient, feeds)[gradient.of[name]] for name in names])
    for old, young in zip(*results, strict=True):
        assert old == pytest.approx(young, rel=1e-5, abs=1e-6)


OLD = [
    Case("Upsample", [(1, 2, 5, 4), [1.0, 1.0, 1.6, 3.0]], {"mode": "linear"}, opset=9),
    Case("Upsample", [(1, 2, 5, 4), [1.0, 1.0, 1.6, 3.0]], {"mode": "nearest"}, opset=9),
    Case("Resize", [(1, 2, 5, 4), [1.0, 1.0, 0.6, 1.5]], {"mode": "linear"}, opset=10),
    Case("Resize", [(1, 2, 5, 4), [1.0, 1.0, 2.0, 1.6]], {"mode": "nearest"}, opset=10),
    Case("Softmax", [(2, 3, 4)], {"axis": 1}, opset=9),
    Case("LogSoftmax", [(2, 3, 4)], {}, opset=11),
    Case("Clip", [(3, 4)], {"min": -0.5, "max": 0.5}, opset=9),
    Case("Pad", [(3, 4)], {"pads": [1, 0, 0, 2], "mode": "edge"}, opset=9),
    Case("Slice", [(3, 4, 5)], {"starts": [1, -2], "ends": [3, 100], "axes": [0, 2]}, opset=9),
    Case("ReduceSum", [(2, 3)], {"axes": [1], "keepdims": 0}, opset=9),
    Case("Unsqueeze", [(3,)], {"axes": [0, 2]}, opset=9),
    Case("Split", [(6, 2)], {"axis": 0, "split": [1, 2, 3]}, makes=3, opset=11),
]


@pytest.mark.parametrize("case", OLD, ids=lambda case: f"{case.operator}-{case.opset}-{case.attributes.get('mode')}")
def test_raised_networks_compute_what_they_did(case: Case) -> None:
    net = Net(case.opset)
    x = net.input(*case.reads[0])
    further = [net.constant(values, np.float32) for values in case.reads[1:]]
    proto = net.done(*net.many(case.operator, case.makes, x, *further, **case.attributes))
    feeds = {x: np.random.default_rng(1).standard_normal(case.reads[0]).astype(np.float32)}
    old, new = (Session(each.SerializeToString(), (CPU,)).run(feeds) for each in (proto, raised(proto)))
    assert old.keys() == new.keys()
    for name, value in old.items():
        assert new[name] == pytest.approx(value, rel=1e-5, abs=1e-6)


def unsized(proto: ModelProto) -> ModelProto:
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    return proto


def test_what_is_not_covered_is_said() -> None:
    net = Net(17)
    x = net.input("n", 6)
    _, mean = net.many("LayerNormalization", 2, x, net.weight(6))
    with pytest.raises(ModelError, match="statistics are read"):
        differentiate(net.done(mean), [x])
    net = Net(17)
    x = net.input(4)
    hot = net.add(
        "OneHot", net.constant([0, 1]), net.constant(3), net.add("Slice", x, net.constant([0]), net.constant([2]))
    )
    with pytest.raises(ModelError, match="no rule for OneHot"):  # what it writes is a number
        differentiate(net.done(hot), [x])
    net = Net(17)
    x = net.input("n", 4)
    with pytest.raises(ModelError, match=r"shape of output .* is not known"):
        differentiate(unsized(net.done(net.add("Add", x, net.weight(2, 4)))), [x], input_shapes={x: (3, 4)})


def test_what_has_no_rule_is_named_with_what_depends_on_it() -> None:
    net = Net(17)
    x = net.add("Reshape", net.gemm(net.input("n", 6), 4, 6), net.constant([-1, 2, 2]))
    proto = net.done(net.add("Det", x))
    output = proto.graph.output[0].name
    with pytest.raises(ModelError, match=rf"\(Det\).*no rule for Det, and {output} depends on it"):
        differentiate(proto, [x])
    with pytest.raises(UsageError, match="no tensor 'nowhere'"):
        differentiate(proto, ["nowhere"])
    with pytest.raises(UsageError, match="no loss 'hinge'"):
        differentiate(proto, [x], loss=Loss("hinge", output))
