"""Knows when the L∞ coreset's bound holds behind a ReLU too: the mild assumption, as a condition on the centre.

With the enclosing ellipsoid's centre c, its half extent h(x) = max_{y ∈ E} yᵀx − cᵀx and John's factor D,

    max_P pᵀx ≤ cᵀx + h(x),      max_S qᵀx ≥ cᵀx + h(x) / D

so that max_P φ(pᵀx) ≤ C max_S φ(qᵀx), φ(z) = max(z, 0), wherever

    cᵀx ≥ −τ h(x),   τ = (C / D − 1) / (C − 1)                 (the assumption; also wherever cᵀx ≤ −h(x): all is zero)

It holds for *every* x where zero lies in c + τ (E − c), that is cᵀ M c ≤ τ² with E's matrix M: no input enters.
Where it does not, inputs
with cᵀx well below zero can have a positive pᵀx and no positive qᵀx: the bound is then not promised.
"""

from dataclasses import dataclass

import numpy as np

from onnxprune.coreset.linf import LinfCoreset

__all__ = ["CentreCondition", "centre_condition"]

# What float64 may leave of zero's distance from a flat through it, in units of the points' extent.
_IN_FLAT = 1e-9


@dataclass(frozen=True)
class CentreCondition:
    """How far zero is from the ellipsoid's centre, and how far it may be.

    Attributes
    ----------
    distance : float
        √(cᵀ M c): 0 at the centre, 1 on the ellipsoid's surface; infinite where the points' flat misses zero.
    allowed : float
        τ.
    factor : float
        C, for which the bound is asked.
    """

    distance: float
    allowed: float
    factor: float

    @property
    def holds(self) -> bool:
        """Whether the bound holds behind a ReLU for every input."""
        return self.distance <= self.allowed


def centre_condition(found: LinfCoreset) -> CentreCondition:
    """Check the mild assumption for an L∞ coreset, with the paper's factor C = 2 r^1.5.

    Parameters
    ----------
    found : LinfCoreset
        Not a centred one.

    Returns
    -------
    CentreCondition

    References
    ----------
    M. Tukan, L. Mualem, A. Maalouf, arXiv 2209.08554, section 3 (the assumption on the weights); the condition is
    derived above.

    Examples
    --------
    >>> from onnxprune.coreset.linf import linf_coreset
    >>> points = np.random.default_rng(0).standard_normal((500, 3))
    >>> centre_condition(linf_coreset(points)).holds, centre_condition(linf_coreset(points + 9.0)).holds
    (True, False)
    """
    rank = found.rank
    factor = max(2.0 * rank**1.5, 2.0)
    if found.ellipsoid is None:
        return CentreCondition(0.0 if not found.span.origin.any() else np.inf, 0.0, factor)
    spread = found.ellipsoid.spread
    allowed = (factor / spread - 1.0) / (factor - 1.0)
    axes, origin = found.span.axes, found.span.origin
    place = np.linalg.lstsq(axes.T, -origin)[0]
    if np.abs(place @ axes + origin).max() > _IN_FLAT * np.abs(axes).max():
        return CentreCondition(np.inf, allowed, factor)
    offset = place - found.ellipsoid.centre
    return CentreCondition(float(np.sqrt(offset @ found.ellipsoid.shape @ offset)), allowed, factor)
