"""Inputs of networks under shift: what is known of all of them, however they are read, and which are picked."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Batch, Calibration, Slot, Slots, batched
from onnxprune.compare import inputs
from onnxprune.compare.inputs import Inputs, open_inputs, spread_of
from onnxprune.errors import DataError

SAMPLES = (np.random.default_rng(0).standard_normal((24, 3, 4, 5)) * [[[[2]], [[1]], [[5]]]] + 7).astype(np.float32)


def data_of(samples: NDArray[np.float32], slots: Slots, labels: NDArray[np.int64] | None = None) -> Calibration:
    def start(numbers: NDArray[np.int64]) -> Iterator[Batch]:
        return batched(((int(number), {"x": samples[number][None]}) for number in numbers), slots)

    return Calibration("given", (), len(samples), labels, start)


def slots_of(samples: NDArray[np.float32], batch: int, *, fixed: bool = False) -> Slots:
    one = samples.shape[1:]
    slot = Slot("x", (batch if fixed else None, *one), (batch if fixed else 1, *one), np.dtype(np.float32), 0)
    return Slots((slot,), batch, fixed)


def answers(part: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.asarray(part.reshape(len(part), -1)[:, :4].argmax(axis=1))


def opened(samples: NDArray[np.float32], axis: int | None, batch: int = 4, *, fixed: bool = False) -> Inputs:
    slots = slots_of(samples, batch, fixed=fixed)
    return open_inputs(data_of(samples, slots), slots, axis, answers)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("axis", [-3, -1, None])
@pytest.mark.parametrize("chunk", [1, 7, 8, 256])
def test_what_is_known_of_all(monkeypatch: pytest.MonkeyPatch, kept: bool, axis: int | None, chunk: int) -> None:
    monkeypatch.setattr(inputs, "_CHUNK", chunk)
    monkeypatch.setattr(inputs, "_KEPT", inputs._KEPT if kept else 0)
    samples = SAMPLES if axis != -1 else np.ascontiguousarray(np.moveaxis(SAMPLES, 1, -1))
    samples = samples if axis is not None else samples.reshape(24, -1)
    found = opened(samples, axis)
    over = tuple(place for place in range(samples.ndim) if axis is None or place != axis % samples.ndim)
    np.testing.assert_array_equal(found.low, samples.min(axis=over, keepdims=True))
    np.testing.assert_array_equal(found.high, samples.max(axis=over, keepdims=True))
    np.testing.assert_allclose(found.mean, samples.mean(axis=over, keepdims=True, dtype=np.float64), rtol=1e-6)
    assert found.spread == pytest.approx(samples.std(dtype=np.float64), rel=1e-6)
    assert spread_of(part for _, part in found.chunks()) == pytest.approx(found.spread, rel=1e-9)
    assert found.truth.tolist() == answers(samples).tolist() and (found.kept is not None) == kept
    starts, parts = zip(*found.chunks(), strict=True)
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    size = min(chunk, 24)
    assert list(starts) == list(range(0, 24, size)) and found.steps(24) == len(parts)


def test_chunks_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_CHUNK_BYTES", 8 * SAMPLES[0].nbytes)
    assert [len(part) for _, part in opened(SAMPLES, -3).chunks()] == [8, 8, 8]


@pytest.mark.parametrize(("wanted", "fixed"), [(5, False), (5, True), (24, True), (99, False), (1, True)])
def test_some_are_evenly_spread(monkeypatch: pytest.MonkeyPatch, wanted: int, fixed: bool) -> None:
    monkeypatch.setattr(inputs, "_CHUNK", 4)
    numbers, parts = zip(*opened(SAMPLES, -3, fixed=fixed).some(wanted), strict=True)
    count = min(wanted, 24)
    assert np.concatenate(numbers).tolist() == [number * 24 // count for number in range(count)]
    np.testing.assert_array_equal(np.concatenate(parts), SAMPLES[np.concatenate(numbers)])


def test_known_classes_are_the_truth_and_nothing_is_run() -> None:
    slots, labels = slots_of(SAMPLES, 4), np.arange(24)

    def never(part: NDArray[np.float32]) -> NDArray[np.int64]:
        raise AssertionError("run")

    assert open_inputs(data_of(SAMPLES, slots, labels), slots, -3, never).truth.tolist() == labels.tolist()


def test_samples_without_any_class_are_refused() -> None:
    slots = slots_of(SAMPLES, 4)
    with pytest.raises(DataError, match="no sample one is known"):
        open_inputs(data_of(SAMPLES, slots, np.full(24, -1)), slots, -3, answers)


def test_constant_channels_have_a_range() -> None:
    found = opened(np.ones_like(SAMPLES), -3)
    assert (found.high - found.low == 1).all() and found.spread == 0


def test_samples_of_several_sizes_are_refused() -> None:
    slots = slots_of(SAMPLES, 1)

    def start(numbers: NDArray[np.int64]) -> Iterator[Batch]:
        return (Batch({"x": SAMPLES[:1, :, : 2 + number % 2]}, np.array([number])) for number in numbers)

    with pytest.raises(DataError, match="samples of one size"):
        open_inputs(Calibration("given", (), 24, None, start), slots, None, answers)
