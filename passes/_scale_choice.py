"""Which factors scale the channels of a graph, and the weights that take them up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node
from compiler.tensor import Array
from passes._fitted import data_of, set_data
from passes._repair import Channels
from passes._scales import End, Factors

LARGEST = 2.0**10  # factor: channels that are never used keep room for numbers that were not seen


class Wanted:
    """What is known of each factor of a graph: how far the numbers that it scales reach, as shares of the largest of
    their value, and the largest weight that they are multiplied with."""

    def __init__(self, graph: Graph, factors: Factors, channels: Mapping[Any, Channels]) -> None:
        self.factors = factors
        self.reach = np.zeros(factors.count)
        self.weight = np.zeros(factors.count)
        for v, c in channels.items():
            if v in factors.of:
                self._see(factors.of[v], np.maximum(np.abs(c.low), np.abs(c.high)), c.axis)
        for end in factors.takes:
            if not isinstance(end.node.op, ops.BatchNorm):
                peaks = _input_peaks(end)
                np.maximum.at(self.weight, factors.classes[end.ids.reshape(-1)], peaks / max(peaks.max(), 1e-30))

    def _see(self, ids: Array, peaks: Array, axis: int) -> None:
        if peaks.size != ids.size or ids.shape[axis] != ids.size or not peaks.max() > 0:
            return  # factors of several axes are seen where they are read
        np.maximum.at(self.reach, self.factors.classes[ids.reshape(-1)], peaks / peaks.max())

    def scales(self, alpha: float | Array, normed: bool, balanced: bool) -> Array:
        """A number for each factor: reach^-alpha, if `balanced` times weight^(1-alpha); for those that a normalisation
        or attention has part in, or for the others."""
        f = self.factors
        free = ~f.fixed & (f.normed if normed else ~f.normed) & (self.reach > 0)
        made = np.ones(f.count)
        made[free] = self.reach[free] ** -(alpha if isinstance(alpha, float) else alpha[free])
        if balanced and isinstance(alpha, float):
            made[free] *= np.maximum(self.weight[free], 1 / LARGEST) ** (1 - alpha)
            made[free] /= max(np.exp(np.log(made[free]).mean()), 1e-30) if free.any() else 1.0
        return np.asarray(np.clip(made, 1 / LARGEST, LARGEST)[f.classes])


def scale(graph: Graph, scales: Array) -> int:
    """Scale the channels of a graph of which `scales` are the factors; returns how many constants changed."""
    factors = Factors(graph)
    changed = 0
    for end in factors.takes:
        changed += _take(graph, end, scales[end.ids])
    for end in factors.gives:
        changed += _give(graph, end, scales[end.ids])
    return changed


def _give(graph: Graph, end: End, s: Array) -> int:
    """Let the result of a layer be scaled."""
    node, op = end.node, end.node.op
    if (s == 1).all():
        return 0
    if end.operand is None:
        return _insert(graph, node, s)
    if isinstance(op, ops.Add | ops.Sub):
        _times(graph, node, end.operand, s)
        return 1
    flat = s.reshape(-1)
    if isinstance(op, ops.BatchNorm | ops.LayerNorm | ops.RmsNorm | ops.Mul):
        for i in (end.operand,) if isinstance(op, ops.Mul) else range(1, min(3, len(node.inputs))):
            if node.inputs[i] is not None:
                _times(graph, node, i, flat)
        return 1
    _times(graph, node, 1, _results(node, flat))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        _times(graph, node, 2, flat)
    return 1


def _take(graph: Graph, end: End, s: Array) -> int:
    """Let a layer read what is scaled, and give the same."""
    node = end.node
    if (s == 1).all():
        return 0
    if isinstance(node.op, ops.BatchNorm):
        _times(graph, node, 1, 1 / s.reshape(-1))
        _times(graph, node, 3, s.reshape(-1))
    else:
        _times(graph, node, 1, 1 / _inputs(node, s))
    return 1


def _insert(graph: Graph, node: Node, s: Array) -> int:
    """Multiply the result of a layer by a constant."""
    old = node.output
    constant = graph.const(s.reshape(-1).astype(old.type.dtype.numpy))
    readers = list(old.users)
    after = next(n for n in graph.nodes if n in old.users)
    (new,) = graph.add(ops.Mul(), old, constant, before=after, origin=node.origin)
    new.type = old.type
    for reader in readers:
        for i, v in enumerate(reader.inputs):
            if v is old:
                graph.set_operand(reader, i, new)
    return 1


def _times(graph: Graph, node: Node, index: int, s: Array) -> None:
    set_data(graph, node, index, data_of(node.inputs[index]) * s)


def _results(node: Node, s: Array) -> Array:
    """One number for each result of a layer, in a shape that broadcasts to its weight."""
    w = data_of(node.inputs[1])
    if isinstance(node.op, ops.Conv):
        return s.reshape(-1, *[1] * (w.ndim - 1))
    if isinstance(node.op, ops.ConvTranspose):
        g = node.op.groups
        spread = np.broadcast_to(s.reshape(g, 1, -1), (g, w.shape[0] // g, w.shape[1]))
        return spread.reshape(w.shape[0], w.shape[1], *[1] * (w.ndim - 2))
    return s[:, None] if getattr(node.op, "transposed", False) else s


def _inputs(node: Node, s: Array) -> Array:
    """One number for each channel that a layer reads [1,C,1,...], in a shape that broadcasts to its weight."""
    w = data_of(node.inputs[1])
    if isinstance(node.op, ops.Conv):
        g = node.op.groups
        if g == 1:
            return s
        spread = np.broadcast_to(s.reshape(g, 1, -1), (g, w.shape[0] // g, w.shape[1]))
        return spread.reshape(*w.shape[:2], *[1] * (w.ndim - 2))
    flat = s.reshape(-1)
    if isinstance(node.op, ops.ConvTranspose):
        return flat.reshape(-1, *[1] * (w.ndim - 1))
    return flat if getattr(node.op, "transposed", False) else flat[:, None]


def _input_peaks(end: End) -> Array:
    """The largest magnitude of the weights of each number that a layer reads, in the order of its factors."""
    node, w = end.node, np.abs(data_of(end.node.inputs[1]))
    if not isinstance(node.op, ops.Conv):
        others = (1,) if getattr(node.op, "transposed", False) is False else (0,)
        return np.asarray(w.max(tuple(range(1, w.ndim)) if isinstance(node.op, ops.ConvTranspose) else others))
    g = node.op.groups
    if g > 1:
        return np.asarray(w.reshape(g, w.shape[0] // g, w.shape[1], -1).max((1, 3))).reshape(-1)
    kept = tuple(i for i in range(2, w.ndim) if end.ids.shape[i] == 1)
    return np.asarray(w.max((0, *kept))).reshape(-1)
