"""Layers on tensors of many axes as layers on fewer: neighbouring axes that a layer treats alike become one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from compiler import ops
from compiler.graph import Value
from compiler.op import OPS, Op, broadcast
from compiler.ops.reduce import Reduce, Running
from compiler.ops.search import ArgExtreme
from compiler.ops.softmax import AxisWise
from passes._decompose import Layers, decomposes

FEW = 4  # axes up to which every runtime has all that it has
Along = ops.Concat | ops.Split | ops.GatherElements | ops.ScatterElements | ops.TopK | AxisWise | ArgExtreme | Running
ALONG = [cls for cls in OPS.values() if issubclass(cls, Along)]
REDUCTIONS = [cls for cls in OPS.values() if issubclass(cls, Reduce)]
ELEMENTWISE = [cls for cls in OPS.values() if cls.elementwise]


@decomposes(*ALONG)
def _along(add: Layers, op: Along, *operands: Value) -> list[Value] | None:
    """Along one axis: those before become one, and those behind."""
    axis, dims = op.axis, operands[0].type.dims
    others = {(*v.type.dims[:axis], *v.type.dims[axis + 1 :]) for v in operands}
    if len(dims) <= FEW or len(others) > 1:
        return None
    parts = [add.reshape(v, _merged(v.type.dims, _around(axis, len(dims)))) for v in operands]
    results = add.many(op.with_(axis=1), *parts)
    return [add.reshape(y, v.type.dims) for y, v in zip(results, add.node.outputs, strict=True)]


@decomposes(ops.Gather)
def _gathered(add: Layers, op: ops.Gather, x: Value, indices: Value) -> Value | None:
    """Indices of several axes are those of one."""
    dims, out = x.type.dims, add.node.output.type.dims
    if max(len(dims), len(out)) <= FEW or (len(dims) <= 3 and indices.type.rank == 1):
        return None
    groups = [g for g in _around(op.axis, len(dims)) if len(g)]
    axis = 1 if op.axis else 0
    merged = add.reshape(x, _merged(dims, groups))
    return add.reshape(add(ops.Gather(axis=axis), merged, add.reshape(indices, (indices.type.size,))), out)


def _around(axis: int, rank: int) -> list[range]:
    return [range(axis), range(axis, axis + 1), range(axis + 1, rank)]


def _merged(dims: Sequence[int], groups: Sequence[Sequence[int]]) -> list[int]:
    return [prod(dims[a] for a in group) for group in groups]


@decomposes(*REDUCTIONS)
def _reduced(add: Layers, op: Reduce, x: Value) -> Value | None:
    groups: list[list[int]] = []
    for axis in range(x.type.rank):
        if groups and (axis in op.axes) == (axis - 1 in op.axes):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if not FEW < x.type.rank > len(groups):
        return None
    axes = tuple(i for i, group in enumerate(groups) if group[0] in op.axes)
    y = add(op.with_(axes=axes, keepdims=False), add.reshape(x, _merged(x.type.dims, groups)))
    return add.reshape(y, add.node.output.type.dims)


@decomposes(ops.Transpose)
def _transposed(add: Layers, op: ops.Transpose, x: Value) -> Value | None:
    """Where axes move apart in many groups, one moves at a time: that which comes first in the result and is not there
    yet. It passes the group in front of it, and those behind stay."""
    dims, out = x.type.dims, add.node.output.type.dims
    kept = [a for a in range(len(dims)) if dims[a] != 1]
    perm = [kept.index(a) for a in op.perm if dims[a] != 1]
    if 1 + sum(b != a + 1 for a, b in pairwise(perm)) <= FEW:
        return None
    place = next(i for i, a in enumerate(perm) if i != a)
    end = next((i for i in range(place + 1, len(perm)) if perm[i] != perm[i - 1] + 1), len(perm))
    group = perm[place:end]
    step = [*range(place), *group, *(a for a in range(place, len(perm)) if a not in group)]
    moved = add.transpose(add.reshape(x, [dims[a] for a in kept]), step)
    return add.reshape(add.transpose(moved, [step.index(a) for a in perm]), out)


@decomposes(*ELEMENTWISE)
def _elementwise(add: Layers, op: Op, *operands: Value) -> Value | None:
    """Axes along which the same operands are spread become one."""
    shape = broadcast(*(v.type.shape for v in operands))
    rank = len(shape)
    if rank <= FEW:
        return None
    wide = [(1,) * (rank - v.type.rank) + v.type.dims for v in operands]
    groups: list[list[int]] = []
    last: list[bool] = []
    for axis, d in enumerate(shape):
        spread = [dims[axis] != d for dims in wide]
        if groups and (spread == last or d == 1):
            groups[-1].append(axis)
        else:
            groups.append([axis])
            last = spread
    if len(groups) == rank:
        return None
    parts = [add.reshape(v, _merged(dims, groups)) for v, dims in zip(operands, wide, strict=True)]
    return add.reshape(add(op, *parts), add.node.output.type.dims)
