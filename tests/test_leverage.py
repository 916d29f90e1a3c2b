"""Leverage scores, Lewis weights and the refit, each against what defines it."""

import doctest

import numpy as np
import pytest
from clouds import CLOUDS, Array, cloud

from onnxprune.coreset import leverage, refit
from onnxprune.coreset.leverage import leverage_scores, lewis_weights
from onnxprune.coreset.refit import refit as refitted
from onnxprune.coreset.span import linear_span

every_cloud = pytest.mark.parametrize("name", CLOUDS)


@pytest.mark.parametrize("module", [leverage, refit], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


# --- leverage


@every_cloud
@pytest.mark.parametrize("function", [leverage_scores, lewis_weights])
def test_scores_sum_to_the_rank(name: str, function: type) -> None:
    points = CLOUDS[name]
    scores = function(points)
    assert scores.sum() == pytest.approx(linear_span(points).rank, rel=1e-9)
    assert scores.min(initial=0.0) >= 0.0 and scores.max(initial=0.0) <= 1.0 + 1e-9
    assert not scores[~points.any(axis=1)].any()


def test_leverage_is_the_largest_share_of_the_squares() -> None:
    points = cloud(0, 40, 4)
    best = points @ np.linalg.inv(points.T @ points)
    shares = np.einsum("ij,ij->i", points, best) ** 2 / np.square(best @ points.T).sum(axis=1)
    np.testing.assert_allclose(leverage_scores(points), shares, rtol=1e-9)
    x = np.random.default_rng(0).standard_normal((4, 500))
    assert np.all((np.square(points @ x) / np.square(points @ x).sum(axis=0)).max(axis=1) <= leverage_scores(points))


@pytest.mark.parametrize("name", ["plane", "many", "duplicates", "zero rows", "thin", "just enough", "float32"])
def test_lewis_weights_are_their_own_fixed_point(name: str) -> None:
    points = CLOUDS[name].astype(np.float64)
    points = points / np.abs(points).max(axis=0)
    weights = lewis_weights(points)
    living = weights > 0.0
    rows = points[living]
    quadratic = np.einsum("ij,ij->i", rows @ np.linalg.inv((rows.T / weights[living]) @ rows), rows)
    np.testing.assert_allclose(np.sqrt(quadratic), weights[living], rtol=1e-8)


def test_lewis_weights_bound_the_share_of_the_absolute_values() -> None:
    """|pᵀx| ≤ w(p) ‖Ax‖₁ for every x: the ℓ1 sensitivity is at most the Lewis weight."""
    points = cloud(1, 60, 3, copies=10)
    favoured = np.linalg.solve(points.T @ points, points.T)
    x = np.column_stack([np.random.default_rng(0).standard_normal((3, 2000)), favoured])
    shares = np.abs(points @ x) / np.abs(points @ x).sum(axis=0)
    assert np.all(shares.max(axis=1) <= lewis_weights(points) * (1.0 + 1e-9))


def test_lewis_weights_do_not_change_with_the_coordinates() -> None:
    points = cloud(2, 50, 4)
    matrix = np.random.default_rng(2).standard_normal((4, 4)) * 1e6
    np.testing.assert_allclose(lewis_weights(points @ matrix), lewis_weights(points), rtol=1e-8)


def test_an_accuracy_that_float64_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1e-13"):
        lewis_weights(cloud(0, 9, 2), accuracy=0.0)


# --- the refit


def moments(seed: int, *, samples: int = 200, inputs: int = 12, outputs: int = 3) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.standard_normal((samples, inputs)) @ rng.standard_normal((inputs, inputs)), 0.0)
    weights = rng.standard_normal((inputs, outputs))
    return values, weights, values.T @ values, values.T @ values @ weights


@pytest.mark.parametrize("seed", range(3))
def test_the_refit_is_the_least_squares_solution(seed: int) -> None:
    values, weights, gram, cross = moments(seed)
    kept = np.array([7, 0, 3, 11])
    expected = np.linalg.lstsq(values[:, kept], values @ weights)[0]
    np.testing.assert_allclose(refitted(gram, cross, kept, ridge=0.0), expected, rtol=1e-8, atol=1e-10)


def test_the_ridge_is_relative_to_the_mean_diagonal() -> None:
    values, weights, gram, cross = moments(4)
    kept = np.array([1, 2, 5])
    ridge = 1e-2 * np.mean(np.diagonal(gram)[kept])
    stacked = np.vstack([values[:, kept], np.sqrt(ridge) * np.eye(3)])
    target = np.vstack([values @ weights, np.zeros((3, 3))])
    expected = np.linalg.lstsq(stacked, target)[0]
    np.testing.assert_allclose(refitted(gram, cross, kept, ridge=1e-2), expected, rtol=1e-9)
    for scale in (1e-150, 1e150):
        np.testing.assert_allclose(refitted(gram * scale, cross * scale, kept, ridge=1e-2), expected, rtol=1e-9)


def test_keeping_all_gives_the_weights_back() -> None:
    _, weights, gram, cross = moments(5)
    np.testing.assert_allclose(refitted(gram, cross, np.arange(12), ridge=0.0), weights, rtol=1e-7, atol=1e-9)


def test_dependent_inputs_are_refused_or_shared_by_the_ridge() -> None:
    values, weights, _, _ = moments(6)
    twice = np.column_stack([values, values[:, :1]])
    gram = twice.T @ twice
    cross = twice.T @ values @ weights
    with pytest.raises(ValueError, match=r"linearly dependent .* ridge of 0 .* larger"):
        refitted(gram, cross, np.array([0, 4, 12]), ridge=0.0)
    shared = refitted(gram, cross, np.array([0, 4, 12]), ridge=1e-6)
    np.testing.assert_allclose(shared[0], shared[2], rtol=1e-6)


def test_dead_inputs_get_no_weight() -> None:
    _, _, gram, cross = moments(7)
    gram[3], gram[:, 3], cross[3] = 0.0, 0.0, 0.0
    assert not refitted(gram, cross, np.array([2, 3]))[1].any()
    assert not refitted(gram, cross, np.array([3])).any()
    assert refitted(gram, cross, np.array([], dtype=np.int64)).shape == (0, 3)
    with pytest.raises(ValueError, match="linearly dependent"):
        refitted(gram, cross, np.array([2, 3]), ridge=0.0)


@pytest.mark.parametrize(
    ("gram", "cross", "kept", "ridge", "match"),
    [
        (np.ones((2, 3)), np.ones((2, 1)), [0], 0.1, "shapes"),
        (np.eye(2), np.ones((3, 1)), [0], 0.1, "shapes"),
        (np.eye(2), np.ones(2), [0], 0.1, "shapes"),
        (np.eye(2), np.ones((2, 1)), [0, 0], 0.1, "distinct"),
        (np.eye(2), np.ones((2, 1)), [2], 0.1, "from 0 to 1"),
        (np.eye(2), np.ones((2, 1)), [0], -1.0, "ridge"),
        (np.eye(2) * np.nan, np.ones((2, 1)), [0], 0.1, "not finite"),
        (np.zeros((2, 2)), np.ones((2, 1)), [0], 0.1, "zero in every sample"),
    ],
)
def test_wrong_moments_are_refused(gram: Array, cross: Array, kept: list[int], ridge: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        refitted(gram, cross, np.array(kept), ridge=ridge)
