"""The mathematics against brute force and against its own theorems: norms, sampling, sensitivities."""

import doctest
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from onnxprune.coreset import activations, norms, sampling, sensitivity
from onnxprune.coreset.activations import ACTIVATIONS, PARAMETERS, activation_named
from onnxprune.coreset.norms import row_norms
from onnxprune.coreset.sampling import (
    draw,
    draw_distinct,
    drawable,
    draws_for,
    expected_distinct,
    importance_factors,
)
from onnxprune.coreset.sensitivity import masses, probabilities, sensitivities

Array = NDArray[np.float64]
Draws = tuple[NDArray[np.int64], int]

SKEWED = probabilities(np.array([100.0, 30.0, 10.0, 3.0, 1.0, 0.0]))


def assert_mean(samples: Array, expected: Array | float) -> None:
    """Every column's mean is within four standard errors of what is expected."""
    errors = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) <= 4.0 * errors + 1e-12)


@pytest.mark.parametrize("module", [activations, norms, sampling, sensitivity], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


# --- norms


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1.0, 1e200, 1e300])
def test_row_norms_at_any_scale(scale: float) -> None:
    rows = np.random.default_rng(0).standard_normal((7, 5))
    rows[3] = 0.0
    np.testing.assert_allclose(row_norms(rows * scale) / scale, np.linalg.norm(rows, axis=1), rtol=1e-13, atol=0.0)


def test_row_norms_without_columns_are_zero() -> None:
    assert row_norms(np.zeros((3, 0))).tolist() == [0.0, 0.0, 0.0]


# --- a fixed number of draws


def test_draw_counts_sum_to_the_draws_and_leave_the_impossible_alone() -> None:
    rng = np.random.default_rng(0)
    for draws in (1, 7, 1000, 10**12):
        counts = draw(SKEWED, draws, rng)
        assert counts.dtype == np.int64
        assert counts.sum() == draws
        assert counts[-1] == 0


def test_draw_never_gives_rounding_leftovers_to_an_impossible_last_point() -> None:
    thirds = np.array([1.0, 1.0, 1.0, 0.0]) / 3.0
    rng = np.random.default_rng(0)
    assert all(draw(thirds, 10**15, rng)[-1] == 0 for _ in range(200))


@pytest.mark.parametrize("draws", [1, 5, 40])
def test_importance_factors_are_unbiased(draws: int) -> None:
    factors = np.stack(
        [importance_factors(draw(SKEWED, draws, np.random.default_rng(seed)), SKEWED, draws) for seed in range(2000)]
    )
    assert_mean(factors, (SKEWED > 0.0).astype(np.float64))


def test_sampled_relu_layer_is_unbiased() -> None:
    rng = np.random.default_rng(3)
    points, weights = rng.standard_normal((20, 6)), rng.standard_normal((20, 4))
    values = np.maximum(rng.standard_normal((5, 6)) @ points.T, 0.0)
    pr = probabilities(sensitivities(points, weights, "Relu"))
    draws = draws_for(pr, 10)
    estimates = np.stack(
        [
            (values * importance_factors(draw(pr, draws, np.random.default_rng(seed)), pr, draws)) @ weights
            for seed in range(3000)
        ]
    )
    assert_mean(estimates, values @ weights)


def test_additive_error_shrinks_with_the_root_of_the_draws() -> None:
    # |w φ| / pr ≤ t = Σ s for every point, so one draw has variance at most t² and the mean of m at most t²/m.
    rng = np.random.default_rng(4)
    points, weights = rng.standard_normal((30, 5)), rng.standard_normal((30, 3))
    x = rng.standard_normal((8, 5))
    x /= np.linalg.norm(x, axis=1)[:, None]
    values = np.maximum(x @ points.T, 0.0)
    s = sensitivities(points, weights, "Relu")
    pr = probabilities(s)
    for draws in (10, 160):
        errors = [
            (values * importance_factors(draw(pr, draws, np.random.default_rng(seed)), pr, draws)) @ weights
            - values @ weights
            for seed in range(1000)
        ]
        assert np.mean(np.square(errors), axis=0).max() <= s.sum() ** 2 / draws


# --- a fixed number of distinct points


def drawn_one_by_one(pr: Array, distinct: int, rng: np.random.Generator) -> Draws:
    """The loop that `draw_distinct` simulates."""
    counts = np.zeros(pr.size, dtype=np.int64)
    while np.count_nonzero(counts) < distinct:
        counts[rng.choice(pr.size, p=pr)] += 1
    return counts, int(counts.sum())


def moments_of(
    drawer: Callable[[Array, int, np.random.Generator], Draws], pr: Array, distinct: int, runs: int
) -> Array:
    """Per run: the counts, which points were seen, the draws, their square, and the factors."""
    results = []
    for seed in range(runs):
        counts, draws = drawer(pr, distinct, np.random.default_rng(seed))
        factors = importance_factors(counts, pr, draws)
        results.append(np.concatenate([counts, counts > 0, [draws, draws**2], factors]))
    return np.array(results, dtype=np.float64)


@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_draw_distinct_has_the_distribution_of_the_loop(distinct: int) -> None:
    pr = np.array([0.6, 0.25, 0.1, 0.05])
    simulated = moments_of(draw_distinct, pr, distinct, 3000)
    looped = moments_of(drawn_one_by_one, pr, distinct, 1000)
    error = np.sqrt(simulated.var(axis=0, ddof=1) / len(simulated) + looped.var(axis=0, ddof=1) / len(looped))
    assert np.all(np.abs(simulated.mean(axis=0) - looped.mean(axis=0)) <= 4.0 * error + 1e-12)


def test_draw_distinct_collects_coupons_in_the_known_time() -> None:
    n = 30
    draws = [draw_distinct(np.full(n, 1.0 / n), n, np.random.default_rng(seed))[1] for seed in range(2000)]
    assert_mean(np.array(draws, dtype=np.float64), n * float(np.sum(1.0 / np.arange(1, n + 1))))


@settings(deadline=None, max_examples=60)
@given(
    exponents=st.lists(st.floats(-30.0, 0.0), min_size=1, max_size=12),
    zeros=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_draw_distinct_is_exact_nested_and_ends_however_skewed(exponents: list[float], zeros: int, seed: int) -> None:
    pr = probabilities(np.concatenate([10.0 ** np.array(exponents), np.zeros(zeros)]))
    reachable = np.count_nonzero(drawable(pr))
    before: set[int] = set()
    for distinct in range(1, reachable + 1):
        counts, draws = draw_distinct(pr, distinct, np.random.default_rng(seed))
        assert np.count_nonzero(counts) == distinct
        assert counts.min() >= 0
        assert counts.sum() == draws >= distinct
        assert np.isfinite(importance_factors(counts, pr, draws)).all()
        seen = set(np.flatnonzero(counts).tolist())
        assert before < seen
        before = seen


# --- how many draws


def test_expected_distinct_is_the_mean_of_samples() -> None:
    counts = [np.count_nonzero(draw(SKEWED, 12, np.random.default_rng(seed))) for seed in range(2000)]
    assert_mean(np.array(counts, dtype=np.float64), expected_distinct(SKEWED, 12))


@settings(deadline=None, max_examples=60)
@given(weights=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=10), zeros=st.integers(0, 2), data=st.data())
def test_draws_for_against_brute_force(weights: list[float], zeros: int, data: st.DataObject) -> None:
    pr = probabilities(np.concatenate([weights, np.zeros(zeros)]))
    distinct = data.draw(st.integers(1, len(weights) - 1))
    candidates = np.arange(1, 2000)
    expected = np.sum(1.0 - (1.0 - pr[:, None]) ** candidates, axis=0)
    distances = np.abs(expected - distinct)
    chosen = draws_for(pr, distinct)
    assert distances[chosen - 1] <= distances.min() + 1e-9


def test_draws_for_all_points_aims_at_half_a_point_less() -> None:
    pr = np.array([0.7, 0.2, 0.1])
    draws = draws_for(pr, 3)
    assert abs(expected_distinct(pr, draws) - 2.5) <= abs(expected_distinct(pr, draws - 1) - 2.5)
    assert abs(expected_distinct(pr, draws) - 2.5) <= abs(expected_distinct(pr, draws + 1) - 2.5)
    assert draws_for(np.array([1.0]), 1) == 1
    assert draws_for(np.array([0.0, 1.0]), 1) == 1


def test_draws_for_extreme_skew_ends_and_can_be_drawn() -> None:
    pr = probabilities(np.array([1.0, 1e-15, 1e-15, 1e-300, 0.0]))
    draws = draws_for(pr, 3)
    assert draws > 10**15
    assert draw(pr, draws, np.random.default_rng(0)).sum() == draws


@pytest.mark.parametrize(
    "wrong", [np.zeros(0), np.zeros((1, 1)), np.array([0.5, 0.6]), np.array([1.5, -0.5]), np.array([np.nan, 1.0])]
)
def test_what_is_no_distribution_is_refused(wrong: Array) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        drawable(wrong)


def test_impossible_numbers_are_refused() -> None:
    rng = np.random.default_rng(0)
    for distinct in (0, 6):
        with pytest.raises(ValueError, match="5 points can be drawn"):
            draw_distinct(SKEWED, distinct, rng)
        with pytest.raises(ValueError, match="5 points can be drawn"):
            draws_for(SKEWED, distinct)
    with pytest.raises(ValueError, match="at least once"):
        draw(SKEWED, 0, rng)
    with pytest.raises(ValueError, match="at least once"):
        importance_factors(np.zeros(6, dtype=np.int64), SKEWED, 0)
    with pytest.raises(ValueError, match="probability zero"):
        importance_factors(np.ones(6, dtype=np.int64), SKEWED, 6)


# --- sensitivities

PHI: dict[str, Callable[[Array], Array]] = {
    "Relu": lambda u: np.maximum(u, 0.0),
    "Clip": lambda u: np.clip(u, 0.0, 6.0),
    "Sigmoid": expit,
    "HardSigmoid": lambda u: np.clip(0.2 * u + 0.5, 0.0, 1.0),
    "Softplus": lambda u: np.logaddexp(0.0, u),
    "Exp": np.exp,
    "ThresholdedRelu": lambda u: np.where(u > 1.0, u, 0.0),
    "": lambda u: u,
    "Identity": lambda u: u,
    "Abs": np.abs,
    "LeakyRelu": lambda u: np.where(u > 0.0, u, 0.01 * u),
    "PRelu": lambda u: np.where(u > 0.0, u, 0.25 * u),
    "Elu": lambda u: np.where(u > 0.0, u, np.expm1(u)),
    "Celu": lambda u: np.where(u > 0.0, u, np.expm1(u)),
    "Selu": lambda u: 1.0507009873554805 * np.where(u > 0.0, u, 1.6732632423543772 * np.expm1(u)),
    "Gelu": lambda u: u * ndtr(u),
    "Swish": lambda u: u * expit(u),
    "HardSwish": lambda u: u * np.clip(u / 6.0 + 0.5, 0.0, 1.0),
    "Mish": lambda u: u * np.tanh(np.logaddexp(0.0, u)),
    "Tanh": np.tanh,
    "Erf": erf,
    "Softsign": lambda u: u / (1.0 + np.abs(u)),
}


def test_every_activation_has_a_case() -> None:
    assert PHI.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bound_is_the_largest_value_on_the_interval(name: str) -> None:
    for z in (0.0, 1e-3, 0.3, 1.0, 2.5, 7.0, 40.0):
        largest = np.abs(PHI[name](np.linspace(-z, z, 2001))).max()
        np.testing.assert_allclose(ACTIVATIONS[name].bound(np.array([z])), largest, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_guaranteed_means_non_negative_and_non_decreasing(name: str) -> None:
    values = PHI[name](np.linspace(-30.0, 30.0, 2001))
    assert ACTIVATIONS[name].guaranteed == bool(values.min() >= 0.0 and np.diff(values).min() >= 0.0)


GIVEN: list[tuple[str, tuple[float, ...], Callable[[Array], Array]]] = [
    ("Clip", (0.5, 2.0), lambda u: np.clip(u, 0.5, 2.0)),
    ("Clip", (-3.0, 1.0), lambda u: np.clip(u, -3.0, 1.0)),
    ("Clip", (-np.inf, 1.0), lambda u: np.minimum(u, 1.0)),
    ("HardSigmoid", (1.0 / 6.0, 0.5), lambda u: np.clip(u / 6.0 + 0.5, 0.0, 1.0)),
    ("HardSigmoid", (-0.2, 0.5), lambda u: np.clip(-0.2 * u + 0.5, 0.0, 1.0)),
    ("LeakyRelu", (0.0,), lambda u: np.maximum(u, 0.0)),
    ("LeakyRelu", (-2.5,), lambda u: np.where(u > 0.0, u, -2.5 * u)),
    ("PRelu", (1.5,), lambda u: np.where(u > 0.0, u, 1.5 * u)),
    ("Elu", (3.0,), lambda u: np.where(u > 0.0, u, 3.0 * np.expm1(u))),
    ("Celu", (0.1,), lambda u: np.where(u > 0.0, u, 0.1 * np.expm1(u / 0.1))),
    ("Celu", (-2.0,), lambda u: np.where(u > 0.0, u, -2.0 * np.expm1(u / -2.0))),
    ("Selu", (1.0, 2.0), lambda u: 2.0 * np.where(u > 0.0, u, np.expm1(u))),
    ("ThresholdedRelu", (0.0,), lambda u: np.maximum(u, 0.0)),
    ("ThresholdedRelu", (-1.0,), lambda u: np.where(u > -1.0, u, 0.0)),
    ("Swish", (2.0,), lambda u: u * expit(2.0 * u)),
]


@pytest.mark.parametrize(("name", "parameters", "phi"), GIVEN)
def test_parameters_are_those_of_the_function(
    name: str, parameters: tuple[float, ...], phi: Callable[[Array], Array]
) -> None:
    activation = activation_named(name, parameters)
    assert len(parameters) == len(PARAMETERS[name])
    for z in (0.0, 0.3, 2.5, 40.0):
        largest = np.abs(phi(np.linspace(-z, z, 4001))).max()
        np.testing.assert_allclose(activation.bound(np.array([z])), largest, rtol=1e-12, atol=1e-300)
    values = phi(np.linspace(-30.0, 30.0, 6001))
    assert activation.guaranteed == bool(values.min() >= 0.0 and np.diff(values).min() >= 0.0)


def test_no_parameters_are_the_customary_ones() -> None:
    z = np.linspace(0.0, 9.0, 91)
    for name, parameters in (("Clip", (0.0, 6.0)), ("LeakyRelu", (0.01,)), ("HardSigmoid", (0.2, 0.5))):
        np.testing.assert_array_equal(activation_named(name, parameters).bound(z), activation_named(name).bound(z))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_and_homogeneity_are_what_they_are_said_to_be(name: str) -> None:
    u = np.linspace(-12.0, 12.0, 24001)
    steepest = np.abs(np.diff(PHI[name](u)) / np.diff(u)).max()
    assert steepest <= ACTIVATIONS[name].lipschitz * (1 + 1e-6)
    bound = ACTIVATIONS[name].bound
    z = np.linspace(0.1, 9.0, 90)
    same = np.allclose(bound(3.0 * z), 3.0 * bound(z), rtol=1e-9)
    assert ACTIVATIONS[name].homogeneous == same


def test_masses_bound_what_leaving_out_and_rescaling_do() -> None:
    rng = np.random.default_rng(12)
    points, weights = rng.standard_normal((9, 4)), rng.standard_normal((9, 3, 2))
    shares = np.where(np.arange(9) < 4, -1.0, rng.standard_normal(9))
    bound = masses(points, weights, "Relu", shares, beta=2.0)
    x = rng.standard_normal((500, 2, 4))
    x *= 2.0 / np.linalg.norm(x, axis=2, keepdims=True)
    change = np.einsum("nks,xsn->xk", weights * shares[:, None, None], np.maximum(x @ points.T, 0.0))
    assert np.all(np.abs(change).max(axis=0) <= bound)
    # One point at its own x: attained.
    alone = np.where(np.arange(9) == 2, 1.0, 0.0)
    expected = np.abs(weights[2]).sum(axis=1) * 2.0 * np.linalg.norm(points[2])
    np.testing.assert_allclose(masses(points, weights, "Relu", alone, beta=2.0), expected, rtol=1e-12)
    both = masses(points, weights, "Relu", np.column_stack([shares, alone]), beta=2.0)
    np.testing.assert_allclose(both, [bound, expected], rtol=1e-12)
    many = rng.standard_normal((3000, 500))
    np.testing.assert_allclose(
        masses(np.ones((3000, 1)), many, "Relu", np.ones(3000)), np.abs(many).sum(axis=0), rtol=1e-12
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_sensitivity_bounds_every_contribution_and_is_attained(name: str, beta: float) -> None:
    rng = np.random.default_rng(5)
    points, weights = rng.standard_normal((6, 4)), rng.standard_normal((6, 3, 2))
    s = sensitivities(points, weights, name, beta=beta)
    directions = np.concatenate([points, -points, rng.standard_normal((300, 4))])
    x = beta * directions / np.linalg.norm(directions, axis=1)[:, None]
    values = PHI[name](x @ points.T)
    # The two positions of a reader see different inputs: take the worst pair, signs included.
    contribution = np.einsum("nks,n->nk", np.abs(weights), np.abs(values).max(axis=0)).max(axis=1)
    assert np.all(contribution <= s * (1.0 + 1e-12))
    if ACTIVATIONS[name].guaranteed:
        np.testing.assert_allclose(contribution, s, rtol=1e-12)


def test_sensitivity_is_the_formula() -> None:
    rng = np.random.default_rng(6)
    points, weights = rng.standard_normal((9, 4)), rng.standard_normal((9, 3))
    expected = np.abs(weights).max(axis=1) * np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(sensitivities(points, weights, "Relu"), expected, rtol=1e-13)
    np.testing.assert_allclose(sensitivities(points, weights[:, :, None], "Relu"), expected, rtol=1e-13)


def test_beta_cancels_for_relu() -> None:
    rng = np.random.default_rng(7)
    points, weights = rng.standard_normal((9, 4)), rng.standard_normal((9, 3))
    near, far = (probabilities(sensitivities(points, weights, "Relu", beta=beta)) for beta in (1e-3, 1e3))
    np.testing.assert_allclose(near, far, rtol=1e-12)


def test_an_unknown_activation_grows_linearly_without_guarantee() -> None:
    unknown = activation_named("Snake")
    assert not unknown.guaranteed
    assert unknown.bound(np.array([0.5])).tolist() == [0.5]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_huge_rows_have_finite_sensitivities(name: str) -> None:
    s = sensitivities(np.full((2, 3), 1e200), np.full((2, 3, 9), 1.0), name)
    assert np.isfinite(s).all()


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1.0, 1.7e308])
def test_probabilities_at_any_scale(scale: float) -> None:
    np.testing.assert_allclose(probabilities(np.array([scale, scale, 0.0])), [0.5, 0.5, 0.0], rtol=1e-15)


def test_wrong_sensitivities_are_refused() -> None:
    points = np.ones((2, 2))
    with pytest.raises(ValueError, match="shape"):
        sensitivities(points, np.ones((3, 1)), "Relu")
    with pytest.raises(ValueError, match="shape"):
        sensitivities(points, np.ones(2), "Relu")
    with pytest.raises(ValueError, match="beta"):
        sensitivities(points, np.ones((2, 1)), "Relu", beta=0.0)
    with pytest.raises(ValueError, match="matrix"):
        row_norms(np.ones(2))
    for wrong in (np.zeros(0), np.array([-1.0, 2.0]), np.array([np.inf, 1.0])):
        with pytest.raises(ValueError, match="non-negative"):
            probabilities(wrong)
