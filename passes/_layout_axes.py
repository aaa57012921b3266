"""Which axes of the operands and results of a layer are one and the same: how an order in memory passes through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import takewhile
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
    """Numbers for the axes of every operand and result; equal numbers are one axis."""

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
    if axes is None:
        return None
    place = {axes[i]: at for at, i in enumerate(order)}
    try:
        operands = tuple(
            None if v is None else _sorted(a, place) if a is not None else logical(v.type.rank)
            for v, a in zip(node.inputs, flow.operands, strict=True)
        )
        results = tuple(
            _sorted(a, place) if a is not None else logical(v.type.rank)
            for v, a in zip(node.outputs, flow.results, strict=True)
        )
    except KeyError:
        return None
    return Orders(operands, results)


def _sorted(axes: tuple[int, ...], place: dict[int, int]) -> Order:
    at = [place[a] for a in axes]
    return tuple(sorted(range(len(axes)), key=at.__getitem__))


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


def _gather(node: Node, op: Gather) -> Flow | None:
    x, indices = node.inputs
    assert x is not None and indices is not None
    axes = logical(x.type.rank)
    if indices.type.rank > 1:
        return None
    return Flow((axes, None), (tuple(a for a in axes if a != op.axis or indices.type.rank),))


FLOWS: dict[type[Op], Callable[[Node, Any], Flow | None]] = {  # Any: the operation of its own key
    **dict.fromkeys(FIRST, _first),
    **dict.fromkeys((Expand, LayerNorm, RmsNorm), _aligned),
    Concat: _concat,
    Gather: _gather,
}


def reshaped(source: TensorType, order: Order, target: Shape) -> Order | None:
    """The order in which a reshape of what lies in `order` has `target` as its logical shape without moving a byte;
    None if there is none. Dimensions of 1 stay before the axis that they precede, the first ones outermost."""
    if in_memory(source.shape, order) == in_memory(source.shape, logical(source.rank)):
        return logical(len(target))
    blocks = _blocks(source.shape, target)
    if blocks is None:
        return None
    out = list(takewhile(lambda i: target[i] == 1, range(len(target))))
    waiting = list(in_memory(source.shape, order))
    by_first = {old[0]: (old, new) for old, new in blocks}
    while waiting:
        old, new = by_first.get(waiting[0], ((), ()))
        if not old or tuple(waiting[: len(old)]) != old:
            return None
        del waiting[: len(old)]
        out.extend(new)
    return tuple(out)


def _blocks(source: Shape, target: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """The smallest runs of axes of both shapes that hold the same elements: axes longer than 1 of the source, axes of
    the target from the first that is on, each with the 1s before it (the last also with those after it)."""
    old = deque(i for i, d in enumerate(source) if d != 1)
    new: deque[tuple[int, ...]] = deque()
    units: tuple[int, ...] = ()
    for k, d in enumerate(target):
        units = (*units, k) if new or d != 1 else ()
        if d != 1:
            new.append(units)
            units = ()
    if new:
        new.append((*new.pop(), *units))
    blocks: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while old and new:
        left: tuple[int, ...] = (old.popleft(),)
        right = new.popleft()
        have, want = source[left[0]], _length(right, target)
        while have != want:
            if not isinstance(have, int) or not isinstance(want, int):
                return None
            short = old if have < want else new
            if not short:
                return None
            if have < want:
                left = (*left, old.popleft())
                have = _times(have, source[left[-1]])
            else:
                more = new.popleft()
                right = (*right, *more)
                want = _times(want, _length(more, target))
        blocks.append((left, right))
    return None if old or new else blocks


def _length(axes: tuple[int, ...], shape: Shape) -> Dim:
    """The length of the one axis among these that is longer than 1."""
    return next(shape[i] for i in axes if shape[i] != 1)


def _times(a: int, d: Dim) -> Dim:
    return a * d if isinstance(d, int) else d
