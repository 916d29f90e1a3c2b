"""The plan: which channels of which group stay, and by what their readers' weights are multiplied; readable JSON."""

import json
import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling import Coupling
from onnxprune.errors import RefusedError

__all__ = ["GroupPlan", "Plan"]

_FORMAT = 1


@dataclass(frozen=True)
class GroupPlan:
    """What stays of one group.

    Attributes
    ----------
    name : str
    channels : int
        How many channels the group has.
    kept : tuple of int
        Those that stay, ascending.
    factors : tuple of float
        What the readers' weights of each kept channel are multiplied by; empty for nothing.
    notes : tuple of str
        What the method has to say about its choice, for the report.
    draws : int
        Independent draws, fixed in advance, that the factors come from; 0 where they do not.
    negative : tuple of float
        What the negative ones of these weights are multiplied by, where they are sampled apart: `factors` is for the
        positive ones then, and of a channel's two factors one may be zero. Empty where all have the same.
    """

    name: str
    channels: int
    kept: tuple[int, ...]
    factors: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    draws: int = 0
    negative: tuple[float, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Tell whether the numbers fit together: kept channels ascend within the group, factors are positive."""
        bounds = (-1, *self.kept, self.channels)
        ascending = all(first < second for first, second in pairwise(bounds))
        pairs = list(zip_longest(self.factors, self.negative or self.factors, fillvalue=-1.0))
        positive = all(any(pair) and all(0 <= factor < math.inf for factor in pair) for pair in pairs)
        return bool(self.kept) and ascending and positive and len(pairs) in (0, len(self.kept))

    @property
    def by_sign(self) -> NDArray[np.float64]:
        """Factors of the readers' positive and negative weights of what is kept; (2, kept)."""
        factors = self.factors or (1.0,) * len(self.kept)
        return np.array([factors, self.negative or factors])


@dataclass(frozen=True)
class Plan:
    """What stays of a network.

    Attributes
    ----------
    source : str
        SHA-256 of the file that the plan was made for, empty for a network in memory.
    groups : tuple of GroupPlan
    request : dict
        The options that led to it, for the reader.
    """

    source: str
    groups: tuple[GroupPlan, ...]
    request: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str, site: str = "plan") -> "Plan":
        """Read a plan back.

        Parameters
        ----------
        text : str
        site : str
            What to call it in a message.

        Returns
        -------
        Plan

        Raises
        ------
        RefusedError
            If the text is no plan.
        """
        remedy = "write one with --plan FILE"
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != _FORMAT:
                found = data.get("format") if isinstance(data, dict) else None
                raise RefusedError(f"{site} has plan format {found!r}, this version reads {_FORMAT}; {remedy}")
            groups = tuple(_group(entry) for entry in data["groups"])
            return Plan(_checked(data["source"], str), groups, _checked(data["request"], dict))
        except KeyError as error:
            raise RefusedError(f"{site} is no plan: it has no {error}; {remedy}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise RefusedError(f"{site} is no plan ({error}); {remedy}") from error

    def check(self, coupling: Coupling) -> None:
        """Make sure that the plan fits a network; groups that it does not name stay whole.

        Raises
        ------
        RefusedError
            If a group is missing, has another size, or would be left empty or unbalanced.
        """
        remedy = "make the plan anew, with the same --include and --exclude"
        if len({planned.name for planned in self.groups}) < len(self.groups):
            raise RefusedError(f"the plan names a group twice; {remedy}")
        for planned in self.groups:
            group = coupling.group_of.get(planned.name)
            if group is None:
                raise RefusedError(f"the plan names the group {planned.name!r}, which this network lacks; {remedy}")
            if planned.channels != group.size or not planned.is_sound:
                raise RefusedError(
                    f"the plan keeps {len(planned.kept)} of {planned.channels} channels of the group {planned.name!r}, "
                    f"which has {group.size} in this network, or names some twice, out of order or with a factor that "
                    f"is not positive; {remedy}"
                )
            if group.rows is not None:
                rows = np.bincount(group.rows[list(planned.kept)], minlength=group.step)
                if len(set(rows.tolist())) > 1:
                    raise RefusedError(
                        f"the plan keeps unequal numbers of channels of {planned.name!r} in the groups of a "
                        f"convolution, heads of attention, or directions of a recurrent layer; {remedy}"
                    )

    @property
    def changes_nothing(self) -> bool:
        """Tell whether all channels stay as they are."""
        return all(len(planned.kept) == planned.channels and not planned.factors for planned in self.groups)

    def counts(self, coupling: Coupling) -> NDArray[np.int64]:
        """Channels that stay of each group of a network; (g,)."""
        kept = {planned.name: len(planned.kept) for planned in self.groups}
        return np.array([kept.get(group.name, group.size) for group in coupling.groups], dtype=np.int64)

    def removed_units(self, coupling: Coupling) -> NDArray[np.int64]:
        """Numbers of all units that go."""
        gone = [
            np.delete(coupling.group_of[planned.name].units, np.array(planned.kept, dtype=np.int64))
            for planned in self.groups
        ]
        return np.concatenate(gone) if gone else np.empty(0, dtype=np.int64)

    def unit_factors(self, coupling: Coupling) -> NDArray[np.float64] | None:
        """Factor of every unit's readers, None where nothing is multiplied.

        Factors that depend on a weight's sign are none of them: they are written into the weights beforehand (`signs`).
        """
        scaled = [planned for planned in self.groups if planned.factors and not planned.negative]
        if not scaled:
            return None
        factors = np.ones(int(coupling.unit_of.max(initial=-1)) + 1)
        for planned in scaled:
            factors[coupling.group_of[planned.name].units[list(planned.kept)]] = planned.factors
        return factors

    def scales(self, coupling: Coupling) -> NDArray[np.float64]:
        """Factors of the positive and the negative weights that read each unit, zero where it goes; (2, units)."""
        scales = np.ones((2, int(coupling.unit_of.max(initial=-1)) + 1))
        for planned in self.groups:
            units = coupling.group_of[planned.name].units
            scales[:, units] = 0.0
            scales[:, units[list(planned.kept)]] = planned.by_sign
        return scales


def _group(entry: Any) -> GroupPlan:
    kept = tuple(_checked(position, int) for position in _checked(entry["kept"], list))
    factors, negative = (
        tuple(float(_checked(factor, (int, float))) for factor in _checked(found, list))
        for found in (entry["factors"], entry.get("negative", []))
    )
    notes = tuple(_checked(note, str) for note in _checked(entry.get("notes", []), list))
    draws = _checked(entry.get("draws", 0), int)
    name, channels = _checked(entry["name"], str), _checked(entry["channels"], int)
    return GroupPlan(name, channels, kept, factors, notes, draws, negative)


def _checked(value: Any, kind: type | tuple[type, ...]) -> Any:
    """Return a value of JSON if it is of the right type."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is not what belongs there")
    return value
