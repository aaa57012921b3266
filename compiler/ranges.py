"""Between which numbers the elements of integer and boolean values lie, whatever the inputs are.

Interval arithmetic over the layers in order. What is proven holds for every run that ONNX defines: an index lies within
its axis, and a shape is that of a tensor. A result that might leave its element type, and so wrap, may be anything in
it; so may a float that becomes an integer, for it may be NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.numeric import integer_range
from compiler.ops.reduce import Reduce
from compiler.tensor import BOOL, DType

LOOKED_AT = 1 << 20  # elements of a constant up to which its ends are looked up


class Interval(NamedTuple):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def holds(self, other: Interval) -> bool:
        """Whether all of another interval lies in this one."""
        return self.low <= other.low and other.high <= self.high

    def joined(self, other: Interval) -> Interval:
        """The smallest interval around both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


def around(*corners: int) -> Interval:
    """The smallest interval around some numbers."""
    return Interval(min(corners), max(corners))


def of_type(dtype: DType) -> Interval:
    """All numbers of an integer element type or of the booleans."""
    return Interval(0, 1) if dtype is BOOL else Interval(*integer_range(dtype))


Rule = Callable[["Ranges", Node, Any], "Interval | list[Interval | None] | None"]  # Any: the operation, by its class
RULES: dict[type[Op], Rule] = {}


def rule(*operations: type[Op]) -> Callable[[Rule], Rule]:
    """Register how the results of operations are bounded; None: not at all."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, function))
        return function

    return register


class Ranges:
    """The intervals of one graph; `ranges[v]` is that of a value, None for one that is no integer or boolean."""

    def __init__(self, graph: Graph) -> None:
        self._known: dict[Value, Interval] = {}
        for node in graph.nodes:
            function = RULES.get(type(node.op))
            found = function(self, node, node.op) if function is not None else None
            each = found if isinstance(found, list) else [found] * len(node.outputs)
            for v, interval in zip(node.outputs, each, strict=False):
                if interval is not None and self.counts(v) and of_type(v.type.dtype).holds(interval):
                    self._known[v] = interval

    def copy(self, old: Value, new: Value) -> None:
        """A value that takes the place of another lies where that did."""
        known = self[old]
        if known is not None:
            self._known[new] = known

    @staticmethod
    def counts(v: Value) -> bool:
        """Whether a value is made of integers or booleans."""
        return v.type.dtype.is_integer or v.type.dtype is BOOL

    def __getitem__(self, v: Value | None) -> Interval | None:
        if v is None or not self.counts(v):
            return None
        if v not in self._known:
            self._known[v] = _of_constant(v) or of_type(v.type.dtype)
        return self._known[v]

    def operands(self, node: Node) -> list[Interval] | None:
        """The intervals of the operands that are present; None if one has none."""
        found = [self[v] for v in node.inputs if v is not None]
        known = [i for i in found if i is not None]
        return known if known and len(known) == len(found) else None


def _of_constant(v: Value) -> Interval | None:
    if v.data is None or not 0 < v.data.size <= LOOKED_AT or v.data.dtype.kind not in "iub":
        return None
    return Interval(int(v.data.min()), int(v.data.max()))


# -- what moves elements -------------------------------------------------------------------------------------


@rule(ops.Identity, ops.Reshape, ops.Transpose, ops.Slice, ops.Gather, ops.GatherElements, ops.GatherND, ops.Split,
      ops.Expand, ops.Tile, ops.ReverseSequence, ops.DepthToSpace, ops.SpaceToDepth, ops.ReduceMax, ops.ReduceMin,
      ops.ReduceMean, ops.Compress, ops.ConvertLayout)  # fmt: skip
def _moved(r: Ranges, node: Node, op: Op) -> Interval | None:
    x = node.inputs[0]
    if x is None or (isinstance(op, ops.ReduceMax | ops.ReduceMin) and (not x.type.is_static or 0 in x.type.shape)):
        return None  # the largest of nothing is the smallest number there is
    return r[x]


@rule(ops.Concat)
def _joined(r: Ranges, node: Node, _op: Op) -> Interval | None:
    known = r.operands(node)
    return None if known is None else Interval(min(i.low for i in known), max(i.high for i in known))


@rule(ops.Where)
def _chosen(r: Ranges, node: Node, _op: Op) -> Interval | None:
    x, y = (r[v] for v in node.inputs[1:3])
    return None if x is None or y is None else x.joined(y)


@rule(ops.Pad)
def _padded(r: Ranges, node: Node, op: ops.Pad) -> Interval | None:
    x, fill = r[node.inputs[0]], r[node.inputs[1]] if len(node.inputs) > 1 else None
    if x is None or op.mode != "constant":
        return x
    return x.joined(fill or around(int(op.value)))


@rule(ops.Trilu)
def _with_zero(r: Ranges, node: Node, _op: Op) -> Interval | None:
    x = r[node.inputs[0]]
    return None if x is None else x.joined(Interval(0, 0))


@rule(ops.ScatterElements, ops.ScatterND)
def _scattered(r: Ranges, node: Node, op: ops.ScatterElements | ops.ScatterND) -> Interval | None:
    x, updates = r[node.inputs[0]], r[node.inputs[2]]
    return None if x is None or updates is None or op.reduction not in ("none", "max", "min") else x.joined(updates)


# -- sizes and places ----------------------------------------------------------------------------------------


def _places(size: object) -> Interval | None:
    """Indices along an axis."""
    return Interval(0, max(0, size - 1)) if isinstance(size, int) else None


@rule(ops.ShapeOf, ops.SizeOf)
def _sized(_r: Ranges, node: Node, op: Op) -> Interval | None:
    (x,) = node.inputs
    if x is None or not x.type.is_static:
        return None
    dims = (x.type.size,) if isinstance(op, ops.SizeOf) else x.type.dims
    return around(*dims) if dims else None


@rule(ops.ArgMax, ops.ArgMin)
def _place(_r: Ranges, node: Node, op: ops.ArgMax | ops.ArgMin) -> Interval | None:
    (x,) = node.input_types
    return None if x is None else _places(x.shape[op.axis])


@rule(ops.TopK)
def _best(r: Ranges, node: Node, op: ops.TopK) -> list[Interval | None]:
    x = node.inputs[0]
    assert x is not None
    return [r[x], _places(x.type.shape[op.axis])]


@rule(ops.NonZero)
def _found(_r: Ranges, node: Node, _op: Op) -> Interval | None:
    (x,) = node.input_types
    return _places(max(x.dims, default=1)) if x is not None and x.is_static else None


@rule(ops.Range)
def _counted(r: Ranges, node: Node, _op: Op) -> Interval | None:
    """Every element lies between the start and the limit."""
    known = r.operands(node)
    return None if known is None else known[0].joined(known[1])


@rule(ops.ConstantOfShape)
def _filled(r: Ranges, node: Node, op: ops.ConstantOfShape) -> Interval | None:
    return around(int(op.value)) if r.counts(node.output) else None


@rule(ops.OneHot)
def _marked(r: Ranges, node: Node, _op: Op) -> Interval | None:
    return r[node.inputs[1]]


# -- arithmetic ----------------------------------------------------------------------------------------------


@rule(ops.Add, ops.Sub, ops.Mul)
def _arithmetic(r: Ranges, node: Node, op: Op) -> Interval | None:
    known = r.operands(node)
    if known is None:
        return None
    a, b = known
    if isinstance(op, ops.Add):
        return Interval(a.low + b.low, a.high + b.high)
    if isinstance(op, ops.Sub):
        return Interval(a.low - b.high, a.high - b.low)
    return around(*(x * y for x in a for y in b))


@rule(ops.Div)
def _divided(r: Ranges, node: Node, _op: Op) -> Interval | None:
    """The largest quotients are those by the smallest divisors; by 0 it is 0."""
    known = r.operands(node)
    if known is None:
        return None
    a, b = known
    divisors = {d for d in (*b, 1, -1) if d and b.low <= d <= b.high}
    quotients = [abs(x) // abs(d) * (1 if (x < 0) == (d < 0) else -1) for x in a for d in divisors]
    return around(*quotients, *([0] if a.low <= 0 <= a.high or b.low <= 0 <= b.high else []))


@rule(ops.Mod)
def _rest(r: Ranges, node: Node, op: ops.Mod) -> Interval | None:
    known = r.operands(node)
    if known is None:
        return None
    a, b = known
    if op.fmod:
        size = max(abs(b.low), abs(b.high), 1) - 1
        return Interval(max(-size, min(a.low, 0)), min(size, max(a.high, 0)))
    high = max(0, b.high - 1)
    return Interval(min(0, b.low + 1), min(high, a.high) if a.low >= 0 and b.low > 0 else high)


@rule(ops.Neg, ops.Abs, ops.Sign)
def _one(r: Ranges, node: Node, op: Op) -> Interval | None:
    x = r[node.inputs[0]]
    if x is None:
        return None
    if isinstance(op, ops.Neg):
        return Interval(-x.high, -x.low)
    if isinstance(op, ops.Sign):
        return Interval(*(int(np.sign(end)) for end in x))
    return around(*map(abs, x), *([0] if x.low <= 0 <= x.high else []))


@rule(ops.Max, ops.Min)
def _extreme(r: Ranges, node: Node, op: Op) -> Interval | None:
    known = r.operands(node)
    if known is None:
        return None
    best = max if isinstance(op, ops.Max) else min
    return Interval(best(i.low for i in known), best(i.high for i in known))


@rule(ops.Clip, ops.Relu)
def _clipped(r: Ranges, node: Node, op: Op) -> Interval | None:
    x = r[node.inputs[0]]
    if x is None or any(v is not None for v in node.inputs[1:]):
        return x if isinstance(op, ops.Relu) else None
    low, high = (op.low, op.high) if isinstance(op, ops.Clip) else (0, np.inf)
    return Interval(*(int(min(max(end, low), high)) for end in x))


@rule(ops.ReduceSum, ops.CumSum)
def _summed(r: Ranges, node: Node, op: Reduce | ops.CumSum) -> Interval | None:
    x = node.inputs[0]
    found = r[x]
    if x is None or found is None or not x.type.is_static:
        return None
    axes = (op.axis,) if isinstance(op, ops.CumSum) else op.axes
    count = prod(x.type.dims[a] for a in axes)
    return Interval(min(0, found.low) * count, max(0, found.high) * count)


@rule(ops.BitwiseAnd)
def _common_bits(r: Ranges, node: Node, _op: Op) -> Interval | None:
    known = [i for i in r.operands(node) or [] if i.low >= 0]
    return Interval(0, min(i.high for i in known)) if known else None


@rule(ops.BitShift)
def _shifted(r: Ranges, node: Node, op: ops.BitShift) -> Interval | None:
    x = r[node.inputs[0]]
    return None if x is None or op.direction == "LEFT" else x.joined(Interval(-1 if x.low < 0 else 0, 0))


@rule(ops.Cast)
def _cast(r: Ranges, node: Node, _op: Op) -> Interval | None:
    return Interval(0, 1) if node.output.type.dtype is BOOL else r[node.inputs[0]]
