"""A layer as moments: losses and weights are those of least squares on the rows themselves."""

import itertools

import numpy as np
import pytest
from problems import Problem, drawn

from onnxprune.coreset.layer import Layer, factorised, prefix_losses

KINDS = ("", "duplicates", "zeros", "rank one", "orthogonal", "alike")
SHAPES = [{"width": 1}, {"width": 3}, {"fixed": 2}, {"width": 2, "fixed": 3}]


def subsets(problem: Problem) -> list[tuple[int, ...]]:
    found = problem.members.tolist()
    return [kept for size in range(len(found) + 1) for kept in itertools.combinations(found, size)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_every_subset_is_solved_as_by_least_squares(kind: str, shape: dict[str, int], scale: float) -> None:
    problem = drawn(0, kind=kind, scale=scale, candidates=4, **shape)
    layer = problem.layer
    for kept in subsets(problem):
        weights = layer.solve(np.array(kept, dtype=np.int64))
        best = problem.best(kept)
        assert problem.loss(weights) == pytest.approx(best, rel=1e-8, abs=1e-9 * layer.energy)
        assert layer.loss(weights) == pytest.approx(best, abs=1e-8 * layer.energy)
        gone = np.setdiff1d(np.arange(len(weights)), layer.columns(np.array(kept, dtype=np.int64)))
        assert not weights[gone].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_of_prefixes_are_those_of_the_sets(kind: str, shape: dict[str, int]) -> None:
    problem = drawn(1, kind=kind, **shape)
    order = np.random.default_rng(0).permutation(problem.members)
    found = prefix_losses(problem.layer, order)
    wanted = [problem.best(order[:size]) for size in range(order.size + 1)]
    np.testing.assert_allclose(found, wanted, atol=1e-8 * problem.layer.energy)
    assert (np.diff(found) <= 1e-12 * problem.layer.energy).all() and (found >= 0).all()


def test_candidates_without_columns_here_change_nothing() -> None:
    problem = drawn(2, candidates=3, width=2)
    full = problem.layer
    layer = Layer(full.gram, full.cross, full.energy, np.array([1, 4, 5]), full.blocks, full.fixed)
    found = prefix_losses(layer, np.array([0, 4, 2, 1, 3, 5]))
    wanted = [problem.best(kept) for kept in ([], [], [1], [1], [0, 1], [0, 1], [0, 1, 2])]
    np.testing.assert_allclose(found, wanted, atol=1e-9 * full.energy)
    assert np.array_equal(layer.columns(np.array([0, 4])), np.sort(full.blocks[1]))


def test_the_ridge_holds_on_to_weights_where_the_data_shows_nothing() -> None:
    problem = drawn(3, kind="zeros")
    weights = problem.layer.solve(problem.members)
    unseen = problem.blocks[0]
    np.testing.assert_allclose(weights[unseen], problem.held[unseen], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_anchored_layer_misses_every_candidate_by_its_share(kind: str, shape: dict[str, int]) -> None:
    problem = drawn(4, kind=kind, candidates=4, **shape)
    layer, shares = problem.layer, np.array([0.4, 0.1, 0.0, 0.5])
    anchored, held = layer.anchored(shares), layer.solve(problem.members)
    close = {"rel": 1e-6, "abs": 1e-8 * layer.energy}
    for kept in subsets(problem):
        weights = anchored.solve(np.array(kept, dtype=np.int64))
        further = 0.0
        for member, columns in zip(layer.members, layer.blocks, strict=True):
            lengths = np.square(held[columns]).sum()
            gap = np.square(weights[columns] - held[columns]).sum()
            further += layer.energy * shares[member] * gap / lengths if lengths > 1e-20 else 0.0
        assert anchored.loss(weights) == pytest.approx(layer.loss(weights) + further, **close)
        gone = sum(shares[list(set(range(4)) - set(kept))])
        if all(np.square(held[columns]).sum() > 1e-20 for columns in layer.blocks):
            assert (
                anchored.loss(weights)
                >= layer.loss(layer.solve(np.array(kept, dtype=np.int64)))
                + (layer.energy * gone * (1 - 1e-9))
                - 1e-8 * layer.energy
            )
    assert np.array_equal(layer.gram, problem.layer.gram)  # the layer itself is not changed
    np.testing.assert_allclose(anchored.solve(problem.members), held, atol=1e-6 * np.abs(held).max(initial=1e-30))


@pytest.mark.parametrize("order", [1, 3, 40])
def test_a_matrix_that_rounding_made_indefinite_has_a_factor(order: int) -> None:
    vector = np.random.default_rng(order).standard_normal(order)
    matrix = np.outer(vector, vector) * 1e8
    lower = factorised(matrix)
    np.testing.assert_allclose(lower @ lower.T, matrix, atol=1e-8 * np.abs(matrix).max())


def test_a_matrix_of_zeros_has_a_factor() -> None:
    assert np.isfinite(factorised(np.zeros((3, 3)))).all()


@pytest.mark.parametrize("matrix", [-np.eye(3), np.array([[0.0, 1.0], [1.0, 0.0]]), np.full((2, 2), np.nan)], ids=str)
def test_what_are_no_moments_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"."):
        factorised(matrix)
