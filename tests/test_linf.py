"""Few points for many: Carathéodory's theorem, the L∞ coreset's bound, and the sensitivities that peeling gives."""

import doctest
import math
from collections.abc import Callable

import numpy as np
import pytest
from clouds import CLOUDS, Array, cloud
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from onnxprune.coreset import caratheodory as caratheodory_module
from onnxprune.coreset import linf, peeling
from onnxprune.coreset.caratheodory import Combination, caratheodory, fast_caratheodory
from onnxprune.coreset.linf import LinfCoreset, linf_coreset, size_bound
from onnxprune.coreset.peeling import Peeled, peel
from onnxprune.coreset.span import affine_span

Reduce = Callable[[Array, Array], Combination]
both_ways = pytest.mark.parametrize("reduce", [caratheodory, fast_caratheodory], ids=["plain", "fast"])
both = pytest.mark.parametrize("centred", [False, True], ids=["free", "centred"])
every_cloud = pytest.mark.parametrize("name", CLOUDS)


@pytest.mark.parametrize("module", [caratheodory_module, linf, peeling], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


# --- Carathéodory


def assert_same_combination(points: Array, weights: Array, found: Combination) -> None:
    """The theorem: at most rank + 1 of the points, positive weights, the same sum and the same mean."""
    points = points.astype(np.float64)
    assert found.indices.size <= affine_span(points[weights > 0.0]).rank + 1
    assert np.all(np.diff(found.indices) > 0)
    assert np.all(weights[found.indices] > 0.0)
    assert found.weights.min() > 0.0
    total = math.fsum(weights)
    assert abs(math.fsum(found.weights) - total) <= 2.0 * math.ulp(total)
    size = float(np.abs(points).max(initial=0.0)) or 1.0
    before, after = weights / total @ (points / size), found.weights / total @ (points[found.indices] / size)
    np.testing.assert_allclose(after, before, rtol=0.0, atol=1e-11)


@both_ways
@every_cloud
def test_a_mean_is_one_of_few_points(reduce: Reduce, name: str) -> None:
    points = CLOUDS[name]
    weights = np.random.default_rng(1).random(len(points))
    weights[: len(points) // 3] = 0.0
    assert_same_combination(points, weights, reduce(points, weights))


@both_ways
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 80),
    width=st.integers(1, 7),
    rank=st.integers(1, 7),
    copies=st.integers(0, 20),
    exponent=st.integers(-250, 250),
)
def test_at_any_size_rank_and_scale(
    reduce: Reduce, seed: int, count: int, width: int, rank: int, copies: int, exponent: int
) -> None:
    points = cloud(seed, count, width, rank=min(rank, width), copies=min(copies, count)) * 10.0**exponent
    weights = np.random.default_rng(seed).exponential(size=len(points)) * 10.0 ** (-exponent)
    assert_same_combination(points, weights, reduce(points, weights))


@both_ways
def test_points_near_one_another_and_far_from_zero(reduce: Reduce) -> None:
    """Rounding of what they are is no direction that they vary in."""
    points = cloud(41, 3, 3, rank=1)
    weights = np.random.default_rng(41).exponential(size=3)
    assert reduce(points, weights).indices.size == 2
    assert_same_combination(points, weights, reduce(points, weights))


@both_ways
@pytest.mark.parametrize(("count", "width"), [(3000, 12), (300, 40)])
def test_many_points(reduce: Reduce, count: int, width: int) -> None:
    points = cloud(3, count, width)
    assert_same_combination(points, np.ones(count), reduce(points, np.ones(count)))


def test_few_points_against_a_linear_programme() -> None:
    """Whatever is chosen is a vertex of the set of all representations: linearly independent after lifting."""
    for seed in range(20):
        points = cloud(seed, 10, 3)
        weights = np.random.default_rng(seed).random(10)
        found = caratheodory(points, weights)
        lifted = np.vstack([points.T, np.ones(10)])
        assert np.linalg.matrix_rank(lifted[:, found.indices]) == found.indices.size
        only = np.full(10, 0.0)
        only[found.indices] = np.inf
        bounds = [(0.0, bound or 0.0) for bound in only]
        assert linprog(np.zeros(10), A_eq=lifted, b_eq=lifted @ weights, bounds=bounds, method="highs").success


@both_ways
@pytest.mark.parametrize(
    ("points", "weights"),
    [
        (np.ones((2, 1)), np.ones(3)),
        (np.ones((2, 1)), np.array([1.0, -1.0])),
        (np.ones((2, 1)), np.array([1.0, np.nan])),
        (np.ones((2, 1)), np.zeros(2)),
        (np.array([[np.nan], [1.0]]), np.ones(2)),
        (np.ones((0, 2)), np.ones(0)),
    ],
)
def test_what_has_no_mean_is_refused(reduce: Reduce, points: Array, weights: Array) -> None:
    with pytest.raises(ValueError, match=r"weights|finite|shape"):
        reduce(points, weights)


# --- the L∞ coreset


def largest_ratio(points: Array, found: LinfCoreset, x: Array) -> float:
    """The largest max_P |pᵀx| / max_S |qᵀx| over the columns of x."""
    all_points, chosen = np.abs(points @ x).max(axis=0), np.abs(points[found.indices] @ x).max(axis=0)
    assert np.all(chosen[all_points > 1e-9 * all_points.max()] > 0.0)
    return float((all_points / np.where(chosen > 0.0, chosen, 1.0))[all_points > 1e-9 * all_points.max()].max())


def worst_ratio(points: Array, found: LinfCoreset) -> float:
    """The exact supremum over all x: per point, the largest pᵀx subject to |qᵀx| ≤ 1 for the chosen."""
    chosen = points[found.indices]
    limits = np.vstack([chosen, -chosen])
    worst = 0.0
    for point in points:
        best = linprog(-point, A_ub=limits, b_ub=np.ones(len(limits)), bounds=(None, None), method="highs")
        assert best.success, "unbounded: the chosen points do not span the others"
        worst = max(worst, -float(best.fun))
    return worst


@both
@every_cloud
def test_the_bound_holds_for_random_inputs(name: str, centred: bool) -> None:
    points = CLOUDS[name].astype(np.float64)
    found = linf_coreset(points, centred=centred)
    rank = found.rank
    assert 1 <= found.indices.size <= size_bound(rank, centred=centred)
    limit = (max(rank, 1) if centred else max(2.0 * rank**1.5, 1.0)) * (1.0 + 1e-2)
    assert found.factor <= limit
    if found.ellipsoid is not None:
        root, spread = np.sqrt(rank), found.ellipsoid.spread
        assert found.factor == pytest.approx(root * np.sqrt(spread) if centred else 1.0 + root * spread)
    size = np.abs(points).max(initial=0.0)
    if size == 0.0:
        return
    x = np.random.default_rng(0).standard_normal((points.shape[1], 500))
    assert largest_ratio(points / size, found, x) <= found.factor * (1.0 + 1e-9)


@both
@pytest.mark.parametrize("name", ["plane", "just enough", "duplicates", "zero rows", "line", "flat", "far away"])
def test_the_bound_holds_for_the_worst_input_of_all(name: str, centred: bool) -> None:
    points = CLOUDS[name]
    coordinates = points if name != "flat" else points @ np.linalg.svd(points)[2][:3].T
    found = linf_coreset(points, centred=centred)
    worst = worst_ratio(coordinates / np.abs(coordinates).max(), found)
    assert 1.0 - 1e-9 <= worst <= found.factor * (1.0 + 1e-7)


@both
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), width=st.integers(1, 5), copies=st.integers(0, 9))
def test_the_bound_holds_at_any_size(centred: bool, seed: int, count: int, width: int, copies: int) -> None:
    points = cloud(seed, count, width, copies=min(copies, count))
    found = linf_coreset(points, centred=centred)
    assert found.indices.size <= size_bound(found.rank, centred=centred)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((width, 64))
    # Directions in which what was chosen is as small as can be.
    hard = np.linalg.svd(points[found.indices], full_matrices=True)[2].T
    if found.indices.size >= width:
        assert largest_ratio(points, found, np.column_stack([x, hard])) <= found.factor * (1.0 + 1e-7)
    else:
        assert largest_ratio(points, found, x) <= found.factor * (1.0 + 1e-7)


def test_without_what_was_chosen_the_bound_fails() -> None:
    """The tests above can fail: the points that were not chosen do not bound the others."""
    points = np.random.default_rng(2).standard_normal((200, 4))
    points[:8] = np.vstack([np.eye(4), -np.eye(4)]) * 1e3
    found = linf_coreset(points)
    rest = np.setdiff1d(np.arange(200), found.indices)
    wrong = LinfCoreset(rest, found.factor, found.span, found.ellipsoid)
    assert largest_ratio(points, wrong, np.eye(4)) > found.factor


# --- peeling


def test_the_loop_is_that_of_the_paper() -> None:
    points = cloud(4, 400, 3, zeros=5)
    found = peel(points)
    assert found.status is Peeled.LAYERS and found.rank == 3 and found.rounds >= 5
    living = points.any(axis=1)
    for layer in range(1, found.rounds + 1):
        left = np.flatnonzero(living & (found.layers >= layer))
        assert left.size >= 2 * 3**2
        np.testing.assert_array_equal(np.flatnonzero(found.layers == layer), left[linf_coreset(points[left]).indices])
    assert np.count_nonzero(living & (found.layers > found.rounds)) < 2 * 3**2
    np.testing.assert_allclose(found.sensitivities[living], 2.0 * 3**1.5 / found.layers[living], rtol=1e-14)
    assert np.all(found.layers[~living] == found.rounds + 2) and not found.sensitivities[~living].any()
    assert found.total == pytest.approx(found.sensitivities.sum())


@pytest.mark.parametrize("seed", range(4))
def test_no_share_is_above_its_bound(seed: int) -> None:
    """s(p) ≥ |pᵀx| / Σ_q |qᵀx| for random x and for those that favour p most (its own direction, whitened)."""
    points = cloud(50 + seed, 300, 4, copies=20)
    found = peel(points)
    rng = np.random.default_rng(seed)
    favoured = np.linalg.solve(points.T @ points, points.T)
    x = np.column_stack([rng.standard_normal((4, 300)), points.T, favoured])
    shares = np.abs(points @ x)
    shares /= shares.sum(axis=0)
    assert np.all(shares.max(axis=1) <= found.sensitivities)
    assert found.rounds >= 4 and np.unique(found.sensitivities).size == found.rounds + 1


def test_the_sum_of_the_bounds_grows_with_the_logarithm() -> None:
    """t = Σ s ≤ 2 r^1.5 · |S| · (1 + log rounds) + the rest, |S| ≤ 2 r (r + 1): far below n · s of uniform sampling."""
    for count in (200, 700):
        found = peel(np.random.default_rng(count).standard_normal((count, 3)))
        unit = 2.0 * 3**1.5
        bound = unit * (size_bound(3) * (1.0 + math.log(found.rounds)) + 2 * 3**2 / (found.rounds + 1))
        assert found.total <= bound
    assert found.total < 0.2 * unit * 700


@pytest.mark.parametrize("points", [cloud(0, 300, 40), cloud(1, 7, 2), np.ones((1, 3)), np.zeros((4, 2))])
def test_where_no_layer_can_be_peeled_off_it_says_so(points: Array) -> None:
    found = peel(points)
    assert found.status is Peeled.NONE and found.rounds == 0 and "no layer could be peeled off" in found.status.value
    assert np.unique(found.sensitivities).size == 1


@every_cloud
def test_peeling_anything(name: str) -> None:
    points = CLOUDS[name]
    found = peel(points)
    assert found.layers.min() >= 1 and np.isfinite(found.sensitivities).all()
    np.testing.assert_array_equal(found.sensitivities > 0.0, points.any(axis=1))


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.array([[1.0], [np.nan]])])
def test_what_is_no_finite_matrix_is_refused(points: Array) -> None:
    for function in (peel, linf_coreset):
        with pytest.raises(ValueError, match=r"points have shape|is not finite"):
            function(points)
