"""Positive and negative weights sampled apart: unbiased, written as the plan says, proved, promised as it is drawn."""

import json
import math
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import Command, convolutional, dense, prune_plain, weights
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto

import onnxprune
from onnxprune.coreset.sampling import draws_for, expected_distinct
from onnxprune.coreset.split import split_sample
from onnxprune.methods import METHODS, Channels, Sample
from onnxprune.methods.certificate import DELTA, certify
from onnxprune.rewrite import GroupPlan

Array = NDArray[np.float64]
SPLIT = METHODS["coreset-split"]


def layer(seed: int = 0, *, n: int = 16, positions: int = 1, activation: str = "Relu") -> Channels:
    rng = np.random.default_rng([43, seed])
    readers = (rng.standard_normal((n, 3, positions)), rng.standard_normal((n, 2, positions)))
    return Channels((rng.standard_normal((n, 5)),), rng.standard_normal(n), readers, activation, beta=2.5)


def sampled(channels: Channels, seed: int, count: int = 8) -> Sample:
    sample = SPLIT(channels, np.random.default_rng(seed)).sample
    assert sample is not None
    return sample(count)


def written(reader: Array, kept: Array, factors: Array, negative: Array) -> Array:
    """W⁺f⁺ − W⁻f⁻ of what is kept, zero elsewhere; rows are channels."""
    result = np.zeros_like(reader)
    shape = (-1, *[1] * (reader.ndim - 1))
    own = reader[kept]
    result[kept] = np.maximum(own, 0) * factors.reshape(shape) - np.maximum(-own, 0) * negative.reshape(shape)
    return result


def sums(channels: Channels, x: Array, sample: Sample | None = None) -> list[Array]:
    """What each reader sums for inputs (x, positions, 5), exactly or with the sample's weights."""
    hidden = np.maximum(x @ channels.incoming[0].T + channels.bias, 0.0)
    readers = [
        np.asarray(reader)
        if sample is None
        else written(np.asarray(reader), sample.kept, sample.factors, sample.negative)
        for reader in channels.outgoing
    ]
    return [np.einsum("xsn,nks->xk", hidden, reader) for reader in readers]


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("count", [3, 8, 15])
def test_it_is_unbiased(count: int, positions: int) -> None:
    channels = layer(positions=positions)
    x = np.random.default_rng(9).standard_normal((4, positions, 5))
    exact = np.hstack(sums(channels, x))
    found = np.stack([np.hstack(sums(channels, x, sampled(channels, seed, count))) for seed in range(1500)])
    errors = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - exact) <= 4.0 * errors)


def test_signs_are_drawn_apart_as_often_as_announced() -> None:
    channels, wanted = layer(1), 8
    taken = sampled(channels, 0, wanted)
    guarantee = SPLIT(channels, np.random.default_rng(0)).guarantee
    assert guarantee is not None and guarantee.probabilities.shape == (2, 16)
    assert taken.draws == draws_for(guarantee.probabilities, wanted)
    for factors, pr in zip((taken.factors, taken.negative), guarantee.probabilities, strict=True):
        counts = factors * taken.draws * pr[taken.kept]
        np.testing.assert_allclose(counts, np.round(counts), rtol=1e-12, atol=1e-12)
        assert round(counts.sum()) == taken.draws
    assert (taken.factors == 0.0).any() and (taken.negative == 0.0).any()


def test_a_half_has_the_sensitivities_of_the_theorem() -> None:
    channels = replace(layer(2), outgoing=layer(2).outgoing[:1])
    rows = np.linalg.norm(np.column_stack([channels.incoming[0], channels.bias]), axis=1)
    guarantee = SPLIT(channels, np.random.default_rng(0)).guarantee
    assert guarantee is not None
    for sign, pr in zip((1.0, -1.0), guarantee.probabilities, strict=True):
        s = np.maximum(sign * channels.outgoing[0][:, :, 0], 0.0).max(axis=1) * rows
        np.testing.assert_allclose(pr, s / s.sum(), rtol=1e-12)


def test_one_sign_alone_is_one_sample() -> None:
    channels = replace(layer(3), outgoing=(np.abs(layer(3).outgoing[0]),))
    taken = sampled(channels, 0)
    assert not taken.negative.any() and taken.factors.min() > 0.0
    assert taken.draws == draws_for(METHODS["coreset"](channels, np.random.default_rng(0)).scores, 8)


def test_draws_for_two_distributions_give_the_union() -> None:
    one, two = np.array([0.7, 0.3, 0.0, 0.0]), np.array([0.0, 0.1, 0.4, 0.5])
    draws = draws_for(np.stack([one, two]), 3)
    rng = np.random.default_rng(0)
    seen = [np.count_nonzero(rng.multinomial(draws, one) + rng.multinomial(draws, two)) for _ in range(4000)]
    assert abs(np.mean(seen) - 3.0) < 0.5
    assert draws_for(one[None, :2] * 1.0, 1) == draws_for(one[:2], 1)
    assert expected_distinct(one, draws) < np.mean(seen)


def test_the_library_samples_several_readings_of_a_point() -> None:
    channels = layer(4, positions=3)
    points = np.column_stack([channels.incoming[0], channels.bias])
    reader = np.asarray(channels.outgoing[0])
    found = split_sample(points, reader, "Relu", draws=9, rng=np.random.default_rng(0))
    assert found.weights.shape == reader.shape and not (found.weights * reader < 0.0).any()
    positive = reader > 0.0
    expected = np.broadcast_to(found.factors[0][:, None, None], reader.shape)[positive]
    np.testing.assert_allclose(found.weights[positive], reader[positive] * expected)


# --- in a network


def written_by_hand(proto: ModelProto, group: GroupPlan) -> Array:
    """What the reader of the one hidden layer of `dense` has to be."""
    reader = list(weights(proto).values())[2].astype(np.float64)
    kept = np.array(group.kept)
    return written(reader, kept, np.array(group.factors), np.array(group.negative))[kept]


@pytest.mark.parametrize("external", [False, True])
def test_the_file_has_the_weights_of_the_plan_and_a_replay_has_them_too(command: Command, external: bool) -> None:
    proto = dense(sizes=(6, 90, 70))
    path = command.put(proto, external=external)
    plan, out, again = (command.folder / name for name in ("plan.json", "out.onnx", "again.onnx"))
    command.done(path, out, "--ratio", "0.5", "--method", "coreset-split", "--plan", plan)
    entry = json.loads(plan.read_text())["groups"][0]
    assert len(entry["negative"]) == len(entry["factors"]) == len(entry["kept"]) and entry["draws"] > 0
    group = onnxprune.Plan.from_json(plan.read_text()).groups[0]
    found = list(weights(onnx.load(out)).values())[2]
    np.testing.assert_allclose(found, written_by_hand(proto, group), rtol=1e-6)
    command.done(path, again, "--replay", plan)
    assert external or again.read_bytes() == out.read_bytes()
    np.testing.assert_array_equal(list(weights(onnx.load(again)).values())[2], found)


def test_a_convolution_a_stream_and_groups_are_proved() -> None:
    result = prune_plain(convolutional(), ratio=0.4, method="coreset-split", best_effort=True)
    assert result.report["validation"]["twin"]["passed"]
    signed = {group.name for group in result.plan.groups if group.negative}
    rows = {group.name for group in result.plan.groups if any("every row" in note for note in group.notes)}
    assert signed and rows and not signed & rows


def test_only_where_every_reader_has_a_weight_to_itself(command: Command) -> None:
    """A sum over channels takes no factors, and a weight with two readers none that depend on its signs."""
    net = Net()
    x = net.input(4, 10)
    first = net.add("Relu", net.gemm(x, 30, 10))
    total = net.add("ReduceSum", first, net.constant([1]), keepdims=1)
    second = net.add("Relu", net.gemm(first, 24, 30))
    shared = net.weight(24, 24)
    third = net.add("Relu", net.add("MatMul", net.add("Relu", net.add("MatMul", second, shared)), shared))
    path = command.put(net.done(total, net.gemm(third, 5, 24)))
    plan, out = command.folder / "plan.json", command.folder / "out.onnx"
    command.done(path, out, "--ratio", "0.3", "--method", "coreset-split", "--plan", plan, "--best-effort")
    groups = onnxprune.Plan.from_json(plan.read_text()).groups
    assert not any(group.negative or group.factors for group in groups[:2])
    assert all(any("weight of its own" in note for note in group.notes) for group in groups[:2])
    data = json.loads(plan.read_text())
    for name in ("factors", "negative"):
        data["groups"][0][name] = [2.0] * len(data["groups"][0]["kept"])
    plan.write_text(json.dumps(data))
    command.refused(path, command.folder / "no.onnx", "--replay", plan, words=["factors", repr(groups[0].name)])


def test_readers_that_are_solved_anew_have_no_factors() -> None:
    proto = dense(sizes=(6, 40, 8))
    data = np.random.default_rng(7).standard_normal((128, 6)).astype(np.float32)
    result = prune_plain(proto, ratio=0.5, method="coreset-split", refit="on", calib=data, best_effort=True)
    assert result.report["refit"] and not any(group.factors or group.negative for group in result.plan.groups)


@pytest.mark.parametrize(
    ("factors", "negative", "sound"),
    [
        ([1.0, 0.0], [0.0, 2.0], True),
        ([1.0, 2.0], [], True),
        ([1.0, 0.0], [0.0, 0.0], False),
        ([1.0, 0.0], [2.0], False),
        ([], [1.0, 2.0], False),
        ([1.0, -1.0], [1.0, 2.0], False),
        ([1.0, 1.0], [1.0, math.nan], False),
        ([1.0, math.inf], [1.0, 1.0], False),
        ([1.0], [1.0], False),
    ],
)
def test_which_factors_are_sound(factors: list[float], negative: list[float], sound: bool) -> None:
    assert GroupPlan("a", 4, (0, 2), tuple(factors), (), 3, tuple(negative)).is_sound == sound


# --- what is certain, and what is promised


def in_the_ball(channels: Channels, positions: int, count: int) -> Array:
    x = np.random.default_rng(3).standard_normal((count, positions, 5))
    scaled: Array = x * math.sqrt(channels.beta**2 - 1.0) / np.linalg.norm(x, axis=2, keepdims=True)
    return scaled


@pytest.mark.parametrize("positions", [1, 4])
def test_the_certain_bound_holds(positions: int) -> None:
    channels = layer(5, positions=positions)
    choice = SPLIT(channels, np.random.default_rng(1))
    sample = sampled(channels, 1)
    found = certify(channels, sample, choice.guarantee)
    x = in_the_ball(channels, positions, 2000)
    pairs = zip(sums(channels, x), sums(channels, x, sample), strict=True)
    worst = max(float(np.abs(a - b).max()) for a, b in pairs)
    assert 0.0 < worst <= found.error
    assert found.promise is not None and found.promise.signs == "split"
    one = certify(channels, replace(sample, negative=sample.factors), choice.guarantee)
    assert one.error == pytest.approx(certify(channels, replace(sample, negative=np.empty(0)), choice.guarantee).error)


def test_the_promise_fails_no_more_often_than_it_says() -> None:
    channels = layer(6)
    x = in_the_ball(channels, 1, 1)
    exact, trials, gaps = np.hstack(sums(channels, x)), 400, []
    promise = certify(channels, sampled(channels, 0), SPLIT(channels, np.random.default_rng(0)).guarantee).promise
    assert promise is not None and promise.epsilon_ball is not None and promise.epsilon < promise.epsilon_ball
    for seed in range(trials):
        gaps.append(float(np.abs(np.hstack(sums(channels, x, sampled(channels, seed))) - exact).max()))
    failures = np.count_nonzero(np.array(gaps) >= promise.epsilon)
    assert failures <= DELTA * trials + 4.0 * math.sqrt(DELTA * trials)
    assert np.quantile(gaps, 1.0 - DELTA) > promise.epsilon / 40.0, "an error so much smaller is no promise"


def test_without_a_sign_of_the_activation_pairs_are_drawn() -> None:
    channels = layer(7, activation="Tanh")
    choice = SPLIT(channels, np.random.default_rng(0))
    promise = certify(channels, sampled(channels, 0), choice.guarantee).promise
    assert promise is not None and promise.signs == "mixed"
    assert choice.guarantee is not None
    impossible = replace(choice.guarantee, probabilities=np.eye(16)[:2])
    assert certify(channels, sampled(channels, 0), impossible).promise is None


def test_the_report_says_so() -> None:
    result = prune_plain(dense(), ratio=0.4, method="coreset-split", best_effort=True)
    thinned = [group["certificate"] for group in result.report["groups"] if group["kept"] < group["channels"]]
    assert {entry["promise"]["signs"] for entry in thinned} == {"split"}
    plain = prune_plain(dense(), ratio=0.4, method="coreset-sampled", best_effort=True)
    assert {g["certificate"]["promise"]["signs"] for g in plain.report["groups"] if g["certificate"]} == {"mixed"}


def test_the_original_as_it_came_is_what_is_compared_with(command: Command) -> None:
    source, report = command.put(dense()), command.folder / "report.json"
    flags = ("--method", "coreset-split", "--ratio", 0.5, "--best-effort")
    command.done(source, command.folder / "out.onnx", *flags, "--report", report)
    in_file = json.loads(report.read_text())["validation"]["fidelity"]
    in_memory = onnxprune.prune(dense(), ratio=0.5, method="coreset-split", best_effort=True)
    inputs = np.random.default_rng(0).normal(size=(512, 20)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x0": inputs})[0]
        for proto in (dense(), in_memory.model)
    )
    gap = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    for told in (in_file, in_memory.report["validation"]["fidelity"]):
        assert [entry["relative_l2"] for entry in told.values()] == pytest.approx([gap], rel=0.3)
