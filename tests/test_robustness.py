"""Prune potential, excess error and noise similarity, against computations of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from onnxprune.evaluate.robustness import (
    DELTA,
    LEVELS,
    NEAR,
    excess_error,
    next_ratio,
    noise_similarity,
    potential,
)


def test_potential_is_the_largest_ratio_that_does() -> None:
    ratios, errors = [0.7, 0.3, 0.5], [0.0651, 0.06, 0.08]
    assert potential(ratios, errors, 0.0601) == 0.7  # 0.0651 is within half a point
    assert potential(ratios, errors, 0.06) == 0.3
    assert potential(ratios, errors, 0.06, delta=0.03) == 0.7
    assert potential(ratios, errors, 0.01) == 0.0
    assert potential([0.2], [0.065], 0.06) == 0.2 and DELTA == 0.005
    assert potential([-1.2], [0.06], 0.06) == 0.0  # of a network that is larger, nothing is known of smaller ones


def tried(
    error_at: Callable[[str, float], float], names: list[str], *, most: int = 20, high: float = 0.9
) -> list[float]:
    """Ratios that are tried for these distributions, the original's error being 0.06 on each."""
    found: list[float] = []
    while len(found) < most:
        errors = {name: [error_at(name, ratio) for ratio in found] for name in names}
        ratio = next_ratio(found, errors, dict.fromkeys(names, 0.06), high=high)
        if ratio is None:
            break
        found.append(ratio)
    return found


def test_potentials_are_found_by_halves_the_first_one_before_all_others() -> None:
    safe = {"clean": 0.43, "fog": 0.2, "snow": 0.81}

    def error_at(name: str, ratio: float) -> float:
        return 0.06 + max(ratio - safe[name], 0.0) / 2

    alone = tried(error_at, ["clean"])
    assert alone[:3] == pytest.approx([0.45, 0.225, 0.3375]) and len(alone) == 7  # 0.9 / 2 ** 7 is below a point
    ratios = tried(error_at, list(safe), most=99)
    assert ratios[:7] == alone
    for name, most in safe.items():
        found = potential(ratios, [error_at(name, ratio) for ratio in ratios], 0.06)
        assert most + 2 * DELTA - NEAR <= found <= most + 2 * DELTA  # where the error is half a point more
    assert tried(lambda *_: 0.06, ["clean"])[-1] > 0.9 - NEAR and tried(lambda *_: 0.5, ["clean"])[-1] < NEAR


def test_what_is_found_keeps_to_the_bound_where_errors_fall_and_rise() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        errors = dict[float, float]()
        ratios = tried(lambda _, ratio, told=errors: told.setdefault(ratio, 0.1 * rng.random()), ["clean"])
        found = potential(ratios, [errors[ratio] for ratio in ratios], 0.06)
        assert found == 0.0 or errors[found] <= 0.065
        above = min((ratio for ratio in ratios if ratio > found), default=0.9)
        assert above - found <= NEAR or len(ratios) == 20


def test_slopes_go_through_the_origin() -> None:
    rng = np.random.default_rng(0)
    ratios = np.repeat([0.3, 0.5, 0.7], 40)
    excess = 0.12 * ratios + 0.01 * rng.standard_normal(ratios.size)
    found = excess_error(ratios.tolist(), excess.tolist(), np.random.default_rng(1))
    assert found.slope == pytest.approx((ratios @ excess) / (ratios @ ratios), rel=1e-12)
    assert found.low < 0.12 < found.high and found.high - found.low < 0.02
    again = excess_error(ratios.tolist(), excess.tolist(), np.random.default_rng(1))
    assert found == again
    assert excess_error([0.5, 0.5], [0.0, 0.0], rng).slope == 0


def linear(seed: int, size: int = 12) -> Callable[[NDArray[np.float32]], NDArray[np.floating]]:
    weight = np.random.default_rng(seed).standard_normal((size, 5))
    return lambda x: x.reshape(len(x), -1) @ weight


def similar(others: list[Any], *, draws: int = 3, batch: int = 128, levels: Any = LEVELS) -> NDArray[np.float64]:
    inputs = np.random.default_rng(7).standard_normal((40, 3, 4)).astype(np.float32)
    sums = noise_similarity(linear(0), others, inputs, draws=range(draws), seed=5, batch=batch, levels=levels)
    assert (sums[:, :, 2] == len(inputs) * draws).all()
    return sums[:, :, :2] / sums[:, :, 2:]


def test_a_network_is_like_itself_and_others_less() -> None:
    found = similar([linear(0), lambda x: linear(0)(x) + 0.3 * linear(2)(x), linear(3)])
    assert (found[0, :, 0] == 1).all() and not found[0, :, 1].any()
    assert (found[1, :, 0] > found[2, :, 0]).all() and (found[1, :, 1] < found[2, :, 1]).all()
    assert len(LEVELS) == 15 and LEVELS[0] == 0 and LEVELS[-1] == pytest.approx(0.7)


def test_batches_and_calls_do_not_matter() -> None:
    others = [linear(2)]
    first = similar(others)
    np.testing.assert_allclose(similar(others, batch=7), first, rtol=1e-12)
    np.testing.assert_array_equal(similar(others), first)


def test_noise_is_what_it_is_said_to_be() -> None:
    seen: list[NDArray[np.float32]] = []
    inputs = np.random.default_rng(7).standard_normal((40, 3, 4)).astype(np.float32) * 2

    def watch(x: NDArray[np.float32]) -> NDArray[np.floating]:
        seen.append(x)
        return linear(0)(x)

    found = noise_similarity(watch, [linear(2)], inputs, draws=range(2), seed=0, levels=[0.0, 0.5])
    np.testing.assert_array_equal(seen[0], inputs)
    moved = (seen[1] - inputs) / inputs.std()
    assert np.abs(moved).max() <= 0.5 + 1e-6 and moved.std() == pytest.approx(0.5 / np.sqrt(3), rel=0.08)
    assert abs(moved.mean()) < 0.03 and not np.array_equal(seen[1], seen[3])
    p, q = (softmax(linear(k)(inputs), axis=1) for k in (0, 2))
    assert found[0, 0] / 80 == pytest.approx(
        [(p.argmax(1) == q.argmax(1)).mean(), np.linalg.norm(p - q, axis=1).mean(), 1], rel=1e-6
    )


def test_inputs_that_the_original_says_nothing_of_are_left_out() -> None:
    inputs = np.random.default_rng(7).standard_normal((40, 3, 4)).astype(np.float32)

    def broken(x: NDArray[np.float32]) -> NDArray[np.floating]:
        return np.where(np.arange(len(x))[:, None] % 4 == 0, np.nan, linear(0)(x))

    found = noise_similarity(broken, [broken, linear(0)], inputs, draws=[0], seed=0, levels=[0.0, 0.3], batch=4)
    assert found.tolist() == [[[30, 0, 30]] * 2] * 2
