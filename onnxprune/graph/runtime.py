"""onnxruntime sessions: which provider really works, quiet, bounded in memory, one at a time.

CUDAExecutionProvider is offered by onnxruntime wherever its GPU build is installed; whether it works is found out by
making a session with it, after looking for the libraries so that nothing is printed where there are none.
"""

import ctypes
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import OrtValue
from onnxruntime.capi import onnxruntime_pybind11_state as state

from onnxprune.errors import ModelError, RefusedError, UsageError
from onnxprune.threads import processors

__all__ = [
    "CPU",
    "CUDA",
    "Effort",
    "LoadError",
    "Request",
    "Session",
    "choose_providers",
    "hold",
    "installation_warning",
    "look_at",
    "provider_works",
    "trim",
]

_log = logging.getLogger(__name__)

Request = tuple[Mapping[str, NDArray[Any]], Sequence[str]]
"""Inputs of one run, and the names of the outputs wanted of it."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# What the names of operators that multiply integers have in them.
_INTEGERS = (b"DynamicQuantize", b"Integer", b"QAttention", b"QGemm", b"QLinear")
_QUIET = 4  # fatal messages only: what goes wrong arrives as an exception
# Where in onnxruntime's own source something failed, with the signature of the function; and its error codes.
_PLACE = re.compile(r"/\S+\.(?:cc|h):\d+ (?:[^\n]*?(?=\[ONNXRuntimeError\]))?")
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_FAILURES: tuple[type[Exception], ...] = (
    # What onnxruntime raises has no common base; its C++ exceptions arrive as one of Python's own.
    *(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
)


def installation_warning() -> str:
    """Say so where onnxruntime and onnxruntime-gpu are both installed: they overwrite each other's files."""
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(found) < 2:
        return ""
    return "onnxruntime and onnxruntime-gpu are both installed and share their files; uninstall onnxruntime"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _loadable(*names: str) -> bool:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            return False
    return True


@cache
def provider_works(name: str) -> bool:
    """Tell whether a session really runs on an onnxruntime provider here."""
    if name == CPU or name not in onnxruntime.get_available_providers():
        return name == CPU
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    if name == CUDA and not _loadable(driver):
        return False
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    try:
        with _silence():
            if name == CUDA and hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            return name in _start(model.SerializeToString(), (name, CPU), None).get_providers()
    except _FAILURES as error:
        _log.debug("no %s: %s", name, error)
        return False


def trim() -> None:
    """Give freed memory back to the system, where the C library keeps it for later and can be told not to."""
    if sys.platform.startswith("linux"):
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)


@contextmanager
def _silence() -> Iterator[None]:
    onnxruntime.set_default_logger_severity(_QUIET)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(3)


def choose_providers(wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the providers to use: those asked for, else CUDA where it works, with the CPU behind it.

    Raises
    ------
    UsageError
        If onnxruntime knows no provider of a name that was asked for.
    RefusedError
        If it is not to be had here.
    """
    if not wanted:
        return (CUDA, CPU) if provider_works(CUDA) else (CPU,)
    full = [_full_name(name) for name in wanted]
    known = onnxruntime.get_all_providers()
    for name in full:
        if name not in known:
            raise UsageError(f"--providers {name}: onnxruntime has no such provider; choose cpu, cuda or a full name")
        if not provider_works(name):
            usable = [item for item in onnxruntime.get_available_providers() if provider_works(item)]
            raise RefusedError(f"--providers: {name} does not work on this machine; choose from {', '.join(usable)}")
    return tuple(dict.fromkeys([*full, CPU]))


def _full_name(name: str) -> str:
    short = {"cpu": CPU, "cuda": CUDA}
    return short.get(name.lower(), name)


class LoadError(ModelError):
    """onnxruntime cannot load the network, whatever goes into it."""


# It stores weights of floats between activations of integers as integers, with steps of its own.
_DISABLED = ("WeightBiasQuantization",)
# It makes signed weights unsigned beside signed activations too, which no kernel of QLinearConv takes.
_UNSIGNING = "Avx2WeightS8ToU8Transformer"


@dataclass(frozen=True)
class Effort:
    """What onnxruntime does before the first run.

    Attributes
    ----------
    share : bool
        Find tensors that can share memory, which takes time quadratic in the number of nodes.
    fold : bool
        Compute what follows from stored tensors alone, which takes several times the memory of the result.
    fast : bool
        Fuse operators, and lay weights and activations out for speed, for networks that are run often.
    """

    share: bool = True
    fold: bool = True
    fast: bool = False


def _start(
    model: bytes,
    providers: Sequence[str],
    folder: Path | None = None,
    weights: Mapping[str, OrtValue] | None = None,
    *,
    effort: Effort = Effort(),
) -> "onnxruntime.InferenceSession":
    options = onnxruntime.SessionOptions()
    options.enable_mem_reuse = effort.share
    options.log_severity_level = _QUIET
    # Threads that wait busily for the next run take the processors from what is done between two runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if processors() < (os.cpu_count() or 1):  # onnxruntime itself knows of no quota
        options.intra_op_num_threads = processors()
    options.enable_cpu_mem_arena = effort.fast
    level = onnxruntime.GraphOptimizationLevel
    # Processors with AVX2 and no more let sums of products of 8-bit integers overflow, by what lies beside what: never
    # in both of two networks alike. From the extended level on they are told not to.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if effort.fast:
        options.graph_optimization_level = level.ORT_ENABLE_ALL
    else:
        integers = any(part in model for part in _INTEGERS)
        options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if integers else level.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_prepacking", "0" if effort.fast else "1")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    if weights:
        options.add_external_initializers(list(weights), list(weights.values()))
    disabled = [*_DISABLED, *([] if effort.fold else ["ConstantFolding"])]
    start = partial(
        onnxruntime.InferenceSession, model, options, providers=_with_settings(providers), enable_fallback=0
    )
    try:
        return start(disabled_optimizers=disabled)
    except state.NotImplemented:
        return start(disabled_optimizers=[*disabled, _UNSIGNING])


def _with_settings(providers: Sequence[str]) -> list[Any]:
    """Providers with what they are told: full precision, and no trying out of convolutions, which many short runs of
    many parts of a network never earn back."""
    told = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return [(CUDA, told) if name == CUDA else name for name in providers]


def hold(array: NDArray[Any]) -> OrtValue:
    """Hand an array to onnxruntime, which reads it where it is.

    Raises
    ------
    ModelError
        If it takes no such elements.
    """
    try:
        return OrtValue.ortvalue_from_numpy(array)
    except _FAILURES as error:
        raise ModelError(f"onnxruntime cannot run the network on {array.dtype}: {_explained(error)}") from error


def look_at(value: OrtValue) -> NDArray[Any]:
    """Copy of a tensor that onnxruntime holds.

    Raises
    ------
    ModelError
        If NumPy has no such elements.
    """
    try:
        array: NDArray[Any] = value.numpy()
    except _FAILURES as error:
        raise ModelError(f"onnxruntime cannot run the network to {value.data_type()}: {_explained(error)}") from error
    return array


class Session:
    """A model ready to run.

    Parameters
    ----------
    model : bytes
        Serialised.
    providers : sequence of str
        From `choose_providers`.
    folder : Path, optional
        Where its external data lies.
    weights : mapping of str to ndarray, optional
        Initializers whose data the model says is elsewhere.
    effort : Effort
        What is done ahead.

    Raises
    ------
    LoadError
        If onnxruntime cannot load it; the message holds the first line of its own.
    """

    def __init__(
        self,
        model: bytes,
        providers: Sequence[str],
        folder: Path | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
        *,
        effort: Effort = Effort(),
    ) -> None:
        # onnxruntime reads these where they are: they have to live as long as the session.
        self._weights = {n: OrtValue.ortvalue_from_numpy(array) for n, array in (weights or {}).items()}
        try:
            self._session = _start(model, providers, folder, self._weights, effort=effort)
        except _FAILURES as error:
            raise LoadError(f"onnxruntime cannot load the network: {_explained(error)}") from error
        self.provider: str = self._session.get_providers()[0]
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]
        self.inputs = frozenset(value.name for value in self._session.get_inputs())

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run once.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            Inputs the session does not have are left out.
        outputs : sequence of str, optional
            Names of the outputs wanted, all by default.

        Returns
        -------
        dict of str to ndarray
            Outputs that are not tensors are left out.

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        names = list(self.outputs if outputs is None else outputs)
        if not names:  # which onnxruntime takes for all of them
            return {}
        given = {name: value for name, value in feeds.items() if name in self.inputs}
        try:
            values = self._session.run(names, given)
        except _FAILURES as error:
            raise ModelError(f"onnxruntime cannot run the network: {_explained(error)}") from error
        return {name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}

    def run_each(self, requests: Sequence[Request]) -> Iterator[dict[str, NDArray[Any]]]:
        """Run once per request, whenever the next result is asked for; see `run`."""
        for feeds, outputs in requests:
            yield self.run(feeds, outputs)

    def relay(self, values: Mapping[str, OrtValue], outputs: Sequence[str]) -> dict[str, OrtValue]:
        """Run once on values as onnxruntime holds them, of any type; so are the results.

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        if not outputs:
            return {}
        try:
            found = self._session.run_with_ort_values(list(outputs), dict(values))
        except _FAILURES as error:
            raise ModelError(f"onnxruntime cannot run the network: {_explained(error)}") from error
        return dict(zip(outputs, found, strict=True))


def _first_line(error: Exception) -> str:
    text = " ".join(_CODE.sub("", _PLACE.sub("", str(error))).splitlines()[:1]).strip()
    return text[:400] or type(error).__name__


def _explained(error: Exception) -> str:
    """What onnxruntime says, and what to do."""
    line = _first_line(error)
    if any(word in line for word in ("IR version", "under development", "opset")):
        return f"{line}; export it for an older IR version and operator set, or install a newer onnxruntime"
    return f"{line}; repair or export it so that onnxruntime alone takes it"
