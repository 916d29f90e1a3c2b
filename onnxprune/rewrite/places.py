"""Where what stays of a weight was before: the way back from a pruned network to the one that it was made of."""

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling import Coupling
from onnxprune.graph.index import Index
from onnxprune.rewrite.cut import cuts_of, is_private, sorted_by_cut
from onnxprune.rewrite.plan import Plan

__all__ = ["places"]


def places(index: Index, coupling: Coupling, plan: Plan) -> dict[str, NDArray[np.int64] | None]:
    """Find the elements that stay of each weight, as `apply` lays them.

    Parameters
    ----------
    index, coupling
        The network before.
    plan : Plan

    Returns
    -------
    dict of str to ndarray of int or None
        Their places in the weight as one row, in the shape that they have afterwards; None where all stay. Weights that
        are cut in several ways are left out, as are those that are multiplied.
    """
    kept = coupling.kept(plan.removed_units(coupling))
    found: dict[str, NDArray[np.int64] | None] = dict.fromkeys(index.weights)
    for name, uses in cuts_of(coupling, kept, plan.unit_factors(coupling)).items():
        (_, cut), several = uses[0], len(sorted_by_cut(uses)) > 1
        if all(other.is_whole for _, other in uses):
            continue
        if several or cut.factors or not is_private(index, name, [use for use, _ in uses]):
            del found[name]
            continue
        sizes = tuple(index.weights[name].dims)
        found[name] = cut.gather(np.arange(int(np.prod(sizes))).reshape(sizes))
    return found
