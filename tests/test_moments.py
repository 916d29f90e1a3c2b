"""Moments batch by batch: those of all rows at once, whatever the batches, and not usable where numbers are none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxprune.reconstruct import moments as module
from onnxprune.reconstruct.forms import Convolution, Form, Product
from onnxprune.reconstruct.moments import Moments
from onnxprune.reconstruct.readers import Reader

RIDGE = module.RIDGE


def reader(units: NDArray[np.int64], width: int, form: Form | None = None) -> Reader:
    return Reader(0, "a reader", "a", "w", "b", "y", form or Product(), units, width)


def data(groups: int = 1, rows: int = 90, columns: int = 5, width: int = 3) -> tuple[NDArray[np.float32], ...]:
    rng = np.random.default_rng(groups)
    mean = 30 * rng.standard_normal((groups, 1, columns))
    inner = rng.standard_normal((groups, rows, columns)) + mean
    outer = inner @ rng.standard_normal((groups, columns, width)) + 100
    return inner.astype(np.float32), outer.astype(np.float32)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("batch", [1, 7, 90])
@pytest.mark.parametrize("centred", [True, False])
def test_layers_are_those_of_all_rows_at_once(groups: int, batch: int, centred: bool) -> None:
    inner, outer = data(groups)
    units = np.arange(groups * 5).reshape(groups, 5)
    own = Moments(reader(units, 3), 90, centred=centred)
    for first in range(0, 90, batch):
        own.add(inner[:, first : first + batch], outer[:, first : first + batch])
    assert own.usable
    weights = np.random.default_rng(9).standard_normal((groups, 5, 3))
    made = own.layers(weights, np.arange(groups * 5), np.zeros(groups * 5, dtype=bool))
    for number, layer in enumerate(made):
        a, y = inner[number].astype(np.float64), outer[number].astype(np.float64)
        if centred:
            np.testing.assert_allclose(own.means[0][number], a.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(own.means[1][number], y.mean(axis=0), rtol=1e-5)
            a, y = a - a.mean(axis=0), y - y.mean(axis=0)
        else:
            assert not own.means[0].any() and not own.means[1].any()
        gram, cross = a.T @ a / 90, a.T @ y / 90
        ridge = RIDGE * np.trace(gram) / 5
        np.testing.assert_allclose(layer.gram, gram + ridge * np.eye(5), atol=1e-4 * np.trace(gram))
        wanted = cross + ridge * weights[number]
        np.testing.assert_allclose(layer.cross, wanted, atol=1e-4 * np.abs(wanted).max())
        energy = np.square(y).sum() / 90 + ridge * np.square(weights[number]).sum()
        assert layer.energy == pytest.approx(energy, rel=1e-3)
        assert layer.members.tolist() == units[number].tolist()


def test_columns_without_a_unit_stay_and_those_that_are_gone_are_in_no_layer() -> None:
    inner, outer = data(columns=8)
    own = Moments(reader(np.array([[-1, 0, 0, 1, 1, 2, 2, -1]]), 3), 90, centred=True)
    own.add(inner, outer)
    gone = np.array([False, False, True])
    layer = own.layers(np.zeros((1, 8, 3)), np.array([5, -1, -1]), gone)[0]
    assert (layer.members.tolist(), layer.blocks.tolist()) == ([5], [[1, 2]])
    assert layer.fixed.tolist() == [0, 3, 4, 7]  # unit 1 is no candidate, and stays
    assert layer.columns(np.array([], dtype=np.int64)).tolist() == [0, 3, 4, 7]


def test_one_sample_says_nothing_against_the_weights_there_are() -> None:
    inner, outer = data(rows=1)
    own = Moments(reader(np.arange(5)[None], 3), 1, centred=True)
    own.add(inner, outer)
    weights = np.random.default_rng(0).standard_normal((1, 5, 3))
    layer = own.layers(weights, np.arange(5), np.zeros(5, dtype=bool))[0]
    np.testing.assert_allclose(layer.solve(np.arange(5)), weights[0], rtol=1e-9)
    np.testing.assert_allclose(layer.solve(np.array([2]))[2], weights[0, 2], rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("batch", [0, 1])
def test_numbers_that_are_none_are_noticed(value: float, place: int, batch: int) -> None:
    parts = [part.copy() for part in data()]
    parts[place][0, 45 * batch + 3, 1] = value
    own = Moments(reader(np.arange(5)[None], 3), 90, centred=True)
    for first in (0, 45):
        own.add(parts[0][:, first : first + 45], parts[1][:, first : first + 45])
    assert not own.usable


def test_nothing_at_all_is_not_usable() -> None:
    assert not Moments(reader(np.arange(5)[None], 3), 4, centred=True).usable


def test_positions_are_drawn_where_there_are_many_and_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    form = Convolution(1, (3, 3), (1, 1), (1, 1), (0, 0))
    own = Moments(reader(np.zeros((1, 18), dtype=np.int64), 3, form), 100, centred=True)
    rng = np.random.default_rng(0)
    assert own.places((4, 3, 5, 5), rng) is None
    drawn = own.places((4, 3, 40, 40), rng)
    assert drawn is not None and drawn.tolist() == sorted(set(drawn.tolist())) and drawn.size == 62
    monkeypatch.setattr(module, "_ROW_BYTES", 4 * 18 * 4 * 10)
    fewer = own.places((4, 3, 40, 40), rng)
    assert fewer is not None and fewer.size == 10
