"""Sample sizes and errors: the statements hold where they can be tried, say no more than they must, and invert."""

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxprune.coreset import bounds, split
from onnxprune.coreset.activations import activation_named
from onnxprune.coreset.bounds import Sums, draws_needed, failure_probability, guaranteed_error
from onnxprune.coreset.sensitivity import probabilities, sensitivities
from onnxprune.coreset.split import split_sample

Array = NDArray[np.float64]
TRIALS = 1000


@pytest.mark.parametrize("module", [bounds, split], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0 and result.failed == 0


def layer(seed: int, *, n: int = 24, d: int = 4, k: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng([31, seed])
    return rng.standard_normal((n, d)), rng.standard_normal((n, k))


def sums_of(points: Array, weights: Array, activation: str) -> Sums:
    s = sensitivities(points, weights, activation)
    bound = activation_named(activation).bound(np.linalg.norm(points, axis=1))
    return Sums(total=s.sum(), mass=(np.abs(weights) * bound[:, None]).sum(axis=0).max(), outputs=weights.shape[1])


PHI = {"Relu": lambda z: np.maximum(z, 0.0), "Sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z))}


def errors(points: Array, weights: Array, activation: str, draws: int, x: Array) -> Array:
    """The largest error of any output at any x, trial by trial."""
    values = PHI[activation](x @ points.T)
    pr = probabilities(sensitivities(points, weights, activation))
    counts = np.random.default_rng(9).multinomial(draws, pr, size=TRIALS)
    gaps = ((counts / (draws * pr) - 1.0)[:, None, :] * values) @ weights
    largest: Array = np.abs(gaps).max(axis=(1, 2))
    return largest


def allowed(delta: float) -> float:
    """Failures that a probability of δ makes at most, four standard deviations above their mean."""
    return delta * TRIALS + 4.0 * math.sqrt(delta * TRIALS)


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("seed", range(3))
def test_the_statement_for_one_input_holds_at_the_computed_number_of_draws(activation: str, seed: int) -> None:
    points, weights = layer(seed)
    sums, delta = sums_of(points, weights, activation), 0.1
    x = np.random.default_rng(seed).standard_normal((1, 4))
    x /= np.linalg.norm(x)
    epsilon = 0.3 * sums.total
    draws = draws_needed(sums, epsilon=epsilon, delta=delta)
    assert np.count_nonzero(errors(points, weights, activation, draws, x) >= epsilon) <= allowed(delta)
    promised = guaranteed_error(sums, draws=7, delta=delta)
    assert np.count_nonzero(errors(points, weights, activation, 7, x) >= promised) <= allowed(delta)


def test_the_statement_for_all_inputs_holds_on_a_fine_grid() -> None:
    points, weights = layer(5, d=2)
    sums = replace(sums_of(points, weights, "Relu"), dimension=2)
    # The error is piecewise linear and homogeneous, so the circle is where it is largest.
    angles = np.linspace(0.0, 2.0 * np.pi, 720)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    for draws in (20, 200):
        promised = guaranteed_error(sums, draws=draws, delta=0.1)
        assert np.count_nonzero(errors(points, weights, "Relu", draws, circle) >= promised) <= allowed(0.1)
        assert promised > guaranteed_error(replace(sums, dimension=None), draws=draws, delta=0.1)


def test_the_statement_with_signs_split_holds_at_twice_the_error() -> None:
    points, weights = layer(2, k=1)
    x = np.ones((1, 4)) / 2.0
    parts = [np.maximum(sign * weights, 0.0) for sign in (1.0, -1.0)]
    rng, gaps, totals = np.random.default_rng(4), np.zeros(TRIALS), []
    for sign, part in zip((1.0, -1.0), parts, strict=True):
        s = sensitivities(points, part, "Relu")
        values = PHI["Relu"](x @ points.T)[0] * part[:, 0]
        pr, draws = probabilities(s), 60
        counts = rng.multinomial(draws, pr, size=TRIALS)
        factors = np.divide(counts, draws * pr, out=np.zeros(counts.shape), where=pr > 0.0)
        each = factors @ values - values.sum()
        one = guaranteed_error(Sums(total=s.sum(), signs="one"), draws=draws, delta=0.05)
        assert np.count_nonzero(np.abs(each) >= one) <= allowed(0.05)
        gaps += sign * each
        totals.append(s.sum())
    both = Sums(total=max(totals), signs="split")
    assert np.count_nonzero(np.abs(gaps) >= guaranteed_error(both, draws=60, delta=0.1)) <= allowed(0.1)
    single = guaranteed_error(Sums(total=max(totals), signs="one"), draws=60, delta=0.05)
    assert guaranteed_error(both, draws=60, delta=0.1) == pytest.approx(2.0 * single, rel=1e-9)


def test_the_split_sample_holds_the_theorem_at_the_computed_number_of_draws() -> None:
    """ε in all, of several sums of both signs: unbiased, of the weights' own signs, and seldom off by more."""
    points, weights = layer(5)
    x = np.ones(4) / 2.0
    values = PHI["Relu"](points @ x)
    exact = values @ weights
    one = split_sample(points, weights, "Relu", draws=9, rng=np.random.default_rng(0))
    sums = Sums(total=max(one.totals), outputs=weights.shape[1], signs="split")
    epsilon = 0.5 * max(one.totals)
    draws = draws_needed(sums, epsilon=epsilon, delta=0.1)
    rng, gaps = np.random.default_rng(6), []
    for _ in range(1500):
        found = split_sample(points, weights, "Relu", draws=draws, rng=rng)
        assert not np.any(found.weights * weights < 0.0)
        gaps.append(values @ found.weights - exact)
    error = np.abs(gaps).max(axis=1)
    assert np.count_nonzero(error >= epsilon) <= 0.1 * 1500 + 4.0 * np.sqrt(0.1 * 1500)
    assert np.quantile(error, 0.9) > epsilon / 12.0, "an error so much smaller needs fewer draws"
    mean, spread = np.mean(gaps, axis=0), np.std(gaps, axis=0, ddof=1) / np.sqrt(1500)
    assert np.all(np.abs(mean) <= 4.0 * spread)


def test_what_cannot_be_split() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="2 points have weights of shape"):
        split_sample(np.ones((2, 2)), np.ones((3, 2)), "Relu", draws=3, rng=rng)
    positive = split_sample(np.ones((2, 2)), np.ones((2, 1)), "Relu", draws=3, rng=rng)
    assert positive.totals[1] == 0.0 and not positive.factors[1].any()
    assert not split_sample(np.ones((2, 2)), np.zeros((2, 1)), "Relu", draws=3, rng=rng).weights.any()


def test_the_bound_is_attained_within_a_constant() -> None:
    """Two points of opposite sums: a walk, whose spread a bound below the truth would miss."""
    points, weights = np.array([[1.0], [1.0]]), np.array([[1.0], [-1.0]])
    sums = Sums(total=2.0)
    draws = 400
    found = errors(points, weights, "Relu", draws, np.ones((1, 1)))
    promised = guaranteed_error(sums, draws=draws, delta=0.05)
    assert np.quantile(found, 0.95) < promised < 1.6 * np.quantile(found, 0.95)


FORMS = [
    Sums(total=3.0),
    Sums(total=3.0, mass=0.2, outputs=40),
    Sums(total=1e-12, signs="one"),
    Sums(total=1e12, mass=1e10, signs="split", outputs=7),
    Sums(total=2.0, mass=1.0, dimension=785, outputs=100),
    Sums(total=2.0, dimension=3, roughness=50.0, signs="one"),
]


@pytest.mark.parametrize("sums", FORMS)
@pytest.mark.parametrize("delta", [0.5, 0.01, 1e-9])
@pytest.mark.parametrize("draws", [1, 30, 100_000])
def test_the_three_functions_invert_each_other(sums: Sums, delta: float, draws: int) -> None:
    epsilon = guaranteed_error(sums, draws=draws, delta=delta)
    assert failure_probability(sums, draws=draws, epsilon=epsilon) == pytest.approx(delta, rel=1e-6)
    assert draws_needed(sums, epsilon=epsilon * (1 + 1e-9), delta=delta) == draws
    fewer = draws_needed(sums, epsilon=epsilon, delta=delta) - 1
    assert fewer < 1 or failure_probability(sums, draws=fewer, epsilon=epsilon) > delta * (1 - 1e-6)


@pytest.mark.parametrize("sums", FORMS)
def test_bounds_are_monotone(sums: Sums) -> None:
    by_draws = [guaranteed_error(sums, draws=draws, delta=0.1) for draws in (1, 2, 10, 100, 10_000)]
    assert by_draws == sorted(by_draws, reverse=True)
    by_delta = [guaranteed_error(sums, draws=50, delta=delta) for delta in (1e-6, 1e-3, 0.1, 0.9)]
    assert by_delta == sorted(by_delta, reverse=True)
    more = replace(sums, outputs=sums.outputs * 10)
    assert guaranteed_error(more, draws=50, delta=0.1) > guaranteed_error(sums, draws=50, delta=0.1)
    larger = replace(sums, total=sums.total * 5, mass=None if sums.mass is None else sums.mass * 5)
    assert guaranteed_error(larger, draws=50, delta=0.1) == pytest.approx(
        5 * guaranteed_error(sums, draws=50, delta=0.1), rel=1e-9
    )


def test_bernstein_gains_where_terms_are_small_together() -> None:
    loose, tight = Sums(total=1.0), Sums(total=1.0, mass=0.01)
    assert draws_needed(tight, epsilon=0.01, delta=0.1) < draws_needed(loose, epsilon=0.01, delta=0.1) / 20


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"total": 0.0}, "total"),
        ({"total": math.inf}, "total"),
        ({"total": 1.0, "mass": -1.0}, "mass"),
        ({"total": 1.0, "outputs": 0}, "outputs"),
        ({"total": 1.0, "signs": "both"}, "signs"),
        ({"total": 1.0, "dimension": 0}, "dimension"),
        ({"total": 1.0, "roughness": math.nan}, "roughness"),
    ],
)
def test_impossible_sums_are_refused(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} = "):
        Sums(**wrong)  # type: ignore[arg-type]


def test_impossible_requests_are_refused() -> None:
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="delta = "):
            draws_needed(Sums(total=1.0), epsilon=0.1, delta=delta)
        with pytest.raises(ValueError, match="delta = "):
            guaranteed_error(Sums(total=1.0), draws=3, delta=delta)
    with pytest.raises(ValueError, match="epsilon = 0"):
        draws_needed(Sums(total=1.0), epsilon=0.0, delta=0.1)
    with pytest.raises(ValueError, match="draws = 0"):
        failure_probability(Sums(total=1.0), draws=0, epsilon=0.1)
