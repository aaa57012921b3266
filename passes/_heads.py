"""The heads of an attention: where they come from, and where they go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.filemap import release
from compiler.graph import Node, Value
from compiler.ops.attention import Attention
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.parts import Split
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array
from passes._chains import only_reader
from passes._selection import Part, part_read

HEADS_FIRST = (0, 2, 1, 3)  # [B,S,H,D] to [B,H,S,D] and back
THIRDS_FIRST = (2, 0, 3, 1, 4)  # [B,S,3,H,D] to [3,B,H,S,D]


class Projection(NamedTuple):
    """Heads [B,H,S,D] = x [B,S,K] times weight [K,H,D], plus bias [H,D]: part number `place` of what a layer
    computes."""

    x: Value
    weight: Array
    bias: Array | None
    node: Node
    place: int

    def scaled(self, factor: float) -> Projection:
        """The heads times a number."""
        if factor == 1:
            return self
        weight, bias = (None if a is None else (a * factor).astype(a.dtype) for a in (self.weight, self.bias))
        assert weight is not None
        return self._replace(weight=weight, bias=bias)


def dense_parameters(node: Node) -> tuple[Array, Array | None] | None:
    """The weight [K,N] and bias [N] of a dense layer; None if one of them is no constant."""
    if type(node.op) is not Dense:
        return None
    _, w, b = (*node.inputs, None)[:3]
    if w is None or w.data is None or (b is not None and b.data is None):
        return None
    return (w.data.T if node.op.transposed else w.data), None if b is None else b.data


def projection(heads: Value) -> Projection | None:
    """What heads [B,H,S,D] are projected from by a dense layer that nothing else reads; None if they are not."""
    if not heads.type.is_static or heads.type.rank != 4:
        return None
    batch, count, length, width = heads.type.dims
    third = _third(heads)
    turned, place, many = (_single(heads, Transpose), 0, 1) if third is None else (*third, 3)
    wanted = (batch, length, count, width) if many == 1 else (batch, length, many, count, width)
    if turned is None or turned.op != Transpose(perm=HEADS_FIRST if many == 1 else THIRDS_FIRST):
        return None
    split = _single(turned.inputs[0], Reshape)
    layer = None if split is None or split.output.type.shape != wanted else _single(split.inputs[0], Dense)
    parameters = None if layer is None else dense_parameters(layer)
    x = None if layer is None else layer.inputs[0]
    if layer is None or parameters is None or x is None or x.type.shape[:-1] != (batch, length):
        return None
    weight, bias = (None if a is None else a.reshape(*a.shape[:-1], many, count, width) for a in parameters)
    assert weight is not None
    return Projection(x, weight[:, place], None if bias is None else bias[place], layer, place)


def _third(heads: Value) -> tuple[Node, int] | None:
    """The layer that computes queries, keys and values [3,B,H,S,D], and which of them `heads` are, if each is taken and
    read once and nothing else is read."""
    squeezed = heads if isinstance(heads.node and heads.node.op, Gather) else None
    if squeezed is None:
        reshape = _single(heads, Reshape)
        squeezed = None if reshape is None else reshape.inputs[0]
    taking = None if squeezed is None else squeezed.node
    stacked = None if taking is None else taking.inputs[0]
    turned = None if stacked is None else stacked.node
    if squeezed is None or taking is None or stacked is None or turned is None or stacked.n_out:
        return None
    readers = list(stacked.users)
    read_once = all(not v.n_out and len(v.users) == 1 for r in readers for v in r.outputs)
    if not read_once or type(turned.op) is not Transpose or stacked.type.shape != (3, *heads.type.shape):
        return None
    if taking.op == Split(axis=0, sizes=(1, 1, 1)):
        return (turned, squeezed.index) if len(readers) == 1 else None
    parts = [part_read(r, stacked) for r in readers]
    place = part_read(taking, stacked)
    each = len(parts) == 3 and {Part(0, i, i + 1) for i in range(3)} == set(parts)
    return (turned, place.start) if each and place is not None else None


def whole(parts: list[Projection]) -> bool:
    """Whether these projections are all that their layers compute."""
    widths: dict[Node, int] = {}
    for (node, _), size in {(p.node, p.place): p.weight[0].size for p in parts}.items():
        widths[node] = widths.get(node, 0) + size
    return all(node.output.type.dims[-1] == width for node, width in widths.items())


def alike(parts: list[Projection]) -> list[list[int]]:
    """The places of projections that have their input and the width of their heads in common."""
    groups: dict[tuple[Value, int], list[int]] = {}
    for i, p in enumerate(parts):
        groups.setdefault((p.x, p.weight.shape[2]), []).append(i)
    return list(groups.values())


def joined(parts: list[Projection]) -> tuple[Array, Array | None]:
    """Weight [K,H,D] and bias [H,D] of all the heads of projections of one input and width."""
    weight = np.concatenate([p.weight for p in parts], axis=1)
    for p in parts:
        release(p.weight)
    if all(p.bias is None for p in parts):
        return weight, None
    biases = [np.zeros(p.weight.shape[1:], p.weight.dtype) if p.bias is None else p.bias for p in parts]
    return weight, np.concatenate(biases)


def attended(rows: Value) -> Value | None:
    """The result [B,H,S,D] of an attention whose heads lie side by side in rows [...,H*D]; None if `rows` is no such
    thing."""
    side_by_side = _single(rows, Reshape)
    turned = None if side_by_side is None else _single(side_by_side.inputs[0], Transpose)
    if turned is None or turned.op != Transpose(perm=HEADS_FIRST) or not rows.type.is_static:
        return None
    heads = turned.inputs[0]
    assert heads is not None
    _, count, _, width = heads.type.dims
    return heads if _single(heads, Attention) is not None and rows.type.dims[-1] == count * width else None


def _single(v: Value | None, op: type) -> Node | None:
    """The layer of `op` that computes `v` for one reader."""
    node = None if v is None else v.node
    return node if node is not None and type(node.op) is op and only_reader(node) is not None else None
