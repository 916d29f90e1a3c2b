"""What a user can ask of a comparison, checked before any file is opened."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxprune.calibrate.scale import Scale, wished
from onnxprune.errors import UsageError
from onnxprune.evaluate import Condition
from onnxprune.options import Options

__all__ = ["Comparison"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is asked of a comparison.

    Attributes
    ----------
    data, labels : Any
        Inputs, and classes of them or of their positions; None makes inputs up.
    samples : int or None
        How many are used at most.
    synthetic : int or None
        How many are made up.
    input_range : str
    mean, std : tuple of float
        What pictures are fed as; found out by default.
    input_shapes : dict
        For inputs with symbolic dimensions.
    providers : tuple of str
    seed : int
    corruptions, noise, potential : bool
        Whether networks are looked at on corrupted pictures, with noise, and by how far one may prune.
    features : bool
        Whether networks are shown the pixels that others go by.
    inputs, draws : int
        How many inputs get noise, and how often.
    shown : int
        How many inputs networks are shown pixels of.
    control : Path or None
        A network that was trained apart, beside which noise and pixels are looked at.
    fail_if : tuple of Condition
        What makes it fail.
    making : Options or None
        How networks are made where none is given and the potential is looked for; the ratio is not looked at.
    trials : int
        How many are made at most.
    """

    data: Any = None
    labels: Any = None
    samples: int | None = None
    synthetic: int | None = None
    input_range: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    seed: int = 0
    corruptions: bool = False
    noise: bool = False
    potential: bool = False
    features: bool = False
    inputs: int = 200
    draws: int = 10
    shown: int = 50
    control: Path | None = None
    fail_if: tuple[Condition, ...] = ()
    making: Options | None = None
    trials: int = 12

    def __post_init__(self) -> None:
        """Check every value by itself.

        Raises
        ------
        UsageError
        """
        if self.data is None and self.labels is not None:
            raise UsageError("--labels is about the data of --data: give those too, or leave it out")
        for flag, value in (
            ("--inputs", self.inputs),
            ("--draws", self.draws),
            ("--shown", self.shown),
            ("--trials", self.trials),
        ):
            if value < 1:
                raise UsageError(f"{flag} {value}: give a whole number from 1 on")
        if self.making is not None and not self.potential:
            raise UsageError("name the files to compare, or add --potential to look for how far one may prune")
        if self.control is not None and not (self.noise or self.features):
            raise UsageError("--control is what --noise and --features compare with: add one, or leave it out")
        for condition in self.fail_if:
            if condition.needs is not None and not getattr(self, condition.needs):
                raise UsageError(f"--fail-if '{condition.text}' is about what --{condition.needs} finds: add that")
        try:  # what both commands are asked for is checked in one place
            Options(
                calib=self.data,
                samples=self.samples,
                synthetic=self.synthetic,
                labels=self.labels,
                input_range=self.input_range,
                mean=self.mean,
                std=self.std,
                input_shapes=self.input_shapes,
                seed=self.seed,
            )
        except UsageError as error:
            raise UsageError(str(error).replace("--calib", "--data")) from error

    @property
    def shifts(self) -> bool:
        """Tell whether anything is asked for that inputs are shifted for."""
        return self.corruptions or self.noise or self.potential or self.features

    @property
    def files(self) -> list[Path]:
        """Files that are read beside the networks."""
        named = [self.data, self.labels, self.control, None if self.making is None else self.making.calib]
        found = []
        for file in named:
            with suppress(OSError):  # of a name that is too long, for instance: said by whoever reads it
                found += [Path(file)] if isinstance(file, str | Path) and Path(file).is_file() else []
        return found

    @property
    def scale(self) -> Scale | None:
        """What pictures are fed as; None is found out."""
        return wished(span=self.input_range, mean=self.mean, std=self.std)

    def request(self) -> dict[str, Any]:
        """What was asked for, as plain data."""
        return {
            "data": None if self.data is None else str(self.data) if isinstance(self.data, str | Path) else "given",
            "labels": self.labels is not None,
            "samples": self.samples,
            "synthetic": self.synthetic,
            "input_range": self.input_range,
            "mean": list(self.mean),
            "std": list(self.std),
            "input_shapes": {name: list(shape) for name, shape in self.input_shapes.items()},
            "corruptions": self.corruptions,
            "noise": self.noise,
            "potential": self.potential,
            "features": self.features,
            "inputs": self.inputs,
            "draws": self.draws,
            "shown": self.shown,
            "control": None if self.control is None else str(self.control),
            "seed": self.seed,
            "making": None if self.making is None else self.making.request(),
            "trials": self.trials,
            "fail_if": [condition.text for condition in self.fail_if],
        }
