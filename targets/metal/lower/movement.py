"""Layers that only move elements: what is not read where it lies is copied from there, or is already where it is
wanted."""

from __future__ import annotations

from typing import Any

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import ConvertLayout, order_of
from targets.metal.homes import home_of
from targets.metal.lower.elementwise import laid
from targets.metal.program import MetalProgram
from targets.metal.table import lowers
from targets.source.lower.flatten import is_absorbed
from targets.source.lower.indexing import INDICES, SOME
from targets.source.lower.moving import move
from targets.source.lower.strided import Lying, gathered, lying
from targets.source.table import SHARED


@lowers(ops.Reshape, ops.Transpose, ops.Slice, ops.Split)
def _moves(p: MetalProgram, node: Node, op: Any) -> None:  # Any: whichever operation it is
    if any(p.is_written(v) for v in node.outputs):
        return
    places = [_far(p, v) for v in node.outputs]
    if isinstance(op, ops.Reshape) or any(place.root in (v, node.inputs[0]) for place, v in _pairs(places, node)):
        SHARED.entries[type(op)][1](p, node, op)
        return
    for place, v in _pairs(places, node):
        _take(p, node, v, place)


@lowers(ops.Gather, needs=(INDICES, SOME))
def _gather(p: MetalProgram, node: Node, op: ops.Gather) -> None:
    place = _far(p, node.output)
    if place.root is node.output or gathered(node) is None:
        SHARED.entries[ops.Gather][1](p, node, op)
    else:
        _take(p, node, node.output, place)


@lowers(ConvertLayout)
def _convert_layout(p: MetalProgram, node: Node, op: ConvertLayout) -> None:
    if is_absorbed(node):
        SHARED.entries[ConvertLayout][1](p, node, op)
    else:
        _moves(p, node, op)


@lowers(ops.Concat)
def _concat(p: MetalProgram, node: Node, op: ops.Concat) -> None:
    if not node.output.type.size:
        SHARED.entries[ops.Concat][1](p, node, op)
        return
    for index, v in enumerate(node.inputs):
        assert v is not None
        if not v.type.size or (p.is_written(v) and not p.is_placed(v)):
            continue
        home = home_of(v, node, index)
        assert home is not None
        order = order_of(v.type)
        sizes = [v.type.dims[a] for a in order]
        place = _far(p, v) if v.data is None else Lying(v, 0, laid(v.type))
        source = place.at(p), [place.strides[a] for a in order]
        to = p.written(node.output, home), [home.strides[a] for a in order]
        move(p, node, v.type.dtype, source, to, sizes, f"{v.type} into {node.output.type}")


def _pairs(places: list[Lying], node: Node) -> list[tuple[Lying, Value]]:
    return list(zip(places, node.outputs, strict=True))


def _far(p: MetalProgram, v: Value) -> Lying:
    """Where a value lies before layers move it."""
    return lying(v, p.is_placed, in_rows=False)


def _take(p: MetalProgram, node: Node, v: Value, place: Lying) -> None:
    """Copy a value from where it lies, unless it lies densely there."""
    own = zip(v.type.dims, place.strides, laid(v.type), strict=True)
    if all(n == 1 or a == b for n, a, b in own):
        p.view(v, place.at(p))
        return
    order = order_of(v.type)
    sizes = [v.type.dims[a] for a in order]
    strides = [place.strides[a] for a in order]
    source = place.at(p)
    title = f"part of {place.root.type}"
    move(p, node, v.type.dtype, (source, strides), (p.result(v), [laid(v.type)[a] for a in order]), sizes, title)
