"""Layers that read and write elements at positions that are data; one beyond the ends is taken to the border."""

from __future__ import annotations

from math import prod

from codegen.neon.copies import CopyBytes
from codegen.neon.gather import Gather, GatherElements, GatherPositions, PadElements, ReverseSequence
from codegen.neon.scatter import ScatterElements, ScatterPositions
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of, physical_axis
from compiler.target import Need
from compiler.tensor import BOOL, I8, I16, I32, I64
from targets.source.lower.moving import dense
from targets.source.needs import NUMBERS, types_of
from targets.source.program import Program, bytes_of, ctype_of, nbytes
from targets.source.table import lowers

PLACES = (I8, I16, I32, I64)
INDICES = types_of(1, among=PLACES, what="indices")


def _has_places(node: Node) -> bool:
    x = node.inputs[0]
    return x is not None and (x.type.size > 0 or not node.output.type.size)


SOME = Need(text="an element to read", holds=_has_places)


def operands(node: Node) -> list[Value]:
    """Those that are there."""
    return [v for v in node.inputs if v is not None]


def laid(v: Value) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of a value, and its strides in elements, in logical order."""
    order = order_of(v.type)
    lying = dense([v.type.dims[a] for a in order])
    return v.type.dims, tuple(lying[order.index(a)] for a in range(v.type.rank))


@lowers(ops.Gather, needs=(INDICES, SOME))
def _gather(p: Program, node: Node, op: ops.Gather) -> None:
    x, indices = operands(node)
    order = order_of(x.type)
    axis = physical_axis(x.type, op.axis)
    lying = [x.type.dims[a] for a in order]
    sizes = (prod(lying[:axis]), lying[axis], prod(lying[axis + 1 :]))
    given = p.at(x), p.at(indices)
    y = p.result(node.output)
    if not node.output.type.size:
        return
    (outer, length, row), count = sizes, indices.type.size
    kernel = Gather(size=bytes_of(x.type.dtype), index=ctype_of(indices.type.dtype), is_row=row > 1)
    counts = [outer, length, count, *[row] * (row > 1)]
    p.call(kernel, *given, y, *counts, node=node, title=f"{count} of {length} along an axis of {x.type}")


@lowers(ops.GatherElements, needs=(INDICES, SOME))
def _gather_elements(p: Program, node: Node, op: ops.GatherElements) -> None:
    x, indices = operands(node)
    given = p.at(x), p.at(indices)
    y = p.result(node.output)
    if not node.output.type.size:
        return
    kernel = GatherElements(
        size=bytes_of(x.type.dtype),
        index=ctype_of(indices.type.dtype),
        axis=op.axis,
        length=x.type.dims[op.axis],
        shape=indices.type.dims,
        strides=tuple(dense(x.type.dims)),
    )
    p.call(kernel, *given, y, node=node, title=f"elements of {x.type} at {indices.type}")


@lowers(ops.GatherND, needs=(INDICES, SOME))
def _gather_nd(p: Program, node: Node, op: ops.GatherND) -> None:
    x, indices = operands(node)
    b, depth = op.batch_dims, indices.type.dims[-1]
    given = p.at(x), p.at(indices)
    y = p.result(node.output)
    if not node.output.type.size:
        return
    kernel = GatherPositions(
        size=bytes_of(x.type.dtype), index=ctype_of(indices.type.dtype), lengths=x.type.dims[b : b + depth]
    )
    counts = prod(x.type.dims[:b]), prod(indices.type.dims[b:-1]), prod(x.type.dims[b + depth :])
    p.call(kernel, *given, y, *counts, node=node, title=f"rows of {x.type} at {indices.type}")


def _copied(p: Program, node: Node, x: Value) -> Pointer:
    """A copy of x, where the result is to be."""
    source = p.at(x)
    y = p.result(node.output)
    if x.type.size:
        p.call(CopyBytes(), y, source, nbytes(x.type), node=node, title=f"copy of {x.type}")
    return y


@lowers(ops.ScatterElements, needs=(INDICES, NUMBERS))
def _scatter_elements(p: Program, node: Node, op: ops.ScatterElements) -> None:
    x, indices, updates = operands(node)
    given = p.at(indices), p.at(updates)
    y = _copied(p, node, x)
    if not indices.type.size or not x.type.size:
        return
    kernel = ScatterElements(
        ctype=ctype_of(x.type.dtype),
        index=ctype_of(indices.type.dtype),
        reduction=op.reduction,
        is_bool=x.type.dtype is BOOL,
        axis=op.axis,
        length=x.type.dims[op.axis],
        shape=indices.type.dims,
        strides=tuple(dense(x.type.dims)),
    )
    p.call(kernel, *given, y, node=node, title=f"{updates.type} into {x.type}")


@lowers(ops.ScatterND, needs=(INDICES, NUMBERS))
def _scatter_nd(p: Program, node: Node, op: ops.ScatterND) -> None:
    x, indices, updates = operands(node)
    depth = indices.type.dims[-1]
    given = p.at(indices), p.at(updates)
    y = _copied(p, node, x)
    if not updates.type.size or not x.type.size:
        return
    kernel = ScatterPositions(
        ctype=ctype_of(x.type.dtype),
        index=ctype_of(indices.type.dtype),
        reduction=op.reduction,
        is_bool=x.type.dtype is BOOL,
        lengths=x.type.dims[:depth],
    )
    counts = prod(indices.type.dims[:-1]), prod(x.type.dims[depth:])
    p.call(kernel, *given, y, *counts, node=node, title=f"{updates.type} into {x.type}")


@lowers(ops.ReverseSequence, needs=(INDICES,))
def _reverse_sequence(p: Program, node: Node, op: ops.ReverseSequence) -> None:
    x, lengths = operands(node)
    given = p.at(x), p.at(lengths)
    y = p.result(node.output)
    if not x.type.size:
        return
    shape, strides = laid(x)
    kernel = ReverseSequence(
        size=bytes_of(x.type.dtype),
        index=ctype_of(lengths.type.dtype),
        batch=op.batch_axis,
        time=op.time_axis,
        shape=shape,
        strides=strides,
    )
    p.call(kernel, *given, y, node=node, title=f"sequences of {x.type} reversed")


BOUNDED = Need(
    text="bounds that are constants, so that it is known how many elements there are (give those of inputs with "
    "--freeze NAME=VALUE)",
    holds=lambda node: node.output.type.is_static and not node.output.type.size,
)


@lowers(ops.Range, needs=(BOUNDED,))
def _empty_range(p: Program, node: Node, _: ops.Range) -> None:
    """Without elements, as all others are decomposed."""
    p.result(node.output)


def padded(p: Program, node: Node, op: ops.Pad) -> None:
    """x with elements of its own around it."""
    (x,) = operands(node)
    source = p.at(x)
    y = p.result(node.output)
    if not node.output.type.size:
        return
    kernel = PadElements(
        size=bytes_of(x.type.dtype), mode=op.mode, before=op.pads[: x.type.rank], x=laid(x), y=laid(node.output)
    )
    p.call(kernel, source, y, node=node, title=f"{op.mode} padding of {x.type}")
