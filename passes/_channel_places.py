"""The order in which layers that read some of the channels of an image find these side by side."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array
from passes._channels import Base, Channels


class Run(NamedTuple):
    """Channels start ... stop - 1, as they lie, of an image."""

    base: Base
    start: int
    stop: int

    @property
    def width(self) -> int:
        """How many channels."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether these are all channels of the image."""
        return self.width == self.base.width


class Places:
    """Where each channel lies: `lie[number]` is the first number of its base plus its place in the image."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.lie = np.zeros(channels.total, np.int64)
        fates = _fates(channels)
        own = dict(channels.made.values())
        chosen: dict[int, Array] = {}
        for b in channels.bases:
            if channels.fixed[b.order]:
                place = _inverse(own[b]) if b in own else np.arange(b.width)
            else:
                if b.order not in chosen:
                    sources = np.arange(b.width) if b in own else self.lie[b.parts]
                    chosen[b.order] = _inverse(np.lexsort((sources, fates.get(b.order, np.zeros(b.width)))))
                place = chosen[b.order]
            self.lie[b.start : b.start + b.width] = b.start + place

    def places(self, base: Base) -> Array:
        """The place of each channel of a base."""
        return self.lie[base.start : base.start + base.width] - base.start

    def order(self, base: Base) -> Array:
        """The channel of a base at each place."""
        return _inverse(self.places(base))

    def runs(self, base: Base) -> list[Run]:
        """What a base is put together from, in its order."""
        parts = base.parts[self.order(base)]
        lie, owners = self.lie[parts], self.channels.owners(parts)
        ends = np.flatnonzero((np.diff(lie) != 1) | (np.diff(owners) != 0)) + 1
        found = []
        for first, last in zip((0, *ends.tolist()), (*ends.tolist(), base.width), strict=True):
            source = self.channels.bases[int(owners[first])]
            start = int(lie[first]) - source.start
            found.append(Run(source, start, start + last - first))
        return found


def _inverse(permutation: Array) -> Array:
    out = np.empty(len(permutation), np.int64)
    out[permutation] = np.arange(len(permutation))
    return out


def _fates(channels: Channels) -> dict[int, Array]:
    """For each order that is read in part, a number for each channel: equal for those that go the same way all through
    the graph, and smallest for those that the first such layer reads."""
    columns: dict[int, list[Array]] = defaultdict(list)
    for b in reversed(channels.bases):
        if b.value is not None:
            continue
        fate = _distinct(columns[b.order]) if columns[b.order] else np.zeros(b.width, np.int64)
        owners = channels.owners(b.parts)
        for source in channels.sources(b.parts):
            mine = owners == channels.owners(np.array([source.start]))
            column = np.full(source.width, b.width)
            column[b.parts[mine] - source.start] = fate[mine]
            columns[source.order].append(column)
    return {order: _distinct(found) for order, found in columns.items() if found}


def _distinct(columns: list[Array]) -> Array:
    """Rows of a table, numbered in their order; the last column counts most."""
    return np.unique(np.stack(columns[::-1], 1), axis=0, return_inverse=True)[1].reshape(-1)
