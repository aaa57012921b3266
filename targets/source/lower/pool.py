"""Pools: windows on vectors of channels where they lie channels-last, else one result at a time."""

from __future__ import annotations

from math import prod

from codegen.expression import Expression
from codegen.neon.pool import WindowPool
from codegen.program import Split
from compiler import ops
from compiler.graph import Node
from compiler.ops.layout import channels_last, order_of
from compiler.ops.window import Ints
from compiler.tensor import F16, F32, DType
from targets.source.lower.windows import plain_pool
from targets.source.needs import NUMBERS
from targets.source.program import Program, ctype_of
from targets.source.table import lowers

KINDS = {
    ops.MaxPool: "max",
    ops.AveragePool: "average",
    ops.GlobalMaxPool: "max",
    ops.GlobalAveragePool: "average",
}
LARGEST = 9  # elements of a window whose taps are written out
POOLS = (ops.MaxPool, ops.AveragePool, ops.LpPool)
GLOBAL = (ops.GlobalAveragePool, ops.GlobalMaxPool, ops.GlobalLpPool)


def kind_of(op: ops.Pool | ops.GlobalPool) -> str | None:
    """What vectors compute of windows; None for norms other than the first two."""
    if isinstance(op, ops.LpPool | ops.GlobalLpPool):
        return {1: "norm1", 2: "norm2"}.get(op.p)
    return KINDS[type(op)]


def is_vector(node: Node) -> bool:
    """Whether a pool is of channels-last floats, over one or two axes, or over all of them."""
    x, op, y = node.inputs[0], node.op, node.outputs[0]
    assert x is not None
    last = channels_last(x.type.rank)
    is_last = order_of(x.type) == last == order_of(y.type)
    lies = is_last or prod(x.type.dims[2:]) == prod(y.type.dims[2:]) == 1
    is_plain = not getattr(op, "indices", False) and kind_of(op) is not None  # type: ignore[arg-type]  # it is a pool
    fits = isinstance(op, ops.GlobalPool) or x.type.rank in (3, 4)
    return lies and is_plain and fits and x.type.dtype in (F16, F32) and bool(y.type.size)


@lowers(*POOLS, needs=(NUMBERS,), tails=is_vector)
def _pool(p: Program, node: Node, op: ops.Pool) -> None:
    if not is_vector(node):
        plain_pool(p, node, op)
        return
    x = node.inputs[0]
    assert x is not None
    tail = p.tail(node)
    kernel, numbers = chosen(op, x.type.dims, node.output.type.dims, tail.expression, x.type.dtype)
    given = [p.at(x), *(p.at(v) for v in tail.others)]
    title = f"{kernel.kind} of {'x'.join(map(str, op.kernel))} windows of {x.type}"
    split = Split(numbers[4], begin="begin", end="end")
    p.call(kernel, *given, p.result(tail.value), *numbers, node=node, title=title, split=split)


@lowers(*GLOBAL, needs=(NUMBERS,), tails=is_vector)
def _global_pool(p: Program, node: Node, op: ops.GlobalPool) -> None:
    x = node.inputs[0]
    assert x is not None
    spatial = x.type.dims[2:]
    if not is_vector(node):
        plain_pool(p, node, as_window(op, spatial))
        return
    tail = p.tail(node)
    size = prod(spatial)
    kernel = WindowPool(kind=kind_of(op) or "", tail=tail.expression, ctype=ctype_of(x.type.dtype))
    given = [p.at(x), *(p.at(v) for v in tail.others)]
    numbers = [x.type.dims[0], size, 1, x.type.dims[1], 1, 1, 0, 1, size, 1, 1, 1, 1, 1, 0, 0]
    title = f"{kernel.kind} of each channel of {x.type}"
    p.call(kernel, *given, p.result(tail.value), *numbers, node=node, title=title)


def chosen(op: ops.Pool, x: Ints, y: Ints, tail: Expression, dtype: DType = F32) -> tuple[WindowPool, list[int]]:
    """The kernel of a pool from x [N,C,*S] to y, of elements of a type, and its arguments that count; one axis becomes
    the width."""
    axes = len(op.kernel)

    def pair(values: Ints, fill: int) -> Ints:
        return (fill, *values) if axes == 1 else tuple(values)

    kernel, dilations = pair(op.kernel, 1), pair(op.dilations, 1)
    is_small = prod(kernel) <= LARGEST and dilations == (1, 1)
    counts = isinstance(op, ops.AveragePool) and op.count_include_pad
    made = WindowPool(
        kind=kind_of(op) or "",
        window=(kernel[0], kernel[1]) if is_small else None,
        counts_border=counts,
        tail=tail,
        ctype=ctype_of(dtype),
    )
    out = pair(y[2:], 1)
    numbers = [x[0], *pair(x[2:], 1), x[1], *out, 0, out[0]]
    numbers += () if is_small else kernel
    numbers += [*pair(op.strides, 1), *dilations, *pair(op.pads[:axes], 0)]
    return made, [*numbers, *(pair(op.pads[axes:], 0) if counts else ())]


def as_window(op: ops.GlobalPool, spatial: Ints) -> ops.Pool:
    """The pool with one window that does the same."""
    axes = len(spatial)
    kind = ops.MaxPool if isinstance(op, ops.GlobalMaxPool) else ops.AveragePool
    made = (ops.LpPool if isinstance(op, ops.GlobalLpPool) else kind)(
        kernel=spatial, strides=(1,) * axes, pads=(0,) * 2 * axes, dilations=(1,) * axes
    )
    return made.with_(p=op.p) if isinstance(op, ops.GlobalLpPool) else made
