"""Which columns to keep: greedy orders and exchanges against brute force."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from problems import Problem, drawn, optimum

from onnxprune.coreset.layer import Layer
from onnxprune.coreset.selection import backward, exchanged, forward, losses, submodularity, summed

KINDS = ("", "duplicates", "zeros", "rank one", "alike")
ORDERS = (backward, forward)


def layers(problems: Sequence[Problem]) -> list[Layer]:
    return [problem.layer for problem in problems]


def several(kind: str = "", seed: int = 0) -> tuple[list[Problem], list[float]]:
    """Two readers of the same six candidates, one by blocks and with columns that stay."""
    return [drawn(seed, kind=kind), drawn(seed + 1, kind=kind, width=2, fixed=3)], [1.0, 0.5]


def everything(problems: Sequence[Problem], worth: Sequence[float], size: int) -> list[float]:
    count = len(problems[0].members)
    return [optimum(problems, worth, kept) for kept in itertools.combinations(range(count), size)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_an_order_are_those_of_its_sets(order: type, kind: str) -> None:
    problems, worth = several(kind)
    found = order(layers(problems), worth, 6)
    assert sorted(found) == list(range(6))
    wanted = [optimum(problems, worth, found[:size]) for size in range(7)]
    np.testing.assert_allclose(losses(layers(problems), worth, found), wanted, atol=1e-7 * wanted[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_step_is_the_best_there_is(kind: str) -> None:
    problems, worth = several(kind, seed=4)
    scale = optimum(problems, worth, [])
    last = backward(layers(problems), worth, 6)[:-1]
    assert optimum(problems, worth, last) == pytest.approx(min(everything(problems, worth, 5)), abs=1e-7 * scale)
    first = forward(layers(problems), worth, 6)[:1]
    assert optimum(problems, worth, first) == pytest.approx(min(everything(problems, worth, 1)), abs=1e-7 * scale)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_better_than_chance_and_within_its_bound(order: type, seed: int) -> None:
    problems, worth = several(seed=10 + seed)
    found = order(layers(problems), worth, 6)
    nothing = optimum(problems, worth, [])
    for size in range(1, 6):
        own, all_of_them = optimum(problems, worth, found[:size]), everything(problems, worth, size)
        assert own <= np.median(all_of_them)
        if order is forward:
            gamma = submodularity(layers(problems))
            assert gamma is not None and gamma > 0
            assert nothing - own >= (1 - np.exp(-gamma)) * (nothing - min(all_of_them)) - 1e-9 * nothing


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_of_submodularity_holds_for_all_sets(kind: str) -> None:
    problems, worth = several(kind, seed=20)
    bound, sets = submodularity(layers(problems)), [s for n in range(4) for s in itertools.combinations(range(6), n)]
    value = {each: optimum(problems, worth, []) - optimum(problems, worth, each) for each in sets}
    assert bound is not None and 0 <= bound <= 1
    for first, more in itertools.product(sets, sets):
        added = tuple(sorted({*first, *more}))
        if len(added) > 3:
            continue
        single = sum(value[tuple(sorted({*first, each}))] - value[first] for each in more if each not in first)
        assert single >= bound * (value[added] - value[first]) - 1e-7 * max(value.values())


def test_the_bound_of_submodularity_is_one_where_columns_are_orthogonal_and_nearly_none_where_they_are_equal() -> None:
    for width in (1, 3):
        assert submodularity([drawn(3, kind="orthogonal", width=width).layer]) == pytest.approx(1.0)
        assert submodularity([drawn(3, kind="duplicates", width=width).layer]) == pytest.approx(0.0, abs=5e-3)
    assert submodularity([]) == 1.0
    wide = Layer(np.eye(1600), np.ones((1600, 1)), 1600.0, np.arange(1600), np.arange(1600)[:, None], np.arange(0))
    assert submodularity([wide]) is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [{"width": 1}, {"width": 3}], ids=str)
def test_orthogonal_columns_are_ordered_by_their_worth(order: type, shape: dict[str, int]) -> None:
    problem = drawn(3, kind="orthogonal", **shape)
    found = order([problem.layer], [1.0], 6)
    for size in range(7):
        assert problem.best(found[:size]) == pytest.approx(min(everything([problem], [1.0], size)), rel=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_one_of_two_that_are_the_same_is_worth_nothing(order: type) -> None:
    problem = drawn(5, kind="duplicates")
    found = order([problem.layer], [1.0], 6).tolist()
    kept = order([problem.layer], [1.0], 6)[:5]
    assert problem.best(kept) - problem.best(found) <= 0.01 * problem.best([])
    assert len({0, 1} & set(kept.tolist())) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_candidates_nobody_reads_go_first(order: type) -> None:
    problem = drawn(6, candidates=3).layer
    here = Layer(problem.gram, problem.cross, problem.energy, np.array([0, 2, 3]), problem.blocks, problem.fixed)
    assert set(order([here], [1.0], 5)[3:].tolist()) == {1, 4}
    assert sorted(order([], [], 5).tolist()) == list(range(5))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_orders_do_not_depend_on_the_scale(order: type, scale: float) -> None:
    problems = [drawn(7, scale=value, width=width) for value, width in ((1.0, 1), (scale, 1), (1.0, 2), (scale, 2))]
    for plain, scaled in (problems[:2], problems[2:]):
        assert order([plain.layer], [1.0], 6).tolist() == order([scaled.layer], [scale**-2], 6).tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_many_candidates_go_in_steps_and_all_go(order: type) -> None:
    problem = drawn(8, candidates=150)
    found = order([problem.layer], [1.0], 150)
    assert sorted(found.tolist()) == list(range(150))
    chance = [problem.best(np.random.default_rng(seed).permutation(150)[:40]) for seed in range(5)]
    assert problem.best(found[:40]) < min(chance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_exchanges_never_make_it_worse(kind: str, seed: int) -> None:
    problems, worth = several(kind, seed=20 + seed)
    scale = optimum(problems, worth, [])
    for size in (1, 3, 5, 6):
        start = np.random.default_rng(seed).permutation(6)[:size]
        found = exchanged(layers(problems), worth, start, 6)
        assert found.tolist() == sorted(set(found.tolist())) and found.size == size
        assert optimum(problems, worth, found) <= optimum(problems, worth, start) + 1e-9 * scale


def test_exchanges_find_the_best_of_orthogonal_columns() -> None:
    problem = drawn(9, kind="orthogonal")
    worst = backward([problem.layer], [1.0], 6)[::-1][:3]
    found = exchanged([problem.layer], [1.0], worst, 6)
    assert problem.best(found) == pytest.approx(min(everything([problem], [1.0], 3)), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fixed", [0, 3])
def test_a_layer_summed_up_never_promises_more(kind: str, fixed: int) -> None:
    problem = drawn(12, kind=kind, width=3, fixed=fixed)
    whole = summed(problem.layer)
    full, left_over = problem.solve(range(6)), problem.best(range(6))
    for size in range(7):
        for kept in itertools.combinations(range(6), size):
            weights = whole.solve(np.array(kept, dtype=np.int64))
            own = np.zeros_like(full)
            own[problem.blocks[list(kept)].ravel()] = full[problem.blocks[list(kept)].ravel()]
            factors = np.repeat(weights[: len(problem.members)], 3)
            own[problem.blocks.ravel()] *= factors[:, None]
            own[problem.fixed] = full[problem.fixed] * (weights[-1] if fixed else 0)
            assert whole.loss(weights) + left_over >= problem.best(kept) - 1e-9 * problem.layer.energy
            assert whole.loss(weights) + left_over == pytest.approx(problem.loss(own), abs=1e-9 * problem.layer.energy)
