"""Conditions that a comparison is to fail by, as ``agreement<0.97``: what can be named, and what of it is the worst."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from onnxprune.errors import RefusedError, UsageError

__all__ = ["MEASURABLE", "Condition", "parse_condition"]

Facts = Mapping[str, Any]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = re.compile(r"\s*([a-z0-9_]+)(?:@(.+?))?\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def _plain(name: str) -> Callable[[Facts, Facts], float | None]:
    return lambda _, figures: figures[name]


def _after(name: str) -> Callable[[Facts, Facts], float | None]:
    return lambda _, figures: None if figures[name] is None else figures[name][1]


def _drop(name: str) -> Callable[[Facts, Facts], float | None]:
    return lambda _, figures: None if figures[name] is None else 100 * (figures[name][0] - figures[name][1])


OF_OUTPUTS: dict[str, Callable[[Facts, Facts], float | None]] = {
    **{name: _plain(name) for name in ("relative_l2", "cosine", "max_abs", "psnr", "agreement", "softmax_distance")},
    "kl": _plain("kl"),
    "flips": _plain("flips"),
    "top1": _after("top1"),
    "top5": _after("top5"),
    "calibration_error": _after("calibration_error"),
    "perplexity": _after("perplexity"),
    "top1_drop": _drop("top1"),
    "top5_drop": _drop("top5"),
}


def _ratio(name: str) -> Callable[[Facts, Facts], float | None]:
    def found(facts: Facts, network: Facts) -> float | None:
        before, after = facts["original"][name], network[name]
        return None if before is None or after is None or not before else after / before

    return found


def _slower(facts: Facts, network: Facts) -> float | None:
    before, after = facts["original"]["latency"], network["latency"]
    return None if before is None or after is None else after["median_ms"] / before["median_ms"]


def _detected(name: str) -> Callable[[Facts, Facts], float | None]:
    return lambda _, network: None if network["detections"] is None else network["detections"][name]


OF_NETWORKS: dict[str, Callable[[Facts, Facts], float | None]] = {
    "removed": lambda _, network: network["removed"],
    "latency_ratio": _slower,
    "detections_kept": _detected("kept"),
    "detections_new": _detected("new"),
    **{f"{name}_ratio": _ratio(name) for name in ("params", "macs", "bytes")},
}


def _corrupted(told: Callable[[float, float], float]) -> Callable[[Facts], Iterator[tuple[str, float]]]:
    """Means over severities of each kind of corruption, for each network: its own, beside the original's."""

    def found(facts: Facts) -> Iterator[tuple[str, float]]:
        for kind, shares in facts["corruptions"]["kinds"].items():
            for network, own in zip(facts["networks"], shares["networks"], strict=True):
                yield f"{network['name']}, {kind},", told(fmean(shares["original"]), fmean(own))

    return found


def _noisy(facts: Facts) -> Iterator[tuple[str, float]]:
    noise = facts["noise"]
    for network, shares in zip(facts["networks"], noise["networks"], strict=True):
        for level, share in zip(noise["levels"], shares["agreement"], strict=True):
            yield f"{network['name']}, noise ±{level:.2g},", share


def _potentials(facts: Facts) -> Iterator[tuple[str, float]]:
    for name, entry in facts["potential"]["distributions"].items():
        yield f"the family, {name},", entry["potential"]


OF_SHIFTS: dict[str, tuple[str, Callable[[Facts], Iterator[tuple[str, float]]]]] = {
    "corrupted_accuracy": ("corruptions", _corrupted(lambda _, after: after)),
    "corrupted_drop": ("corruptions", _corrupted(lambda before, after: 100 * (before - after))),
    "noise_agreement": ("noise", _noisy),
    "potential": ("potential", _potentials),
    "excess_error": ("potential", lambda facts: iter([("the family", 100 * facts["excess"]["slope"])])),
}
"""What is told of inputs that are shifted: the flag that asks for it, and what it comes to, with where."""
MEASURABLE = (*OF_OUTPUTS, *OF_NETWORKS, *OF_SHIFTS)
"""What conditions can be about."""


@dataclass(frozen=True)
class Condition:
    """What makes a comparison fail.

    Attributes
    ----------
    text : str
        As it was given.
    measure : str
        One of `MEASURABLE`.
    sign : {"<", "<=", ">", ">="}
    bound : float
    output : str or None
        The output that it is about; all of them by default.
    """

    text: str
    measure: str
    sign: str
    bound: float
    output: str | None = None

    @property
    def needs(self) -> str | None:
        """What has to be asked for, so that there is such a figure; None where it is there in any case."""
        return OF_SHIFTS[self.measure][0] if self.measure in OF_SHIFTS else None

    def broken(self, facts: Facts) -> list[str]:
        """Say where it holds, so that the comparison fails.

        Parameters
        ----------
        facts : mapping
            Of a comparison.

        Returns
        -------
        list of str
            One sentence for each network and output.

        Raises
        ------
        RefusedError
            If nothing that was compared has such a figure.
        """
        values = dict(self._values(facts))
        told = {where: value for where, value in values.items() if value is not None}
        if not told and not any(self._broken(facts)):
            raise RefusedError(f"--fail-if '{self.text}': nothing that was compared has a {self.measure}{self._hint()}")
        holds = _OPERATORS[self.sign]
        said = [f"{self.text}: {where} has {value:.6g}" for where, value in told.items() if holds(value, self.bound)]
        return [*said, *self._broken(facts)]

    def _hint(self) -> str:
        where = "" if self.output is None else f" in output '{self.output}'"
        needs = ("top1", "top5", "calibration_error", "perplexity")
        return f"{where}; it needs --labels" if self.measure.startswith(needs) else where

    def _broken(self, facts: Facts) -> Iterator[str]:
        """Name networks of which it cannot be told: there is no figure where an output is not finite or was left out.

        What fails a network that is a little off has to fail one that is broken, too.
        """
        if self.measure not in OF_OUTPUTS:
            return
        for network in facts["networks"]:
            for output, figures in self._outputs(network):
                if figures["broken"]:
                    yield (
                        f"{self.text}: {network['name']}, output '{output}', is not finite in {figures['broken']:,} of "
                        f"{figures['samples']:,} samples where the original is"
                    )
            alike = {output for other in facts["networks"] for output, _ in self._outputs(other)}
            for output in sorted(alike - {output for output, _ in self._outputs(network)}):
                yield f"{self.text}: {network['name']}, output '{output}', could not be compared"

    def _outputs(self, network: Facts) -> Iterator[tuple[str, Facts]]:
        """Outputs of a network that it is about."""
        return (item for item in network["outputs"].items() if self.output in (None, item[0]))

    def _values(self, facts: Facts) -> Iterator[tuple[str, float | None]]:
        if self.measure in OF_SHIFTS:
            yield from OF_SHIFTS[self.measure][1](facts)
            return
        for network in facts["networks"]:
            if self.measure in OF_NETWORKS:
                yield network["name"], OF_NETWORKS[self.measure](facts, network)
                continue
            for output, figures in self._outputs(network):
                yield f"{network['name']}, output '{output}',", OF_OUTPUTS[self.measure](facts, figures)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    UsageError
        If it is none.

    Examples
    --------
    >>> parse_condition("agreement < 0.97").measure
    'agreement'
    >>> parse_condition("top1@logits<0.9").output
    'logits'
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"--fail-if '{text}': write a measure, one of < <= > >=, and a number, as in agreement<0.97")
    if found[1] not in MEASURABLE:
        raise UsageError(f"--fail-if '{text}': there is no measure {found[1]}; choose from {', '.join(MEASURABLE)}")
    if found[2] is not None and found[1] not in OF_OUTPUTS:
        raise UsageError(f"--fail-if '{text}': {found[1]} is of no output; leave @{found[2]} out")
    return Condition(text.strip(), found[1], found[3], float(found[4]), found[2])
