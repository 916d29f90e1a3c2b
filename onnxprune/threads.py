"""How many threads are of use: as many as there are processors to run them, and one for small matrices.

Handing out the work on a small matrix takes longer than doing it, and many times as long where others use the
processors, too.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps
from math import ceil
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["blas_threads", "processors", "with_one_blas_thread"]

P = ParamSpec("P")
T = TypeVar("T")

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SMALL = 1024


@cache
def processors() -> int:
    """Processors that this process may use: those that it may run on, or as many as its container's quota is worth."""
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(able, ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return able


# Looked up once: libraries are loaded with the modules that use them.
_controller = cache(ThreadpoolController)


def blas_threads(order: int) -> AbstractContextManager[Any]:
    """Use as many threads for products and factors of matrices as their order is worth, within a `with` statement.

    Parameters
    ----------
    order : int
        Of the largest matrix.
    """
    limiter: AbstractContextManager[Any] = _controller().limit(
        limits=1 if order < _SMALL else processors(), user_api="blas"
    )
    return limiter


def with_one_blas_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function use one thread for all matrices but those for which it asks for more."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with blas_threads(1):
            return function(*args, **kwargs)

    return limited
