"""Powers of two by which the values of a graph are stored smaller, so that 16-bit floats hold them.

Values that a function of degree one joins (rectifiers, pools, sums, moves) are a group and share an exponent e: what is
stored is 2^-e times the number. Between groups the weights of linear layers, the epsilon of normalisations and the
alpha of local response normalisation take up the difference; in front of everything else a factor undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, isfinite, log2
from typing import Any, NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array

Peaks = Callable[[Graph], Mapping[Value, float]]
WHOLE: tuple[type[Op], ...] = (  # of degree one in all operands together
    ops.Identity, ops.Reshape, ops.Transpose, ops.Slice, ops.Split, ops.Expand, ops.Tile, ops.DepthToSpace,
    ops.SpaceToDepth, ops.ConvertLayout, ops.AveragePool, ops.GlobalMaxPool, ops.GlobalAveragePool, ops.ReduceMax,
    ops.ReduceMin, ops.ReduceMean, ops.ReduceSum, ops.Relu, ops.LeakyRelu, ops.Neg, ops.Abs, ops.Add, ops.Sub, ops.Sum,
    ops.Mean, ops.Max, ops.Min, ops.Concat, ops.LocalResponseNorm,
)  # fmt: skip
IN_FIRST: tuple[type[Op], ...] = (ops.Gather, ops.PRelu)  # of degree one in the first operand
PRODUCTS: tuple[type[Op], ...] = (ops.Conv, ops.ConvTranspose, ops.Dense, ops.MatMul)
NORMS: tuple[type[Op], ...] = (ops.LayerNorm, ops.RmsNorm, ops.InstanceNorm, ops.GroupNorm)
APART = 6  # exponents; the smaller term of a sum beyond keeps its own, which stays precise where others read it
STEP = 14  # the largest exponent of one factor


class Bounds(NamedTuple):
    """What 16-bit floats hold, what sums of products hold, and how much further than what was seen there is room."""

    largest: float
    accumulator: float
    margin: float

    def exponent(self, v: Value, peak: float) -> int:
        """How many times a value is to be halved."""
        limit = self.accumulator if v.node is not None and isinstance(v.node.op, PRODUCTS) else self.largest
        return max(0, ceil(log2(peak * self.margin / limit))) if peak > 0 and isfinite(peak) else 0


def joined(node: Node, peaks: Mapping[Value, float]) -> tuple[int, ...]:
    """Places of the operands that share the exponent of the results."""
    op, inputs = node.op, node.inputs
    if not all(v.type.dtype.is_float for v in node.outputs):
        return ()
    if isinstance(op, WHOLE):
        return tuple(range(len(inputs)))
    if isinstance(op, IN_FIRST) or (isinstance(op, ops.MaxPool) and not op.indices):
        return (0,)
    if isinstance(op, ops.Pad):
        plain = op.mode != "constant" or (len(inputs) == 1 and op.value == 0)
        return (0,) if plain else ()
    if isinstance(op, ops.Where):
        return (1, 2)
    if isinstance(op, ops.Attention):
        return (2,)
    if isinstance(op, ops.Div):
        return (0,)
    if isinstance(op, ops.Mul) and inputs[0] is not inputs[1]:
        sizes = [0.0 if v is None or v.data is not None else peaks.get(v, 0.0) for v in inputs]
        first = inputs[0]
        return (1,) if sizes[1] > sizes[0] or (first is not None and first.data is not None) else (0,)
    return ()


def exponents(graph: Graph, peaks: Mapping[Value, float], bounds: Bounds) -> dict[Value, int]:
    """The exponent of every value that needs one."""
    parent: dict[Value, Value] = {}

    def root(v: Value) -> Value:
        while parent.setdefault(v, v) is not v:
            parent[v] = v = parent[parent[v]]
        return v

    for node in graph.nodes:
        first = node.outputs[0]
        members = [node.inputs[i] for i in joined(node, peaks)]
        need = bounds.exponent(first, peaks.get(first, 0.0))
        near = [
            v for v in members
            if v is not None and v.data is None and need - bounds.exponent(v, peaks.get(v, 0.0)) <= APART
        ]  # fmt: skip
        for v in (*near, *(node.outputs[1:] if members else ())):
            parent[root(v)] = root(first)
    needed: dict[Value, int] = {}
    for v, peak in peaks.items():
        if v.type.dtype.is_float:
            needed[root(v)] = max(needed.get(root(v), 0), bounds.exponent(v, peak))
    return {v: needed[root(v)] for v in parent if needed.get(root(v), 0)}


class Rescaling:
    """Writes the layers around scaled values anew; `old` and `new` are the values that stay what they were."""

    def __init__(self, graph: Graph, peaks: Mapping[Value, float], bounds: Bounds) -> None:
        self.graph, self.bounds, self.peaks = graph, bounds, peaks
        self.exponents = exponents(graph, peaks, bounds)
        self.added: list[Node] = []
        self.old: list[Value] = []
        self.new: list[Value] = []
        self._scaled: dict[Value, Value] = {}
        self._undone: dict[Value, Value] = {}
        nodes = list(graph.nodes)
        for v in graph.inputs:
            if self.exponents.get(v) and v.users:
                self._scaled[v] = self._times(v, -self.exponents[v], nodes[0])
        for node in nodes:
            if any(v in self.exponents for v in (*node.inputs, *node.outputs)):
                self._rewrite(node)

    def _rewrite(self, node: Node) -> None:
        out = self.exponents.get(node.outputs[0], 0)
        shared = joined(node, self.peaks)
        if isinstance(node.op, PRODUCTS):
            results = self._product(node, out)
        elif shared:
            inputs = [self._member(v, out, node) if i in shared else self._plain(v, node)
                      for i, v in enumerate(node.inputs)]  # fmt: skip
            op = node.op
            results = self._add(
                node, op.with_(alpha=op.alpha * 4.0**out) if isinstance(op, ops.LocalResponseNorm) else op, inputs
            )
        elif isinstance(node.op, ops.Mul) and out:  # a square: one of the two is made smaller
            x = self._plain(node.inputs[0], node)
            assert x is not None
            results = self._add(node, node.op, [self._times(x, -out, node), x])
        elif isinstance(node.op, ops.BatchNorm) and all(v is not None and v.data is not None for v in node.inputs[1:]):
            results = self._batch_norm(node, out)
        else:
            results = tuple(self._times(v, -out, node) if out else v for v in self._border(node))
        for v, w in zip(node.outputs, results, strict=True):
            if v in self.exponents:
                self._scaled[v] = w
            if v not in self.exponents or v.n_out:
                self.old.append(v)
                self.new.append(self._times(w, out, node) if v in self.exponents else w)

    def _border(self, node: Node) -> tuple[Value, ...]:
        """A layer that is not of degree one, on numbers as they were."""
        first, *others = node.inputs
        entered = 0 if first is None else self.exponents.get(first, 0)
        rest = [self._plain(v, node) for v in others]
        if isinstance(node.op, NORMS) and entered:
            op: Any = node.op  # one with an epsilon
            return self._add(node, op.with_(eps=op.eps * 4.0**-entered), [self._held(first), *rest])
        if isinstance(node.op, ops.Softmax | ops.LogSoftmax) and entered and first is not None:
            return self._add(node, node.op, [self._lowered(node, first, entered)])
        return self._add(node, node.op, [self._plain(first, node), *rest])

    def _held(self, v: Value | None) -> Value | None:
        """A value as it is stored."""
        return None if v is None else self._scaled.get(v, v)

    def _batch_norm(self, node: Node, out: int) -> tuple[Value, ...]:
        x, scale, bias, mean, variance = node.inputs
        entered = 0 if x is None else self.exponents.get(x, 0)
        taken = [self._factored(v, e) for v, e in ((scale, entered - out), (bias, -out), (mean, -entered))]
        return self._add(node, node.op, [self._held(x), *taken, variance])

    def _factored(self, v: Value | None, exponent: int) -> Value | None:
        return v if v is None or v.data is None else self._number(v.data, v, exponent)

    def _lowered(self, node: Node, v: Value, entered: int) -> Value:
        """Logits less their largest, which is 0 after the factor."""
        op, x = node.op, self._scaled[v]
        assert isinstance(op, ops.Softmax | ops.LogSoftmax)
        top = self._one(node, ops.ReduceMax(axes=(op.axis,), keepdims=True), x)
        low = self._number(-self.bounds.largest / 2.0 ** (entered + 1), v)
        return self._times(self._one(node, ops.Max(), self._one(node, ops.Sub(), x, top), low), entered, node)

    def _product(self, node: Node, out: int) -> tuple[Value, ...]:
        """Constant weights take up the difference, as far as they can be stored; else the first operand does."""
        x, w, *bias = node.inputs
        entered = 0 if x is None else self.exponents.get(x, 0)
        held, factor = self._held(x), entered - out
        assert held is not None
        if w is None or w.data is None:
            terms = [self._member(b, out, node) for b in bias]
            first = self._times(held, factor, node) if factor else held
            return self._add(node, node.op, [first, self._plain(w, node), *terms])
        beyond = self._excess(w.data, factor)
        terms = [self._member(b, out + beyond, node) for b in bias]
        (y,) = self._add(node, node.op, [held, self._number(w.data, w, factor - beyond), *terms])
        return (self._times(y, beyond, node),)

    def _excess(self, w: Array, factor: int) -> int:
        """How many times more a weight is to be halved to be held."""
        size = float(np.abs(w).max(initial=0.0))
        return max(0, ceil(log2(size / self.bounds.largest) + factor)) if size and isfinite(size) else 0

    def _member(self, v: Value | None, out: int, node: Node) -> Value | None:
        """An operand as it is stored with an exponent."""
        if v is None:
            return None
        if v.data is not None:
            return self._number(v.data, v, -out) if v.type.dtype.is_float and out else v
        entered = self.exponents.get(v, 0)
        held = self._scaled.get(v, v)
        return held if entered == out or not v.type.dtype.is_float else self._times(held, entered - out, node)

    def _plain(self, v: Value | None, node: Node) -> Value | None:
        """An operand as it was."""
        if v is None or v not in self.exponents:
            return v
        if v in self.graph.inputs:
            return v
        if v not in self._undone:
            self._undone[v] = self._times(self._scaled[v], self.exponents[v], node)
        return self._undone[v]

    def _number(self, data: object, like: Value, exponent: int = 0) -> Value:
        array = np.asarray(data, like.type.dtype.numpy)
        if not exponent:
            return like if array is like.data else self.graph.const(array)
        return self.graph.const(np.ldexp(array, exponent).astype(array.dtype), like.name, like.origin)

    def _times(self, v: Value, exponent: int, node: Node) -> Value:
        """In steps that 16-bit floats hold."""
        while exponent:
            step = max(-STEP, min(STEP, exponent))
            v, exponent = self._one(node, ops.Mul(), v, self._number(2.0**step, v)), exponent - step
        return v

    def _one(self, node: Node, op: Op, *inputs: Value) -> Value:
        return self._add(node, op, list(inputs))[0]

    def _add(self, node: Node, op: Op, inputs: list[Value | None]) -> tuple[Value, ...]:
        names = [v.name for v in node.outputs]
        values = self.graph.add(op, *inputs, before=node, origin=node.origin, names=names)
        assert values[0].node is not None
        self.added.append(values[0].node)
        return values
