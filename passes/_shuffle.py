"""Channel shuffles in front of convolutions: where they are, and convolutions that read what was not shuffled.

A shuffle leaves channel i * depth + c of its operand at c * groups + i. In memory that is channels-last, the operand
is an image of `groups` times the columns with `depth` channels each, and a convolution of the shuffled channels is one
of that image whose kernel and strides are `groups` times as wide: no element need move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.graph import NOWHERE, Graph, Node, Origin, Value
from compiler.op import Op
from compiler.ops.conv import Conv
from compiler.ops.layout import channels_last
from compiler.ops.pool import AveragePool, LpPool, MaxPool
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array

TO_IMAGE = (0, 3, 1, 2)  # the inverse of channels_last(4)


class Shuffle(NamedTuple):
    """A shuffle of channels and what is around it.

    layers   reshape, transpose, reshape
    chain    layers that treat each channel alone, between them and the reader
    reader   the convolution of the shuffled channels, in one group or several
    makers   the convolution that computes the channels and layers that treat each alone; empty if they come otherwise
    """

    layers: tuple[Node, Node, Node]
    groups: int
    depth: int
    chain: tuple[Node, ...]
    reader: Node
    makers: tuple[Node, ...]

    @property
    def image(self) -> Value:
        """What is shuffled."""
        x = self.layers[0].inputs[0]
        assert x is not None
        return x

    def cells(self) -> Array:
        """Shuffled channels [groups, groups of the reader, n]: those of each group that each group of the reader
        wants, and -1 for what fills up the smaller ones."""
        parts = self.reader.op.values()["groups"]
        wanted = np.arange(self.groups * self.depth).reshape(self.depth, self.groups).T
        owner = wanted // (wanted.size // parts)
        table = np.full((self.groups, parts, int(max(map(_most, owner)))), -1)
        for i, j in np.ndindex(self.groups, parts):
            found = wanted[i][owner[i] == j]
            table[i, j, : len(found)] = found
        return table


def shuffles(graph: Graph) -> Iterator[Shuffle]:
    """Shuffles of images whose channels meet in a convolution with a constant kernel that alone reads them."""
    for node in graph.of(Transpose):
        found = None if node.is_erased else _shuffling(node)
        if found is None:
            continue
        layers, groups, depth = found
        chain = list(_onward(layers[2].output, groups * depth))
        reader = chain.pop() if chain else layers[2]
        if _reads_columns(reader, depth):
            yield Shuffle(layers, groups, depth, tuple(chain), reader, tuple(_makers(layers[0].inputs[0], groups)))


def _shuffling(node: Node) -> tuple[tuple[Node, Node, Node], int, int] | None:
    """The three layers around a transpose, if they swap the two parts of an image's channels; with both numbers."""
    middle, last = node.inputs[0], _only_reader(node.output)
    first = None if middle is None else middle.node
    if first is None or last is None or middle is None or _only_reader(middle) is None:
        return None
    x = first.inputs[0] if isinstance(first.op, Reshape) and isinstance(last.op, Reshape) else None
    if x is None or x.type.rank != 4 or not x.type.is_static or last.output.type.shape != x.type.shape:
        return None
    dims, perm = middle.type.dims, node.op.values()["perm"]
    axes = [i for i in range(len(dims)) if dims[i] != 1]
    moved = [i for i in perm if dims[i] != 1]
    at = next((k for k, (a, b) in enumerate(zip(axes, moved, strict=True)) if a != b), None)
    if at is None or [*axes[:at], axes[at + 1], axes[at], *axes[at + 2 :]] != moved:
        return None
    before, groups, depth = prod(dims[i] for i in axes[:at]), dims[axes[at]], dims[axes[at + 1]]
    if (before, groups * depth) != x.type.dims[:2]:
        return None
    return (first, node, last), groups, depth


def _only_reader(v: Value) -> Node | None:
    return next(iter(v.users)) if sum(v.users.values()) == 1 and not v.n_out else None


def _fixed(node: Node) -> bool:
    """Whether the kernel and bias of a convolution are constant."""
    return all(v is None or v.data is not None for v in node.inputs[1:])


def _reads_columns(node: Node, depth: int) -> bool:
    """Whether a convolution can read the groups of channels as columns: each group of its own has a share of each, and
    its kernel can be widened; in one group it need not be."""
    w, op = node.inputs[1] if len(node.inputs) > 1 else None, node.op
    if not isinstance(op, Conv) or w is None or _depthwise(node) or not _fixed(node):
        return False
    return op.groups == 1 or (depth >= op.groups and (w.type.dims[3] == 1 or op.dilations[1] == 1))


def _depthwise(node: Node) -> bool:
    w = node.inputs[1] if isinstance(node.op, Conv) else None
    return w is not None and w.type.shape[:2] == (node.op.values()["groups"], 1)


def _each_alone(node: Node) -> bool:
    """Whether a layer treats each channel alone, all in one way or with constants of its own for each."""
    if isinstance(node.op, Conv):
        return _depthwise(node) and _fixed(node)
    plain = node.op.elementwise or isinstance(node.op, AveragePool | LpPool | MaxPool)
    return plain and len(node.inputs) == len(node.outputs) == 1


def _onward(v: Value, channels: int) -> Iterator[Node]:
    """The layers that treat each of the channels of a value alone, one after another, and the first one behind."""
    node = _only_reader(v)
    while node is not None:
        yield node
        if not _each_alone(node) or node.output.type.shape[1] != channels:
            return
        node = _only_reader(node.output)


def _makers(v: Value | None, groups: int) -> Iterator[Node]:
    """The convolution that computes `groups` groups of channels and the functions of elements behind it, in order;
    nothing if they come otherwise, or if other channels of zeros beside them would not stay numbers."""
    found: list[Node] = []
    while v is not None and v.node is not None and _only_reader(v) is not None:
        node = v.node
        found.insert(0, node)
        if isinstance(node.op, Conv):
            if _fixed(node) and groups % node.op.groups == 0:
                yield from found
            return
        if not node.op.elementwise or len(node.inputs) > 1 or not _finite_at_zero(node):
            return
        v = node.inputs[0]


def _finite_at_zero(node: Node) -> bool:
    result = node.op.evaluate(np.zeros(1, node.output.type.dtype.numpy))
    return bool(np.isfinite(np.asarray(result, np.float64)).all())


def _most(owners: Array) -> int:
    return int(np.bincount(owners).max())


def unshuffled(graph: Graph, s: Shuffle) -> tuple[Value, list[Node]] | None:
    """The result of the reader, computed from what was not shuffled, and the layers added for it; None if some groups
    need more channels than others and the channels cannot be computed in the order that this takes."""
    cells, new = s.cells(), _New(graph, s.reader)
    order = cells.reshape(-1)
    v = s.image
    if (order < 0).any():
        if not (s.makers and all(isinstance(n.op, Conv) or _finite_at_zero(n) for n in s.chain)):
            return None
        x = s.makers[0].inputs[0]
        assert x is not None
        v = new.copies(x, s.makers, np.where(order < 0, -1, order % s.groups * s.depth + order // s.groups))
    v = new.copies(v, s.chain, order)
    origin = NOWHERE.union(s.reader.origin, *(n.origin for n in s.layers))
    op, w = s.reader.op, s.reader.inputs[1]
    assert isinstance(op, Conv) and w is not None and w.data is not None
    if op.groups == 1:
        weight = w.data[:, order]
    else:
        n, _, high, wide = v.type.dims
        merged = Reshape(shape=(n, high, wide * s.groups, order.size // s.groups))
        for part in (Transpose(perm=channels_last(4)), merged, Transpose(perm=TO_IMAGE)):
            v = new.layer(part, v, origin=origin)
        weight = _widened(w.data, cells)
        pads = tuple(p * (s.groups if i % 2 else 1) for i, p in enumerate(op.pads))
        op = op.with_(strides=(op.strides[0], op.strides[1] * s.groups), pads=pads)
    kernel = graph.const(np.ascontiguousarray(weight), w.name, w.origin)
    return new.layer(op, v, kernel, *s.reader.inputs[2:], origin=origin), new.added


class _New:
    """Layers put in front of another one."""

    def __init__(self, graph: Graph, before: Node) -> None:
        self.graph = graph
        self.before = before
        self.added: list[Node] = []

    def layer(self, op: Op, *operands: Value | None, origin: Origin) -> Value:
        (v,) = self.graph.add(op, *operands, before=self.before, origin=origin)
        assert v.node is not None
        self.added.append(v.node)
        return v

    def copies(self, v: Value, nodes: Sequence[Node], order: Array) -> Value:
        """Layers once more on another value, their channels in another order, with zeros where that is -1."""
        for node in nodes:
            op, constants = node.op, list(node.inputs[1:])
            if isinstance(op, Conv):
                op = op.with_(groups=order.size) if _depthwise(node) else op
                for i, c in enumerate(constants):
                    if c is not None:
                        constants[i] = self.graph.const(_picked(np.asarray(c.data), order), c.name, c.origin)
            v = self.layer(op, v, *constants, origin=node.origin)
        return v


def _picked(data: Array, order: Array) -> Array:
    """Rows of an array in another order, zeros where that is -1."""
    rows = data[order]
    rows[order < 0] = 0
    return rows


def _widened(w: Array, cells: Array) -> Array:
    """A kernel [M,C/parts,KH,KW] of shuffled channels as one [M,n,KH,KW*groups] of cells [groups,parts,n]."""
    groups, parts, n = cells.shape
    filters, inner, high, wide = w.shape
    own = np.where(cells < 0, -1, cells - np.arange(parts)[:, None] * inner)
    blocks = w.reshape(parts, filters // parts, inner, high, wide)
    out = np.zeros((parts, filters // parts, n, high, wide, groups), w.dtype)
    for i, j in np.ndindex(groups, parts):
        out[j, ..., i] = _picked(blocks[j].swapaxes(0, 1), own[i, j]).swapaxes(0, 1)
    return out.reshape(filters, n, high, wide * groups)
