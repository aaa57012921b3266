"""Where each channel comes from: images as lists of channels of other images, through layers that only move channels.

A `Base` is an image that some layer computes, or that is to be put together. Each of its channels has a number of its
own in the graph. What concat, split, slice, gather, reshape and transpose do to channels is done to arrays of these
numbers instead: no data is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops.conv import Conv
from compiler.tensor import Array, TensorType
from passes._channel_moves import moved
from passes._each_channel import each_channel

BATCH = 1 << 40  # more than there are channels: number n * BATCH + c is channel c in image n of the batch
NONE = np.zeros(0, np.int64)


class Base:
    """An image whose channels are numbered start, start + 1, ...

    width    how many they are
    order    bases of one order lie with their channels in one order; it says which, by number
    value    the image as the graph has it; None if it is to be put together
    parts    channels that it is put together from, in the order of its own numbers; empty if a layer computes it
    """

    __slots__ = ("order", "parts", "start", "value", "width")

    def __init__(self, start: int, width: int, order: int, value: Value | None, parts: Array) -> None:
        self.start = start
        self.width = width
        self.order = order
        self.value = value
        self.parts = parts


class Reading(NamedTuple):
    """An operand that can be read with its channels in any order: channel j of it is channel of[j] of the base."""

    operand: int
    base: Base
    of: Array


class Channels:
    """The channels of the images of a graph, followed from layer to layer.

    bases      in the order in which they are computed
    numbers    images and what is between them -> numbers [leading axes] of their channels; the other axes are spatial
    made       results of layers -> their base and, for each of its channels, the channel of the base
    readings   layers that can read channels in any order
    movers     layers that only move channels
    fixed      for each order, whether it must stay as it is in the graph
    total      how many numbers there are
    """

    def __init__(self, graph: Graph) -> None:
        self.bases: list[Base] = []
        self.numbers: dict[Value, Array] = {}
        self.made: dict[Value, tuple[Base, Array]] = {}
        self.readings: dict[Node, Reading] = {}
        self.movers: set[Node] = set()
        self.fixed: list[bool] = []
        self.total = 0
        self._starts: list[int] = []
        self._joined: dict[bytes, Base] = {}
        for v in graph.inputs:
            self._computed(v, self._new_order(fixed=True))
        for node in graph.nodes:
            self._follow(node)
        for v in (*graph.outputs, *_unread(graph)):
            self._fix(v)
        for b in reversed(self.bases):
            if self.fixed[b.order]:
                self._fix_sources(b.parts)

    @property
    def joined(self) -> list[Base]:
        """What is to be put together, in an order that is free."""
        return [b for b in self.bases if b.value is None and not self.fixed[b.order]]

    def owners(self, numbers: Array) -> Array:
        """The index of the base of each channel."""
        return np.searchsorted(self._starts, numbers % BATCH, "right") - 1

    def sources(self, numbers: Array) -> list[Base]:
        """The bases that channels belong to, each once."""
        return [self.bases[i] for i in np.unique(self.owners(numbers)).tolist()]

    def type(self, base: Base) -> TensorType:
        """Element type and shape of a base, but for the number of its channels."""
        while base.value is None:
            base = self.sources(base.parts[:1])[0]
        return base.value.type

    def _fix(self, v: Value) -> None:
        """Keep the order of what a value is made of."""
        if v in self.numbers:
            self._fix_sources(self.numbers[v])

    def _fix_sources(self, numbers: Array) -> None:
        for base in self.sources(numbers):
            self.fixed[base.order] = True

    def _new_order(self, fixed: bool) -> int:
        self.fixed.append(fixed)
        return len(self.fixed) - 1

    def _new_base(self, width: int, order: int, value: Value | None, parts: Array) -> Base:
        base = Base(self.total, width, order, value, parts)
        self.bases.append(base)
        self._starts.append(base.start)
        self.total += width
        return base

    def _computed(self, v: Value, order: int, of: Array | None = None) -> None:
        """The result of a layer, whose channel j is channel of[j] (j if it is not given) of its order."""
        if _is_image(v.type):
            width = v.type.dims[1]
            of = np.arange(width) if of is None else of
            base = self._new_base(width, order, v, NONE)
            self.made[v] = base, of
            self.numbers[v] = _in_batch(v.type, base.start + of)

    def _follow(self, node: Node) -> None:
        places = moved(node, self.numbers)
        if places is not None:
            self.movers.add(node)
            self.numbers.update(zip(node.outputs, places, strict=True))
            return
        free, alone = _is_free(node), each_channel(node)
        at = 0 if free else alone
        reading = None if at is None else self._read(node, at)
        if reading is not None:
            self.readings[node] = reading
        for i, v in enumerate(node.inputs):
            if v is not None and (reading is None or i != reading.operand):
                self._fix(v)
        if reading is not None and not free:
            self._computed(node.output, reading.base.order, reading.of)
            return
        for v in node.outputs:
            self._computed(v, self._new_order(fixed=not free))

    def _read(self, node: Node, operand: int) -> Reading | None:
        """An operand as a base, put together if no layer computes these channels; None if it is not channels."""
        x = node.inputs[operand]
        if x is None or x not in self.numbers:
            return None
        if x in self.made:
            return Reading(operand, *self.made[x])
        numbers = self._row(x)
        if numbers is None:
            return None
        parts = np.sort(numbers)
        base = self._joined.get(parts.tobytes())
        if base is None:
            base = self._new_base(len(parts), self._new_order(fixed=False), None, parts)
            own = base.start + np.arange(base.width)
            self._joined |= {parts.tobytes(): base, own.tobytes(): base}
        of = np.searchsorted(parts, numbers)
        self.numbers[x] = _in_batch(x.type, base.start + of)
        return Reading(operand, base, of)

    def _row(self, x: Value) -> Array | None:
        """The channels of an image, if they are different ones, and the same for all of the batch."""
        if not _is_image(x.type) or self.numbers[x].size != prod(x.type.dims[:2]):
            return None
        table = self.numbers[x].reshape(x.type.dims[:2])
        row = table[0]
        if (table != _in_batch(x.type, row)).any() or row.max() >= BATCH or len(np.unique(row)) < len(row):
            return None
        types = (self.type(b) for b in self.sources(row))
        return row if all(t.with_shape((*t.shape[:1], len(row), *t.shape[2:])) == x.type for t in types) else None


def _in_batch(t: TensorType, row: Array) -> Array:
    """The numbers [N,C] of images whose channels are the same."""
    return np.asarray(np.arange(t.dims[0])[:, None] * BATCH + row)


def _unread(graph: Graph) -> Iterator[Value]:
    """Results of layers of which no result is read."""
    return (v for node in graph.nodes if not any(v.is_read for v in node.outputs) for v in node.outputs)


def _is_image(t: TensorType) -> bool:
    return t.rank >= 3 and t.is_static and t.size > 0


def _is_free(node: Node) -> bool:
    """Whether a layer takes and gives channels in any order, with its weights reordered."""
    constant = all(v is None or v.data is not None for v in node.inputs[1:])
    return isinstance(node.op, Conv) and node.op.groups == 1 and constant
