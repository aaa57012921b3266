"""Which axes of the operands and results of a layer are one and the same: how an order in memory passes through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from compiler.graph import Node
from compiler.op import Op
from compiler.ops.index import Gather, ReverseSequence
from compiler.ops.layout import Order, in_memory, logical
from compiler.ops.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm
from compiler.ops.parts import Concat, Pad, Slice, Split, Tile
from compiler.ops.pool import GlobalAveragePool, GlobalLpPool, GlobalMaxPool
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from compiler.ops.reduce import CumProd, CumSum, Reduce
from compiler.ops.search import ArgExtreme, TopK
from compiler.ops.shape import Expand
from compiler.ops.softmax import Hardmax, LogSoftmax, LpNormalize, Softmax
from compiler.tensor import Dim, Shape, TensorType

Axes = tuple[int, ...] | None  # the number of each axis within the layer; None where only the logical order is read


class Flow(NamedTuple):
    """Numbers for the axes of every operand and result: equal ones are one axis, or stand for one in their order."""

    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]


class Orders(NamedTuple):
    """The orders of a layer's operands (None: any will do) and results."""

    operands: tuple[Order | None, ...]
    results: tuple[Order, ...]


FIRST: tuple[type[Op], ...] = (
    *(BatchNorm, CumProd, CumSum, DequantizeLinear, GlobalAveragePool, GlobalLpPool, GlobalMaxPool, GroupNorm),
    *(Hardmax, InstanceNorm, LogSoftmax, LpNormalize, Pad, QuantizeLinear, ReverseSequence, Slice, Softmax, Split),
    *(Tile, TopK),
)


def axes_of(node: Node) -> Flow | None:
    """How axes pass through a layer that computes the same in any order; None for all others."""
    rule = FLOWS.get(type(node.op))
    if rule is None:
        if node.op.elementwise:
            rule = _aligned
        elif isinstance(node.op, Reduce | ArgExtreme):
            rule = _reduced
        else:
            return None
    return rule(node, node.op)


def orders_through(node: Node, flow: Flow, axes: Axes, order: Order) -> Orders | None:
    """The orders that go with the order of one operand or result; None if that lacks an axis of another."""
    if axes is None or len(set(axes)) < len(axes):
        return None
    place = {axes[i]: at for at, i in enumerate(order)}
    values = (*node.inputs, *node.outputs)
    found: list[Order | None] = []
    for v, a in zip(values, (*flow.operands, *flow.results), strict=True):
        if v is None:
            found.append(None)
        elif a is None:
            found.append(logical(v.type.rank))
        elif a == axes:
            found.append(order)
        elif place.keys() >= set(a):
            found.append(tuple(sorted(range(len(a)), key=[place[n] for n in a].__getitem__)))
        else:
            return None
    results = tuple(order for order in found[len(node.inputs) :] if order is not None)
    return Orders(tuple(found[: len(node.inputs)]), results)


def _aligned(node: Node, _: Op) -> Flow:
    """Operands broadcast to the result, aligned at the last axis."""
    rank = node.outputs[0].type.rank
    operands = tuple(None if v is None else tuple(range(rank - v.type.rank, rank)) for v in node.inputs)
    return Flow(operands, (logical(rank),))


def _first(node: Node, op: Op) -> Flow:
    """The results have the axes of the first operand; others are vectors or numbers."""
    x = node.inputs[0]
    assert x is not None
    axes = logical(x.type.rank)
    in_blocks = isinstance(op, QuantizeLinear | DequantizeLinear) and op.block_size
    other = axes if in_blocks else None
    return Flow((axes, *(other for _ in node.inputs[1:])), tuple(axes for _ in node.outputs))


def _concat(node: Node, _: Op) -> Flow:
    axes = logical(node.outputs[0].type.rank)
    return Flow(tuple(axes for _ in node.inputs), (axes,))


def _reduced(node: Node, op: Any) -> Flow:  # Reduce or ArgExtreme
    x = node.inputs[0]
    assert x is not None
    axes = logical(x.type.rank)
    gone = () if op.keepdims else op.axes if isinstance(op, Reduce) else (op.axis,)
    return Flow((axes,), (tuple(a for a in axes if a not in gone),))


def _gather(node: Node, op: Gather) -> Flow:
    x, indices = node.inputs
    assert x is not None and indices is not None
    axes = logical(x.type.rank)
    taken = (op.axis,) * indices.type.rank
    return Flow((axes, None), ((*axes[: op.axis], *taken, *axes[op.axis + 1 :]),))


FLOWS: dict[type[Op], Callable[[Node, Any], Flow]] = {  # Any: the operation of its own key
    **dict.fromkeys(FIRST, _first),
    **dict.fromkeys((Expand, LayerNorm, RmsNorm), _aligned),
    Concat: _concat,
    Gather: _gather,
}


def reshaped(source: TensorType, order: Order, target: Shape) -> Order | None:
    """The order in which a reshape of what lies in `order` has `target` as its logical shape without moving a byte;
    None if there is none."""
    moved = in_memory(source.shape, order)
    if moved == in_memory(source.shape, logical(source.rank)):
        return logical(len(target))
    blocks = _blocks(source.shape, target)
    out: list[int] = []
    while blocks and len(moved):
        old, new = blocks.get(moved[0], ((), ()))
        if not old or moved[: len(old)] != old:
            return None
        moved = moved[len(old) :]
        out.extend(new)
    return None if blocks is None else _with_units(out, target)


def _with_units(order: list[int], shape: Shape) -> Order:
    """An order of the axes longer than 1, with the others: the last ones behind the axis before them, the rest outside
    of all but a batch axis."""
    first, last = min(order), max(order)
    head = 1 if order[0] == first else 0
    at = order.index(last) + 1
    order = [*order[:at], *range(last + 1, len(shape)), *order[at:]]
    between = [i for i in range(first, last) if shape[i] == 1]
    return (*range(first), *order[:head], *between, *order[head:])


Blocks = dict[int, tuple[tuple[int, ...], tuple[int, ...]]]


def _blocks(source: Shape, target: Shape) -> Blocks | None:
    """The smallest runs of axes longer than 1 of both shapes that hold the same elements, by the first of the source;
    None if the shapes do not part into such runs."""
    old = deque(i for i, d in enumerate(source) if d != 1)
    new = deque(i for i, d in enumerate(target) if d != 1)
    blocks: Blocks = {}
    while old and new:
        left, right = [old.popleft()], [new.popleft()]
        have, want = source[left[0]], target[right[0]]
        while have != want:
            if not isinstance(have, int) or not isinstance(want, int):
                return None
            run, rest, shape = (left, old, source) if have < want else (right, new, target)
            if not rest:
                return None
            run.append(rest.popleft())
            grown = _times(min(have, want), shape[run[-1]])
            have, want = (grown, want) if have < want else (have, grown)
        blocks[left[0]] = tuple(left), tuple(right)
    return None if old or new else blocks


def _times(a: int, d: Dim) -> Dim:
    return a * d if isinstance(d, int) else d
