"""Which layers can take over the scale and the bias of a normalisation, and how."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.filemap import release
from compiler.graph import Node, Value
from compiler.ops.elementwise import Add
from compiler.rewrite import Builder, Skip
from compiler.tensor import Array
from passes._chains import only_reader
from passes._heads import dense_parameters
from passes._linear import Affine, after, before


class Readers(NamedTuple):
    """What reads a normalisation, each with the dense layer whose result it adds, or None if it is dense itself."""

    norm: Node
    partners: dict[Node, Node | None]
    scale: Array
    bias: Array | None

    @property
    def moved(self) -> Affine:
        """What the readers can take over: the scale if all of them are dense and it is no row of ones, the bias."""
        width = self.norm.output.type.dims[-1]
        dense = all(partner is None for partner in self.partners.values())
        scale = self.scale if dense and bool((self.scale != 1).any()) else None
        scale, bias = (None if a is None else np.broadcast_to(a.astype(np.float64), width) for a in (scale, self.bias))
        return Affine(scale, bias)


def readers_of(norm: Node) -> Readers | None:
    """The readers of a normalisation over the last axis with constant parameters, if each can take over its bias."""
    scale, bias = (*norm.inputs, None)[1:3]
    y = norm.output
    fixed = scale is not None and scale.data is not None and (bias is None or bias.data is not None)
    if not fixed or y.n_out or not y.users or y.type.rank - 1 != norm.op.axis or not y.type.is_static:  # type: ignore[attr-defined]  # a normalisation
        return None
    partners: dict[Node, Node | None] = {}
    for reader in y.users:
        if reader.inputs[0] is y and dense_parameters(reader) is not None:
            partners[reader] = None
        elif (partner := _partner(reader, y)) is not None:
            partners[reader] = partner
        else:
            return None
    assert scale is not None and scale.data is not None
    return Readers(norm, partners, scale.data, None if bias is None else bias.data)


def _partner(reader: Node, y: Value) -> Node | None:
    """The dense layer to whose result alone a layer adds y."""
    if type(reader.op) is not Add:
        return None
    other = reader.inputs[1 if reader.inputs[0] is y else 0]
    node = None if other is None or other.type != y.type else other.node
    return node if node is not None and only_reader(node) is reader and dense_parameters(node) is not None else None


def plain(g: Builder, r: Readers) -> Value:
    """The normalisation without what is moved."""
    x, scale = r.norm.inputs[:2]
    assert scale is not None
    return g.add(r.norm.op, x, scale if r.moved.scale is None else g.const(np.ones_like(r.scale), like=scale.type))


def reader_of(g: Builder, reader: Node, r: Readers, y: Value) -> Value | Skip:
    """A reader of `y`, the plain normalisation, with what is moved."""
    partner = r.partners[reader]
    if partner is None:
        dense, weight = before(g, reader, y, r.moved), reader.inputs[1]
        assert weight is not None and weight.data is not None
        release(weight.data)
        return dense
    other = after(g, partner, r.moved)
    return other if isinstance(other, Skip) else g.add(Add(), y, other)
