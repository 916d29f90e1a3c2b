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
_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


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
    """

    text: str
    measure: str
    sign: str
    bound: float

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
        found = list(self._values(facts))
        if not found:
            raise RefusedError(
                f"--fail-if '{self.text}': no output that was compared has a {self.measure}; top1, top5, "
                "calibration_error and perplexity need --labels"
            )
        holds = _OPERATORS[self.sign]
        return [f"{self.text}: {where} has {value:.6g}" for where, value in found if holds(value, self.bound)]

    def _values(self, facts: Facts) -> Iterator[tuple[str, float]]:
        if self.measure in OF_SHIFTS:
            yield from OF_SHIFTS[self.measure][1](facts)
            return
        for network in facts["networks"]:
            if self.measure in OF_NETWORKS:
                value = OF_NETWORKS[self.measure](facts, network)
                if value is not None:
                    yield network["name"], value
                continue
            for output, figures in network["outputs"].items():
                value = OF_OUTPUTS[self.measure](facts, figures)
                if value is not None:
                    yield f"{network['name']}, output '{output}',", value


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
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"--fail-if '{text}': write a measure, one of < <= > >=, and a number, as in agreement<0.97")
    if found[1] not in MEASURABLE:
        raise UsageError(f"--fail-if '{text}': there is no measure {found[1]}; choose from {', '.join(MEASURABLE)}")
    return Condition(text.strip(), found[1], found[2], float(found[3]))
