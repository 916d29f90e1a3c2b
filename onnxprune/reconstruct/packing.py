"""Which readers' moments are in memory together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from scipy.cluster.hierarchy import DisjointSet

from onnxprune.coupling import Group
from onnxprune.reconstruct.readers import Reader, by_weight

__all__ = ["MEMORY", "parts", "passes"]

MEMORY = 8e8
"""Bytes that moments may have together."""


def _bytes(reader: Reader) -> float:
    products, columns = reader.units.shape
    return 8.0 * int(products) * int(columns) ** 2


def passes(groups: Sequence[Group], found: Mapping[str, Sequence[Reader]]) -> Iterator[list[Group]]:
    """Yield groups whose readers' moments fit into memory together, in order.

    Parameters
    ----------
    groups : sequence of Group
    found : mapping of str to sequence of Reader
        The readers of each, by its name.
    """
    some: list[Group] = []
    open_readers: dict[str, Reader] = {}
    for group in groups:
        more = {reader.result: reader for reader in found.get(group.name, ())}
        if some and sum(map(_bytes, {**open_readers, **more}.values())) > MEMORY:
            yield some
            some, open_readers = [], {}
        some.append(group)
        open_readers |= more
    if some:
        yield some


def parts(readers: Sequence[Reader], bound: Iterable[Iterable[int]]) -> list[list[Reader]]:
    """Readers in parts whose moments fit into memory together, as far as they may be parted.

    Parameters
    ----------
    readers : sequence of Reader
        Those of one weight stay together.
    bound : iterable of iterables of int
        Nodes of readers that do, too.
    """
    ties = DisjointSet(reader.node for reader in readers)
    alike = [[reader.node for reader in same] for same in by_weight(readers).values()]
    for first, *others in map(list, (*alike, *bound)):
        for node in others:
            ties.merge(first, node)
    tied: dict[int, list[Reader]] = {}
    for reader in readers:
        tied.setdefault(ties[reader.node], []).append(reader)
    found: list[list[Reader]] = []
    room = 0.0
    for some in tied.values():
        needed = sum(map(_bytes, some))
        if not found or needed > room:
            found.append([])
            room = MEMORY
        found[-1] += some
        room -= needed
    return found
