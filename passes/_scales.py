"""Which numbers of a graph can be scaled together so that its results stay: equations between layers, by channel.

Each number of a value belongs to a factor. Layers with weights begin new factors, one for each channel (what gives),
and divide by those of what they read (what takes); layers that are homogeneous, f(s x) = s f(x) for s > 0, hand factors
on; sums make factors equal; every other layer fixes those of its operands at 1. Layouts of factors are kept as index
arrays that broadcast to the values, so that heads, flattened channels and concatenations are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import F32, Array

Rule = Callable[["Factors", Node, Any], None]  # Any: the operation, whose class the table names
RULES: dict[type[Op], Rule] = {}
MOST = 1 << 22  # numbers of a value through whose reshape factors are followed


class End(NamedTuple):
    """A layer that gives or takes factors: the operand whose constant is scaled (None: a layer is to be added), and the
    index array of its result or of what it reads."""

    node: Node
    operand: int | None
    ids: Array


class Factors:
    """The factors of a graph. `of[v]` is the index array of a value, `classes` the class of each factor: factors of one
    class are equal. `fixed` and `normed` tell of each class whether it is 1, and whether a normalisation, a product or
    attention has part in it."""

    def __init__(self, graph: Graph) -> None:
        self.of: dict[Value, Array] = {}
        self.gives: list[End] = []
        self.takes: list[End] = []
        self.count = 0
        self._fixed: list[Array] = []
        self._normed: list[Array] = []
        self._equal: list[tuple[Array, Array]] = []
        for node in graph.nodes:
            rule = RULES.get(type(node.op))
            if rule is not None and all(v is None or v.type.is_static for v in (*node.inputs, *node.outputs)):
                rule(self, node, node.op)
            else:
                self.fix(*node.inputs)
        self.fix(*graph.outputs)
        self.classes = classes_of(self.count, self._equal)
        self.fixed, self.normed = (self._marked(found) for found in (self._fixed, self._normed))

    def fix(self, *values: Value | None) -> None:
        """The factors of these values are 1."""
        self._fixed += [self.of[v] for v in values if v is not None and v in self.of]

    def begin(self, node: Node, operand: int | None, axis: int, normed: bool = False) -> None:
        """The result of a layer has factors of its own along an axis."""
        v = node.outputs[0]
        if v.type.dtype is not F32:
            return
        size = v.type.dims[axis]
        ids = np.arange(self.count, self.count + size).reshape(_along(v, axis))
        self.count += size
        self.of[v] = ids
        self.gives.append(End(node, operand, ids))
        if normed:
            self._normed.append(ids)

    def take(self, node: Node, x: Value | None, operand: int, shape: tuple[int, ...]) -> None:
        """A layer divides by the factors of x, if they have this shape or less."""
        ids = None if x is None else self.of.get(x)
        if ids is None:
            return
        if all(d in (1, s) for d, s in zip(ids.shape, shape, strict=True)):
            self.takes.append(End(node, operand, np.broadcast_to(ids, shape)))
        else:
            self._fixed.append(ids)

    def hand_on(self, x: Value | None, y: Value, change: Callable[[Array], Array] = lambda ids: ids) -> None:
        """The result has the factors of the operand."""
        if x is not None and x in self.of and y.type.dtype is F32:
            self.of[y] = change(self.of[x])

    def equal(self, a: Value, b: Value) -> None:
        """Two values have the same factors."""
        self._equal.append(tuple(np.broadcast_arrays(self.of[a], self.of[b])))  # type: ignore[arg-type]  # two of them

    def norm(self, v: Value) -> None:
        """A value has been mixed by attention."""
        self._normed.append(self.of[v])

    def _marked(self, found: list[Array]) -> Array:
        marks = np.zeros(self.count, np.bool_)
        for ids in found:
            marks[self.classes[ids.reshape(-1)]] = True
        return marks


def classes_of(count: int, equal: Sequence[tuple[Array, Array]]) -> Array:
    """The smallest factor that each one equals, by way of others too."""
    classes = np.arange(count)
    pairs = [(a.reshape(-1), b.reshape(-1)) for a, b in equal]
    while True:
        before = classes.copy()
        for a, b in pairs:
            least = np.minimum(classes[a], classes[b])
            np.minimum.at(classes, a, least)
            np.minimum.at(classes, b, least)
        classes = classes[classes]
        if np.array_equal(before, classes):
            return classes


def _along(v: Value, axis: int) -> tuple[int, ...]:
    return tuple(d if i == axis % v.type.rank else 1 for i, d in enumerate(v.type.dims))


def _rule(*operations: type[Op]) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, function))
        return function

    return register


def _are_constant(values: tuple[Value | None, ...]) -> bool:
    return all(v is None or v.data is not None for v in values)


@_rule(ops.Conv, ops.ConvTranspose)
def _conv(f: Factors, node: Node, op: Any) -> None:
    x, w = node.inputs[:2]
    assert x is not None
    assert w is not None
    if not _are_constant(node.inputs[1:]):
        f.fix(*node.inputs)
        return
    shape = list(_along(x, 1))
    whole = isinstance(op, ops.Conv) and op.groups == 1 and not any(op.pads)
    for axis, kernel in enumerate(w.type.dims[2:], 2):
        if whole and node.output.type.dims[axis] == 1 and kernel == x.type.dims[axis]:
            shape[axis] = kernel
    f.take(node, x, 1, tuple(shape))
    f.begin(node, 1, 1)


@_rule(ops.Dense)
def _dense(f: Factors, node: Node, _op: Any) -> None:
    x = node.inputs[0]
    assert x is not None
    if not _are_constant(node.inputs[1:]):
        f.fix(*node.inputs)
        return
    f.take(node, x, 1, _along(x, -1))
    f.begin(node, 1, x.type.rank - 1)


@_rule(ops.MatMul)
def _matmul(f: Factors, node: Node, op: Any) -> None:
    x, w = node.inputs
    assert x is not None
    assert w is not None
    if w.data is not None and w.type.rank == 2 and x.type.rank >= 2:
        _dense(f, node, op)
        return
    f.fix(x)
    ids = f.of.get(w)
    if ids is not None and w.type.rank == node.output.type.rank >= 2 and ids.shape[-2] == 1:
        f.hand_on(w, node.output)
        f.norm(w)
    else:
        f.fix(w)


@_rule(ops.BatchNorm)
def _batch_norm(f: Factors, node: Node, _op: Any) -> None:
    x = node.inputs[0]
    assert x is not None
    if _are_constant(node.inputs[1:]):
        f.take(node, x, 1, _along(x, 1))
        f.begin(node, 1, 1)
    else:
        f.fix(x)


@_rule(ops.LayerNorm, ops.RmsNorm)
def _norm(f: Factors, node: Node, op: Any) -> None:
    x = node.inputs[0]
    f.fix(x)
    parameters = [v for v in node.inputs[1:] if v is not None]
    last = node.output.type.rank - 1
    if (
        op.axis == last
        and _are_constant(node.inputs[1:])
        and all(v.type.shape == node.output.type.shape[-1:] for v in parameters)
    ):
        f.begin(node, 1, last, normed=True)


@_rule(ops.Mul)
def _mul(f: Factors, node: Node, _op: Any) -> None:
    y = node.output
    known = [v for v in node.inputs if v in f.of]
    if (
        len(known) == 1
        and node.inputs.count(known[0]) == 1
        and known[0] is not None
        and known[0].type.shape == y.type.shape
    ):
        f.hand_on(known[0], y)
        if not _are_constant(tuple(v for v in node.inputs if v is not known[0])):
            f.norm(known[0])
        return
    f.fix(*node.inputs)
    if known or y.type.rank < 2 or y.type.dims[-1] < 2:
        return
    for i, v in enumerate(node.inputs):
        assert v is not None
        if v.data is not None and v.type.shape == y.type.shape[-1:]:
            f.begin(node, i, y.type.rank - 1, normed=True)
        elif v.data is None and v.type.shape == (*y.type.shape[:-1], 1):
            f.begin(node, None, y.type.rank - 1, normed=True)


@_rule(ops.Add, ops.Sub)
def _add(f: Factors, node: Node, _op: Any) -> None:
    a, b = node.inputs
    assert a is not None
    assert b is not None
    y = node.output
    known = [v for v in (a, b) if v in f.of]
    if len(known) == 2 and a.type.shape == b.type.shape:
        f.equal(a, b)
        f.hand_on(a, y)
        if f.of[a].shape != f.of[b].shape:
            f.of[y] = np.broadcast_arrays(f.of[a], f.of[b])[0]
        return
    index = 1 if known and known[0] is a else 0
    constant = node.inputs[index]
    if len(known) == 1 and constant is not None and constant.data is not None and known[0].type.shape == y.type.shape:
        ids = f.of[known[0]]
        lead = (1,) * (y.type.rank - constant.type.rank)
        spread = zip(ids.shape, (*lead, *constant.type.dims), strict=True)
        if all(i in (1, c) for i, c in spread):
            f.hand_on(known[0], y)
            f.gives.append(End(node, index, ids.reshape(ids.shape[len(lead) :]) if lead else ids))
            return
    f.fix(a, b)


@_rule(ops.Relu, ops.LeakyRelu, ops.Identity, ops.ConvertLayout)
def _same(f: Factors, node: Node, _op: Any) -> None:
    f.hand_on(node.inputs[0], node.outputs[0])


@_rule(ops.PRelu)
def _prelu(f: Factors, node: Node, _op: Any) -> None:
    f.fix(node.inputs[1])
    f.hand_on(node.inputs[0], node.output)


@_rule(ops.Clip)
def _clip(f: Factors, node: Node, op: Any) -> None:
    """A bound other than 0 would have to be scaled with each channel."""
    if op.low in (0.0, -np.inf) and op.high in (0.0, np.inf):
        f.hand_on(node.inputs[0], node.output)
    else:
        f.fix(node.inputs[0])


@_rule(ops.MaxPool, ops.AveragePool, ops.GlobalAveragePool, ops.GlobalMaxPool)
def _pool(f: Factors, node: Node, _op: Any) -> None:
    _where_constant(f, node, tuple(range(2, node.outputs[0].type.rank)))


@_rule(ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin)
def _reduce(f: Factors, node: Node, op: Any) -> None:
    _where_constant(f, node, op.axes)
    if not op.keepdims and node.output in f.of:
        f.of[node.output] = f.of[node.output].squeeze(op.axes)


def _where_constant(f: Factors, node: Node, axes: tuple[int, ...]) -> None:
    """Hand factors on that are the same along these axes."""
    x = node.inputs[0]
    if x in f.of and any(f.of[x].shape[i] > 1 for i in axes):
        f.fix(x)
    else:
        f.hand_on(x, node.outputs[0])


@_rule(ops.Pad)
def _pad(f: Factors, node: Node, op: Any) -> None:
    rank = node.output.type.rank
    if len(node.inputs) > 1 or (op.mode == "constant" and op.value != 0):
        f.fix(*node.inputs)
    else:
        _where_constant(f, node, tuple(i for i in range(rank) if op.pads[i] or op.pads[rank + i]))


@_rule(ops.Transpose)
def _transpose(f: Factors, node: Node, op: Any) -> None:
    f.hand_on(node.inputs[0], node.output, lambda ids: ids.transpose(op.perm))


@_rule(ops.Reshape)
def _reshape(f: Factors, node: Node, _op: Any) -> None:
    x, y = node.inputs[0], node.output
    assert x is not None
    if x in f.of and x.type.size <= MOST:
        whole = np.broadcast_to(f.of[x], x.type.dims).reshape(y.type.dims)
        f.of[y] = _collapsed(whole)
    else:
        f.fix(x)


def _collapsed(ids: Array) -> Array:
    """Without the axes along which nothing changes."""
    for axis in range(ids.ndim):
        first = ids.take([0], axis)
        if ids.shape[axis] > 1 and bool((ids == first).all()):
            ids = first
    return ids


@_rule(ops.Split)
def _split(f: Factors, node: Node, op: Any) -> None:
    start = 0
    for y, size in zip(node.outputs, op.sizes, strict=True):
        f.hand_on(node.inputs[0], y, partial(_part, axis=op.axis, part=slice(start, start + size)))
        start += size


@_rule(ops.Slice)
def _slice(f: Factors, node: Node, op: Any) -> None:
    if min(op.steps, default=1) < 1:
        f.fix(node.inputs[0])
        return

    def cut(ids: Array) -> Array:
        for axis, bounds in enumerate(zip(op.starts, op.ends, op.steps, strict=True)):
            ids = _part(ids, axis, slice(*bounds))
        return ids

    f.hand_on(node.inputs[0], node.output, cut)


def _part(ids: Array, axis: int, part: slice) -> Array:
    return ids if ids.shape[axis] == 1 else ids[(*[slice(None)] * axis, part)]


@_rule(ops.Concat)
def _concat(f: Factors, node: Node, op: Any) -> None:
    """Of parts that all have factors; along other axes than that of the concatenation they are as they were."""
    parts = [v for v in node.inputs if v is not None]
    if not all(v in f.of for v in parts):
        f.fix(*parts)
        return
    rank, dims = node.output.type.rank, [max(f.of[v].shape[i] for v in parts) for i in range(node.output.type.rank)]
    shapes = [[v.type.dims[i] if i == op.axis else dims[i] for i in range(rank)] for v in parts]
    f.of[node.output] = np.concatenate(
        [np.broadcast_to(f.of[v], shape) for v, shape in zip(parts, shapes, strict=True)], op.axis
    )
