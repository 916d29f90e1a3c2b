"""How often a network is right: top-1 accuracy before and after, on samples whose classes are known.

    drop = mean of d,   standard error = s / √n,   d = (right before) − (right after): −1, 0 or 1 for each of n samples

with s the standard deviation of d. Both networks answer the same samples: those that are hard for both do not blur the
difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Batch
from onnxprune.calibrate.feeds import Feeds
from onnxprune.errors import DataError
from onnxprune.graph.model import Model
from onnxprune.validate.compare import looks_like_scores
from onnxprune.validate.fidelity import outputs_of

__all__ = ["Accuracy", "Exam", "Scores", "find_scores", "set_exam"]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy of the original and of the pruned network at one output, as shares of the samples.

    Attributes
    ----------
    output : str
    samples : int
    before, after : float
    standard_error : float
        Of the drop; not a number for a single sample.
    """

    output: str
    samples: int
    before: float
    after: float
    standard_error: float

    @property
    def drop(self) -> float:
        """What is lost, negative where accuracy rose."""
        return self.before - self.after

    @classmethod
    def of(cls, output: str, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> "Accuracy":
        """Compare which samples two networks get right.

        Parameters
        ----------
        output : str
        before, after : ndarray of bool (n,)

        Examples
        --------
        >>> right = np.array([True, True, True, False])
        >>> found = Accuracy.of("scores", right, np.array([True, True, False, False]))
        >>> found.drop, found.standard_error
        (0.25, 0.25)
        """
        apart = before.astype(np.float64) - after
        error = float(apart.std(ddof=1) / np.sqrt(apart.size)) if apart.size > 1 else float("nan")
        return cls(output, apart.size, float(before.mean()), float(after.mean()), error)


@dataclass(frozen=True)
class Scores:
    """The output that classes are read off, and how many it tells apart."""

    output: str
    classes: int

    def answers(self, found: NDArray[Any]) -> NDArray[np.int64]:
        """Class that each sample is said to have; −1 where scores are no numbers."""
        rows = found.reshape(-1, self.classes)
        return np.where(np.isnan(rows).any(axis=1), -1, rows.argmax(axis=1))


@dataclass(frozen=True)
class Exam:
    """Samples whose classes are known, and what the original answers.

    Attributes
    ----------
    scores : Scores
    batches : tuple of dict of str to ndarray
    labels : ndarray of int (n,)
        Classes of the samples, in the order of the batches.
    answers : ndarray of int (n,)
        The original's; −1 where scores are no numbers.
    providers : sequence of str
    """

    scores: Scores
    batches: tuple[Feeds, ...]
    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    providers: Sequence[str]

    @property
    def guessed(self) -> bool:
        """Tell whether the original is right no more often than if it knew only how frequent classes are.

        That is within two standard errors.
        """
        answers, classes = self.answers[self.answers >= 0], self.scores.classes
        named, wanted = (np.bincount(each, minlength=classes) for each in (answers, self.labels))
        chance = float(named @ wanted) / self.labels.size**2
        return bool(self.right <= chance + 2.0 * np.sqrt(chance * (1.0 - chance) / self.labels.size))

    def require_right(self, asked: str) -> None:
        """Make sure that there is accuracy to lose.

        Parameters
        ----------
        asked : str
            The flag that asks for it.

        Raises
        ------
        DataError
            If the original is right no more often than by guessing.
        """
        if self.guessed:
            raise DataError(
                f"{asked}: the network is right on {self.right:.1%} of {self.labels.size} samples, as by guessing, so "
                "there is nothing to lose; check that the labels are in the order of the samples and numbered as the "
                "network's classes, and how inputs are scaled"
            )

    @property
    def right(self) -> float:
        """Share of the samples that the original gets right."""
        return float((self.answers == self.labels).mean())

    def accuracy(self, model: Model) -> Accuracy:
        """Judge a pruned network, which is used up.

        Raises
        ------
        ModelError
            If it cannot be run.
        """
        answers = _answers(model, self.scores, self.batches, self.providers)
        return Accuracy.of(self.scores.output, self.answers == self.labels, answers == self.labels)


def _answers(model: Model, scores: Scores, batches: Sequence[Feeds], providers: Sequence[str]) -> NDArray[np.int64]:
    """The class that a network, which is used up, gives each sample; −1 where scores are no numbers."""
    found = outputs_of(model, [scores.output], batches, providers)
    return np.concatenate([scores.answers(each[scores.output]) for each in found])


def find_scores(model: Model, batch: Batch, labels: NDArray[np.int64], providers: Sequence[str]) -> Scores:
    """Find the output that classes are read off: the first that has one row of numbers per sample.

    Parameters
    ----------
    model : Model
        The original, used up.
    batch : Batch
        Some samples.
    labels : ndarray of int
        Classes of all samples.
    providers : sequence of str

    Returns
    -------
    Scores

    Raises
    ------
    DataError
        If there is no such output, or it has no place for one of the classes.
    """
    names = [value.name for value in model.proto.graph.output]
    (found,) = outputs_of(model, names, [batch.feeds], providers)
    shapes = {name: found[name].shape for name in names if name in found}
    fitting = [n for n in shapes if looks_like_scores(found[n]) and len(found[n]) == len(batch.numbers)]
    if not fitting:
        given = ", ".join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
        raise DataError(
            f"no output of the network has one row of scores for each of {len(batch.numbers)} samples, only {given}, "
            "so that accuracy cannot be told; leave the labels out"
        )
    scores = Scores(fitting[0], int(np.prod(shapes[fitting[0]][1:])))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= scores.classes:
        raise DataError(
            f"the labels hold class {high if low >= 0 else low}, but output '{scores.output}' has {scores.classes} "
            f"scores, for the classes 0 to {scores.classes - 1}; number the classes as the network does"
        )
    return scores


def set_exam(
    original: Model, scores: Scores, batches: Sequence[Batch], labels: NDArray[np.int64], providers: Sequence[str]
) -> Exam:
    """Let the original answer samples whose classes are known.

    Parameters
    ----------
    original : Model
        Used up.
    scores : Scores
    batches : sequence of Batch
        The samples.
    labels : ndarray of int
        Classes of all samples, by their numbers.
    providers : sequence of str

    Returns
    -------
    Exam
    """
    feeds = tuple(batch.feeds for batch in batches)
    known = labels[np.concatenate([batch.numbers for batch in batches])]
    return Exam(scores, feeds, known, _answers(original, scores, feeds, providers), providers)
