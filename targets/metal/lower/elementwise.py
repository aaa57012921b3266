"""Layers that compute element by element: what they read and write is read and written where it lies, in one loop."""

from __future__ import annotations

from math import prod
from typing import Any

from codegen.expression import Expression, Operand, functions, operands, substitute
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of
from compiler.target import Need
from compiler.tensor import TensorType
from targets.metal.homes import Home, home_of
from targets.metal.loops import Access, Loop, Store, dispatch
from targets.metal.program import MetalProgram
from targets.metal.table import lowers
from targets.source.chains import Chain, chain_of, trimmed
from targets.source.elements import element_type
from targets.source.expressions import EXPRESSIONS
from targets.source.lower.elementwise import COMPUTED
from targets.source.lower.moving import dense
from targets.source.lower.strided import MOVES, Lying, lying
from targets.source.table import SHARED

IN_PLACE = (*EXPRESSIONS, *MOVES, ops.Attention, ops.Concat)  # operations that read operands where they lie
VARIADIC = (ops.Sum, ops.Mean, ops.Max, ops.Min)
MOST = 24  # operands: a kernel has 31 buffers at most
FEW = Need(text=f"at most {MOST} operands; more are taken two at a time", holds=lambda node: len(node.inputs) <= MOST)


@lowers(*VARIADIC, needs=(COMPUTED, FEW))
@lowers(*(op for op in EXPRESSIONS if op not in VARIADIC), needs=(COMPUTED,))
def _elementwise(p: MetalProgram, node: Node, op: Any) -> None:  # Any: whichever operation it is
    chain = trimmed(p.chains.get(node) or chain_of(node, [node]))
    out = node.output
    home = home_of(out)
    places = [place_of(p, v) for v in chain.values]
    moved = any(place.root is not v for place, v in zip(places, chain.values, strict=True))
    if not out.type.size or (home is None and not moved):
        SHARED.entries[type(op)][1](p, node, op)
        return
    loop = loop_of(p, out.type, chain, places, y_of(p, out, home))
    kernel, arguments = dispatch([loop])
    title = f"{', '.join(functions(chain.expression)) or 'copy'} of {out.type}"
    p.call(kernel, *arguments, node=node, title=title)


def place_of(p: MetalProgram, v: Value) -> Lying:
    """Where an operand is read: where it lies before layers move it, unless others need it as it is then."""
    if any(not isinstance(user.op, IN_PLACE) for user in v.users) or v.n_out:
        return lying(v, lambda _: False)
    return lying(v, p.is_placed, in_rows=False)


def y_of(p: MetalProgram, v: Value, home: Home | None) -> Access:
    """Where a result is written."""
    ctype = element_type(v.type.dtype)
    if home is None:
        return Access(p.result(v), ctype, laid(v.type))
    place = p.written(v, home)
    return Access(place, ctype, home.strides)


def laid(t: TensorType) -> tuple[int, ...]:
    """The distances between neighbours along the axes of a value that lies densely."""
    order = order_of(t)
    strides = dense([t.dims[a] for a in order])
    return tuple(strides[order.index(axis)] for axis in range(t.rank))


def loop_of(p: MetalProgram, out: TensorType, chain: Chain, places: list[Lying], y: Access) -> Loop:
    """The loop that computes a chain."""
    kinds = {o.index: o.ctype for o in operands(chain.expression)}
    reads: dict[Access, int] = {}
    names: dict[int, Expression] = {}
    for i, (v, place) in enumerate(zip(chain.values, places, strict=True)):
        missing = out.rank - v.type.rank
        own = zip(v.type.dims, place.strides, strict=True)
        strides = (*[0] * missing, *(0 if n == 1 else s for n, s in own))
        access = Access(place.at(p), kinds[i], strides)
        names[i] = Operand(reads.setdefault(access, len(reads)), kinds[i])
    return Loop(out.dims, tuple(reads), (Store(substitute(chain.expression, names), y),))


def copy(p: MetalProgram, node: Node, v: Value, place: Lying, y: Access, title: str) -> None:
    """A value, from where it lies to another place."""
    unit = y.ctype
    own = tuple(0 if n == 1 else s for n, s in zip(v.type.dims, place.strides, strict=True))
    loop = Loop(v.type.dims, (Access(place.at(p), unit, own),), (Store(Operand(0, unit), y),))
    if prod(v.type.dims):
        kernel, arguments = dispatch([loop])
        p.call(kernel, *arguments, node=node, title=title)
