"""How many channels each group keeps, so that a share of the cost is removed.

All allocations are one mechanism: every channel that may go gets a key, channels go in ascending order of their keys,
and the number that go is found by bisection on the cost. *Uniform*: the j-th channel to go from a group of n has the
key (j + ½)/n, so that all groups lose the same share. *Global*: its key is its score, over the group's mean score
unless scores mean the same in all groups. *Error*: its key is what its going adds to the group's loss, over what it
saves; the order that minimises the sum of all losses at any cost. Savings depend on what all other groups keep, so keys
and counts are found in turns. *Accuracy*: its key is the accuracy that is lost once it is gone, so that all groups are
thinned to one accuracy.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import lcm

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from onnxprune.budget.cost import Cost

__all__ = ["ALLOCATIONS", "Allocation", "Item", "allocate", "floor_of"]

ALLOCATIONS = ("uniform", "global", "error", "accuracy")
# Below the first distance from the wanted share the order is followed to the letter; beyond the second it is refused.
_NEAR, _POINT = 0.0025, 0.01
# Steps that a group may depart from the allocation's order so that the share is met; more where it would be refused.
_ASTRAY = 2
_FARTHER = (4, 8, 16)
_PAIRED = 12
# Times that keys are made anew for the counts that the keys before led to.
_TURNS = 6
# What a group that is gone counts as where accuracies are the same.
_EVENLY = 1e-6


@dataclass(frozen=True)
class Item:
    """What the budget knows of a group.

    Attributes
    ----------
    size : int
        Number of channels n.
    step : int
        Channels go in multiples of this.
    scores : ndarray (n,)
        Scores in the order in which channels are kept: the last one goes first.
    floor : int
        How many have to stay at least.
    losses : ndarray (n + 1,) or None
        What is lost where the first j stay, as a share of what there is; None where nobody knows.
    ceiling : int or None
        How many stay at most; None is all. What exceeds it goes first.
    comparable : bool
        Whether scores mean the same in all groups, so that no mean has to be taken out.
    """

    size: int
    step: int
    scores: NDArray[np.float64]
    floor: int
    losses: NDArray[np.float64] | None = None
    comparable: bool = False
    ceiling: int | None = None

    @property
    def forced(self) -> int:
        """Steps that go in any case."""
        return 0 if self.ceiling is None else (self.size - self.ceiling) // self.step


@dataclass(frozen=True)
class Allocation:
    """How many stay, and what that removes.

    Attributes
    ----------
    counts : ndarray of int (g,)
    removed : float
        Share of the cost that goes.
    reachable : float
        The largest share that could go.
    """

    counts: NDArray[np.int64]
    removed: float
    reachable: float


def floor_of(size: int, step: int, min_keep: float) -> int:
    """Return how many channels of a group stay at least: `min_keep` of them, or that share where it is below one."""
    wanted = min_keep * size if min_keep < 1 else min_keep
    steps = max(1, -(-int(np.ceil(wanted - 1e-9)) // step))
    return min(size, steps * step)


def _keys(item: Item, allocation: str, saved: float) -> NDArray[np.float64]:
    """Keys of the steps that may go, in the order in which they go (ascending); a channel saves about so much."""
    steps = (item.size - item.floor) // item.step
    if allocation == "error":
        return _errors(item, steps) / saved if saved > 0 else np.full(steps, np.inf)
    evenly: NDArray[np.float64] = (np.arange(steps) + 0.5) * item.step / item.size
    if allocation == "uniform" or (allocation == "accuracy" and item.losses is None):
        return evenly
    if allocation == "accuracy":
        assert item.losses is not None
        left = item.size - item.step * np.arange(1, steps + 1)
        # Where nothing is lost yet, groups are thinned alike.
        return np.asarray(item.losses[left] + _EVENLY * evenly)
    mean = 1.0 if item.comparable else float(item.scores.mean())
    scores = item.scores / mean if mean > 0 else np.ones(item.size)
    by_step = scores[: item.size - item.size % item.step].reshape(-1, item.step).mean(axis=1)[::-1]
    return np.maximum.accumulate(by_step)[:steps]


def _errors(item: Item, steps: int) -> NDArray[np.float64]:
    """What each of so many steps adds to the loss per channel, in the order in which they go, made to ascend."""
    losses = item.losses
    if losses is None:  # as if what scores add up to were what is lost
        total = float(item.scores.sum())
        gained = np.cumsum(item.scores) / total if total > 0 else np.arange(1, item.size + 1) / item.size
        losses = 1.0 - np.concatenate([[0.0], gained])
    added = -np.diff(losses)
    by_step = added[: item.size - item.size % item.step].reshape(-1, item.step).mean(axis=1)[::-1][:steps]
    ascending: NDArray[np.float64] = isotonic_regression(by_step).x if by_step.size else by_step
    return ascending


def _rounded(counts: NDArray[np.int64], items: Sequence[Item], multiple: int) -> NDArray[np.int64]:
    """Kept counts go up to the multiple."""
    if multiple <= 1:
        return counts
    sizes = np.array([item.size for item in items])
    unit = np.array([lcm(item.step, multiple) for item in items])
    rounded: NDArray[np.int64] = np.minimum(-(-counts // unit) * unit, sizes)
    return rounded


def allocate(
    cost: Cost, items: Sequence[Item], ratio: float, *, allocation: str = "uniform", multiple: int = 1
) -> Allocation:
    """Find how many channels each group keeps so that the share `ratio` of the cost is removed.

    Parameters
    ----------
    cost : Cost
    items : sequence of Item
        One per group.
    ratio : float
        Share of the cost to remove; what cannot be reached is not an error here.
    allocation : {"uniform", "global", "error", "accuracy"}
    multiple : int
        Kept counts go up to a multiple of this.

    Returns
    -------
    Allocation
        The nearest to `ratio` that the allocation's order passes through; where that is not near, some steps of the
        order are passed over, or two groups depart from it by up to two; by more where it would be missed by a point.
    """
    search, low = _found(cost, items, ratio, allocation, multiple)
    start = int(search.least.sum())
    nearest = search.nearest((search.after(number) for number in (low - 1, low) if number >= start), ratio)
    if multiple == 1 and low > start and search.gap(nearest, ratio) > _NEAR:
        nearest = search.nearest((nearest, search.filled(low - 1, ratio)), ratio)
    for astray, far in ((_ASTRAY, _NEAR), *((astray, _POINT) for astray in _FARTHER)):
        if multiple == 1 and low < len(search.groups) and search.gap(nearest, ratio) > far:
            nearest = search.nearest(search.around(nearest, astray), ratio)
    return Allocation(search.kept(nearest), search.share(nearest), search.share(search.after(len(search.groups))))


def _found(cost: Cost, items: Sequence[Item], ratio: float, allocation: str, multiple: int) -> tuple["_Search", int]:
    """The order in which steps go, and how many of them have to."""
    counts = np.array([item.size for item in items], dtype=np.int64)
    search = _Search(cost, items, (allocation, counts), multiple)
    low = search.enough(ratio)
    for _ in range(_TURNS if allocation == "error" else 0):
        # Half-way between what was paid for and what is kept: they would take turns otherwise.
        counts = (counts + search.kept(search.after(low))) // 2
        search = _Search(cost, items, (allocation, counts), multiple)
        low = search.enough(ratio)
    return search, low


class _Search:
    """The order in which steps go from all groups, and what is left after some of them."""

    def __init__(self, cost: Cost, items: Sequence[Item], by: tuple[str, NDArray[np.int64]], multiple: int) -> None:
        """`by` are the allocation, and the counts at which savings are valued."""
        self.cost = cost
        self.items = items
        self.multiple = multiple
        self.sizes = np.array([item.size for item in items], dtype=np.int64)
        self.steps = np.array([item.step for item in items], dtype=np.int64)
        self.total = cost.value(self.sizes)
        saved = cost.marginal(by[1])
        keys = [_keys(item, by[0], float(price)) for item, price in zip(items, saved, strict=True)]
        self.least = np.array([item.forced for item in items], dtype=np.int64)
        for item, own in zip(items, keys, strict=True):
            own[: item.forced] = -np.inf
        order = np.argsort(np.concatenate(keys) if keys else np.empty(0), kind="stable")
        self.groups = np.repeat(np.arange(len(items)), [len(key) for key in keys])[order]

    def enough(self, ratio: float) -> int:
        """How many steps have to go for a share, or all."""
        low, high = int(self.least.sum()), len(self.groups)
        while low < high:
            middle = (low + high) // 2
            if self.share(self.after(middle)) < ratio:
                low = middle + 1
            else:
                high = middle
        return low

    def after(self, number: int) -> NDArray[np.int64]:
        """Steps gone from each group after so many in all."""
        return np.bincount(self.groups[:number], minlength=len(self.items))

    def kept(self, gone: NDArray[np.int64]) -> NDArray[np.int64]:
        """Channels of each group that stay."""
        return _rounded(self.sizes - gone * self.steps, self.items, self.multiple)

    def share(self, gone: NDArray[np.int64]) -> float:
        """Share of the cost that has gone."""
        return 1.0 - self.cost.value(self.kept(gone)) / self.total

    def gap(self, gone: NDArray[np.int64], ratio: float) -> float:
        """Distance from the wanted share."""
        return abs(self.share(gone) - ratio)

    def nearest(self, choices: Iterable[NDArray[np.int64]], ratio: float) -> NDArray[np.int64]:
        """Return the first of the nearest choices."""
        return min(choices, key=lambda gone: self.gap(gone, ratio))

    def around(self, gone: NDArray[np.int64], astray: int) -> Iterator[NDArray[np.int64]]:
        """Yield what is some steps away in two groups: what is coarse in each may be fine in both."""
        yield gone
        most = self.after(len(self.groups))
        weights = self.cost.marginal(self.kept(gone)) * self.steps
        # A network of many groups has fine ones among them; some of each weight will do.
        order = np.argsort(weights, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(order) - 1, _PAIRED).round().astype(int))]
        for first, second in combinations(map(int, chosen), 2):
            for near, far in product(range(-astray, astray + 1), repeat=2):
                moved = gone.copy()
                moved[first] += near
                moved[second] += far
                if (moved >= self.least).all() and (moved <= most).all():
                    yield moved

    def filled(self, number: int, ratio: float) -> NDArray[np.int64]:
        """Go on after so many steps, passing over groups whose next step is one too many, by two in a group at most."""
        gone = self.after(number)
        most = gone + _ASTRAY
        full: set[int] = set()
        for group in map(int, self.groups[number:]):
            if group in full or gone[group] >= most[group]:
                continue
            gone[group] += 1
            if self.share(gone) > ratio:
                gone[group] -= 1
                full.add(group)
                if len(full) == len(self.items):
                    break
        return gone
