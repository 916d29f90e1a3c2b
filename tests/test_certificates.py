"""Certificates hold: certain ones for every input of the ball, promised ones as often as they say; the graph's too."""

import doctest
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from doors import FLAGS, PLAIN, Command, convolutional, dense, perceptron, prune_plain
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, helper
from rich.console import Console, Group

import onnxprune
from onnxprune import certify as certify_door
from onnxprune import choose
from onnxprune.analysis import analyse
from onnxprune.coupling.chain import propagate
from onnxprune.coupling.intervals import magnitudes
from onnxprune.graph import io as graph_io
from onnxprune.methods import METHODS, Channels, Sample, certificate
from onnxprune.methods.certificate import DELTA, Promise, certify
from onnxprune.options import Options
from onnxprune.pipeline import Writing, prune_file
from onnxprune.progress import Clock
from onnxprune.report.text import prune_view
from onnxprune.score import channel_reader

Array = NDArray[np.float64]


def test_examples_run() -> None:
    result = doctest.testmod(certificate)
    assert result.attempted > 0 and result.failed == 0


def one_layer(seed: int = 0, *, n: int = 20, positions: int = 1, activation: str = "Relu") -> Channels:
    rng = np.random.default_rng([41, seed])
    readers = (rng.standard_normal((n, 3, positions)), rng.standard_normal((n, 2, positions)))
    return Channels((rng.standard_normal((n, 5)),), rng.standard_normal(n), readers, activation, beta=2.5)


def outputs(channels: Channels, inputs: Array, factors: Array) -> list[Array]:
    """What each reader sums, of Relu, for inputs (x, positions, 5) in the ball with their 1 for the bias."""
    assert channels.bias is not None
    hidden = np.maximum(inputs @ channels.incoming[0].T + channels.bias, 0.0) * factors
    return [np.einsum("xsn,nks->xk", hidden, reader) for reader in channels.outgoing]


def in_the_ball(channels: Channels, positions: int, count: int) -> Array:
    """Inputs x whose (x, 1) has norm β."""
    x = np.random.default_rng(3).standard_normal((count, positions, 5))
    scaled: Array = x * math.sqrt(channels.beta**2 - 1.0) / np.linalg.norm(x, axis=2, keepdims=True)
    return scaled


def scattered(sample: Sample, n: int) -> Array:
    factors = np.zeros(n)
    factors[sample.kept] = sample.factors if sample.factors.size else 1.0
    return factors


@pytest.mark.parametrize("positions", [1, 4])
@pytest.mark.parametrize("method", ["l1", "coreset", "coreset-distinct", "coreset-sampled"])
def test_the_certain_bound_holds_for_every_input(method: str, positions: int) -> None:
    channels = one_layer(positions=positions)
    choice = METHODS[method](channels, np.random.default_rng(1))
    sample = choice.sample(8) if choice.sample is not None else Sample(np.sort(choice.order[:8]), np.empty(0))
    found = certify(channels, sample, choice.guarantee)
    x = in_the_ball(channels, positions, 2000)
    exact, kept = outputs(channels, x, np.ones(20)), outputs(channels, x, scattered(sample, 20))
    worst = max(float(np.abs(a - b).max()) for a, b in zip(exact, kept, strict=True))
    assert 0.0 < worst <= found.error
    assert found.covered and found.activation == "Relu" and found.beta == 2.5
    assert (found.promise is not None) == (method == "coreset-sampled")


def test_nothing_left_out_is_no_error_and_everything_is_vacuous() -> None:
    channels = one_layer()
    whole = certify(channels, Sample(np.arange(20), np.empty(0)))
    assert whole.error == 0.0 < whole.whole and not whole.vacuous
    dead = replace(channels, outgoing=(np.zeros((20, 3, 1)),))
    assert certify(dead, Sample(np.arange(3), np.empty(0))).vacuous
    assert certify(channels, Sample(np.array([0]), np.array([1e9]))).vacuous


def test_the_promise_fails_no_more_often_than_it_says() -> None:
    channels = one_layer(2)
    x = in_the_ball(channels, 1, 1)
    exact = outputs(channels, x, np.ones(20))
    trials, failures, failures_of_a_fraction = 400, 0, 0
    promise: Promise | None = None
    for seed in range(trials):
        choice = METHODS["coreset-sampled"](channels, np.random.default_rng(seed))
        assert choice.sample is not None
        sample = choice.sample(8)
        promise = promise or certify(channels, sample, choice.guarantee).promise
        assert promise is not None and promise.draws == sample.draws and promise.delta == DELTA
        kept = outputs(channels, x, scattered(sample, 20))
        worst = max(float(np.abs(a - b).max()) for a, b in zip(exact, kept, strict=True))
        failures += worst >= promise.epsilon
        failures_of_a_fraction += worst >= promise.epsilon / 25.0
    assert failures <= DELTA * trials + 4.0 * math.sqrt(DELTA * trials)
    assert failures_of_a_fraction > DELTA * trials, "an error so much smaller is no promise"


def test_what_the_promise_depends_on() -> None:
    channels = one_layer()
    choice = METHODS["coreset-sampled"](channels, np.random.default_rng(0))
    assert choice.sample is not None and choice.guarantee is not None
    sample = choice.sample(8)
    found = certify(channels, sample, choice.guarantee).promise
    assert found is not None and found.epsilon_ball is not None and found.epsilon < found.epsilon_ball
    more = certify(channels, replace(sample, draws=100 * sample.draws), choice.guarantee).promise
    assert more is not None and more.epsilon < found.epsilon / 5.0
    assert found.vacuous and not certify(channels, replace(sample, draws=10**6), choice.guarantee).promise.vacuous  # type: ignore[union-attr]
    doubled = certify(replace(channels, beta=5.0), sample, choice.guarantee).promise
    assert doubled is not None and doubled.epsilon == pytest.approx(2.0 * found.epsilon)
    assert certify(channels, replace(sample, draws=0), choice.guarantee).promise is None
    impossible = replace(choice.guarantee, probabilities=np.eye(20)[0])
    assert certify(channels, sample, impossible).promise is None


# --- in a network: what is said of each group holds, and what is measured is what a reader of its own would give


def chain(*, activation: str = "Relu", seed: int = 0) -> ModelProto:
    """A convolution, pooling, another one, and a fully connected layer: no branch."""
    net = Net(seed=seed)
    x = net.add(activation, net.conv(net.input("n", 2, 8, 8), 10, 2, kernel=(3, 3), pads=[1, 1, 1, 1]))
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add(activation, net.conv(x, 12, 10, kernel=(3, 3)))
    return net.done(net.gemm(net.add("Flatten", x), 5, 12 * 4))


def facts(proto: ModelProto, **options: Any) -> tuple[dict[str, Any], onnxprune.Result]:
    result = prune_plain(proto, ratio=0.4, best_effort=True, **options)
    return {group["name"]: group["certificate"] for group in result.report["groups"]}, result


@pytest.mark.parametrize("method", ["l1", "coreset", "coreset-sampled", "coreset-split"])
@pytest.mark.parametrize("make", [chain, dense, perceptron])
def test_measured_errors_are_below_certain_bounds(make: Callable[[], ModelProto], method: str) -> None:
    found, result = facts(make(), method=method)
    thinned = [group for group in result.report["groups"] if group["kept"] < group["channels"]]
    assert thinned
    for group in thinned:
        entry = found[group["name"]]
        assert entry["none"] == "" and entry["beta_from"] == "the inputs measured on"
        assert 0.0 < entry["measured"]["max_abs"] <= entry["error"]
        assert entry["vacuous"] == (entry["error"] >= entry["whole"])
        assert (entry["promise"] is None) == (method not in ("coreset-sampled", "coreset-split"))
    json.dumps(result.report)


@pytest.mark.parametrize("method", ["coreset", "coreset-sampled", "coreset-split"])
def test_what_is_measured_is_what_thinning_one_group_alone_does(method: str) -> None:
    """Against the pruned network itself, where only one group is thinned: the reader's output is the network's."""
    proto = dense(sizes=(20, 40, 10))
    found, result = facts(proto, method=method)
    (entry,) = found.values()
    rng = np.random.default_rng([0, 3])
    gaps, norms, most = 0.0, 0.0, 0.0
    sessions = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (proto, result.model)
    ]
    for _ in range(entry["measured"]["inputs"]):
        x = rng.standard_normal((1, 20)).astype(np.float32)
        before, after = (session.run(None, {"x0": x})[0].astype(np.float64) for session in sessions)
        gaps, norms = gaps + float(np.square(after - before).sum()), norms + float(np.square(before).sum())
        most = max(most, float(np.abs(after - before).max()))
    assert entry["measured"]["relative_l2"] == pytest.approx(math.sqrt(gaps / norms), rel=1e-4)
    assert entry["measured"]["max_abs"] == pytest.approx(most, rel=1e-4)
    whole = result.report["end_to_end"]
    assert whole["none"] == "" and math.sqrt(gaps) < whole["error"] * math.sqrt(entry["measured"]["inputs"])


def test_beta_is_the_longest_patch() -> None:
    proto = chain()
    found, _ = facts(proto, method="coreset")
    rng = np.random.default_rng([0, 3])
    longest = 0.0
    for _ in range(found["conv0"]["measured"]["inputs"]):
        x = rng.standard_normal((1, 2, 8, 8)).astype(np.float32)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        longest = max(longest, float(np.square(windows).sum(axis=(1, 4, 5)).max()))
    assert found["conv0"]["beta"] == pytest.approx(math.sqrt(longest + 1.0), rel=1e-5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_readers_solved_anew_have_no_bound_but_what_is_measured_before_and_after() -> None:
    """Against the pruned network itself, as above: what is shown is the file that is written, not the old weights."""
    proto = dense(sizes=(20, 40, 10))
    data = np.random.default_rng(7).standard_normal((256, 20)).astype(np.float32)
    found, result = facts(proto, refit="on", distill="off", calib=data, method="coreset")
    (entry,) = found.values()
    assert entry["none"] == result.report["end_to_end"]["none"] == certify_door.SOLVED and "error" not in entry
    shown = io.StringIO()
    Console(file=shown, width=250).print(Group(*prune_view({**result.report, "time": {}}, verbose=True)))
    text = " ".join(shown.getvalue().split())
    assert "weights solved anew on data" in text and "%, solved anew" in text and "its readers missed" in text
    old = facts(proto, method="coreset", calib=data)[1]
    used = result.report["data"]
    held_out = data[used["samples"] :]
    assert len(held_out) == used["held_out"] == 32
    feeds = [{"x0": held_out}]
    for name, model in (("before", old.model), ("after", result.model)):
        own = entry["measured"] if name == "before" else entry["measured"]["renewed"]
        gaps, norms, most = 0.0, 0.0, 0.0
        runs = [onnxruntime.InferenceSession(m.SerializeToString()) for m in (proto, model)]
        for feed in feeds:
            a, b = (session.run(None, feed)[0].astype(np.float64) for session in runs)
            gaps, norms = gaps + float(np.square(b - a).sum()), norms + float(np.square(a).sum())
            most = max(most, float(np.abs(a - b).max()))
        assert own["relative_l2"] == pytest.approx(math.sqrt(gaps / norms), rel=1e-3)
        assert own["max_abs"] == pytest.approx(most, rel=1e-3)
    assert entry["measured"]["renewed"]["relative_l2"] < entry["measured"]["relative_l2"]
    assert entry["missed"][1] < entry["missed"][0]


def test_where_no_bound_holds_the_reason_is_given() -> None:
    found, _ = facts(convolutional())
    reasons = {entry["none"] for entry in found.values() if entry is not None}
    assert any("layers write them" in reason for reason in reasons)
    assert all(entry["measured"]["readers"] >= 1 for entry in found.values() if entry is not None)
    tanh, result = facts(chain(activation="Tanh"))
    assert all(entry["none"] == "" and not entry["covered"] for entry in tanh.values() if entry is not None)
    shown = io.StringIO()
    Console(file=shown, width=200).print(Group(*prune_view({**result.report, "time": {}}, verbose=True)))
    assert "Tanh, not covered by the theorem" in shown.getvalue() and "End to end: the output moves" in shown.getvalue()


@pytest.mark.parametrize("make", [chain, dense])
@pytest.mark.parametrize("method", ["coreset", "coreset-distinct", "coreset-split"])
def test_the_bound_of_the_whole_holds(make: Callable[[], ModelProto], method: str) -> None:
    proto = make()
    _, result = facts(proto, method=method, input_bound=1.0)
    whole = result.report["end_to_end"]
    sessions = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (proto, result.model)
    ]
    shape = [size if isinstance(size, int) else 1 for size in sessions[0].get_inputs()[0].shape]
    rng, worst = np.random.default_rng(5), 0.0
    for _ in range(50):
        feed = {"x0": np.sign(rng.standard_normal(shape)).astype(np.float32)}
        before, after = (session.run(None, feed)[0] for session in sessions)
        worst = max(worst, float(np.linalg.norm(after - before)))
        assert np.linalg.norm(before) <= whole["whole"]
    assert 0.0 < worst <= whole["error"] and whole["norm"] == pytest.approx(math.sqrt(math.prod(shape)))


def test_the_bound_of_the_whole_says_why_there_is_none() -> None:
    _, result = facts(convolutional())
    assert "no chain" in result.report["end_to_end"]["none"]


def test_a_chain_that_is_not_thinned_does_not_move() -> None:
    analysis = analyse(graph_io.from_proto(chain()))
    ones = np.ones((2, int(analysis.coupling.unit_of.max()) + 1))
    read = channel_reader(analysis).read
    same = propagate(analysis.index, analysis.shapes, analysis.coupling, scales=ones, read=read, norm=2.0)
    assert same.obstacle == "" and same.error == 0.0 < same.whole
    none = propagate(analysis.index, analysis.shapes, analysis.coupling, scales=0.0 * ones, read=read, norm=2.0)
    assert none.error > 0.0


def test_tensors_are_within_their_intervals() -> None:
    for activation in ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Softplus"):
        proto = chain(activation=activation)
        analysis = analyse(graph_io.from_proto(proto))
        bounds = magnitudes(analysis.index, channel_reader(analysis).read, 1.0)
        names = [name for node in proto.graph.node for name in node.output]
        probed = ModelProto.FromString(proto.SerializeToString())
        del probed.graph.output[:]
        probed.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
        session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        for _ in range(20):
            x = np.sign(rng.standard_normal((1, 2, 8, 8))).astype(np.float32)
            for name, value in zip(names, session.run(names, {"x0": x}), strict=True):
                assert np.abs(value).max() <= bounds[name] * (1 + 1e-6), name
        unknown = magnitudes(analysis.index, channel_reader(analysis).read, math.inf)
        assert (unknown["relu1_out" if activation == "Relu" else f"{activation.lower()}1_out"] <= 1.0) == (
            activation in ("Sigmoid", "Tanh")
        )


def test_an_input_bound_makes_scores_those_of_its_ball() -> None:
    """For Relu it cancels; Sigmoid saturates in a large ball, where only the readers' weights count."""
    plain, bounded = (facts(chain(), input_bound=bound)[1].plan.groups for bound in (None, 100.0))
    assert [group.kept for group in plain] == [group.kept for group in bounded]
    proto = chain(activation="Sigmoid")
    found, _ = facts(proto, input_bound=100.0)
    assert {entry["beta_from"] for entry in found.values() if entry} == {"--input-bound"}
    analysis = analyse(graph_io.from_proto(proto))
    ranked = choose.rank(analysis, Options(ratio=0.4, input_bound=1e6, **PLAIN), Clock().progress)
    reader = channel_reader(analysis)
    channels = reader.channels(analysis.coupling.groups[0])
    largest = np.abs(channels.outgoing[0]).sum(axis=2).max(axis=1)
    np.testing.assert_allclose(ranked.choices[0].scores, largest / largest.sum(), rtol=1e-5)
    with pytest.raises(onnxprune.UsageError, match="--input-bound"):
        onnxprune.prune(proto, ratio=0.4, input_bound=0.0)


@pytest.mark.parametrize("method", ["coreset-sampled", "coreset-split"])
def test_a_plan_remembers_its_draws(method: str) -> None:
    _, result = facts(dense(), method=method)
    assert all((group.draws > 0) == bool(group.factors) for group in result.plan.groups)
    again = prune_plain(dense(), replay=onnxprune.Plan.from_json(result.plan.to_json()))
    assert [g["certificate"] for g in again.report["groups"]] == [g["certificate"] for g in result.report["groups"]]


def test_the_command_looks_for_certificates_where_they_are_seen(command: Command) -> None:
    source, out = command.put(perceptron()), command.folder / "out.onnx"
    assert "Certificates" not in command.done(source, out, *FLAGS, "--ratio", "0.4", "--best-effort").out
    assert "Certificates" in command.done(source, out, *FLAGS, "--ratio", "0.4", "--best-effort", "--certify").out
    command.done(source, out, *FLAGS, "--ratio", "0.4", "--best-effort", "--report", command.folder / "r.json")
    report = json.loads((command.folder / "r.json").read_text())
    thinned = [group["kept"] < group["channels"] for group in report["groups"]]
    assert any(thinned) and thinned == [bool(group["certificate"]) for group in report["groups"]]
    assert all("measured" in group["certificate"] for group in report["groups"] if group["certificate"])
    dry = prune_file(source, None, Options(ratio=0.4, best_effort=True, **PLAIN), writing=Writing(groups=True)).report
    found = [group["certificate"] for group in dry["groups"] if group["certificate"]]
    assert {entry["measured"]["none"] for entry in found} == {"nothing was run"}
    assert {entry["beta_from"] for entry in found} == {"assumed"}
