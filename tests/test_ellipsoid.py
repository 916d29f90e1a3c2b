"""The ellipsoid of least volume: it holds all points, nothing smaller does, and shrunk it lies in their hull."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from clouds import CLOUDS, FULL, Array, cloud
from scipy.optimize import linprog, minimize

from onnxprune.coreset import ellipsoid, john, span
from onnxprune.coreset.ellipsoid import Ellipsoid, Status, enclosing_ellipsoid
from onnxprune.coreset.john import end_points, hull_weights, inner_ellipsoid
from onnxprune.coreset.span import affine_span, linear_span

both = pytest.mark.parametrize("centred", [False, True], ids=["free", "centred"])
every_cloud = pytest.mark.parametrize("name", CLOUDS)
every_full_cloud = pytest.mark.parametrize("name", [name for name in FULL if name not in ("huge", "tiny")])


@pytest.mark.parametrize("module", [ellipsoid, john, span], ids=lambda module: module.__name__)
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


# --- spans


@every_cloud
@pytest.mark.parametrize("kind", [affine_span, linear_span])
def test_a_span_holds_the_points_in_white_coordinates(name: str, kind: type) -> None:
    points = CLOUDS[name].astype(np.float64)
    found = kind(CLOUDS[name])
    scale = np.abs(points).max(initial=0.0) or 1.0
    np.testing.assert_allclose(
        (found.coordinates @ found.axes + found.origin) / scale, points / scale, rtol=0.0, atol=1e-12
    )
    moments = found.coordinates.T @ found.coordinates / len(points)
    np.testing.assert_allclose(moments, np.eye(found.rank), atol=1e-12)


def test_ranks() -> None:
    ranks = {name: (affine_span(points).rank, linear_span(points).rank) for name, points in CLOUDS.items()}
    expected = {"flat": (3, 3), "rank one": (1, 1), "fewer than coordinates": (3, 4), "one": (0, 1), "thin": (3, 3)}
    expected |= {"all alike": (0, 1), "all zero": (0, 0), "no coordinates": (0, 0), "line": (1, 1), "far away": (3, 3)}
    assert {name: ranks[name] for name in expected} == expected


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros(3), np.array([[1.0], [np.nan]]), np.array([[np.inf]])])
def test_what_is_no_finite_matrix_is_refused(points: Array) -> None:
    for function in (affine_span, linear_span, enclosing_ellipsoid):
        with pytest.raises(ValueError, match=r"points have shape|is not finite"):
            function(points)


# --- the ellipsoid


def heights(found: Ellipsoid, points: Array) -> Array:
    """(p − c)ᵀ shape (p − c), with neither overflow nor underflow on the way."""
    scale = np.sqrt(np.diagonal(found.shape))
    scaled = (points - found.centre) * scale
    return np.einsum("ij,jk,ik->i", scaled, found.shape / np.outer(scale, scale), scaled)


@both
@every_full_cloud
@pytest.mark.parametrize("accuracy", [0.1, 1e-4, 1e-7])
def test_all_points_are_inside(name: str, centred: bool, accuracy: float) -> None:
    points = CLOUDS[name]
    found = enclosing_ellipsoid(points, centred=centred, accuracy=accuracy)
    inside = heights(found, points.astype(np.float64))
    # About zero, an ellipsoid that is a million times longer than thick loses twice as many digits in its shape matrix.
    lost = 1e-3 if centred and name == "far away" else 1e-9
    assert inside.max() == pytest.approx(1.0, rel=lost)
    assert np.count_nonzero(found.centre) == 0 or not centred
    assert found.status is Status.OPTIMAL
    assert 0.0 <= found.gap <= accuracy * (1 + 1e-6) + 1e-12


@both
@every_full_cloud
def test_the_certificate_is_what_the_design_says(name: str, centred: bool) -> None:
    """By duality no smaller ellipsoid can be: recomputed from the weights alone, in white coordinates."""
    points = CLOUDS[name]
    found = enclosing_ellipsoid(points, centred=centred, accuracy=1e-6)
    assert found.weights.min() >= 0.0
    assert found.weights.sum() == pytest.approx(1.0, rel=1e-12)
    white = (linear_span if centred else affine_span)(points).coordinates
    shifted = white - (0.0 if centred else found.weights @ white)
    moments = shifted.T @ (shifted * found.weights[:, None])
    distances = np.einsum("ij,ij->i", shifted @ np.linalg.inv(moments), shifted)
    rank = white.shape[1]
    assert distances.max() == pytest.approx(found.spread, rel=1e-8)
    assert found.gap == pytest.approx(max(distances.max() / rank - 1.0, 0.0), abs=1e-8)
    assert distances.max() <= rank * (1.0 + 1e-6) * (1.0 + 1e-9)
    assert np.all(distances[found.weights > 1e-4] >= rank * (1.0 - 1e-2))


def least_log_volume(points: Array, *, centred: bool) -> float:
    """−½ log det of the best shape by a general optimiser over factors L and centres: max_i ‖L (p − c)‖ ≤ 1."""
    rank = points.shape[1]
    lower = np.tril_indices(rank)

    def unpacked(x: Array) -> tuple[Array, Array]:
        factor = np.zeros((rank, rank))
        factor[lower] = x[: lower[0].size]
        return factor, np.zeros(rank) if centred else x[lower[0].size :]

    def volume(x: Array) -> float:
        return -float(np.log(np.abs(np.diagonal(unpacked(x)[0]))).sum())

    def slack(x: Array) -> Array:
        factor, shift = unpacked(x)
        return 1.0 - np.square(points @ factor.T + (0.0 if centred else shift)).sum(axis=1)

    start = np.eye(rank)[lower] / (2.0 * np.linalg.norm(points, axis=1).max())
    best = minimize(
        volume,
        start if centred else np.concatenate([start, np.zeros(rank)]),
        constraints={"type": "ineq", "fun": slack},
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-13},
    )
    assert slack(best.x).min() >= -1e-8
    return float(best.fun)


@both
@pytest.mark.parametrize(("seed", "count", "rank"), [(0, 5, 2), (1, 12, 2), (2, 15, 3), (3, 9, 1), (4, 25, 4)])
def test_the_volume_is_the_least_against_a_general_optimiser(seed: int, count: int, rank: int, centred: bool) -> None:
    points = np.random.default_rng([40, seed]).standard_normal((count, rank)) + 0.3
    found = enclosing_ellipsoid(points, centred=centred, accuracy=1e-8)
    ours = -0.5 * np.linalg.slogdet(found.shape)[1]
    assert ours == pytest.approx(least_log_volume(points, centred=centred), abs=1e-5)


def test_the_volume_is_the_least_against_brute_force() -> None:
    """In the plane the optimum rests on at most five points: the smallest over all subsets that holds all the rest."""
    points = np.random.default_rng(9).standard_normal((7, 2))
    found = enclosing_ellipsoid(points, accuracy=1e-9)
    volumes = []
    for mask in range(1, 2**7):
        subset = points[[bool(mask >> bit & 1) for bit in range(7)]]
        if len(subset) < 3 or len(subset) > 5:
            continue
        trial = enclosing_ellipsoid(subset, accuracy=1e-9)
        if heights(trial, points).max() <= 1.0 + 1e-6:
            volumes.append(np.linalg.det(trial.shape) ** -0.5)
    assert np.linalg.det(found.shape) ** -0.5 == pytest.approx(min(volumes), rel=1e-6)


@both
def test_known_optima(centred: bool) -> None:
    simplex = np.vstack([np.zeros(3), np.eye(3)])
    cube = np.array(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0])).reshape(3, -1).T
    np.testing.assert_allclose(enclosing_ellipsoid(cube, centred=centred).shape, np.eye(3) / 3.0, atol=1e-4)
    if centred:
        np.testing.assert_allclose(enclosing_ellipsoid(simplex, centred=True).shape, np.eye(3), atol=1e-4)
    else:
        np.testing.assert_allclose(enclosing_ellipsoid(simplex).centre, np.full(3, 0.25), atol=1e-4)


@both
@pytest.mark.parametrize("seed", range(3))
def test_an_affine_map_maps_the_ellipsoid(seed: int, centred: bool) -> None:
    points = cloud(20 + seed, 60, 4)
    rng = np.random.default_rng(seed)
    matrix, shift = rng.standard_normal((4, 4)), np.zeros(4) if centred else rng.standard_normal(4)
    before, after = (enclosing_ellipsoid(p, centred=centred, accuracy=1e-7) for p in (points, points @ matrix + shift))
    np.testing.assert_allclose(after.centre, before.centre @ matrix + shift, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(matrix @ after.shape @ matrix.T, before.shape, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", sorted(set(CLOUDS) - set(FULL)))
def test_points_that_do_not_fill_the_space_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="dimensions only"):
        enclosing_ellipsoid(CLOUDS[name])


def test_an_exhausted_limit_is_said_and_its_gap_is_true() -> None:
    points = cloud(30, 500, 8)
    found = enclosing_ellipsoid(points, accuracy=1e-9, iterations=20)
    assert found.status is Status.EXHAUSTED and found.iterations == 20 and found.gap > 1e-9
    assert heights(found, points).max() == pytest.approx(1.0, rel=1e-9)
    best = enclosing_ellipsoid(points, accuracy=1e-8)
    excess = 0.5 * (np.linalg.slogdet(best.shape)[1] - np.linalg.slogdet(found.shape)[1])
    assert 0.0 <= excess <= 4.0 * np.log1p(found.gap)


@pytest.mark.parametrize("name", ["huge", "tiny"])
def test_extents_whose_squares_overflow_are_refused_and_smaller_ones_are_not(name: str) -> None:
    points = CLOUDS[name]
    with pytest.raises(ValueError, match="float64 cannot hold"):
        enclosing_ellipsoid(points)
    tamed = points * (1e-80 if name == "huge" else 1e80)
    assert heights(enclosing_ellipsoid(tamed), tamed).max() == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("wrong", [{"accuracy": 0.0}, {"accuracy": np.nan}, {"iterations": 0}])
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="both are positive"):
        enclosing_ellipsoid(cloud(0, 9, 2), **wrong)  # type: ignore[arg-type]


def test_working_sets_do_not_change_the_optimum() -> None:
    points = cloud(31, 6000, 6)
    found = enclosing_ellipsoid(points, accuracy=1e-6)
    support = enclosing_ellipsoid(points[found.weights > 0.0], accuracy=1e-6)
    assert found.status is Status.OPTIMAL and heights(found, points).max() <= 1.0 + 1e-9
    np.testing.assert_allclose(support.shape, found.shape, rtol=1e-3, atol=1e-6)


# --- John's ellipsoid


def in_hull(points: Array, target: Array, *, symmetric: bool) -> bool:
    """Whether a linear programme finds a convex combination, in white coordinates."""
    corners = np.vstack([points, -points]) if symmetric else points
    lifted = np.vstack([corners.T, np.ones(len(corners))])
    return bool(linprog(np.zeros(len(corners)), A_eq=lifted, b_eq=np.append(target, 1.0), method="highs").success)


@both
@pytest.mark.parametrize("accuracy", [0.3, 1e-6])
@pytest.mark.parametrize("name", ["plane", "many", "just enough", "duplicates", "zero rows", "line"])
def test_the_shrunk_ellipsoid_lies_in_the_hull(name: str, centred: bool, accuracy: float) -> None:
    points = (linear_span if centred else affine_span)(CLOUDS[name]).coordinates
    found = enclosing_ellipsoid(points, centred=centred, accuracy=accuracy)
    centre, shape = inner_ellipsoid(found, centred=centred)
    rng = np.random.default_rng(0)
    rays = rng.standard_normal((12, len(centre)))
    surface = centre + rays / np.sqrt(np.einsum("ij,jk,ik->i", rays, shape, rays))[:, None]
    for target in np.vstack([surface, end_points(found, centred=centred)]):
        assert in_hull(points, centre + (target - centre) * (1.0 - 1e-7), symmetric=centred)
        weights = hull_weights(points, found, target, centred=centred)
        np.testing.assert_allclose(weights @ points, target, atol=1e-9)
        assert np.abs(weights).sum() <= 1.0 + 1e-9
        assert centred or (weights.min() >= 0.0 and weights.sum() == pytest.approx(1.0, rel=1e-12))


def test_a_simplex_shows_that_no_larger_ellipsoid_would() -> None:
    simplex = np.vstack([np.zeros(3), np.eye(3)])
    found = enclosing_ellipsoid(simplex, accuracy=1e-8)
    centre, shape = inner_ellipsoid(found)
    face = np.array([-1.0, 0.0, 0.0])
    touching = centre + face / np.sqrt(face @ shape @ face) * (1.0 + 1e-3)
    direction = np.linalg.solve(shape, face)
    touching = centre + direction / np.sqrt(direction @ shape @ direction) * (1.0 + 1e-3)
    assert not in_hull(simplex, touching, symmetric=False)


@both
def test_end_points_are_on_the_surface_and_opposite(centred: bool) -> None:
    found = enclosing_ellipsoid(cloud(32, 50, 5), centred=centred)
    centre, shape = inner_ellipsoid(found, centred=centred)
    ends = end_points(found, centred=centred)
    assert ends.shape == (10, 5)
    np.testing.assert_allclose(np.einsum("ij,jk,ik->i", ends - centre, shape, ends - centre), 1.0, rtol=1e-9)
    np.testing.assert_allclose((ends[::2] + ends[1::2]) / 2.0, np.tile(centre, (5, 1)), atol=1e-9)
    axes = ends[::2] - centre
    np.testing.assert_allclose(np.triu(axes @ shape @ axes.T, 1), 0.0, atol=1e-9)


def test_a_target_outside_is_refused() -> None:
    points = cloud(33, 50, 3)
    found = enclosing_ellipsoid(points)
    with pytest.raises(ValueError, match="outside of the inner ellipsoid"):
        hull_weights(points, found, found.centre + 1.01 * (end_points(found)[0] - found.centre))


def test_a_design_that_is_not_that_of_the_ellipsoid_fails_the_certificate() -> None:
    """The tests above can fail: another design's moments give another spread."""
    points = cloud(34, 50, 3)
    found = enclosing_ellipsoid(points)
    wrong = replace(found, shape=found.shape * 1.05)
    assert heights(wrong, points).max() > 1.0 + 1e-2
