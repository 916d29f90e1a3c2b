"""BackSelect, against brute force on a few pixels: what goes first, what stays, what others make of it."""

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from onnxprune.evaluate.features import Selection, back_select, confidences
from onnxprune.evaluate.png import to_png
from onnxprune.evaluate.robustness import Predict

BLACK = np.zeros((3, 1, 1), np.float32)


def inputs(count: int = 3, shape: tuple[int, ...] = (3, 5, 6), *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def bent(seed: int, shape: tuple[int, ...] = (3, 5, 6)) -> Predict:
    """Scores of four classes for which what a pixel is worth depends on what else is there."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((int(np.prod(shape)), 16)), rng.standard_normal((16, 4))
    return lambda x: np.tanh(x.reshape(len(x), -1) @ first / 4) @ second


def by_hand(predict: Predict, picture: NDArray[np.float32], blank: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels that stay, by loops over one pixel at a time: a twentieth of those left goes, one at least."""
    height, width = picture.shape[1:]
    wanted = predict(picture[None]).argmax()
    left = [(row, column) for row in range(height) for column in range(width)]
    total = len(left)
    while len(left) > round(0.1 * total):
        remaining = max(min(len(left) - 1, round(0.95 * len(left))), round(0.1 * total))
        found = []
        for pixel in left:
            shown = np.broadcast_to(blank, picture.shape).copy()
            for row, column in left:
                if (row, column) != pixel:
                    shown[:, row, column] = picture[:, row, column]
            found.append(softmax(predict(shown[None])[0])[wanted])
        surest = np.argsort(-np.array(found), kind="stable")[: len(left) - remaining]
        left = [pixel for number, pixel in enumerate(left) if number not in surest]
    mask = np.zeros((height, width), bool)
    mask[tuple(np.transpose(left))] = True
    return mask


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blank", [BLACK, np.full((3, 1, 1), 0.7, np.float32)], ids=["black", "grey"])
def test_the_pixels_are_those_found_one_by_one(seed: int, blank: NDArray[np.float32]) -> None:
    predict, x = bent(seed), inputs(seed=seed)
    found = back_select(predict, x, blank=blank)
    np.testing.assert_array_equal(found.classes, predict(x).argmax(axis=1))
    for number, picture in enumerate(x):
        np.testing.assert_array_equal(found.kept[number], by_hand(predict, picture, blank))
    assert (found.kept.sum(axis=(1, 2)) == 3).all()


def test_what_is_sure_beyond_doubt_is_told_apart_still() -> None:
    worth = np.arange(30, dtype=np.float32).reshape(1, 5, 6) + 30  # probabilities are all 1, in float64 too
    shares = lambda x: np.stack([(x * worth).sum(axis=(1, 2, 3)), 0 * x[:, 0, 0, 0]], axis=1) / 10  # noqa: E731
    found = back_select(shares, np.ones((1, 1, 5, 6), np.float32), blank=BLACK[:1])
    np.testing.assert_array_equal(np.flatnonzero(found.kept[0]), [27, 28, 29])
    np.testing.assert_allclose(found.heat[0].ravel()[:27], np.arange(27) / 30)


def test_batches_blocks_and_calls_do_not_matter() -> None:
    x, sizes, calls = inputs(), list[int](), list[int]()

    def watched(part: NDArray[np.float32]) -> NDArray[np.floating]:
        sizes.append(len(part))
        return bent(1)(part)

    first = back_select(watched, x, blank=BLACK, advance=lambda: calls.append(1))
    assert len(calls) == 3 and max(sizes) == 30
    sizes.clear()
    second = back_select(watched, x, blank=BLACK, batch=7)
    np.testing.assert_array_equal(first.heat, second.heat)
    assert max(sizes) == 7
    pixels = inputs(seed=5)[:, :, :5, :5]
    whole = back_select(bent(2, (3, 5, 5)), pixels, blank=BLACK)
    wide = back_select(  # each pixel four times over is looked at as one block of four
        lambda part: bent(2, (3, 5, 5))(part[:, :, ::2, ::2]),
        pixels.repeat(2, axis=2).repeat(2, axis=3),
        blank=BLACK,
        most=25,
    )
    np.testing.assert_array_equal(wide.heat, whole.heat.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (224, 224), (33, 47), (9, 300), (8, 8), (1, 1)])
def test_cost_is_bounded(height: int, width: int) -> None:
    ran = list[int]()

    def counted(x: NDArray[np.float32]) -> NDArray[np.floating]:
        ran.append(len(x))
        return np.stack([x[:, 0, 0, 0], x[:, 0, -1, -1]], axis=1)

    found = back_select(counted, inputs(1, (1, height, width)), blank=BLACK[:1])
    assert sum(ran) <= 1 + 4616
    assert max(ran) <= 128 and np.isfinite(found.heat).all()
    assert found.kept.mean() == pytest.approx(0.1, abs=0.01) if height * width >= 64 else found.kept.all()
    if (height, width) == (32, 32):
        assert sum(ran) == 1 + 4616  # of 256 blocks, as the module says


def test_networks_are_shown_each_others_pixels() -> None:
    networks: dict[str, Predict] = {"a": bent(1), "b": bent(2)}
    x, blank = inputs(6), np.full((3, 1, 1), 0.2, np.float32)
    chosen = {name: back_select(predict, x, blank=blank) for name, predict in networks.items()}
    found = confidences(networks, x, chosen, blank=blank, batch=4)
    assert list(found) == ["a", "b"] and all(list(row) == ["a", "b"] for row in found.values())
    for shown, predict in networks.items():
        for owner in networks:
            sure = []
            for number, picture in enumerate(x):
                seen = np.where(chosen[owner].kept[number], picture, blank)
                sure.append(softmax(predict(seen[None])[0])[networks[owner](x)[number].argmax()])
            assert found[shown][owner] == pytest.approx(np.mean(sure), rel=1e-6)
    assert found["a"]["a"] > found["b"]["a"] and found["b"]["b"] > found["a"]["b"]


def test_what_stays_is_what_is_hottest() -> None:
    found = Selection(np.array([0]), np.array([[0.0, 1.0, 0.5]]), np.array([[0, 0, 1], [2, 2, 1]]))
    assert found.heat.tolist() == [[[0.0, 0.0, 1.0], [0.5, 0.5, 1.0]]]
    assert found.kept.tolist() == [[[False, False, True], [False, False, True]]]


def test_pictures_are_read_as_they_were() -> None:
    drawn = np.random.default_rng(0).random((7, 5, 3))
    drawn[0, 0] = (-0.2, 1.3, 0.5)
    with Image.open(io.BytesIO(base64.b64decode(to_png(drawn)))) as read:
        assert read.format == "PNG" and read.size == (5, 7) and read.mode == "RGB"
        read.verify()
    with Image.open(io.BytesIO(base64.b64decode(to_png(drawn)))) as read:
        np.testing.assert_array_equal(np.asarray(read), np.rint(drawn.clip(0, 1) * 255))
