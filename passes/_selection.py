"""Which operands of a layer a part of its result needs, and which part of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Add, Div, Mul, Sub
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.norm import LayerNorm, RmsNorm
from compiler.ops.parts import Slice
from compiler.ops.shape import Reshape, Transpose
from compiler.rewrite import Builder
from passes._chains import UNARY

MIXING: tuple[type[Op], ...] = (Add, Sub, Mul, Div)


class Part(NamedTuple):
    """Elements `start` to `end` along one axis, all of the others."""

    axis: int
    start: int
    end: int

    def of(self, g: Builder, v: Value, axis: int) -> Value:
        """The same elements of a value along another axis."""
        if v.data is not None:
            index = (*[slice(None)] * axis, slice(self.start, self.end))
            return g.const(v.data[index], like=v)
        dims = v.type.dims
        starts = tuple(self.start if i == axis else 0 for i in range(len(dims)))
        ends = tuple(self.end if i == axis else d for i, d in enumerate(dims))
        return g.add(Slice(starts=starts, ends=ends, steps=(1,) * len(dims)), v)


def part_read(node: Node, v: Value) -> Part | None:
    """The part of `v` that a layer takes, if it does no more than that."""
    op = node.op
    if not v.type.is_static or node.inputs[0] is not v:
        return None
    if isinstance(op, Slice):
        cut = [i for i, d in enumerate(v.type.dims) if (op.starts[i], op.ends[i], op.steps[i]) != (0, d, 1)]
        if len(cut) != 1 or op.steps[cut[0]] != 1 or 0 in node.output.type.shape:
            return None
        return Part(cut[0], op.starts[cut[0]], op.ends[cut[0]])
    if not isinstance(op, Gather):
        return None
    index = node.inputs[1]
    if index is None or index.data is None or index.data.size != 1:
        return None
    place = int(index.data.reshape(())) % v.type.dims[op.axis]
    return Part(op.axis, place, place + 1)


def _broadcast_axis(v: Value, axis: int, rank: int) -> int | None:
    own = axis - rank + v.type.rank
    return own if own >= 0 and v.type.shape[own] != 1 else None


def axes_needed(node: Node, axis: int) -> Sequence[int | None] | None:
    """The axis of each operand that a part of the result along `axis` needs the same part of, None for an operand that
    it needs whole; None for the layer if it is another."""
    op, rank = node.op, node.output.type.rank
    whole: list[int | None] = [None] * (len(node.inputs) - 1)
    if isinstance(op, UNARY):
        return [axis]
    if isinstance(op, MIXING):
        return [_broadcast_axis(v, axis, rank) for v in node.inputs if v is not None]
    if (isinstance(op, LayerNorm | RmsNorm) and axis < op.axis) or (isinstance(op, Dense) and axis < rank - 1):
        return [axis, *whole]
    if isinstance(op, Transpose):
        return [op.perm[axis]]
    if isinstance(op, Reshape):
        source = node.inputs[0]
        return [axis] if source is not None and source.type.shape[: axis + 1] == op.shape[: axis + 1] else None
    if isinstance(op, Attention) and axis == 2 and not op.causal:
        return [axis, None, None, *(_broadcast_axis(v, axis, rank) for v in node.inputs[3:] if v is not None)]
    return None


def partial(g: Builder, node: Node, part: Part) -> Value | None:
    """Part of the result of a layer, computed from parts of its operands; None if it takes more."""
    axes = axes_needed(node, part.axis)
    if axes is None or not any(a is not None for a in axes):
        return None
    operands = [v if v is None or a is None else part.of(g, v, a) for v, a in zip(node.inputs, axes, strict=True)]
    op = node.op
    if isinstance(op, Reshape):
        op = Reshape(shape=tuple(part.end - part.start if i == part.axis else d for i, d in enumerate(op.shape)))
    return g.add(op, *operands)
