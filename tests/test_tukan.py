"""Tukan's coreset: points scaled by their readers and reduced, the mild assumption, and what the report says."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from clouds import CLOUDS, Array, cloud
from doors import FLAGS, Command, prune_plain

from onnxprune.coreset import mild, reduction
from onnxprune.coreset.linf import linf_coreset, size_bound
from onnxprune.coreset.mild import centre_condition
from onnxprune.coreset.reduction import reduced, usual_rank
from onnxprune.coreset.sampling import draws_for
from onnxprune.errors import UsageError
from onnxprune.methods import METHODS, Channels, tukan
from onnxprune.options import Options


@pytest.mark.parametrize("module", [mild, reduction, tukan], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


# --- the reduction


@pytest.mark.parametrize(("count", "widths"), [(30, (3, 5)), (30, (40, 1)), (5, (9,))])
@pytest.mark.parametrize("rank", [1, 3, 100])
def test_the_reduction_is_the_best_of_its_rank(count: int, widths: tuple[int, ...], rank: int) -> None:
    rng = np.random.default_rng([count, rank])
    parts, weights = [rng.standard_normal((count, width)) for width in widths], rng.random(count)
    found = reduced(parts, weights, rank)
    points = np.hstack(parts) * weights[:, None]
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    assert found.coordinates.shape[1] == min(rank, sizes.size)
    assert found.share == pytest.approx(np.square(sizes[:rank]).sum() / np.square(sizes).sum(), rel=1e-9)
    best = (left[:, :rank] * sizes[:rank]) @ (left[:, :rank] * sizes[:rank]).T
    gram = found.coordinates @ found.coordinates.T
    np.testing.assert_allclose(gram / np.trace(gram), best / np.trace(best), atol=1e-9)


@pytest.mark.parametrize("name", CLOUDS)
def test_reducing_anything(name: str) -> None:
    points = CLOUDS[name]
    found = reduced([points], np.ones(len(points)), 2)
    assert np.isfinite(found.coordinates).all() and 0.0 <= found.share <= 1.0
    assert not found.coordinates[~points.any(axis=1)].any()


def test_the_usual_rank_lets_peeling_run() -> None:
    assert all(2 * usual_rank(count) ** 2 <= count for count in range(2, 5000))
    with pytest.raises(ValueError, match="positive rank"):
        reduced([np.ones((2, 2))], np.ones(2), 0)


# --- the mild assumption


def relu_ratio(points: Array, chosen: Array, x: Array) -> Array:
    """max_P φ(pᵀx) / max_S φ(qᵀx) for every column of x; 1 where both are zero, infinite where the second alone is."""
    above, below = np.maximum(points @ x, 0.0).max(axis=0), np.maximum(chosen @ x, 0.0).max(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above <= 1e-12 * np.abs(points @ x).max(axis=0), 1.0, above / below)


def hard_inputs(seed: int, points: Array) -> Array:
    """Random inputs, those that look away from the points' mean, and these with a little of every point."""
    rng = np.random.default_rng(seed)
    away = -points.mean(axis=0)[:, None]
    mixed = away * rng.random(400) + rng.standard_normal((points.shape[1], 400)) * rng.random(400)
    return np.column_stack([rng.standard_normal((points.shape[1], 400)), mixed])


@pytest.mark.parametrize("seed", range(6))
def test_where_the_assumption_holds_the_bound_holds_behind_a_relu(seed: int) -> None:
    points = np.random.default_rng([60, seed]).standard_normal((150, 3)) + 0.1 * seed / 6
    found = linf_coreset(points)
    condition = centre_condition(found)
    assert condition.holds and condition.factor == pytest.approx(2 * 3**1.5)
    ratios = relu_ratio(points, points[found.indices], hard_inputs(seed, points))
    assert ratios.max() <= condition.factor


def test_the_condition_is_the_statement_about_every_input() -> None:
    """cᵀx ≥ −τ h(x) for all x exactly where the condition holds: the worst x is known in closed form."""
    for shift in np.linspace(0.0, 2.0, 9):
        points = np.random.default_rng(5).standard_normal((200, 3)) + shift
        found = linf_coreset(points)
        condition = centre_condition(found)
        assert found.ellipsoid is not None
        centre = found.span.origin + found.ellipsoid.centre @ found.span.axes
        inverse = found.span.axes.T @ np.linalg.inv(found.ellipsoid.shape) @ found.span.axes
        worst = -np.linalg.solve(inverse, centre)
        x = np.column_stack([worst, np.random.default_rng(0).standard_normal((3, 500))])
        slack = centre @ x + condition.allowed * np.sqrt(np.einsum("ij,ik,kj->j", x, inverse, x))
        assert (slack[0] >= -1e-12) == condition.holds
        assert np.all(slack >= -1e-9) or not condition.holds


def test_where_it_does_not_hold_the_bound_can_fail() -> None:
    """A point that looks the other way than all that was chosen."""
    angles = np.linspace(0.0, 2.0 * np.pi, 400, endpoint=False)
    points = np.column_stack([np.cos(angles), np.sin(angles), np.full(400, 1.0)])
    found = linf_coreset(points)
    assert not centre_condition(found).holds
    x = np.vstack([np.cos(angles + 0.002), np.sin(angles + 0.002), np.full(400, -1.0 + 2e-4)])
    assert relu_ratio(points, points[found.indices], x).max() > centre_condition(found).factor


def test_a_flat_that_misses_zero_never_fulfils_it() -> None:
    points = np.column_stack([cloud(0, 50, 2), np.full(50, 3.0)])
    assert centre_condition(linf_coreset(points)).distance == np.inf
    assert not centre_condition(linf_coreset(np.full((3, 2), 2.0))).holds
    assert centre_condition(linf_coreset(np.zeros((3, 2)))).holds


# --- the method


def layer(n: int = 200, d: int = 30) -> Channels:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((n, 6)) @ rng.standard_normal((6, d))
    return Channels((rows,), rng.standard_normal(n), (rng.standard_normal((n, 4, 9)), rng.random((n, 2, 1))), "Relu")


def test_the_order_is_that_of_layers_then_leverage_of_the_scaled_points() -> None:
    channels = layer()
    shares = [np.abs(reader).sum(axis=2).max(axis=1) for reader in channels.outgoing]
    weights = np.max([share / share.sum() for share in shares], axis=0)
    assert channels.bias is not None
    points = np.column_stack([channels.incoming[0], channels.bias]) * weights[:, None]
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    rank = usual_rank(200)
    choice = METHODS["lowner"](channels, seeded())
    coordinates, leverage = left[:, :rank] * sizes[:rank], np.square(left[:, :rank]).sum(axis=1)
    layers = np.floor(1.0 / choice.scores + 1e-12).astype(int)
    assert rank == 5 and np.all(np.diff(layers[choice.order]) >= 0)
    x = np.random.default_rng(0).standard_normal((rank, 2000))
    for number in range(1, layers.max() + 1):
        members = choice.order[layers[choice.order] == number]
        assert members.size <= size_bound(rank) and np.all(np.diff(leverage[members]) <= 1e-9)
        # The theorem: each layer bounds all points that are in it or behind it.
        bound = 2.0 * rank**1.5 * np.abs(coordinates[members] @ x).max(axis=0)
        if number < layers.max():
            assert np.all(np.abs(coordinates[layers >= number] @ x).max(axis=0) <= bound)
    assert layers.max() > 5 and np.count_nonzero(layers == layers.max()) < 2 * rank**2


def test_what_is_drawn_has_the_weight_u_once() -> None:
    channels = layer()
    choice = METHODS["lowner-sampled"](channels, seeded())
    assert choice.sample is not None
    sample = choice.sample(80)
    draws = draws_for(choice.scores, 80)
    counts = sample.factors * draws * choice.scores[sample.kept]
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    assert round(counts.sum()) == draws


def test_the_rank_is_an_option_and_full_rank_says_that_nothing_was_peeled() -> None:
    channels = layer()
    assert not np.array_equal(
        METHODS["lowner"].with_rank(2)(channels, seeded()).order, METHODS["lowner"](channels, seeded()).order
    )
    full = replace(channels, incoming=(np.random.default_rng(4).standard_normal((200, 40)),))
    for name in ("lowner", "lowner-sampled"):
        choice = METHODS[name].with_rank(200)(full, seeded())
        assert any("no layer could be peeled off" in note for note in choice.notes)
    for name in ("l1", "coreset"):
        with pytest.raises(ValueError, match="reduces nothing to a rank"):
            METHODS[name].with_rank(3)
    with pytest.raises(UsageError, match="lowner, lowner-sampled do"):
        Options(ratio=0.5, rank=3)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(UsageError, match="from 1 on"):
            Options(ratio=0.5, method="lowner", rank=wrong)  # type: ignore[arg-type]


def test_the_report_says_what_the_choice_rests_on(command: Command) -> None:
    source = command.model("lenet-300-100.onnx")
    flags = (*FLAGS, "--ratio", "0.5", "--method", "lowner", "--rank", "3", "-v")
    ran = command(source, command.folder / "out.onnx", *flags)
    assert ran.code == 0
    assert "3 dimensions" in " ".join(ran.out.split()) and "mild assumption" in " ".join(ran.out.split())
    result = prune_plain(source, ratio=0.5, method="lowner-sampled", rank=200)
    notes = [note for group in result.report["groups"] for note in group["notes"]]
    assert any("no layer could be peeled off" in note for note in notes)
    again = prune_plain(source, replay=type(result.plan).from_json(result.plan.to_json()))
    assert [group["notes"] for group in again.report["groups"]] == [g["notes"] for g in result.report["groups"]]
    assert result.report["request"]["rank"] == 200
