"""Corruptions of pictures: what each is said to be, in numbers; severities ascend, shapes and ranges stay."""

import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from onnxprune.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupted, left_out

SIZES = [(3, 32, 32), (1, 28, 28), (3, 96, 80), (3, 33, 47)]
every = pytest.mark.parametrize("kind", CORRUPTIONS)


def pictures(count: int = 6, shape: tuple[int, ...] = (3, 32, 32), *, seed: int = 0) -> NDArray[np.float32]:
    """Something smooth with edges, between 0 and 1."""
    rng = np.random.default_rng(seed)
    drawn = ndimage.gaussian_filter(rng.standard_normal((count, *shape)), (0, 0, 3, 3))
    drawn = drawn / np.abs(drawn).max(axis=(1, 2, 3), keepdims=True) / 2 + 0.5
    drawn[:, :, 10:20, 8:18] = 1 - drawn[:, :, 10:20, 8:18]
    return drawn.astype(np.float32)


def change(kind: str, severity: int, x: NDArray[np.float32], seed: int = 1) -> NDArray[np.float32]:
    return corrupted(x, kind, severity, np.random.default_rng(seed))


@every
@pytest.mark.parametrize("shape", SIZES)
def test_shape_range_and_seed(kind: str, shape: tuple[int, ...]) -> None:
    x = pictures(3, shape)
    before = x.copy()
    for severity in (1, 5):
        found = change(kind, severity, x)
        assert found.shape == x.shape and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()
        np.testing.assert_array_equal(found, change(kind, severity, x))
    np.testing.assert_array_equal(x, before)


@every
def test_severities_ascend(kind: str) -> None:
    # A few pixels more or less of 32 are as uneven one way as the other.
    for shape in SIZES[2:3] if kind == "pixelate" else SIZES[::2]:
        x = pictures(24, shape)
        gaps = [float(np.square(change(kind, severity, x) - x).mean()) for severity in SEVERITIES]
        assert all(first < second for first, second in pairwise(gaps)), gaps


def test_what_cannot_be_done_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_out(3) == {} and list(left_out(1)) == ["saturation"]
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    found = left_out(3)
    assert list(found) == ["jpeg"] and "pip install" in found["jpeg"]


def test_all_families_and_enough_kinds() -> None:
    families = [corruption.family for corruption in CORRUPTIONS.values()]
    assert len(families) >= 15 and {"noise", "blur", "weather", "digital"} == set(families)
    assert min(families.count(family) for family in set(families)) >= 4


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_is_as_strong_as_it_says(severity: int) -> None:
    grey = np.full((40, 3, 32, 32), 0.5, np.float32)
    strength = {name: corruption.strength(32, severity) for name, corruption in CORRUPTIONS.items()}
    assert change("gaussian_noise", severity, grey).std() == pytest.approx(strength["gaussian_noise"], rel=0.02)
    assert change("shot_noise", severity, grey).var() == pytest.approx(0.5 / strength["shot_noise"], rel=0.03)
    assert change("speckle_noise", severity, grey).std() == pytest.approx(0.5 * strength["speckle_noise"], rel=0.02)
    found = change("impulse_noise", severity, grey)
    assert (found != 0.5).mean() == pytest.approx(strength["impulse_noise"], rel=0.06)
    assert (found == 0).sum() == pytest.approx((found == 1).sum(), rel=0.15)


@pytest.mark.parametrize("kind", ["defocus_blur", "gaussian_blur", "motion_blur", "zoom_blur"])
def test_blur_takes_away_fine_detail_and_keeps_the_mean(kind: str) -> None:
    x = np.clip(0.5 + 0.2 * np.random.default_rng(2).standard_normal((12, 3, 32, 32)), 0, 1).astype(np.float32)
    found = change(kind, 4, x)
    fine = [np.square(np.diff(each, axis=3)).mean() + np.square(np.diff(each, axis=2)).mean() for each in (x, found)]
    assert fine[1] < 0.6 * fine[0]
    assert found.mean() == pytest.approx(x.mean(), abs=0.01)
    flat = np.full((2, 3, 32, 32), 0.3, np.float32)
    np.testing.assert_allclose(change(kind, 5, flat), flat, atol=1e-5)


def test_a_gaussian_blur_has_its_width() -> None:
    point = np.zeros((1, 1, 65, 65), np.float32)
    point[0, 0, 32, 32] = 1
    found = change("gaussian_blur", 3, point)[0, 0]
    offsets = np.arange(65) - 32
    assert (found.sum(axis=0) * offsets**2).sum() == pytest.approx(9.0, rel=0.03)


def test_colour_brightness_and_contrast() -> None:
    x = 0.2 + 0.4 * pictures()
    for severity in SEVERITIES:
        added = CORRUPTIONS["brightness"].strength(32, severity)
        np.testing.assert_allclose(change("brightness", severity, x), np.clip(x + added, 0, 1), atol=1e-6)
        share = CORRUPTIONS["contrast"].strength(32, severity)
        found = change("contrast", severity, x)
        np.testing.assert_allclose(found.mean(axis=(2, 3)), x.mean(axis=(2, 3)), atol=1e-5)
        np.testing.assert_allclose(found.std(axis=(2, 3)), share * x.std(axis=(2, 3)), rtol=1e-3)
    grey = change("saturation", 5, x)
    np.testing.assert_allclose(grey, np.repeat(x.mean(axis=1, keepdims=True), 3, axis=1), atol=1e-6)
    assert CORRUPTIONS["saturation"].coloured


def test_larger_pixels_and_fewer_levels() -> None:
    x = pictures(2, (3, 96, 96))
    found = change("pixelate", 5, x)
    rows = sum(bool(np.any(found[:, :, k] != found[:, :, k + 1])) for k in range(95)) + 1
    assert rows == 24
    np.testing.assert_allclose(found.mean(), x.mean(), atol=1e-4)
    for severity in SEVERITIES:
        levels = np.unique(change("quantise", severity, x))
        assert len(levels) <= CORRUPTIONS["quantise"].strength(96, severity)


def test_pixels_move_no_farther_than_said() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 96, dtype=np.float32), (2, 1, 96, 96)).copy()
    found = change("elastic", 5, ramp)
    reach = CORRUPTIONS["elastic"].strength(96, 5) * 96 / 224
    assert 0.3 * reach < np.abs(found - ramp)[:, :, 20:-20, 20:-20].max() * 95 <= reach + 1e-3


@pytest.mark.parametrize("kind", ["fog", "frost", "snow", "rain"])
def test_weather_is_bright_and_lies_over_all_colours(kind: str) -> None:
    dark = np.full((8, 3, 32, 32), 0.1, np.float32)
    found = change(kind, 4, dark)
    assert found.std() > 0.01
    assert kind == "fog" or found.mean() > dark.mean()  # fog takes as much light as it gives
    np.testing.assert_allclose(found[:, 0], found[:, 2], atol=1e-6)


def test_it_is_fast() -> None:
    x = pictures(200)
    spent = {}
    for kind in CORRUPTIONS:
        start = time.process_time()
        change(kind, 3, x)
        spent[kind] = time.process_time() - start
    assert max(spent.values()) < 2.0, spent
