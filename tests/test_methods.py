"""One contract for every row of the table of methods, and what each recipe promises beyond it."""

import doctest
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from doors import MODELS
from numpy.typing import NDArray

from onnxprune.analysis import analyse
from onnxprune.coreset.layer import Layer
from onnxprune.coreset.sampling import draws_for
from onnxprune.coreset.selection import losses
from onnxprune.graph.io import load
from onnxprune.methods import (
    METHODS,
    Channels,
    Choice,
    Recipe,
    Sample,
    balanced,
    baselines,
    mussay,
    order,
    recipe,
    signs,
    tukan,
)
from onnxprune.methods.mussay import importance
from onnxprune.methods.recipe import table
from onnxprune.score import channel_reader

N = 24
ROWS = 4


def generic(seed: int = 0, n: int = N, *, rows: int = 0) -> Channels:
    """Channels with two writers, a bias and two readers, all different."""
    rng = np.random.default_rng([17, seed])
    return Channels(
        incoming=(rng.standard_normal((n, 5)), rng.standard_normal((n, 9))),
        bias=rng.standard_normal(n),
        outgoing=(rng.standard_normal((n, 3, 1)), rng.standard_normal((n, 2, 9))),
        activation="Relu",
        rows=rng.permutation(np.arange(n) % rows) if rows else None,
    )


def permuted(channels: Channels, permutation: NDArray[np.int64]) -> Channels:
    """The same channels in another order: new channel i is old channel permutation[i]."""
    return Channels(
        incoming=tuple(array[permutation] for array in channels.incoming),
        bias=None if channels.bias is None else channels.bias[permutation],
        outgoing=tuple(array[permutation] for array in channels.outgoing),
        activation=channels.activation,
        rows=None if channels.rows is None else channels.rows[permutation],
    )


def killed(channels: Channels, dead: int) -> Channels:
    """The same channels, one of them without any weight."""

    def silenced(array: NDArray[np.float64]) -> NDArray[np.float64]:
        result = array.copy()
        result[dead] = 0.0
        return result

    return replace(
        channels,
        incoming=tuple(silenced(array) for array in channels.incoming),
        bias=None if channels.bias is None else silenced(channels.bias),
        outgoing=tuple(silenced(array) for array in channels.outgoing),
    )


def scaled(channels: Channels, factor: float) -> Channels:
    """All weights times a factor."""
    return replace(
        channels,
        incoming=tuple(array * factor for array in channels.incoming),
        bias=None if channels.bias is None else channels.bias * factor,
        outgoing=tuple(array * factor for array in channels.outgoing),
    )


def constant(value: float, n: int = 6, *, activation: str = "Relu") -> Channels:
    """Channels all alike."""
    return Channels((np.full((n, 4), value),), np.full(n, value), (np.full((n, 3, 2), value),), activation)


DEGENERATE = {
    "one channel": generic(n=1),
    "one dead channel": killed(generic(n=1), 0),
    "all alike": constant(1.0),
    "all zero": constant(0.0),
    "all zero, sigmoid": constant(0.0, activation="Sigmoid"),
    "no writer": replace(generic(), incoming=(), bias=None),
    "a bias alone": replace(generic(), incoming=()),
    "no bias": replace(generic(), bias=None),
    "no reader": replace(generic(), outgoing=()),
    "rows alone": Channels((), None, (), rows=np.arange(6) % 2),
    "bias and nothing else": Channels((), np.arange(6.0), ()),
    "writer without inputs": replace(generic(), incoming=(np.zeros((N, 0)),)),
    "reader without outputs": replace(generic(), outgoing=(np.zeros((N, 0, 4)),)),
    "one reader all zero": replace(generic(), outgoing=(generic().outgoing[0], np.zeros((N, 3, 1)))),
    "huge": scaled(generic(), 1e200),
    "huge, exp": scaled(replace(generic(), activation="Exp"), 1e200),
    "tiny": scaled(generic(), 1e-200),
    "mixed scales": replace(
        generic(), incoming=tuple(array * 10.0 ** -np.arange(0, 4 * N, 4)[:, None] for array in generic().incoming)
    ),
    "unknown activation": replace(generic(), activation="Snake"),
    "one row": replace(generic(), rows=np.zeros(N, dtype=np.int64)),
    "every channel a row": replace(generic(), rows=np.arange(N)),
}


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sampler(method: Recipe, channels: Channels, seed: int = 0) -> Callable[[int], Sample]:
    """The `sample` of a method that has one."""
    sample = method(channels, seeded(seed)).sample
    assert sample is not None
    return sample


def over(methods: list[Recipe]) -> pytest.MarkDecorator:
    """Run a test for each of these methods."""
    return pytest.mark.parametrize("method", methods, ids=[method.name for method in methods])


every_method = over(list(METHODS.values()))
every_ranking = over([method for method in METHODS.values() if not method.random_order and not method.blind])
every_sampling = over([method for method in METHODS.values() if method(generic(), seeded()).sample is not None])


def counts_of(channels: Channels) -> range:
    """Every count that a budget may ask for."""
    step = 1 if channels.rows is None else np.unique(channels.rows).size
    return range(step, channels.count + 1, step)


def assert_sound(channels: Channels, choice: Choice) -> None:
    """What every choice is, on any input."""
    assert choice.order.dtype == np.int64
    assert np.sort(choice.order).tolist() == list(range(channels.count))
    assert choice.scores.shape == (channels.count,)
    assert np.isfinite(choice.scores).all()
    assert choice.scores.min() >= 0.0
    if channels.rows is None:
        assert np.all(np.diff(choice.scores[choice.order]) <= 0.0)
    if choice.sample is None:
        return
    for count in counts_of(channels):
        assert_sound_sample(channels, choice.sample(count))


def assert_sound_sample(channels: Channels, sample: Sample) -> None:
    """What every sample is, on any input."""
    assert sample.kept.dtype == np.int64
    assert 1 <= sample.kept.size <= channels.count
    assert np.all(np.diff(sample.kept) > 0)
    assert 0 <= sample.kept[0] <= sample.kept[-1] < channels.count
    factors = [sample.factors, sample.negative] if sample.negative.size else [sample.factors]
    assert all(each.shape == sample.kept.shape for each in factors)
    assert np.isfinite(factors).all()
    assert np.min(factors) >= 0.0
    assert np.max(factors, axis=0).min() > 0.0


def assert_equal_samples(left: Sample, right: Sample) -> None:
    np.testing.assert_array_equal(left.kept, right.kept)
    np.testing.assert_array_equal(left.factors, right.factors)
    np.testing.assert_array_equal(left.negative, right.negative)


# --- the contract


@every_method
def test_generic_channels(method: Recipe) -> None:
    channels = generic()
    assert_sound(channels, method(channels, seeded()))


@every_method
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_channels(method: Recipe, case: str) -> None:
    channels = DEGENERATE[case]
    assert_sound(channels, method(channels, seeded()))


@every_method
def test_same_seed_same_choice(method: Recipe) -> None:
    first, second = (method(generic(), seeded(5)) for _ in range(2))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert (first.sample is None) == (second.sample is None)
    if first.sample is not None and second.sample is not None:
        for count in (20, 7, 20, 1):
            assert_equal_samples(first.sample(count), second.sample(count))
        assert_equal_samples(first.sample(7), first.sample(7))


@every_method
def test_chance_enters_where_it_is_declared(method: Recipe) -> None:
    choices = [method(generic(), seeded(seed)) for seed in range(4)]
    orders = {tuple(choice.order.tolist()) for choice in choices}
    assert (len(orders) > 1) == method.random_order
    samples = {tuple(choice.sample(8).kept.tolist()) for choice in choices if choice.sample is not None}
    assert len(samples) > 1 or all(choice.sample is None for choice in choices)


@every_ranking
@pytest.mark.parametrize("rows", [0, ROWS])
def test_permuting_the_channels_permutes_the_order(method: Recipe, rows: int) -> None:
    channels = generic(1, rows=rows)
    permutation = np.random.default_rng(2).permutation(N)
    before, after = method(channels, seeded()), method(permuted(channels, permutation), seeded())
    np.testing.assert_array_equal(permutation[after.order], before.order)
    np.testing.assert_allclose(after.scores, before.scores[permutation], rtol=1e-12)


@every_ranking
@pytest.mark.parametrize("dead", [0, 11, N - 1])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "", "Gelu"])
def test_a_dead_channel_goes_first(method: Recipe, dead: int, activation: str) -> None:
    channels = killed(replace(generic(), activation=activation), dead)
    choice = method(channels, seeded())
    assert choice.order[-1] == dead
    assert choice.scores[dead] == 0.0
    if choice.sample is not None:
        assert all(dead not in choice.sample(count).kept for count in range(1, N))


@every_method
@pytest.mark.parametrize("seed", range(3))
def test_prefixes_are_balanced_over_rows(method: Recipe, seed: int) -> None:
    channels = generic(seed, rows=ROWS)
    assert channels.rows is not None
    choice = method(channels, seeded(seed))
    assert_sound(channels, choice)
    for count in counts_of(channels):
        taken = np.bincount(channels.rows[choice.order[:count]], minlength=ROWS)
        assert taken.tolist() == [count // ROWS] * ROWS
        if choice.sample is not None:
            taken = np.bincount(channels.rows[choice.sample(count).kept], minlength=ROWS)
            assert taken.tolist() == [count // ROWS] * ROWS


@every_sampling
@pytest.mark.parametrize(
    "channels", [generic(), generic(rows=ROWS), killed(generic(), 3)], ids=["plain", "rows", "dead"]
)
def test_keeping_all_keeps_the_weights(method: Recipe, channels: Channels) -> None:
    whole = sampler(method, channels)(N)
    assert whole.kept.tolist() == list(range(N))
    assert whole.factors.tolist() == [1.0] * N


@every_sampling
@pytest.mark.parametrize(("rows", "count"), [(0, 0), (0, N + 1), (4, 0), (4, 3), (4, 5), (4, N + 4)])
def test_impossible_counts_are_refused(method: Recipe, rows: int, count: int) -> None:
    sample = sampler(method, generic(rows=rows))
    with pytest.raises(ValueError, match=f"count = {count}:"):
        sample(count)


@every_sampling
def test_the_number_kept_is_right_on_average(method: Recipe) -> None:
    kept = np.array([sampler(method, generic(), seed)(9).kept.size for seed in range(300)])
    # A whole number of draws meets the target within half a channel.
    assert abs(kept.mean() - 9.0) <= 0.5 + 4.0 * kept.std(ddof=1) / np.sqrt(kept.size)


@every_method
def test_names_and_summaries(method: Recipe) -> None:
    assert METHODS[method.name] is method
    assert method.summary
    assert not method.summary.endswith(".")
    assert "\n" not in method.summary


# --- the contract where data says something


def observed(
    seed: int = 0, n: int = N, *, width: int = 1, spare: int = 0, samples: int = 200, dead: int | None = None
) -> Layer:
    """Moments of a layer that reads `width` columns of each of n channels, and `spare` columns that stay."""
    rng = np.random.default_rng([23, seed])
    columns = n * width + spare
    rows = rng.standard_normal((samples, columns)) @ (np.eye(columns) + 0.3 * rng.standard_normal((columns, columns)))
    blocks = rng.permutation(columns)[: n * width].reshape(n, width)
    weights = rng.standard_normal((columns, 3))
    if dead is not None:
        rows[:, blocks[dead]] = 0.0
        weights[blocks[dead]] = 0.0
    return moments(rows, weights, blocks)


def moments(rows: NDArray[np.float64], weights: NDArray[np.float64], blocks: NDArray[np.int64]) -> Layer:
    """A layer that gives rows times weights, held on to with a thousandth of the rows' mean square."""
    gram = rows.T @ rows / len(rows)
    ridge = 1e-3 * max(float(np.trace(gram)) / len(gram), np.finfo(np.float64).tiny)
    cross = gram @ weights + ridge * weights
    energy = float(np.vdot(weights, cross))
    fixed = np.setdiff1d(np.arange(len(gram)), blocks)
    return Layer(gram + ridge * np.eye(len(gram)), cross, energy, np.arange(len(blocks)), blocks, fixed)


def told(layers: tuple[Layer, ...], n: int = N, *, rows: int = 0) -> Channels:
    """Generic channels of which data says this."""
    return replace(generic(n=n, rows=rows), layers=layers, worth=tuple(1.0 / (k + 1) for k in range(len(layers))))


def restricted(layer: Layer, members: list[int]) -> Layer:
    """The same layer where only these channels have columns that may go."""
    rest = np.setdiff1d(np.arange(len(layer.gram)), layer.blocks[members])
    return replace(layer, members=np.array(members), blocks=layer.blocks[members], fixed=rest)


def reordered(layer: Layer, permutation: NDArray[np.int64]) -> Layer:
    """The same layer with its columns and channels in another order: new channel i is old channel permutation[i]."""
    columns = np.concatenate([layer.blocks[permutation].ravel(), layer.fixed])
    blocks = np.arange(layer.blocks.size).reshape(layer.blocks.shape)
    gram = layer.gram[np.ix_(columns, columns)]
    fixed = np.arange(layer.blocks.size, len(columns))
    return Layer(gram, layer.cross[columns], layer.energy, layer.members, blocks, fixed)


OBSERVED = {
    "one reader": (observed(),),
    "two readers": (observed(1), observed(2, width=4, spare=5)),
    "fewer samples than columns": (observed(3, samples=10),),
    "one sample": (observed(4, samples=1),),
    "columns of some channels only": (observed(5), restricted(observed(6), [3, 7, 20])),
    "of one channel only": (restricted(observed(7), [5]),),
    "all columns alike": (moments(np.ones((9, N)), np.ones((N, 2)), np.arange(N)[:, None]),),
    "nothing is read": (moments(np.zeros((9, N)), np.ones((N, 2)), np.arange(N)[:, None]),),
    "nothing is made": (moments(np.ones((9, N)), np.zeros((N, 2)), np.arange(N)[:, None]),),
    "nothing at all": (moments(np.zeros((9, N)), np.zeros((N, 2)), np.arange(N)[:, None]),),
    "huge": (moments(1e15 * np.eye(N), np.ones((N, 1)), np.arange(N)[:, None]),),
    "tiny": (moments(1e-15 * np.eye(N), np.ones((N, 1)), np.arange(N)[:, None]),),
    "mixed scales": (moments(np.diag(10.0 ** -np.arange(N)), np.ones((N, 1)), np.arange(N)[:, None]),),
}

every_taught = over([method for method in METHODS.values() if method.needs_data and not method.salience])
every_untaught = over([method for method in METHODS.values() if method.needs_data])
every_picking = over(
    [method for method in METHODS.values() if method(told((observed(),)), seeded()).select is not None]
)


@every_method
@pytest.mark.parametrize("case", OBSERVED)
def test_with_data_every_choice_is_sound(method: Recipe, case: str) -> None:
    channels = told(OBSERVED[case])
    assert_sound(channels, method(channels, seeded()))


@pytest.mark.parametrize("case", OBSERVED)
def test_with_data_that_is_not_alike_the_default_is_sound(case: str) -> None:
    for rows in (0, ROWS):
        channels = replace(told(OBSERVED[case], rows=rows), alike=False)
        assert_sound(channels, METHODS["auto"](channels, seeded()))


def test_weights_have_a_say_where_data_is_not_alike() -> None:
    """A channel that made-up data never shows, and that may contribute most, goes first or stays."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((300, N))
    rows[:, 5] = 0.0
    outgoing = rng.standard_normal((N, 4, 1))
    outgoing[5] *= 6
    layer = moments(rows, outgoing[:, :, 0], np.arange(N)[:, None])
    channels = Channels((rng.standard_normal((N, 6)),), None, (outgoing,), "Relu", layers=(layer,), worth=(1.0,))
    order = METHODS["auto"](channels, seeded()).order.tolist()
    assert order[-1] == 5
    assert METHODS["auto"](replace(channels, alike=False), seeded()).order[0] == 5


def test_one_channel_with_data() -> None:
    for method in METHODS.values():
        channels = told((observed(n=1),), n=1)
        assert_sound(channels, method(channels, seeded()))


@every_untaught
def test_without_data_the_order_is_that_of_coreset(method: Recipe) -> None:
    for rows in (0, ROWS):
        found, expected = (each(generic(rows=rows), seeded()) for each in (method, METHODS["coreset"]))
        np.testing.assert_array_equal(found.order, expected.order)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert found.select is None and "no data" in found.notes[0] and not found.notes[0].endswith(".")


@every_taught
def test_data_decides_and_chance_does_not(method: Recipe) -> None:
    first, second = (method(told((observed(8),)), seeded(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.order.tolist() != method(told((observed(9),)), seeded()).order.tolist()
    assert first.order.tolist() != method(generic(), seeded()).order.tolist()
    assert not any("no data" in note for note in first.notes)


def test_the_guarantee_of_greedy_addition_is_noted() -> None:
    for name in ("submodular", "submodular-seq", "submodular-layer"):
        (note,) = METHODS[name](told((observed(8),)), seeded()).notes
        gamma, share = map(float, re.findall(r"γ is (\S+) at least.* makes up for (\S+)% at least", note)[0])
        assert 0 < gamma < 1 and share == pytest.approx(-100 * np.expm1(-gamma), rel=0.06, abs=0.01)
    (note,) = METHODS["submodular"](told((observed(8),), rows=ROWS), seeded()).notes
    assert "no guarantee" in note


@every_taught
@pytest.mark.parametrize(("width", "spare"), [(1, 0), (3, 4)])
def test_with_data_permuting_the_channels_permutes_the_order(method: Recipe, width: int, spare: int) -> None:
    layers = (observed(10, width=width, spare=spare), observed(11))
    permutation = np.random.default_rng(5).permutation(N)
    moved = tuple(reordered(layer, permutation) for layer in layers)
    before, after = method(told(layers), seeded()), method(told(moved), seeded())
    np.testing.assert_array_equal(permutation[after.order], before.order)
    np.testing.assert_array_equal(after.scores, before.scores[permutation])
    if before.select is not None and after.select is not None:
        for count in (1, 9, N - 1):
            first, second = (np.sort(choice.order[:count]) for choice in (before, after))
            picked = permutation[after.select(moved, (1.0, 1.0), second)]
            np.testing.assert_array_equal(np.sort(picked), before.select(layers, (1.0, 1.0), first))


@every_taught
@pytest.mark.parametrize("dead", [0, 11, N - 1])
@pytest.mark.parametrize("width", [1, 3])
def test_with_data_a_dead_channel_goes_first(method: Recipe, dead: int, width: int) -> None:
    layers = (observed(12, width=width, spare=2, dead=dead), observed(13, dead=dead))
    choice = method(told(layers), seeded())
    assert choice.order[-1] == dead
    if choice.select is not None:
        starts = (np.sort(choice.order[:count]) for count in range(1, N))
        assert all(dead not in choice.select(layers, (1.0, 1.0), start) for start in starts)


@every_taught
def test_with_data_prefixes_are_balanced_over_rows(method: Recipe) -> None:
    channels = told((observed(14),), rows=ROWS)
    assert channels.rows is not None
    choice = method(channels, seeded())
    assert choice.select is None, "what is picked anew need not be balanced"
    for count in counts_of(channels):
        taken = np.bincount(channels.rows[choice.order[:count]], minlength=ROWS)
        assert taken.tolist() == [count // ROWS] * ROWS


@every_taught
def test_with_data_less_is_lost_than_by_chance(method: Recipe) -> None:
    layers = (observed(15, width=2, spare=3), observed(16))
    orders = [each(told(layers), seeded()).order for each in (method, METHODS["random"])]
    ours, theirs = (losses(layers, (1.0, 1.0), found) for found in orders)
    assert ours[N // 2] < 0.8 * theirs[N // 2] and ours.sum() < 0.8 * theirs.sum()


@every_picking
def test_what_is_picked_anew(method: Recipe) -> None:
    """As many as are asked for, ascending and distinct, the same again, and no worse than the order's own first."""
    for case, layers in OBSERVED.items():
        choice = method(told(layers), seeded())
        assert choice.select is not None
        worth = (1.0,) * len(layers)
        for count in (1, 7, N - 1, N):
            start = np.sort(choice.order[:count])
            kept = choice.select(layers, worth, start)
            assert kept.size == count and np.all(np.diff(kept) > 0) and 0 <= kept[0] <= kept[-1] < N, case
            np.testing.assert_array_equal(choice.select(layers, worth, start), kept)
    layers = (observed(17),)
    choice = method(replace(told(layers), worth=(1.0,)), seeded())
    assert choice.select is not None
    for count in range(1, N):
        kept = choice.select(layers, (1.0,), np.sort(choice.order[:count]))
        picked = np.concatenate([kept, np.setdiff1d(np.arange(N), kept)])
        ours, before = (losses(layers, (1.0,), each)[count] for each in (picked, choice.order))
        assert ours <= before * (1 + 1e-9)


# --- the table


def test_the_table() -> None:
    assert list(METHODS) == [
        "auto",
        "submodular",
        "submodular-seq",
        "submodular-layer",
        "coreset",
        "coreset-sampled",
        "coreset-distinct",
        "coreset-split",
        "lowner",
        "lowner-sampled",
        "fisher",
        "taylor",
        "taylor-weights",
        "synflow",
        "thinner",
        "random",
        "l1",
        "l2",
    ]


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="same name: random, l1, l2;"):
        table(baselines.RECIPES, mussay.RECIPES, baselines.RECIPES[1:])


@pytest.mark.parametrize("module", [order, recipe, baselines, mussay, signs, tukan], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


# --- orders


def test_balanced_keeps_the_order_within_rows_and_is_idempotent() -> None:
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.repeat([7, -2, 40], 5))
    before = rng.permutation(15)
    after = balanced(before, rows)
    for row in np.unique(rows):
        np.testing.assert_array_equal(after[rows[after] == row], before[rows[before] == row])
    np.testing.assert_array_equal(balanced(after, rows), after)


def test_balanced_is_the_sort_by_rank_then_position() -> None:
    rng = np.random.default_rng(1)
    rows, before = rng.integers(0, 7, 500), rng.permutation(500)
    rank = {channel: sum(rows[other] == rows[channel] for other in before[:at]) for at, channel in enumerate(before)}
    expected = sorted(before.tolist(), key=lambda channel: rank[channel])
    assert balanced(before, rows).tolist() == expected


def test_balanced_over_one_row_changes_nothing() -> None:
    before = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(balanced(before, np.zeros(9, dtype=np.int64)), before)


# --- baselines


def test_norms_of_one_writer_are_the_textbook_ones() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3))
    channels = Channels((weights.reshape(8, 27),), np.full(8, 100.0), ())
    l1, l2 = METHODS["l1"](channels, seeded()).scores, METHODS["l2"](channels, seeded()).scores
    np.testing.assert_allclose(l1, np.abs(weights).sum(axis=(1, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(l2, np.sqrt(np.square(weights).sum(axis=(1, 2, 3))), rtol=1e-13)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_several_writers_are_one_long_row(name: str) -> None:
    channels = generic()
    joined = replace(channels, incoming=(np.hstack(channels.incoming),))
    apart, together = METHODS[name](channels, seeded()), METHODS[name](joined, seeded())
    np.testing.assert_allclose(apart.scores, together.scores, rtol=1e-13)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_without_writers_the_readers_are_measured(name: str) -> None:
    outgoing = np.array([1.0, -3.0, 2.0]).reshape(3, 1, 1)
    assert METHODS[name](Channels((), None, (outgoing,)), seeded()).scores.tolist() == [1.0, 3.0, 2.0]


# --- the coreset of Mussay et al.


def test_importance_of_one_writer_and_one_reader_is_published() -> None:
    rng = np.random.default_rng(0)
    rows, bias, readers = rng.standard_normal((7, 4)), rng.standard_normal(7), rng.standard_normal((7, 3))
    s = np.abs(readers).max(axis=1) * np.linalg.norm(np.column_stack([rows, bias]), axis=1)
    pr = mussay.importance(Channels((rows,), bias, (readers[:, :, None],), "Relu"))
    np.testing.assert_allclose(pr, s / s.sum(), rtol=1e-13)


@pytest.mark.parametrize("biased", [True, False])
def test_several_writers_are_one_long_row_of_the_coreset(biased: bool) -> None:
    channels = replace(generic(), incoming=tuple(np.random.default_rng(6).standard_normal((2, N, 5))))
    if not biased:
        channels = replace(channels, bias=None)
    long = replace(channels, incoming=(np.hstack(channels.incoming),))
    np.testing.assert_allclose(importance(channels), importance(long), rtol=1e-12)
    alone = replace(channels, incoming=channels.incoming[:1])
    assert not np.allclose(importance(channels), importance(alone), rtol=1e-2)


def test_every_reader_has_the_same_say_whatever_its_scale() -> None:
    channels = generic()
    first, second = (mussay.importance(replace(channels, outgoing=(reader,))) for reader in channels.outgoing)
    both = mussay.importance(replace(channels, outgoing=(channels.outgoing[0] * 1e6, channels.outgoing[1])))
    np.testing.assert_allclose(both, (first + second) / 2.0, rtol=1e-12)


def test_a_reader_of_nothing_has_no_say() -> None:
    channels = replace(generic(), outgoing=generic().outgoing[:1])
    silent = replace(channels, outgoing=(*channels.outgoing, np.zeros((N, 4, 1))))
    np.testing.assert_array_equal(mussay.importance(silent), mussay.importance(channels))


def test_a_reader_of_dead_channels_alone_has_no_say() -> None:
    incoming = np.array([[0.0], [1.0], [3.0]])
    useless, useful = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0])
    channels = Channels((incoming,), None, (useless.reshape(3, 1, 1), useful.reshape(3, 1, 1)), "Relu")
    assert mussay.importance(channels).tolist() == [0.0, 0.25, 0.75]


@pytest.mark.parametrize("part", ["incoming", "outgoing"])
def test_zero_incoming_or_zero_outgoing_is_dead_for_relu(part: str) -> None:
    channels, dead = generic(), 4
    silent = killed(channels, dead)
    half = (
        replace(channels, incoming=silent.incoming, bias=silent.bias)
        if part == "incoming"
        else replace(channels, outgoing=silent.outgoing)
    )
    assert METHODS["coreset"](half, seeded()).order[-1] == dead


def layer(channels: Channels, inputs: NDArray[np.float64], sample: Sample) -> NDArray[np.float64]:
    """Next pre-activations of a fully connected ReLU layer with the sampled neurons, reader weights times factors."""
    (rows,), (outgoing,) = channels.incoming, channels.outgoing
    assert channels.bias is not None
    hidden = np.maximum(inputs @ rows[sample.kept].T + channels.bias[sample.kept], 0.0)
    return hidden @ (outgoing[sample.kept, :, 0] * sample.factors[:, None])


def relu_layer() -> tuple[Channels, NDArray[np.float64]]:
    rng = np.random.default_rng(8)
    channels = Channels(
        (rng.standard_normal((16, 5)),), rng.standard_normal(16), (rng.standard_normal((16, 3, 1)),), "Relu"
    )
    return channels, rng.standard_normal((4, 5))


@pytest.mark.parametrize("count", [3, 8, 15])
def test_coreset_sampled_is_unbiased(count: int) -> None:
    channels, inputs = relu_layer()
    exact = layer(channels, inputs, Sample(np.arange(16), np.ones(16)))
    method = METHODS["coreset-sampled"]
    estimates = np.stack([layer(channels, inputs, sampler(method, channels, seed)(count)) for seed in range(2000)])
    errors = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    assert np.all(np.abs(estimates.mean(axis=0) - exact) <= 4.0 * errors)


def test_coreset_sampled_takes_the_number_of_draws_announced() -> None:
    channels, _ = relu_layer()
    taken = sampler(METHODS["coreset-sampled"], channels)(8)
    pr = mussay.importance(channels)
    counts = taken.factors * draws_for(pr, 8) * pr[taken.kept]
    np.testing.assert_allclose(counts, np.round(counts), rtol=1e-12)
    assert round(counts.sum()) == draws_for(pr, 8)


def test_coreset_distinct_is_exact_and_nested() -> None:
    channels, _ = relu_layer()
    sample = sampler(METHODS["coreset-distinct"], channels)
    kept = [set(sample(count).kept.tolist()) for count in range(1, 17)]
    assert [len(each) for each in kept] == list(range(1, 17))
    assert all(smaller < larger for smaller, larger in pairwise(kept))


@pytest.mark.parametrize("name", ["coreset-sampled", "coreset-distinct"])
def test_more_than_the_living_are_made_up_along_the_order(name: str) -> None:
    channels = generic()
    for dead in (2, 5, 9):
        channels = killed(channels, dead)
    sample = sampler(METHODS[name], channels)
    living = sample(N - 3)
    assert set(range(N)) - set(living.kept.tolist()) == {2, 5, 9}
    assert living.factors.tolist() == [1.0] * (N - 3)
    assert set(range(N)) - set(sample(N - 2).kept.tolist()) == {5, 9}


# --- the order of layers


@pytest.mark.parametrize(("share", "alike"), [(0.5, 0.95), (0.3, 0.85), (0.1, 0.65)])
def test_what_the_order_of_layers_changes(share: float, alike: float) -> None:
    """Rows without the columns that went before, readers without the outputs that went behind: nearly the same stay."""
    analysis = analyse(load(MODELS / "lenet-300-100.onnx"))
    reader = channel_reader(analysis)
    first, second = (reader.channels(group) for group in analysis.coupling.groups)
    stay = [top(importance(channels), share) for channels in (first, second)]
    thinner = replace(second, incoming=(second.incoming[0][:, stay[0]],))
    fewer = replace(first, outgoing=(first.outgoing[0][:, stay[1]],))
    for before, after in ((stay[1], top(importance(thinner), share)), (stay[0], top(importance(fewer), share))):
        assert alike <= np.isin(before, after).mean() < 1.0


def top(scores: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """The share of the largest scores, ascending."""
    return np.sort(np.argsort(-scores)[: int(share * scores.size)])
