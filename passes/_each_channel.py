"""Layers that treat each channel of an image alone, and their weights for channels in another order."""

from __future__ import annotations

import numpy as np

from compiler.graph import Node
from compiler.ops.conv import Conv
from compiler.ops.norm import BatchNorm, InstanceNorm
from compiler.ops.parts import Slice
from compiler.ops.pool import AveragePool, GlobalPool, LpPool, MaxPool
from compiler.ops.resize import Resize
from compiler.tensor import Array

PER_CHANNEL = (BatchNorm, InstanceNorm)  # with one number of each operand for each channel
UNIFORM = (AveragePool, LpPool, MaxPool, GlobalPool)


def each_channel(node: Node) -> int | None:
    """The operand whose channels [N,C,*S] a layer treats alone, all in one way or with constants of its own for each;
    None if it does more."""
    computed = [i for i, v in enumerate(node.inputs) if v is not None and v.data is None]
    if len(computed) != 1 or len(node.outputs) != 1:
        return None
    (at,) = computed
    x, op = node.inputs[at], node.op
    if x is None or x.type.rank < 3 or x.type.shape[:2] != node.output.type.shape[:2]:
        return None
    if isinstance(op, Conv):
        w = node.inputs[1]
        alone = w is not None and w.type.shape[:2] == (op.groups, 1) and at == 0 and op.groups > 1
    elif isinstance(op, Resize):
        alone = x.type.is_static and min(op.resized_axes(x.type.dims), default=2) >= 2
    elif isinstance(op, Slice):
        alone = op.steps[:2] == (1, 1)
    elif op.elementwise:
        alone = x.type.rank == node.output.type.rank
    else:
        alone = isinstance(op, (*PER_CHANNEL, *UNIFORM)) and at == 0
    return at if alone else None


def reordered(node: Node, i: int, order: Array) -> Array:
    """Constant operand i of such a layer when channel p of the image is what channel order[p] was."""
    v, y = node.inputs[i], node.output.type
    assert v is not None and v.data is not None
    axis = 0 if isinstance(node.op, (Conv, *PER_CHANNEL)) else 1 - (y.rank - v.type.rank)
    return np.take(v.data, order, axis) if axis >= 0 and v.type.rank and v.type.shape[axis] != 1 else v.data
