"""What a network costs as a function of how many channels each group keeps; plain arrays, no network.

A cost is a sum of terms, each a coefficient times the sizes of a few axes; the size of an axis is a fixed number plus,
for every group, the kept channels times how often each occurs on it:

    cost(k) = constant + Σ_t c_t · Π_a (f_ta + Σ_g m_tag · k_g)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

__all__ = ["Axis", "Cost", "Term", "make_cost"]


@dataclass(frozen=True)
class Axis:
    """Positions along one axis: `fixed` that never go, and `times[i]` for every channel of group `groups[i]`."""

    fixed: float
    groups: tuple[int, ...] = ()
    times: tuple[float, ...] = ()


@dataclass(frozen=True)
class Term:
    """A coefficient times the sizes of some axes."""

    coefficient: float
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Cost:
    """A cost, ready to be evaluated.

    Attributes
    ----------
    constant : float
    coefficients : ndarray (t,)
    fixed : ndarray (t, a)
        Axes are padded with ones.
    matrices : tuple of csr_array (t, g)
        One per place of an axis in a term.
    """

    constant: float
    coefficients: NDArray[np.float64]
    fixed: NDArray[np.float64]
    matrices: tuple[csr_array, ...]

    def value(self, counts: NDArray[np.int64]) -> float:
        """Cost where group g keeps `counts[g]` channels.

        Examples
        --------
        >>> import numpy as np
        >>> cost = make_cost([Term(1.0, (Axis(0.0, (0,), (1.0,)), Axis(10.0)))], constant=5.0, groups=1)
        >>> cost.value(np.array([3]))
        35.0
        """
        product = self.coefficients.copy()
        for place, matrix in enumerate(self.matrices):
            product *= self.fixed[:, place] + matrix @ counts.astype(np.float64)
        return self.constant + float(product.sum())

    def worth(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cost that goes with all channels of a group, where every other group keeps `counts`; (g,).

        Examples
        --------
        >>> import numpy as np
        >>> terms = [Term(1.0, (Axis(0.0, (0,), (1.0,)), Axis(2.0, (0, 1), (1.0, 1.0))))]
        >>> make_cost(terms, constant=5.0, groups=2).worth(np.array([3, 4])).tolist()
        [27.0, 12.0]
        """
        wanted = counts.astype(np.float64)
        gone = np.zeros(len(counts))
        if not self.matrices:
            return gone
        # Where a group occurs in a term at all, on whichever axes.
        places = coo_array(sum((abs(matrix) for matrix in self.matrices[1:]), start=abs(self.matrices[0])))
        rows, groups = places.coords
        whole, rest = self.coefficients[rows], self.coefficients[rows]
        for place, matrix in enumerate(self.matrices):
            sizes = (self.fixed[:, place] + matrix @ wanted)[rows]
            own = np.asarray(matrix[rows, groups]).ravel() * wanted[groups]
            whole, rest = whole * sizes, rest * (sizes - own)
        np.add.at(gone, groups, whole - rest)
        return gone

    def marginal(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Slope of the cost: what one more channel of each group costs, to first order; (g,)."""
        sizes = [self.fixed[:, p] + matrix @ counts.astype(np.float64) for p, matrix in enumerate(self.matrices)]
        slope = np.zeros(len(counts))
        for place, matrix in enumerate(self.matrices):
            others = self.coefficients.copy()
            for other, size in enumerate(sizes):
                if other != place:
                    others = others * size
            slope += matrix.T @ others
        return slope


def make_cost(terms: Sequence[Term], *, constant: float, groups: int) -> Cost:
    """Collect terms into arrays.

    Parameters
    ----------
    terms : sequence of Term
    constant : float
        What costs the same whatever is kept.
    groups : int
        Number of groups.
    """
    width = max((len(term.axes) for term in terms), default=0)
    fixed = np.ones((len(terms), width))
    matrices = []
    for place in range(width):
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for row, term in enumerate(terms):
            if place < len(term.axes):
                axis = term.axes[place]
                fixed[row, place] = axis.fixed
                rows += [row] * len(axis.groups)
                columns += axis.groups
                values += axis.times
        places = np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)
        matrices.append(coo_array((np.array(values), places), shape=(len(terms), groups)).tocsr())
    return Cost(constant, np.array([term.coefficient for term in terms], dtype=np.float64), fixed, tuple(matrices))
