"""Costs against brute force, and allocations against what they promise."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.budget import ALLOCATIONS, Axis, Cost, Item, Term, allocate, floor_of, make_cost


def chain(*sizes: int) -> tuple[Cost, list[int]]:
    """Weights and biases of fully connected layers, whose inner sizes are the groups."""
    axes = [Axis(float(sizes[0])), *(Axis(0.0, (k,), (1.0,)) for k in range(len(sizes) - 2)), Axis(float(sizes[-1]))]
    terms = [Term(1.0, (axes[k], axes[k + 1])) for k in range(len(sizes) - 1)]
    terms += [Term(1.0, (axes[k + 1],)) for k in range(len(sizes) - 1)]
    return make_cost(terms, constant=0.0, groups=len(sizes) - 2), list(sizes[1:-1])


def items(sizes: list[int], *, floor: float = 1.0, step: int = 1, seed: int = 0) -> list[Item]:
    rng = np.random.default_rng(seed)
    return [
        Item(size, step, np.sort(rng.random(size) * 10.0**k)[::-1], floor_of(size, step, floor))
        for k, size in enumerate(sizes)
    ]


def brute(constant: float, terms: list[Term], counts: tuple[int, ...]) -> float:
    total = constant
    for term in terms:
        value = term.coefficient
        for axis in term.axes:
            value *= axis.fixed + sum(
                often * counts[group] for group, often in zip(axis.groups, axis.times, strict=True)
            )
        total += value
    return total


@st.composite
def costs(draw: st.DrawFn) -> tuple[float, list[Term], int]:
    groups = draw(st.integers(1, 4))
    number = st.floats(0.0, 9.0, allow_subnormal=False)

    def axis() -> Axis:
        own = draw(st.lists(st.integers(0, groups - 1), unique=True, max_size=groups))
        return Axis(draw(number), tuple(own), tuple(draw(number) for _ in own))

    terms = [
        Term(draw(number), tuple(axis() for _ in range(draw(st.integers(0, 3)))))
        for _ in range(draw(st.integers(0, 5)))
    ]
    return draw(number), terms, groups


@settings(max_examples=60, deadline=None)
@given(costs(), st.integers(0, 2**32))
def test_a_cost_is_what_brute_force_says(given: tuple[float, list[Term], int], seed: int) -> None:
    constant, terms, groups = given
    cost = make_cost(terms, constant=constant, groups=groups)
    counts = tuple(int(count) for count in np.random.default_rng(seed).integers(0, 9, groups))
    array = np.array(counts, dtype=np.int64)
    assert cost.value(array) == pytest.approx(brute(constant, terms, counts), rel=1e-12, abs=1e-12)
    for group in range(groups):
        # A product of axes that hold the group twice is curved: the slope is exact as the limit of a small step.
        terms_of = [term for term in terms if sum(group in axis.groups for axis in term.axes) > 1]
        if not terms_of:
            more = tuple(count + (number == group) for number, count in enumerate(counts))
            exact = brute(constant, terms, more) - brute(constant, terms, counts)
            assert cost.marginal(array)[group] == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_the_slope_of_a_square() -> None:
    """k² costs 2k + 1 for one more, and has the slope 2k."""
    axis = Axis(0.0, (0,), (1.0,))
    cost = make_cost([Term(1.0, (axis, axis))], constant=0.0, groups=1)
    assert cost.value(np.array([7])) == 49.0 and cost.marginal(np.array([7])).tolist() == [14.0]


def test_a_cost_without_terms() -> None:
    cost = make_cost([], constant=3.0, groups=2)
    assert cost.value(np.array([1, 1])) == 3.0 and cost.marginal(np.array([1, 1])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("size", "step", "keep", "expected"), [
    (10, 1, 1, 1), (10, 1, 3, 3), (10, 1, 99, 10), (10, 1, 0.25, 3), (10, 1, 0.3, 3), (10, 1, 1e-9, 1), (10, 1, 2.5, 3),
    (12, 4, 1, 4), (12, 4, 5, 8), (12, 4, 0.5, 8), (12, 4, 99, 12), (10, 1, 1e300, 10),
])  # fmt: skip
def test_floor_of(size: int, step: int, keep: float, expected: int) -> None:
    assert floor_of(size, step, keep) == expected


def channels(sizes: list[int]) -> Cost:
    return make_cost(
        [Term(1.0, (Axis(0.0, (k,), (1.0,)),)) for k in range(len(sizes))], constant=0.0, groups=len(sizes)
    )


def test_uniform_halves_every_even_group() -> None:
    sizes = [2, 4, 10, 64, 512]
    found = allocate(channels(sizes), items(sizes), 0.5)
    assert found.counts.tolist() == [1, 2, 5, 32, 256] and found.removed == 0.5
    steps = [Item(16, 4, np.ones(16), 4), Item(30, 1, np.ones(30), 1)]
    assert allocate(channels([16, 30]), steps, 0.5).counts.tolist() == [8, 15]


def test_uniform_takes_the_same_share_of_all() -> None:
    sizes = [100, 30, 250, 12]
    for ratio in np.linspace(0.05, 0.9, 12):
        counts = allocate(channels(sizes), items(sizes), float(ratio)).counts
        assert np.abs(1 - counts / sizes - ratio).max() <= 1 / 12


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("multiple", [1, 8])
def test_more_wanted_is_more_removed(allocation: str, multiple: int) -> None:
    cost, sizes = chain(20, 64, 128, 40, 10)
    shares = [
        allocate(cost, items(sizes), float(ratio), allocation=allocation, multiple=multiple).removed
        for ratio in np.linspace(0.02, 0.98, 40)
    ]
    assert all(later >= earlier - (0.005 if multiple == 1 else 0) for earlier, later in pairwise(shares))
    assert shares[-1] > 0.9


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_floors_steps_and_sizes_are_respected(allocation: str) -> None:
    cost, sizes = chain(20, 64, 128, 40, 10)
    for floor, step, ratio in product((1.0, 0.3, 10.0), (1, 4, 8), (0.1, 0.5, 0.999)):
        given_items = items(sizes, floor=floor, step=step)
        counts = allocate(cost, given_items, ratio, allocation=allocation).counts
        assert all(item.floor <= count <= item.size for item, count in zip(given_items, counts, strict=True))
        assert all((item.size - count) % step == 0 for item, count in zip(given_items, counts, strict=True))


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("step", [1, 2])
def test_counts_are_rounded_up(allocation: str, step: int) -> None:
    cost, sizes = chain(20, 64, 100, 40, 10)
    for ratio in (0.2, 0.5, 0.8):
        plain = allocate(cost, items(sizes, step=step), ratio, allocation=allocation)
        found = allocate(cost, items(sizes, step=step), ratio, allocation=allocation, multiple=8)
        assert all(count % 8 == 0 or count == size for count, size in zip(found.counts, sizes, strict=True))
        assert found.removed == pytest.approx(1 - cost.value(found.counts) / cost.value(np.array(sizes)))
        assert found.reachable <= plain.reachable
        # Solved again with the multiple: nearer than the plain solution rounded up.
        rounded = np.minimum(-(-plain.counts // 8) * 8, sizes)
        assert abs(found.removed - ratio) <= abs(1 - cost.value(rounded) / cost.value(np.array(sizes)) - ratio) + 1e-12


def test_the_nearest_share_of_two_coarse_groups() -> None:
    """Brute force over all pairs: none within two steps of the order's answer is nearer."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = [int(size) for size in rng.integers(6, 15, 2)]
        cost, _ = chain(8, *sizes, 5)
        total = cost.value(np.array(sizes))
        for ratio in (0.3, 0.5, 0.7):
            found = allocate(cost, items(sizes), ratio)
            near = [np.array(pair) for pair in product(*(range(1, size + 1) for size in sizes))]
            best = min(
                abs(1 - cost.value(pair) / total - ratio) for pair in near if np.abs(pair - found.counts).max() <= 1
            )
            assert abs(found.removed - ratio) <= max(best, 0.0025) + 1e-12


def test_many_groups_are_met_closely() -> None:
    sizes = [int(size) for size in np.random.default_rng(0).integers(4, 20, 40)]
    cost, _ = chain(8, *sizes, 5)
    for allocation, ratio in product(ALLOCATIONS, (0.1, 0.5, 0.9)):
        assert abs(allocate(cost, items(sizes), ratio, allocation=allocation).removed - ratio) <= 0.0025


def test_what_cannot_be_reached_is_said() -> None:
    cost, sizes = chain(20, 64, 128, 10)
    total = cost.value(np.array(sizes))
    for floor in (1.0, 0.5):
        found = allocate(cost, items(sizes, floor=floor), 0.9999)
        floors = np.array([item.floor for item in items(sizes, floor=floor)])
        assert found.counts.tolist() == floors.tolist()
        assert found.removed == found.reachable == pytest.approx(1 - cost.value(floors) / total)
    fixed = [Item(64, 1, np.ones(64), 64), Item(128, 1, np.ones(128), 128)]
    assert allocate(cost, fixed, 0.5).removed == 0.0 and allocate(cost, fixed, 0.5).reachable == 0.0


def test_global_compares_normalised_scores() -> None:
    """The scale of a group's scores has no say; a group of equally good channels keeps more than one with idle ones."""
    even = np.ones(50)
    uneven = np.concatenate([np.full(25, 2.0), np.full(25, 1e-6)])
    for scale in (1e-9, 1.0, 1e9):
        pair = [Item(50, 1, even * scale, 5), Item(50, 1, uneven, 5)]
        assert allocate(channels([50, 50]), pair, 0.25, allocation="global").counts.tolist() == [50, 25]
    idle = [Item(50, 1, np.zeros(50), 5), Item(50, 1, even, 5)]
    assert allocate(channels([50, 50]), idle, 0.9, allocation="global").counts.min() >= 5


def test_the_order_of_scores_is_never_broken_by_a_step() -> None:
    """A late channel with a high score cannot shield those before it."""
    bumpy = Item(6, 1, np.array([5.0, 1.0, 1.0, 1.0, 1.0, 9.0]), 1)
    flat = Item(6, 1, np.full(6, 3.0), 1)
    found = allocate(channels([6, 6]), [bumpy, flat], 0.5, allocation="global")
    assert found.counts.sum() == 6 and found.removed == 0.5


# --- by errors


def priced(prices: list[float], sizes: list[int]) -> Cost:
    """A cost without products: every channel of a group costs the group's price, whatever else is kept."""
    terms = [Term(price, (Axis(0.0, (group,), (1.0,)),)) for group, price in enumerate(prices)]
    return make_cost(terms, constant=1.0, groups=len(sizes))


def losing(size: int, rng: np.random.Generator, *, convex: bool = True, floor: int = 1) -> Item:
    """A group with losses that fall from one to nothing as channels stay."""
    gains = rng.random(size) ** 3 + 1e-3
    gains = np.sort(gains)[::-1] if convex else gains
    lost = 1.0 - np.concatenate([[0.0], np.cumsum(gains) / gains.sum()])
    return Item(size, 1, rng.random(size), floor, lost)


def lost(given: list[Item], counts: Sequence[int]) -> float:
    found = 0.0
    for item, count in zip(given, counts, strict=True):
        assert item.losses is not None
        found += float(item.losses[count])
    return found


@pytest.mark.parametrize("convex", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_order_by_errors_passes_through_what_is_best_at_any_price(seed: int, convex: bool) -> None:
    """Brute force over all counts: the least of losses plus a multiplier times the cost is where the order leads."""
    rng = np.random.default_rng([seed, 3])
    sizes, floors = [5, 7, 4], [1, 3, 2]
    prices = [float(price) for price in rng.integers(1, 9, 3)]
    cost = priced(prices, sizes)
    given = [losing(size, rng, convex=convex, floor=floor) for size, floor in zip(sizes, floors, strict=True)]
    every = list(product(*(range(item.floor, item.size + 1) for item in given)))
    losses, costs = np.array([lost(given, counts) for counts in every]), np.array(every) @ prices
    best = {every[int(np.argmin(losses + multiplier * costs))] for multiplier in np.geomspace(1e-4, 1.0, 60)}
    assert len(best) >= (5 if convex else 3)
    for counts in best - {tuple(sizes)}:
        ratio = 1 - cost.value(np.array(counts)) / cost.value(np.array(sizes))
        found = allocate(cost, given, ratio, allocation="error")
        assert tuple(found.counts) == counts and found.removed == pytest.approx(ratio)


def test_of_channels_that_cost_the_same_those_that_lose_least_go() -> None:
    """Brute force for every number that can go."""
    rng = np.random.default_rng(0)
    sizes = [4, 6, 5]
    given = [losing(size, rng) for size in sizes]
    every = list(product(*(range(1, size + 1) for size in sizes)))
    for gone in range(1, sum(sizes) - 2):
        found = allocate(channels(sizes), given, gone / sum(sizes), allocation="error")
        assert sum(sizes) - found.counts.sum() == gone
        least = min(lost(given, counts) for counts in every if sum(sizes) - sum(counts) == gone)
        assert lost(given, found.counts.tolist()) == pytest.approx(least, rel=1e-12)


def test_a_group_of_which_nothing_is_known_goes_by_its_scores() -> None:
    """As if what the scores add up to were what is lost; beside groups of which more is known, too."""
    cost, sizes = chain(20, 64, 128, 40, 10)
    unknown = items(sizes)
    shares = [np.cumsum(item.scores) / item.scores.sum() for item in unknown]
    known = [
        replace(item, losses=1.0 - np.concatenate([[0.0], share])) for item, share in zip(unknown, shares, strict=True)
    ]
    for ratio in (0.2, 0.5, 0.8):
        expected = allocate(cost, known, ratio, allocation="error").counts.tolist()
        assert allocate(cost, unknown, ratio, allocation="error").counts.tolist() == expected
        assert allocate(cost, [known[0], *unknown[1:]], ratio, allocation="error").counts.tolist() == expected
    dead = [Item(8, 1, np.zeros(8), 1), Item(8, 1, np.ones(8), 1)]
    assert allocate(channels([8, 8]), dead, 0.5, allocation="error").removed == 0.5


def test_more_wanted_takes_no_channel_back() -> None:
    """Keys ascend within a group, whatever its losses: where prices are fixed, counts only fall."""
    rng = np.random.default_rng(4)
    sizes = [30, 20, 25]
    given = [losing(size, rng, convex=False) for size in sizes]
    counts = [allocate(channels(sizes), given, gone / 75, allocation="error").counts for gone in range(1, 73)]
    assert all((later <= earlier).all() for earlier, later in pairwise(counts))


@pytest.mark.parametrize("convex", [True, False])
def test_the_share_is_met_by_errors(convex: bool) -> None:
    """Products of counts: what a channel saves depends on what the others keep."""
    sizes = [64, 128, 40, 96]
    cost, _ = chain(20, *sizes, 10)
    rng = np.random.default_rng(6)
    given = [losing(size, rng, convex=convex) for size in sizes]
    for ratio in (0.1, 0.3, 0.5, 0.7, 0.9):
        found = allocate(cost, given, ratio, allocation="error")
        assert abs(found.removed - ratio) <= 0.0025
        assert found.removed == pytest.approx(1 - cost.value(found.counts) / cost.value(np.array(sizes)))


def test_what_saves_nothing_stays() -> None:
    rng = np.random.default_rng(1)
    given = [losing(10, rng), losing(10, rng)]
    found = allocate(priced([0.0, 1.0], [10, 10]), given, 0.5, allocation="error")
    assert found.counts[0] == 10 and found.counts[1] < 10


def test_a_share_is_met_where_the_fine_channels_are_those_that_should_stay() -> None:
    """By the order only channels that weigh a fifteenth each go; a tenth of the others makes up for the rest."""
    cost, sizes = priced([10.0, 1.0], [10, 50]), [10, 50]
    cheap = Item(10, 1, np.ones(10), 1, np.linspace(1e-6, 0.0, 11))
    dear = Item(50, 1, np.ones(50), 1, np.linspace(1.0, 0.0, 51))
    for ratio in (0.1, 0.24, 0.3, 0.37, 0.5):
        found = allocate(cost, [cheap, dear], ratio, allocation="error")
        assert abs(found.removed - ratio) <= 0.01 and sizes[1] - found.counts[1] <= 8


def test_all_groups_are_thinned_to_one_accuracy() -> None:
    """What is lost at the counts differs by no more than a step of either group loses."""
    cost, sizes = chain(10, 40, 60, 80, 10)
    curves = [np.linspace(1, 0, size + 1) ** power for size, power in zip(sizes, (1, 3, 9), strict=True)]
    made = [replace(item, losses=curve) for item, curve in zip(items(sizes), curves, strict=True)]
    found = allocate(cost, made, 0.5, allocation="accuracy")
    lost = [curve[count] for curve, count in zip(curves, found.counts, strict=True)]
    step = max(float(curve[count - 1] - curve[count]) for curve, count in zip(curves, found.counts, strict=True))
    assert found.removed == pytest.approx(0.5, abs=0.01) and max(lost) - min(lost) <= 3 * step < 0.1
    flat = [replace(item, losses=np.zeros(item.size + 1)) for item in items(sizes)]
    evenly = allocate(cost, items(sizes), 0.5, allocation="uniform")
    assert allocate(cost, flat, 0.5, allocation="accuracy").counts.tolist() == evenly.counts.tolist()
