"""Queries, keys and values of attention, read where they lie; results, written where they are wanted."""

from __future__ import annotations

from typing import NamedTuple

from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of
from targets.source.lower.indexing import operands
from targets.source.lower.moving import dense
from targets.source.lower.strided import Lying, lying
from targets.source.program import Program

Ints = tuple[int, ...]


class Heads(NamedTuple):
    """Where queries, keys, values and the mask lie."""

    q: Lying
    k: Lying
    v: Lying
    mask: Lying | None

    @property
    def are_rows(self) -> bool:
        """Whether what belongs to a query or key lies side by side."""
        return all(x.strides[-1] == 1 for x in (self.q, self.k, self.v))


def heads_of(p: Program, node: Node) -> tuple[Heads, Ints]:
    """Of a layer of attention; and elements of its mask from one of the batch, head, query and key to the next."""
    q, k, v, *masks = operands(node)
    places = [lying(x, p.is_placed) for x in (q, k, v, *masks)]
    given = Heads(places[0], places[1], places[2], places[3] if masks else None)
    return given, _mask_steps(masks[0], given.mask) if masks and given.mask else (0, 0, 0, 0)


def _mask_steps(mask: Value, of: Lying) -> Ints:
    """Elements of the mask from one of the batch, head, query and key to the next."""
    own = zip(mask.type.dims, of.strides, strict=True)
    return (*[0] * (4 - mask.type.rank), *(0 if d == 1 else s for d, s in own))


def result_of(p: Program, node: Node) -> tuple[Pointer, Ints]:
    """Where results go, and the distances between them: right to where a transpose would move them."""
    y = node.output
    reader = next(iter(y.users)) if len(y.users) == 1 and not y.n_out else None
    if reader is not None and isinstance(reader.op, ops.Transpose) and reader.op.perm[3] == 3:
        moved = reader.output
        if order_of(moved.type) == (0, 1, 2, 3):
            strides = dense(moved.type.dims)
            return p.result(moved), tuple(strides[reader.op.perm.index(axis)] for axis in range(4))
    order = order_of(y.type)
    strides = dense([y.type.dims[a] for a in order])
    return p.result(y), tuple(strides[order.index(axis)] for axis in range(4))
