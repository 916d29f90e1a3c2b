"""New weights of a network, written into it in place: those that its readers were solved for, and others."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.analysis import Analysis
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.reconstruct.readers import give_biases
from onnxprune.reconstruct.sequence import Reconstruction

__all__ = ["put", "write_solved", "write_weights"]


def write_solved(model: Model, analysis: Analysis, result: Reconstruction) -> None:
    """Give a network, in place, the weights and biases that its readers have been solved for.

    Parameters
    ----------
    model : Model
        As it was analysed.
    analysis : Analysis
        Of it.
    result : Reconstruction
    """
    index = Index(model.proto)
    give_biases(model.proto, index, analysis.shapes, result.solved.keys())
    stored = Index(model.proto).weights
    for solved in result.solved.values():
        reader = solved.reader
        parts = [(reader.weight, solved.weight, reader.grid)]
        if solved.bias is not None:
            parts.append((reader.bias, solved.bias, reader.bias_grid))
        for name, value, grid in parts:
            tensor = stored[name if grid is None else grid.stored]
            value = value.reshape(tuple(tensor.dims))
            cast = _cast(value, model.array(tensor).dtype) if grid is None else grid.codes(value)
            model.replace(tensor, cast.shape, partial(np.asarray, cast))


def write_weights(model: Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Give a network, in place, other weights.

    Parameters
    ----------
    model : Model
    weights : mapping of str to ndarray of float32
        By initializer, in its shape.
    """
    stored = Index(model.proto).weights if weights else {}
    for name, value in weights.items():
        cast = _cast(value, model.array(stored[name]).dtype)
        model.replace(stored[name], cast.shape, partial(np.asarray, cast))


def put(weight: NDArray[Any], places: NDArray[np.int64] | None, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make a weight anew with other values for some of its elements.

    Parameters
    ----------
    weight : ndarray of float
    places : ndarray of int or None
        The elements, in the weight as one row; None for all.
    value : ndarray of float32
        As many.

    Returns
    -------
    ndarray of float32
    """
    whole = np.array(weight, dtype=np.float32)
    if places is None:
        return value.reshape(whole.shape)
    whole.reshape(-1)[places.reshape(-1)] = value.reshape(-1)
    return whole


def _cast(value: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert; what is finite stays so."""
    largest = float(np.finfo(np.float16).max)
    return (np.clip(value, -largest, largest) if dtype == np.float16 else value).astype(dtype)
