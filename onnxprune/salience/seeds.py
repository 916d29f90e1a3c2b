"""Derivatives of a loss by a network's outputs, sample by sample; what lies before follows from them.

    scores y, p = softmax y:  p − e_c        probabilities p:  −e_c / p_c        other numbers:  noise / spread

c is the sample's class, or where nobody knows it one drawn with the probabilities that the network itself gives, which
makes the squares' mean Fisher's information; for other numbers that is of a normal distribution around them.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from onnxprune.validate.compare import looks_like_scores

__all__ = ["seeds_of"]

_TINY = 1e-6


def seeds_of(
    outputs: Mapping[str, NDArray[np.float32]],
    rng: np.random.Generator,
    *,
    scores: str = "",
    classes: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Derivatives of the loss of each sample by all outputs.

    Parameters
    ----------
    outputs : mapping of str to ndarray (n, …)
        What the network gives for a batch.
    rng : numpy.random.Generator
    scores : str
        The output that classes are read off; empty for the only one, where that looks like it.
    classes : ndarray of int (n,), optional
        Classes of the samples; drawn where they are not known.

    Returns
    -------
    dict of str to ndarray

    Examples
    --------
    >>> outputs = {"y": np.zeros((1, 2), dtype=np.float32)}
    >>> seeds_of(outputs, np.random.default_rng(0), classes=np.array([1]))["y"].tolist()
    [[0.5, -0.5]]
    """
    chosen = scores
    if not scores and len(outputs) == 1:  # of several, as a detector has them, all count
        chosen = next((name for name, value in outputs.items() if looks_like_scores(value)), "")
    if not chosen:
        return {name: _noise(value, rng) for name, value in outputs.items()}
    found = {name: np.zeros_like(value) for name, value in outputs.items()}
    value = outputs[chosen]
    rows = value.reshape(len(value), -1).astype(np.float64)
    are_shares = bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=1e-3))
    shares = rows if are_shares else softmax(rows, axis=1)
    if classes is None:
        drawn = (shares.cumsum(axis=1) < rng.random((len(rows), 1)) * shares.sum(axis=1, keepdims=True)).sum(axis=1)
        classes = np.minimum(drawn, rows.shape[1] - 1)
    at = np.arange(len(rows)), classes
    gradient = np.zeros_like(rows) if are_shares else shares.copy()
    gradient[at] -= 1.0 / np.maximum(shares[at], _TINY) if are_shares else 1.0
    found[chosen] = gradient.reshape(value.shape).astype(np.float32)
    return found


def _noise(value: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    spread = float(value.std()) or 1.0
    return (rng.standard_normal(value.shape) / spread).astype(np.float32)
