"""How far two tensors are apart, in numbers that mean something near zero too."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.norms import row_norms

__all__ = ["Difference", "agreement", "difference", "looks_like_scores"]


@dataclass(frozen=True)
class Difference:
    """Two tensors of one shape, compared.

    Attributes
    ----------
    max_abs : float
        max |a − b|.
    max_rel : float
        max |a − b| / max |b|.
    relative_l2 : float
        ‖a − b‖ / ‖b‖.
    cosine : float
        Cosine of the angle between them.
    comparable : bool
        False where the reference is empty, or nothing of it is finite.
    """

    max_abs: float
    max_rel: float
    relative_l2: float
    cosine: float
    comparable: bool = True


def difference(found: NDArray[Any], reference: NDArray[Any]) -> Difference:
    """Compare a tensor with its reference.

    Parameters
    ----------
    found, reference : ndarray
        Numbers of any type. Where the reference is not finite, the other has to be the same.

    Returns
    -------
    Difference
        Infinite where the shapes differ, or where what is not finite differs.
    """
    worst = Difference(np.inf, np.inf, np.inf, 0.0)
    if found.shape != reference.shape:
        return worst
    a, b = found.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    finite = np.isfinite(b)
    if not finite.all():
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return worst
        a, b = a[finite], b[finite]
    if not a.size:
        return Difference(0.0, 0.0, 0.0, 1.0, comparable=False)
    if not np.isfinite(a).all():
        return worst
    scale = max(float(b.max()), -float(b.min()))
    if scale == 0.0:
        gap = float(np.abs(a).max())
        same = gap == 0.0
        return Difference(gap, 0.0 if same else np.inf, 0.0 if same else np.inf, 1.0 if same else 0.0)
    norm_b, norm_a = _norm(b), _norm(a)
    cosine = float((a / norm_a) @ (b / norm_b)) if norm_a > 0.0 else 0.0
    a -= b
    gap = max(float(a.max()), -float(a.min()))
    return Difference(gap, gap / scale, _norm(a) / norm_b, cosine)


def _norm(values: NDArray[np.float64]) -> float:
    return float(row_norms(values[None, :])[0])


def looks_like_scores(value: NDArray[Any]) -> bool:
    """Tell whether an output looks like class scores: one row of at least two numbers per input."""
    flat = [size for size in value.shape[1:] if size != 1]
    return value.dtype.kind == "f" and value.ndim >= 2 and value.size > 0 and len(flat) == 1 and flat[0] >= 2


def agreement(found: NDArray[Any], reference: NDArray[Any]) -> float:
    """Share of inputs whose highest score is the same one."""
    a = found.reshape(found.shape[0], -1).argmax(axis=1)
    b = reference.reshape(reference.shape[0], -1).argmax(axis=1)
    return float((a == b).mean())
