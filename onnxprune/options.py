"""What a user can ask for, checked before any file is opened."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from os import PathLike
from typing import Any

from onnxprune.budget import ALLOCATIONS
from onnxprune.calibrate.scale import Scale, wished
from onnxprune.coupling.costs import MEASURES
from onnxprune.errors import UsageError
from onnxprune.methods import METHODS
from onnxprune.methods.sparsity import SPARSIFIERS, Sparsifier
from onnxprune.ops.trace import Opened

__all__ = ["LAYER_ORDERS", "REFITS", "Options", "names"]

REFITS = ("auto", "on", "off")
LAYER_ORDERS = ("together", "forward", "backward")
# ONNX keeps sizes in 64 bits; what exceeds 32 is a slip of the finger, and no tensor that a machine could hold.
_LARGEST_SIZE = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked of a prune.

    Attributes
    ----------
    ratio : float or None
        Share of the measure to remove, between 0 and 1; with `max_drop` the largest to try. None only with that, or
        where a plan is replayed.
    max_drop : float or None
        Points of top-1 accuracy that may be lost on samples held out; the largest ratio that keeps to it is looked for.
    measure : {"params", "macs", "channels"}
    method : str
        A row of `METHODS`, or where `sparse` of `SPARSIFIERS`.
    sparse : bool
        Write zeros in place of single weights: shapes stay, and the ratio is the share of zeros.
    rank : int or None
        Dimensions that the method reduces points to, for those that do; None leaves it to the method.
    layer_order : {"together", "forward", "backward"}
        Whether every group is ranked by the weights as they are, or, once it is known how many channels of each stay,
        anew from the first to the last or from the last to the first, each without what went before.
    allocation : {"auto", "uniform", "global", "error", "accuracy"}
        "auto" is the method's own, else by errors where data tells them, else global; "accuracy" thins every group to
        one accuracy.
    reinit : bool
        Draw all weights of the pruned network anew, for training from scratch.
    refit : {"auto", "on", "off"}
        Whether the readers' weights are solved anew on calibration data: "auto" does so unless the method brings
        weights of its own.
    distill : {"auto", "on", "off"}
        Whether all weights are then moved together towards the original's answers: "auto" does so where readers are
        solved anew and it costs little.
    include, exclude : tuple of str
        Node or tensor names, or regular expressions that match a whole name.
    prune_normalized : bool
        Open the channels that LayerNormalization and its kin take statistics over.
    head_dim : bool
        Prune positions within attention heads, equally many of each, in place of whole heads.
    state : tuple of str
        "IN:OUT", an input and the output that is handed back there: units may go though they have slots in both.
    round_to : "off", "auto" or int
        Kept counts go up to a multiple of this; "auto" picks one for the element type.
    min_keep : float or None
        Channels of each group that stay at least, a share where below one; None is 1, and for "global" 10 % unless the
        ratio needs less.
    input_shapes : dict
        Shapes for inputs with symbolic dimensions.
    providers : tuple of str
        onnxruntime providers for validation; empty picks CUDA where it works.
    seed : int
    input_bound : float or None
        Largest magnitude of the network's inputs, from which is found how large what each layer reads can be: scores of
        the coreset methods and certificates are then for that, and not for vectors of length 1.
    certify : bool
        Measure the error of every thinned group, whatever that costs.
    best_effort : bool
        Take the nearest reachable share where the ratio cannot be reached.
    calib : Any
        Calibration data; None makes some up.
    samples : int or None
        How many samples of `calib` are used at most; None is 1,024.
    synthetic : int or None
        How many samples are made up; None is as many as take little time.
    input_range : str
        What black and white become for the network, as "0,1"; empty is found out.
    mean, std : tuple of float
        What pictures are normalised by; empty is found out.
    labels : Any
        Classes of the calibration samples.
    """

    ratio: float | None = None
    max_drop: float | None = None
    measure: str = "params"
    method: str = "auto"
    sparse: bool = False
    rank: int | None = None
    layer_order: str = "together"
    allocation: str = "auto"
    refit: str = "auto"
    distill: str = "auto"
    reinit: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prune_normalized: bool = False
    head_dim: bool = False
    state: tuple[str, ...] = ()
    round_to: int | str = "off"
    min_keep: float | None = None
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    seed: int = 0
    input_bound: float | None = None
    certify: bool = False
    best_effort: bool = False
    calib: Any = None
    samples: int | None = None
    synthetic: int | None = None
    input_range: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: Any = None

    def __post_init__(self) -> None:
        """Check every value by itself.

        Raises
        ------
        UsageError
        """
        if self.ratio is not None and not (_is_number(self.ratio) and 0 < self.ratio < 1):
            raise UsageError(f"--ratio {self.ratio}: give the share to remove, a number between 0 and 1, both excluded")
        if self.max_drop is not None and not (_is_number(self.max_drop) and 0 <= self.max_drop < 100):
            raise UsageError(
                f"--max-drop {self.max_drop}: give points of accuracy that may be lost, from 0 to below 100"
            )
        _one_of("--measure", self.measure, MEASURES)
        if self.sparse:
            self._check_sparse()
            return
        if self.method in SPARSIFIERS and self.method not in METHODS:
            raise UsageError(f"--method {self.method} is for single weights: add --sparse, or choose another")
        _one_of("--method", self.method, METHODS)
        if self.rank is not None and METHODS[self.method].at_rank is None:
            able = ", ".join(name for name, recipe in METHODS.items() if recipe.at_rank is not None)
            raise UsageError(f"--rank {self.rank}: --method {self.method} reduces nothing to a rank; {able} do")
        if self.rank is not None and not (_is_whole(self.rank) and self.rank >= 1):
            raise UsageError(f"--rank {self.rank}: give a whole number of dimensions from 1 on")
        _one_of("--layer-order", self.layer_order, LAYER_ORDERS)
        if self.layer_order != "together" and METHODS[self.method].sees_all:
            able = ", ".join(name for name, recipe in METHODS.items() if not recipe.sees_all)
            raise UsageError(
                f"--layer-order {self.layer_order}: --method {self.method} looks at the network as a whole; choose "
                f"from {able}"
            )
        _one_of("--allocation", self.allocation, ("auto", *ALLOCATIONS))
        _one_of("--refit", self.refit, REFITS)
        _one_of("--distill", self.distill, REFITS)
        asked = {"--refit on": self.refit == "on", "--distill on": self.distill == "on"}
        for flag, meant in (asked | {"--max-drop": self.max_drop is not None}).items():
            if self.reinit and meant:
                raise UsageError(f"{flag} is about weights that --reinit throws away: leave one of them out")
        if self.distill == "on" and not self.refits:
            raise UsageError(
                "--distill on begins where readers have been solved anew: give --refit on, too, or leave it out"
            )
        if self.round_to not in ("off", "auto") and not (_is_whole(self.round_to) and int(self.round_to) >= 1):
            raise UsageError(f"--round-to {self.round_to}: give off, auto, or a whole number from 1 on")
        if self.min_keep is not None and not (_is_number(self.min_keep) and self.min_keep > 0):
            raise UsageError(f"--min-keep {self.min_keep}: give a number of channels, or a share between 0 and 1")
        if self.input_bound is not None and not (_is_number(self.input_bound) and self.input_bound > 0):
            raise UsageError(f"--input-bound {self.input_bound}: give the largest magnitude of an input, above 0")
        self._check_data()
        self._check_names()

    def _check_sparse(self) -> None:
        """See that nothing is asked for that single weights know nothing of."""
        _one_of("--method", self.method, ("auto", *SPARSIFIERS))
        if self.ratio is None:
            raise UsageError("--sparse needs --ratio R, the share of weights that become zero")
        meant = {"ratio", "method", "sparse", "calib", "labels", "samples", "synthetic", "input_range", "mean", "std"}
        meant |= {"include", "exclude", "input_shapes", "providers", "seed"}
        for item in fields(self):
            if item.name not in meant and getattr(self, item.name) != item.default:
                raise UsageError(
                    f"--{item.name.replace('_', '-')} is about channels, and --sparse zeroes single weights: leave one "
                    "of them out"
                )
        self._check_data()
        self._check_names()

    def _check_names(self) -> None:
        if not (_is_whole(self.seed) and self.seed >= 0):
            raise UsageError(f"--seed {self.seed}: give a whole number from 0 on")
        for name, shape in self.input_shapes.items():
            if not all(_is_whole(size) and 0 < size < _LARGEST_SIZE for size in shape):
                raise UsageError(f"--input-shape {name}:{shape}: give sizes from 1 to {_LARGEST_SIZE - 1}")
        for state in self.state:
            if not isinstance(state, str):
                raise UsageError(f"--state takes IN:OUT, names of an input and an output, not {state!r}")
        for pattern in (*self.include, *self.exclude):
            if not isinstance(pattern, str):
                raise UsageError(f"--include and --exclude take names, not {pattern!r}")
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise UsageError(
                    f"{pattern!r} is no regular expression ({error}); put a backslash before characters of a name that "
                    "mean something in one"
                ) from error

    def _check_data(self) -> None:
        for flag, value in (("--samples", self.samples), ("--synthetic", self.synthetic)):
            if value is not None and not (_is_whole(value) and value >= 1):
                raise UsageError(f"{flag} {value}: give a whole number from 1 on")
        if self.calib is not None and self.synthetic is not None:
            raise UsageError("--calib gives data and --synthetic makes some up: leave one of them out")
        if self.calib is None and self.max_drop is not None:
            raise UsageError(
                f"--max-drop {self.max_drop:g} needs samples with classes: give them with --calib DATA, and --labels "
                "FILE where they bring none"
            )
        if self.allocation == "accuracy" and (self.calib is None or not self.refits):
            raise UsageError(
                "--allocation accuracy thins groups as far as accuracy allows, with readers solved anew: give samples "
                "with classes by --calib DATA, and leave --refit on"
            )
        if self.allocation == "accuracy" and (METHODS[self.method].weighs or self.layer_order != "together"):
            able = ", ".join(name for name, recipe in METHODS.items() if not recipe.weighs)
            raise UsageError(
                "--allocation accuracy tries what stays of each group before it is known how much of the others does, "
                f"which --method {self.method} with --layer-order {self.layer_order} draws or ranks anew after that; "
                f"choose from {able}, and leave --layer-order together"
            )
        for flag, other in (("--samples", self.samples), ("--labels", self.labels)):
            if self.calib is None and other is not None:
                raise UsageError(f"{flag} is about the data of --calib: give those too, or leave it out")
        wished(span=self.input_range, mean=self.mean, std=self.std)

    @property
    def sparsifier(self) -> Sparsifier:
        """How single weights are chosen."""
        return SPARSIFIERS["synflow" if self.method == "auto" else self.method]

    @property
    def scale(self) -> Scale | None:
        """What pictures are fed as; None is found out."""
        return wished(span=self.input_range, mean=self.mean, std=self.std)

    @property
    def wants_data(self) -> bool:
        """Tell whether anything is to be learnt from data."""
        return self.refits or self.allocation == "error" or METHODS[self.method].needs_data

    @property
    def examines(self) -> bool:
        """Tell whether accuracy is asked for."""
        return self.labels is not None or self.needs_labels

    @property
    def needs_labels(self) -> bool:
        """Tell whether something is decided by accuracy."""
        return self.max_drop is not None or self.allocation == "accuracy"

    @property
    def refits(self) -> bool:
        """Tell whether readers are to be solved anew."""
        return self.refit == "on" or (self.refit == "auto" and not self.reinit and not METHODS[self.method].weighs)

    @property
    def distills(self) -> bool:
        """Tell whether weights are to be distilled, where that can be done."""
        return self.distill != "off" and not self.sparse and not self.reinit and self.refits

    @property
    def opened(self) -> Opened:
        """What is pinned by default and shall not be."""
        return Opened(normalized=self.prune_normalized, inside_heads=self.head_dim)

    @property
    def spread(self) -> str:
        """How the share is spread, by request or by the method; empty where it is left to what is known."""
        return METHODS[self.method].allocation if self.allocation == "auto" else self.allocation

    @property
    def keep_at_least(self) -> tuple[float, ...]:
        """Floors to try, the first that the ratio can be reached with counts; the last is the lowest."""
        if self.min_keep is not None:
            return (self.min_keep,)
        return (0.1, 0.05, 0.02, 1.0) if self.spread != "uniform" else (1.0,)

    def request(self) -> dict[str, Any]:
        """Return what was asked for, as plain data for plan and report."""
        return {
            "ratio": None if self.ratio is None else float(self.ratio),
            "max_drop": None if self.max_drop is None else float(self.max_drop),
            "measure": self.measure,
            "method": self.method,
            "sparse": bool(self.sparse),
            "rank": None if self.rank is None else int(self.rank),
            "layer_order": self.layer_order,
            "allocation": self.allocation,
            "refit": self.refit,
            "distill": self.distill,
            "reinit": bool(self.reinit),
            "include": list(self.include),
            "exclude": list(self.exclude),
            "prune_normalized": bool(self.prune_normalized),
            "head_dim": bool(self.head_dim),
            "state": list(self.state),
            "round_to": self.round_to if isinstance(self.round_to, str) else int(self.round_to),
            "min_keep": None if self.min_keep is None else float(self.min_keep),
            "input_shapes": {name: [int(size) for size in shape] for name, shape in self.input_shapes.items()},
            "seed": int(self.seed),
            "certify": bool(self.certify),
            "input_bound": None if self.input_bound is None else float(self.input_bound),
            "best_effort": bool(self.best_effort),
            "calib": None if self.calib is None else _named(self.calib),
            "samples": None if self.samples is None else int(self.samples),
            "synthetic": None if self.synthetic is None else int(self.synthetic),
            "input_range": self.input_range,
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "labels": None if self.labels is None else _named(self.labels),
        }


def _named(source: Any) -> str:
    """Say where data come from: a path, or the type of a value."""
    return str(source) if isinstance(source, str | PathLike) else type(source).__name__


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _one_of(flag: str, value: str, choices: Iterable[str]) -> None:
    known = list(choices)
    if value not in known:
        raise UsageError(f"{flag} {value}: choose from {', '.join(known)}")


def names(value: str | Iterable[str]) -> tuple[str, ...]:
    """Take one name for a sequence of one."""
    return (value,) if isinstance(value, str) else tuple(value)
