"""What layers that move numbers, or mix them along axes, do to the numbers of channels that may be removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import Array, Shape
from passes._prune_rules import kept_apart, rule
from passes._prune_units import Units, varied

NAMED = (1_000_003, 1_000_033, 1_000_037, 1_000_039)  # primes that stand for dimensions without a number
ZERO_IS_NEUTRAL = (ops.ReduceSum, ops.ReduceSumSquare, ops.ReduceL1, ops.ReduceL2)


def _ids(u: Units, node: Node) -> Array | None:
    x = node.inputs[0]
    return None if x is None else u.of.get(x)


@rule(ops.Identity, ops.ConvertLayout)
def _same(u: Units, node: Node, _op: Any) -> None:
    ids = _ids(u, node)
    if ids is not None:
        u.of[node.output] = ids


@rule(ops.Transpose)
def _transpose(u: Units, node: Node, op: Any) -> None:
    ids = _ids(u, node)
    if ids is not None:
        u.of[node.output] = ids.transpose(op.perm)


@rule(ops.Reshape)
def _reshape(u: Units, node: Node, _op: Any) -> None:
    ids, x, y = _ids(u, node), node.inputs[0], node.output
    if ids is None or x is None:
        return
    blocks = _blocks(x.type.shape, y.type.shape)
    if blocks is None:
        u.fix(x)
        return
    wide: list[int] = []
    made: list[int] = []
    for before, after in blocks:
        moves = any(ids.shape[i] > 1 for i in before)
        sizes = [x.type.shape[i] for i in before], [y.type.shape[i] for i in after]
        if moves and any(isinstance(d, str) for size in sizes for d in size):
            u.fix(x)
            return
        wide += [d if moves and isinstance(d, int) else 1 for d in sizes[0]]
        made += [d if moves and isinstance(d, int) else 1 for d in sizes[1]]
    whole = np.broadcast_to(ids, wide).reshape(made)
    for axis in varied(whole):
        first = whole.take([0], axis)
        whole = first if bool((whole == first).all()) else whole
    u.hand_on(y, whole)
    _note_shuffle(u, node)


def _blocks(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Neighbouring axes that become others, as few as possible at a time; None if names of dimensions do not allow
    to tell."""
    names = dict.fromkeys(d for d in (*before, *after) if isinstance(d, str))
    if len(names) > len(NAMED):
        return None
    sizes = dict(zip(names, NAMED, strict=False))
    a, b = ([d if isinstance(d, int) else sizes[d] for d in shape] for shape in (before, after))
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        left, right = ([i], [j]) if i < len(a) and j < len(b) else ([], [])
        m = n = 1
        if left and right:
            m, n = a[i], b[j]
            i, j = i + 1, j + 1
        while (m != n or not (left or right)) and (i < len(a) or j < len(b)):
            if (m <= n and i < len(a)) or j >= len(b):
                left, m, i = [*left, i], m * a[i], i + 1
            else:
                right, n, j = [*right, j], n * b[j], j + 1
        if m != n:
            return None
        found.append((left, right))
    return found


def _note_shuffle(u: Units, last: Node) -> None:
    """If a reshape is the last of three layers that together only reorder the channels of one axis, note them."""
    turn = last.inputs[0].node if last.inputs[0] is not None else None
    first = turn.inputs[0].node if turn is not None and turn.inputs[0] is not None else None
    if turn is None or first is None or type(turn.op) is not ops.Transpose or type(first.op) is not ops.Reshape:
        return
    x, between = first.inputs[0], first.output
    alone = all(
        list(n.outputs[0].users) == [user] and not n.outputs[0].n_out for n, user in ((first, turn), (turn, last))
    )
    if x is None or x not in u.of or not alone or x.type.shape != last.output.type.shape:
        return
    axes = varied(u.of[x])
    at = axes[0] if len(axes) == 1 else 0
    split = (*x.type.shape[:at], *between.type.shape[at : at + 2], *x.type.shape[at + 1 :])
    perm = (*range(at), at + 1, at, *range(at + 2, between.type.rank))
    if len(axes) == 1 and between.type.shape == split and turn.op.perm == perm:
        u.shuffles[first] = turn, last


@rule(ops.Expand)
def _expand(u: Units, node: Node, _op: Any) -> None:
    ids = _ids(u, node)
    if ids is not None:
        u.of[node.output] = ids.reshape((1,) * (node.output.type.rank - ids.ndim) + ids.shape)


@rule(ops.Tile)
def _tile(u: Units, node: Node, op: Any) -> None:
    ids = _ids(u, node)
    if ids is not None:
        _unless(u, node, ids, [i for i, n in enumerate(op.repeats) if n != 1])


@rule(ops.Pad)
def _pad(u: Units, node: Node, op: Any) -> None:
    ids = _ids(u, node)
    if ids is not None:
        rank = ids.ndim
        _unless(u, node, ids, [i for i in range(rank) if op.pads[i] or op.pads[rank + i]])


def _unless(u: Units, node: Node, ids: Array, axes: Sequence[int]) -> None:
    """The result has the numbers of the operand, unless these lie along axes."""
    if set(varied(ids)) & set(axes):
        u.fix(*node.inputs)
    else:
        u.of[node.output] = ids


def _mixing(u: Units, node: Node, axes: Sequence[int]) -> None:
    ids = _ids(u, node)
    left = None if ids is None else kept_apart(u, ids, list(axes))
    if left is not None:
        u.hand_on(node.outputs[0], left)


@rule(ops.MaxPool, ops.AveragePool, ops.LpPool, ops.GlobalAveragePool, ops.GlobalMaxPool, ops.GlobalLpPool)
def _pool(u: Units, node: Node, _op: Any) -> None:
    if len(node.outputs) > 1:
        u.fix(*node.inputs)
    else:
        _mixing(u, node, range(2, node.outputs[0].type.rank))


@rule(ops.Softmax, ops.LogSoftmax, ops.Hardmax, ops.LpNormalize)
def _axis_wise(u: Units, node: Node, op: Any) -> None:
    _mixing(u, node, [op.axis])


@rule(ops.Resize)
def _resize(u: Units, node: Node, op: Any) -> None:
    x = node.inputs[0]
    if x in u.of and (x is None or not x.type.is_static):
        u.fix(x)
    elif x is not None and x in u.of:
        _mixing(u, node, op.resized_axes(x.type.dims))


@rule(ops.RotaryEmbedding)
def _rotary(u: Units, node: Node, _op: Any) -> None:
    ids = _ids(u, node)
    if ids is not None and varied(ids)[:1] == [1]:
        u.of[node.output] = u.couple(ids, [3])
    else:
        u.fix(*node.inputs)


@rule(
    ops.ReduceSum, ops.ReduceSumSquare, ops.ReduceL1, ops.ReduceL2, ops.ReduceMean,
    ops.ReduceMax, ops.ReduceMin, ops.ReduceProd, ops.ReduceLogSum, ops.ReduceLogSumExp,
)  # fmt: skip
def _reduce(u: Units, node: Node, op: Any) -> None:
    """A sum over channels of which some are removed is that of zeros in their place."""
    ids = _ids(u, node)
    if ids is None:
        return
    if isinstance(op, ZERO_IS_NEUTRAL) and set(varied(ids)) <= set(op.axes):
        return
    left = kept_apart(u, ids, list(op.axes))
    if left is not None:
        u.hand_on(node.output, left if op.keepdims else left.squeeze(op.axes))


@rule(ops.Split)
def _split(u: Units, node: Node, op: Any) -> None:
    ids = _ids(u, node)
    if ids is None:
        return
    start = 0
    for y, size in zip(node.outputs, op.sizes, strict=True):
        part = ids if ids.shape[op.axis] == 1 else ids.take(range(start, start + size), op.axis)
        u.hand_on(y, part)
        start += size


@rule(ops.Slice)
def _slice(u: Units, node: Node, op: Any) -> None:
    ids = _ids(u, node)
    if ids is None:
        return
    for axis in varied(ids):
        if op.steps[axis] != 1:
            u.fix(*node.inputs)
            return
        ids = ids.take(range(op.starts[axis], op.ends[axis]), axis)
    u.hand_on(node.output, ids)


@rule(ops.Concat)
def _concat(u: Units, node: Node, op: Any) -> None:
    parts = [v for v in node.inputs if v is not None]
    known = [u.of[v] for v in parts if v in u.of]
    if not known:
        return
    rank, axis = node.output.type.rank, op.axis
    wide = np.broadcast_shapes(*(tuple(1 if i == axis else d for i, d in enumerate(ids.shape)) for ids in known))
    across = any(ids.shape[axis] > 1 for ids in known)
    found: list[Array] = []
    for i, v in enumerate(parts):
        ids = u.of.get(v) if v in u.of else _own(u, node, i, v, axis, wide, known[0], across)
        if ids is None or (across and isinstance(v.type.shape[axis], str)):
            u.fix(*node.inputs)
            return
        found.append(ids)
    if not across:
        for ids in found:
            u.equal(found[0], ids)
        u.hand_on(node.output, np.broadcast_to(found[0], wide))
        return
    sizes = [v.type.dims[axis] if v.type.is_static else int(v.type.shape[axis]) for v in parts]
    shapes = [tuple(size if i == axis else wide[i] for i in range(rank)) for size in sizes]
    u.of[node.output] = np.concatenate([np.broadcast_to(f, s) for f, s in zip(found, shapes, strict=True)], axis)


def _own(
    u: Units, node: Node, i: int, v: Value, axis: int, wide: tuple[int, ...], like: Array, across: bool
) -> Array | None:
    """Numbers for an operand of a concatenation that has none: of channels that stay, or those of the other operands
    along other axes if a constant can be cut there; None if neither is so."""
    others = [a for a, d in enumerate(wide) if d > 1]
    size = v.type.shape[axis]
    if across and not others and isinstance(size, int):
        ids = u.new(size)
        u.fix_ids(ids)
        return ids.reshape([-1 if a == axis else 1 for a in range(len(wide))])
    if across or v.data is None:
        return None
    for a in others:
        u.cut(node, i, a, np.broadcast_to(like, wide), a)
    return np.broadcast_to(like, wide)


@rule(ops.DepthToSpace)
def _depth_to_space(u: Units, node: Node, op: Any) -> None:
    """Channels that end in one block of pixels are removed together."""
    ids = _ids(u, node)
    if ids is None:
        return
    if varied(ids) != [1]:
        u.fix(*node.inputs)
        return
    b = op.blocksize
    grid = ids.reshape((b * b, -1) if op.mode == "DCR" else (-1, b * b))
    lone = u.couple(grid, [0 if op.mode == "DCR" else 1])
    u.hand_on(node.output, lone.reshape(1, -1, 1, 1))


@rule(ops.SpaceToDepth)
def _space_to_depth(u: Units, node: Node, op: Any) -> None:
    ids = _ids(u, node)
    if ids is None:
        return
    if varied(ids) != [1]:
        u.fix(*node.inputs)
        return
    many = op.blocksize**2
    row = ids.reshape(-1)
    u.of[node.output] = (np.tile(row, many) if op.mode == "DCR" else np.repeat(row, many)).reshape(1, -1, 1, 1)
