"""What layers with weights, normalisations and products do to the numbers of channels that may be removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array
from passes._prune_units import End, Rule, Units, line, varied

RULES: dict[type[Op], Rule] = {}


def rule(*operations: type[Op]) -> Callable[[Rule], Rule]:
    """Register the rule of operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, function))
        return function

    return register


def other(u: Units, node: Node, op: Any) -> None:
    """Of layers without a rule: numbers pass through what treats each element alone, and stay elsewhere."""
    if op.elementwise and len(node.outputs) == 1:
        _elementwise(u, node)
    else:
        u.fix(*node.inputs)


def _elementwise(u: Units, node: Node) -> None:
    y = node.output
    rank = y.type.rank
    known = {i: _aligned(u.of[v], rank) for i, v in enumerate(node.inputs) if v is not None and v in u.of}
    if not known:
        return
    grids = np.broadcast_arrays(*known.values())
    axes = varied(grids[0])
    for i, v in enumerate(node.inputs):
        if v is None or i in known:
            continue
        lead = rank - v.type.rank
        wide = [a for a in axes if a >= lead and v.type.shape[a - lead] != 1]
        if wide and v.data is None:
            u.fix(*node.inputs)
            return
        for a in wide:
            u.cut(node, i, a - lead, grids[0], a)
    for grid in grids[1:]:
        u.equal(grids[0], grid)
    u.hand_on(y, grids[0])


def _aligned(ids: Array, rank: int) -> Array:
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def are_constant(values: tuple[Value | None, ...]) -> bool:
    """Whether all operands that are given are constants."""
    return all(v is None or v.data is not None for v in values)


def along(u: Units, x: Value | None, axis: int) -> Array | None:
    """The numbers [channels] of a value if it has them along this axis only; those that lie otherwise stay."""
    ids = None if x is None else u.of.get(x)
    if ids is None:
        return None
    if varied(ids) == [axis % ids.ndim]:
        return ids.reshape(-1)
    u.fix_ids(ids)
    return None


def begin(u: Units, node: Node, axis: int, w_axis: int) -> Array:
    """The result of a layer has numbers of its own; returns them."""
    y = node.output
    ids = u.new(node.inputs[1].type.dims[w_axis])  # type: ignore[union-attr]  # the weight
    u.of[y] = line(ids, y.type.rank, axis)
    _gives(u, node, w_axis, ids)
    return ids


def _gives(u: Units, node: Node, w_axis: int, ids: Array) -> None:
    u.gives.append(End(node, w_axis, ids))
    u.cut(node, 1, w_axis, ids)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        u.cut(node, 2, 0, ids)


@rule(ops.Conv)
def _conv(u: Units, node: Node, op: Any) -> None:
    x, w = node.inputs[:2]
    assert x is not None
    assert w is not None
    if not are_constant(node.inputs[1:]):
        u.fix(*node.inputs)
        return
    ids = along(u, x, 1)
    filters, each = w.type.dims[:2]
    if op.groups == 1:
        if ids is not None:
            u.takes.append(End(node, 1, ids))
            u.cut(node, 1, 1, ids)
        begin(u, node, 1, 0)
    elif op.groups > each:
        _whole_groups(u, node, ids, op.groups, filters // op.groups, 0)
    else:
        _balanced(u, node, ids, op.groups, each)


def _whole_groups(u: Units, node: Node, ids: Array | None, groups: int, each: int, w_axis: int) -> None:
    """Each group is removed with all that it reads and computes."""
    if ids is None:
        return
    first = u.couple(ids.reshape(groups, -1), [1])
    mine = np.repeat(first.reshape(-1), each)
    u.of[node.output] = line(mine, node.output.type.rank, 1)
    if w_axis == 0:
        _gives(u, node, 0, mine)
        return
    u.cut(node, 1, 0, ids)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        u.cut(node, 2, 0, mine)


def _balanced(u: Units, node: Node, ids: Array | None, groups: int, each: int) -> None:
    """Groups stay, and lose as many channels each."""
    y = node.output
    made = u.new(y.type.dims[1])
    u.of[y] = line(made, y.type.rank, 1)
    u.gives.append(End(node, 0, made))
    blocks = made.reshape(groups, -1)
    read = None if ids is None else ids.reshape(groups, each)
    u.groups[node] = read, blocks
    u.blocks.append(blocks)
    if ids is not None and read is not None:
        u.blocks.append(read)
        u.takes.append(End(node, 1, ids))


@rule(ops.ConvTranspose)
def _conv_transpose(u: Units, node: Node, op: Any) -> None:
    w = node.inputs[1]
    assert w is not None
    if not are_constant(node.inputs[1:]):
        u.fix(*node.inputs)
        return
    ids = along(u, node.inputs[0], 1)
    if op.groups > 1:
        _whole_groups(u, node, ids, op.groups, w.type.dims[1], 1)
        return
    if ids is not None:
        u.takes.append(End(node, 0, ids))
        u.cut(node, 1, 0, ids)
    begin(u, node, 1, 1)


@rule(ops.Dense, ops.MatMul)
def _dense(u: Units, node: Node, op: Any) -> None:
    x, w = node.inputs[:2]
    assert x is not None
    assert w is not None
    if x.data is not None or w.data is None or w.type.rank != 2 or x.type.rank < 2 or not are_constant(node.inputs[1:]):
        _product(u, node)
        return
    inner = 1 if getattr(op, "transposed", False) else 0
    last = x.type.rank - 1
    ids = u.of.get(x)
    if ids is not None and last not in varied(ids):
        u.of[node.output] = ids
        return
    read = along(u, x, last)
    if read is not None:
        u.takes.append(End(node, inner, read))
        u.cut(node, 1, inner, read)
    begin(u, node, last, 1 - inner)


def _product(u: Units, node: Node) -> None:
    """Of two computed matrices, or stacks of them: whole matrices of a stack are removed, or else inner channels, or
    rows or columns."""
    x, w = node.inputs[:2]
    rank = node.output.type.rank
    values = [v for v in (x, w) if v is not None]
    if len(node.inputs) > 2 or any(v.type.rank != rank for v in values) or rank < 2:
        u.fix(*node.inputs)
        return
    found = [u.of.get(v) for v in values]
    stacks = [ids is not None and bool(set(varied(ids)) - {rank - 2, rank - 1}) for ids in found]
    if any(stacks):
        _stacked(u, node, values, rank)
        return
    a, b = found
    inner = [a is not None and varied(a) == [rank - 1], b is not None and varied(b) == [rank - 2]]
    outer = [a is not None and varied(a) == [rank - 2], b is not None and varied(b) == [rank - 1]]
    if all(inner) and a is not None and b is not None:
        u.equal(a.reshape(-1), b.reshape(-1))
    elif outer[0] and b is None and a is not None:
        u.of[node.output] = a
    elif outer[1] and a is None and b is not None:
        u.of[node.output] = b
    else:
        u.fix(*node.inputs)


def _stacked(u: Units, node: Node, values: list[Value], rank: int) -> None:
    found = [u.couple(u.of[v], [rank - 2, rank - 1]) if v in u.of else np.zeros((1,) * rank, np.int64) for v in values]
    axes = varied(np.broadcast_arrays(*found)[0])
    known = [v in u.of for v in values]
    for v, ids, is_known in zip(values, found, known, strict=True):
        if any(v.type.shape[a] != 1 and ids.shape[a] == 1 for a in axes) or (not is_known and v.data is not None):
            u.fix(*node.inputs)
            return
    if all(known) and all(ids.size > 1 for ids in found):
        u.equal(*found)
    u.hand_on(node.output, np.broadcast_arrays(*[f for f in found if f.size > 1])[0])


@rule(ops.Attention)
def _attention(u: Units, node: Node, _op: Any) -> None:
    """Whole heads, with those of the queries that share one of keys and values."""
    q, k, v, *mask = node.inputs
    assert q is not None
    assert k is not None
    shared = k.type.shape[1]
    lone = [m for m in mask if m is not None and m.type.rank == 4 and m.type.shape[1] != 1]
    ids, keys, values = (_of_heads(u, x) for x in (q, k, v))
    alike = shared == 1 or (keys is not None and values is not None)
    if ids is None or not alike or any(m.data is None for m in lone) or isinstance(shared, str):
        u.fix(*node.inputs)
        return
    mine = u.couple(ids, [2, 3])
    if shared == 1:
        u.fix(k, v)
    else:
        for there in (keys, values):
            assert there is not None
            u.equal(mine.reshape(shared, -1), u.couple(there, [2, 3]).reshape(shared, 1))
    for m in lone:
        u.cut(node, 3, 1, mine, 1)
        assert m.data is not None
    u.of[node.output] = mine


def _of_heads(u: Units, x: Value | None) -> Array | None:
    """The numbers of a value [B,H,S,D] if its heads have different ones."""
    ids = None if x is None else u.of.get(x)
    return ids if ids is not None and varied(ids)[:1] == [1] else None


@rule(ops.BatchNorm, ops.InstanceNorm, ops.GroupNorm)
def _channel_norm(u: Units, node: Node, op: Any) -> None:
    x = node.inputs[0]
    assert x is not None
    spatial = list(range(2, x.type.rank))
    ids: Array | None = u.of.get(x)
    if ids is None or not are_constant(node.inputs[1:]):
        u.fix(x)
        return
    found = ids if isinstance(op, ops.BatchNorm) else kept_apart(u, ids, spatial)
    if found is None or (found.shape[1] > 1 and varied(found) != [1]):
        u.fix(x)
        return
    ids = found
    if isinstance(op, ops.GroupNorm) and ids.shape[1] > 1:
        u.couple(ids.reshape(op.groups, -1), [1])
    if ids.shape[1] > 1:
        for i in range(1, len(node.inputs)):
            u.cut(node, i, 0, ids, 1)
    u.hand_on(node.output, ids)


def kept_apart(u: Units, ids: Array, axes: list[int]) -> Array | None:
    """Numbers of a layer that mixes what lies along axes: made one along these if there are others; None, and they
    stay, if not."""
    inside = [a for a in varied(ids) if a in axes]
    if len(inside) < len(varied(ids)) or not inside:
        return u.couple(ids, inside)
    u.fix_ids(ids)
    return None


@rule(ops.LayerNorm, ops.RmsNorm)
def _trailing_norm(u: Units, node: Node, op: Any) -> None:
    """Without some channels the root of a mean square is that of channels of 0, but for a factor; a mean is not."""
    x = node.inputs[0]
    assert x is not None
    ids = u.of.get(x)
    if ids is None:
        return
    last = x.type.rank - 1
    scale = node.inputs[1]
    assert scale is not None
    alone = isinstance(op, ops.RmsNorm) and op.axis == last and varied(ids) == [last] and scale.data is not None
    if alone:
        if scale.type.shape[-1:] == x.type.shape[-1:]:
            u.cut(node, 1, scale.type.rank - 1, ids, last)
        u.of[node.output] = ids
        return
    left = kept_apart(u, ids, list(range(op.axis, x.type.rank)))
    if left is not None:
        u.hand_on(node.output, left)


@rule(ops.Gather)
def _gather(u: Units, node: Node, op: Any) -> None:
    x, at = node.inputs
    assert x is not None
    assert at is not None
    if x.data is not None and at.data is None and x.type.rank == 2 and op.axis == 0 and x.type.dtype.is_float:
        made = u.new(x.type.dims[1])
        u.of[node.output] = line(made, node.output.type.rank, -1)
        u.cut(node, 0, 1, made)
        return
    ids = u.of.get(x)
    if ids is None:
        u.fix(at)
        return
    if op.axis in varied(ids):
        if at.data is None or at.type.rank != 1 or varied(ids) != [op.axis]:
            u.fix(x, at)
            return
        ids = ids.take(at.data, op.axis)
    else:
        u.fix(at)
        ids = ids.reshape(*ids.shape[: op.axis], *(1,) * at.type.rank, *ids.shape[op.axis + 1 :])
    u.hand_on(node.output, ids)


def units_of(graph: Graph) -> Units:
    """The numbers of a graph, by the rules of this module and of those that add to its table."""
    return Units(graph, RULES, other)
