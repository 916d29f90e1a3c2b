"""How an output of one network compares with the same output of another, added up batch by batch.

    relative L2  ‖b − a‖/‖a‖        PSNR  10 log₁₀(range(a)² / mean (b − a)²)
    of classes, p = softmax a, q = softmax b:  ‖p − q‖₂,  KL = Σ p log(p/q),  calibration error Σ n/N |right − sure|

All are of all samples together, so that the size of batches does not matter. What an output is, is told by its shape:
one row of scores per sample (classes), one per position of a picture (pixels) or of a sequence (tokens), or numbers.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On calibration of modern neural networks", ICML 2017, arXiv 1706.04599 (the
calibration error, over 15 bins).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from onnxprune.validate.compare import looks_like_scores

__all__ = [
    "CLASSES",
    "DECISIONS",
    "KINDS",
    "NUMBERS",
    "Pair",
    "answers_of",
    "kind_of",
    "log_shares",
    "rows_of",
]

CLASSES, PIXELS, TOKENS, NUMBERS, DECISIONS = KINDS = ("classes", "pixels", "tokens", "numbers", "decisions")

_LEAST = -745.0
"""Logarithm of the least probability that there is."""
_BINS = 15
_TOP = 5
_WORST = 5
_FEWEST = 5
"""Samples that a class has to have to be among the worst."""
_KEPT = 24
"""Samples that changed their class and are shown, those that the original was surest of."""
_PICTURE = 3
"""Channels that make a picture and no scores."""


def kind_of(value: NDArray[Any], *, samples: int | None = None, sequence: bool = False) -> str:
    """Tell what an output is.

    Parameters
    ----------
    value : ndarray
        Of a batch.
    samples : int, optional
        Samples in the batch; as many as there are rows by default.
    sequence : bool
        Whether the network reads tokens, or other rows of positions.

    Returns
    -------
    str
        One of `KINDS`.
    """
    if value.dtype.kind in "iub":
        return DECISIONS
    if looks_like_scores(value) and samples in (None, len(value)):
        return CLASSES
    if sequence and value.ndim == 3 and value.shape[2] > 1:
        return TOKENS
    if value.ndim >= 4 and value.shape[1] > 1 and (value.shape[1] != _PICTURE or _are_shares(value, 1)):
        return PIXELS
    return NUMBERS


def _are_shares(value: NDArray[Any], axis: int) -> bool:
    """Tell whether numbers are probabilities already."""
    return bool((value >= 0).all() and np.allclose(value.sum(axis=axis, dtype=np.float64), 1.0, atol=1e-3))


def rows_of(value: NDArray[Any], kind: str) -> NDArray[Any]:
    """Scores as rows (n, c): of samples, of the positions of pictures, or of sequences."""
    if kind == CLASSES:
        return value.reshape(len(value), -1)
    if kind == PIXELS:
        value = np.moveaxis(value, 1, -1)
    return value.reshape(-1, value.shape[-1])


def answers_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Classes of rows of scores (n, c); -1 where scores say none: not a number, infinite, or nothing is possible."""
    high = rows.max(axis=1)
    return np.where(np.isfinite(high), rows.argmax(axis=1), -1)


def log_shares(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Logarithms of the probabilities that rows of scores (n, c) stand for; of probabilities their own.

    Rows that say nothing are as unsure as may be.
    """
    wide = rows.astype(np.float64)
    wide[answers_of(rows) < 0] = 0.0
    if _are_shares(wide, 1):
        return np.log(np.maximum(wide, 1e-30))
    return np.maximum(log_softmax(wide, axis=1), _LEAST)


@dataclass
class _Calibration:
    """How sure answers are, and how often they are right, in bins of how sure they are."""

    count: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    sure: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    right: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))

    def add(self, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
        self.count += np.bincount(bins, minlength=_BINS)
        self.sure += np.bincount(bins, confidence, minlength=_BINS)
        self.right += np.bincount(bins, right, minlength=_BINS)

    @property
    def error(self) -> float:
        return float(np.abs(self.right - self.sure).sum() / self.count.sum())


@dataclass
class _Answers:
    """What is known of both networks' answers where rows are scores; a class each for one that is known."""

    rows: int = 0
    same: int = 0
    distance: float = 0.0
    divergence: float = 0.0
    known: int = 0
    right: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    among: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    surprise: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    calibration: tuple[_Calibration, _Calibration] = field(default_factory=lambda: (_Calibration(), _Calibration()))
    by_class: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))

    def add(self, scores: tuple[NDArray[Any], NDArray[Any]], wanted: NDArray[np.int64] | None) -> None:
        """Add rows of scores (n, c) of both, and their classes; negative ones are not known."""
        told = answers_of(scores[0]) >= 0
        if not told.all():
            scores, wanted = (scores[0][told], scores[1][told]), None if wanted is None else wanted[told]
        logs = tuple(log_shares(rows) for rows in scores)
        shares = tuple(np.exp(each) for each in logs)
        answers = tuple(answers_of(rows) for rows in scores)
        self.rows += len(scores[0])
        self.same += int((answers[0] == answers[1]).sum())
        self.distance += float(np.sqrt(np.square(shares[0] - shares[1]).sum(axis=1)).sum())
        self.divergence += float((shares[0] * (logs[0] - logs[1])).sum())
        classes = scores[0].shape[1]
        if len(self.by_class) < classes:
            self.by_class = np.pad(self.by_class, ((0, classes - len(self.by_class)), (0, 0)))
        truth = answers[0] if wanted is None else wanted
        known = np.flatnonzero(truth >= 0)
        truth, hits = truth[known], tuple(each[known] == truth[known] for each in answers)
        for column, hit in enumerate((np.ones(len(truth), bool), *hits)):
            self.by_class[:, column] += np.bincount(truth, hit, minlength=classes).astype(np.int64)
        if wanted is None:
            return
        self.known += len(truth)
        for which, hit in enumerate(hits):
            own, every = logs[which][known, truth], logs[which][known]
            self.right[which] += hit.sum()
            ahead = (every > own[:, None]) | ((every == own[:, None]) & (np.arange(classes) < truth[:, None]))
            self.among[which] += ((ahead.sum(axis=1) < _TOP) & (answers[which][known] >= 0)).sum()
            self.surprise[which] -= own.sum()
            self.calibration[which].add(shares[which][known].max(axis=1), hit)

    def facts(self, *, tokens: bool) -> dict[str, Any]:
        """The figures."""
        found: dict[str, Any] = {
            "agreement": self.same / self.rows,
            "softmax_distance": self.distance / self.rows,
            "kl": self.divergence / self.rows,
            "worst_classes": self._worst(),
        }
        if self.known:
            found["top1"] = (self.right / self.known).tolist()
            found["calibration_error"] = [each.error for each in self.calibration]
            if len(self.by_class) > _TOP:
                found["top5"] = (self.among / self.known).tolist()
            if tokens:
                found["perplexity"] = np.exp(self.surprise / self.known).tolist()
        return found

    def _worst(self) -> list[dict[str, Any]]:
        """Classes that lost most: of right answers, or where nobody knows them, of the original's own."""
        count, before, after = self.by_class.T
        lost = np.where(count >= _FEWEST, (before - after) / np.maximum(count, 1), -np.inf)
        order = np.argsort(-lost, kind="stable")[:_WORST]
        return [
            {
                "class": int(number),
                "samples": int(count[number]),
                "before": float(before[number] / count[number]),
                "after": float(after[number] / count[number]),
            }
            for number in order
            if lost[number] > 0
        ]


class Pair:
    """One output of two networks.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._count, self._gap, self._size, self._dot, self._other = 0, 0.0, 0.0, 0.0, 0.0
        self._furthest, self._low, self._high = 0.0, np.inf, -np.inf
        self._samples, self._broken = 0, 0
        self._answers = _Answers()
        self._flipped: list[dict[str, Any]] = []
        self._flips = 0

    def add(
        self,
        before: NDArray[Any],
        after: NDArray[Any],
        numbers: NDArray[np.int64],
        wanted: NDArray[np.int64] | None = None,
    ) -> None:
        """Add what both made of a batch.

        Parameters
        ----------
        before, after : ndarray (n, …)
            Of one shape.
        numbers : ndarray of int (n,)
            Of the samples.
        wanted : ndarray of int (n,) or (n, positions), optional
            Their classes, or those of their positions.
        """
        self._samples += len(numbers)
        if not before.size:
            return
        self._add_numbers(before, after, len(numbers))
        if self.kind == NUMBERS:
            return
        if self.kind == DECISIONS:
            self._answers.rows += before.size
            self._answers.same += int((before == after).sum())
            return
        scores = tuple(rows_of(each, self.kind) for each in (before, after))
        fits = wanted is not None and wanted.size == len(scores[0])
        classes = wanted.reshape(-1) if wanted is not None and fits else None
        self._answers.add((scores[0], scores[1]), classes)
        if self.kind == CLASSES and len(scores[0]) == len(numbers):
            self._add_flips((scores[0], scores[1]), numbers, classes)

    def _add_numbers(self, before: NDArray[Any], after: NDArray[Any], samples: int) -> None:
        a, b = before.astype(np.float64), after.astype(np.float64)
        finite = np.isfinite(a)
        if not finite.all() or not np.isfinite(b).all():
            # What the original has of these, the other one has, too: a score of minus infinity, for instance.
            lost = (finite != np.isfinite(b)) | (~finite & (a != b) & ~(np.isnan(a) & np.isnan(b)))
            rows = lost.reshape(samples, -1).any(axis=1).sum() if a.shape[:1] == (samples,) else samples * lost.any()
            self._broken += int(rows)
            both = finite & np.isfinite(b)
            a, b = a[both], b[both]
        a, b = a.ravel(), b.ravel()
        if not a.size:
            return
        self._count += a.size
        self._size += float(a @ a)
        self._other += float(b @ b)
        self._dot += float(a @ b)
        self._low, self._high = min(self._low, float(a.min())), max(self._high, float(a.max()))
        b -= a
        self._gap += float(b @ b)
        self._furthest = max(self._furthest, float(np.abs(b).max()))

    def _add_flips(
        self, scores: tuple[NDArray[Any], NDArray[Any]], numbers: NDArray[np.int64], wanted: NDArray[np.int64] | None
    ) -> None:
        answers = [answers_of(rows) for rows in scores]
        differ = (answers[0] != answers[1]) & (answers[0] >= 0)
        self._flips += int(differ.sum())
        changed = np.flatnonzero(differ & (answers[1] >= 0))
        if not changed.size:
            return
        sure = [np.exp(log_shares(rows[changed]).max(axis=1)) for rows in scores]
        for place, at in enumerate(changed):
            self._flipped.append(
                {
                    "sample": int(numbers[at]),
                    "before": int(answers[0][at]),
                    "after": int(answers[1][at]),
                    "confidence": [float(sure[0][place]), float(sure[1][place])],
                    "label": None if wanted is None else int(wanted[at]),
                    "thumbnail": None,
                }
            )
        self._flipped = sorted(self._flipped, key=lambda entry: (-entry["confidence"][0], entry["sample"]))[:_KEPT]

    def facts(self) -> dict[str, Any]:
        """All figures, None for those that do not fit or cannot be told.

        Returns
        -------
        dict
        """
        found: dict[str, Any] = dict.fromkeys(
            ("relative_l2", "cosine", "max_abs", "psnr", "agreement", "softmax_distance", "kl")
        )
        found |= dict.fromkeys(("top1", "top5", "calibration_error", "perplexity"))
        found |= {"kind": self.kind, "worst_classes": [], "flipped": self._flipped, "flips": self._flips}
        found |= {"samples": self._samples, "broken": self._broken}
        if self._count and not self._broken:
            found |= self._distances()
        if self.kind == DECISIONS and self._answers.rows:
            found["agreement"] = self._answers.same / self._answers.rows
        elif self._answers.rows:
            found |= self._answers.facts(tokens=self.kind == TOKENS)
        if self._broken:
            found |= dict.fromkeys(("softmax_distance", "kl", "calibration_error", "perplexity"))
        return found

    def _distances(self) -> Mapping[str, float | None]:
        mean, spread = self._gap / self._count, self._high - self._low
        return {
            "relative_l2": float(np.sqrt(self._gap / self._size)) if self._size else (None if self._gap else 0.0),
            "cosine": self._dot / float(np.sqrt(self._size * self._other)) if self._size and self._other else None,
            "max_abs": self._furthest,
            "psnr": float(10 * np.log10(spread**2 / mean)) if mean and spread else None,
        }
