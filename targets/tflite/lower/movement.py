"""Operations that move elements: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.layout import ConvertLayout, channels_last, order_of
from compiler.target import Need
from targets.tflite.lower.axes import merged_permutation
from targets.tflite.lower.elementwise import one
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import SOURCE, lowers, up_to
from targets.tflite.model import Tensor

MAX_TRANSPOSE = 6
MAX_SLICE = 5


@lowers(ops.Reshape)
def _reshape(p: Lowering, node: Node, op: ops.Reshape) -> None:
    """The orders of the operand and of the result are such that the bytes stay."""
    (x,) = node.inputs
    assert x is not None
    out = node.output.type
    y = p.reshape(p.get(x, order_of(x.type)), [out.dims[i] for i in order_of(out)])
    p.finish(node, y, order_of(out))


def _movable(node: Node) -> bool:
    x, op = node.inputs[0], node.op
    assert x is not None and isinstance(op, ops.Transpose)
    return len(merged_permutation(x.type.dims, op.perm)[0]) <= MAX_TRANSPOSE


@lowers(
    ops.Transpose,
    needs=[Need(text=f"at most {MAX_TRANSPOSE} groups of axes that move apart", holds=_movable, source=SOURCE)],
)
def _transpose(p: Lowering, node: Node, op: ops.Transpose) -> None:
    """The result may lie so that nothing moves."""
    (x,) = node.inputs
    assert x is not None
    order = order_of(node.output.type)
    p.finish(node, p.get(x, tuple(op.perm[a] for a in order)), order)


@lowers(ConvertLayout)
def _convert_layout(p: Lowering, node: Node, op: ConvertLayout) -> None:
    (x,) = node.inputs
    assert x is not None
    p.finish(node, p.get(x, op.order), op.order)


@lowers(ops.Expand, needs=[up_to(8)])
def _expand(p: Lowering, node: Node, op: Op) -> None:
    (x,) = node.inputs
    assert x is not None
    order = p.result_order(node)
    shape = [node.output.type.dims[i] for i in order]
    p.finish(node, p.spread(p.aligned(x, order), shape), order)


@lowers(ops.Tile)
def _tile(p: Lowering, node: Node, op: ops.Tile) -> None:
    x, order = one(p, node)
    repeats = [op.repeats[i] for i in order]
    shape = [d * r for d, r in zip(x.shape, repeats, strict=True)]
    moved = x if set(repeats) <= {1} else p.add("TILE", [x, p.ints(repeats)], x.dtype, shape)
    p.finish(node, moved, order)


@lowers(ops.Concat)
def _concat(p: Lowering, node: Node, op: ops.Concat) -> None:
    order = p.result_order(node)
    parts = [p.get(v, order) for v in node.inputs if v is not None]
    p.finish(node, p.concat(parts, order.index(op.axis)), order)


@lowers(ops.Split)
def _split(p: Lowering, node: Node, op: ops.Split) -> None:
    """Parts without elements have no readers."""
    x, order = one(p, node)
    sizes = [size for size in op.sizes if size]
    filled = [v for v, size in zip(node.outputs, op.sizes, strict=True) if size]
    for v, part in zip(filled, p.split(x, sizes, order.index(op.axis)), strict=True):
        p.bind(v, part, order)


@lowers(ops.Slice)
def _slice(p: Lowering, node: Node, op: ops.Slice) -> None:
    """Axes that are taken whole are merged where there are many."""
    x, order = one(p, node)
    bounds = [tuple(v[i] for i in order) for v in (op.starts, op.ends, op.steps)]
    if len(x.shape) <= MAX_SLICE:
        p.finish(node, p.cut(x, *bounds), order)
        return
    y = x
    for axis, (begin, end, step) in enumerate(zip(*bounds, strict=True)):
        y = _cut_axis(p, y, axis, (begin, end, step))
    p.finish(node, y, order)


def _cut_axis(p: Lowering, x: Tensor, axis: int, bounds: tuple[int, int, int]) -> Tensor:
    if bounds == (0, x.shape[axis], 1):
        return x
    before, after = int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis + 1 :]))
    flat = p.reshape(x, (before, x.shape[axis], after))
    y = p.part(flat, 1, *bounds)
    return p.reshape(y, (*x.shape[:axis], y.shape[1], *x.shape[axis + 1 :]))


@lowers(ops.Pad)
def _pad(p: Lowering, node: Node, op: ops.Pad) -> None:
    """What no builtin mirrors or repeats is gathered, axis by axis."""
    (x, rank), order = (node.inputs[0], len(op.pads) // 2), p.result_order(node)
    assert x is not None
    y = p.get(x, order)
    begins, ends = ([op.pads[k + i] for i in order] for k in (0, rank))
    if op.mode == "constant":
        fill = p.operand(node, 1)
        if fill is None:
            assert not isinstance(op.value, str)
            fill = p.scalar(op.value, y.dtype)
        p.finish(node, _padded(p, y, begins, ends, p.reshape(fill, ())), order)
        return
    mirrors = op.mode == "reflect" and rank <= MAX_SLICE
    if mirrors and all(max(b, e) < d for b, e, d in zip(begins, ends, y.shape, strict=True)):
        shape = [b + d + e for b, d, e in zip(begins, y.shape, ends, strict=True)]
        widths = p.ints(list(zip(begins, ends, strict=True)))
        p.finish(node, p.add("MIRROR_PAD", [y, widths], y.dtype, shape, Mode=0), order)
        return
    for axis, widths_of in enumerate(zip(begins, ends, strict=True)):
        if any(widths_of):
            places = np.pad(np.arange(y.shape[axis]), widths_of, op.mode)  # type: ignore[call-overload]  # a str, checked by infer
            y = p.take(y, p.ints(places), axis)
    p.finish(node, y, order)


def _padded(p: Lowering, x: Tensor, begins: list[int], ends: list[int], value: Tensor) -> Tensor:
    """Ranks that no builtin pads, and booleans, are joined with tensors of the value."""
    if len(x.shape) <= MAX_SLICE and x.dtype != "BOOL":
        return p.pad(x, begins, ends, value)
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        parts = [x]
        for count, at in ((begin, 0), (end, 2)):
            if count:
                parts.insert(at, p.filled(value, [count if i == axis else d for i, d in enumerate(x.shape)]))
        x = p.concat(parts, axis)
    return x


@lowers(ops.DepthToSpace, ops.SpaceToDepth)
def _blocks(p: Lowering, node: Node, op: ops.DepthToSpace | ops.SpaceToDepth) -> None:
    """The builtins number channels as mode DCR does; in mode CRD the channels are moved before or after."""
    (v,) = node.inputs
    assert v is not None
    order = channels_last(4)
    x, b = p.get(v, order), op.blocksize
    shape = [node.output.type.dims[i] for i in order]
    spreads = isinstance(op, ops.DepthToSpace)
    crd, narrow = op.mode == "CRD", min(x.shape[3], shape[3])
    places = np.arange(narrow * b * b)
    if crd and spreads:
        x = p.take(x, p.ints(places.reshape(narrow, b * b).T.reshape(-1)), 3) if narrow > 1 else x
    code = "DEPTH_TO_SPACE" if spreads else "SPACE_TO_DEPTH"
    source = p.numeric(x)
    y = p.add(code, [source], source.dtype, shape, BlockSize=b)
    if crd and not spreads and narrow > 1:
        y = p.take(y, p.ints(places.reshape(b * b, narrow).T.reshape(-1)), 3)
    p.finish(node, p.cast(y, x.dtype), order)


@lowers(ops.ReverseSequence)
def _reverse_sequence(p: Lowering, node: Node, op: ops.ReverseSequence) -> None:
    x, lengths = p.operands(node)
    source = p.numeric(x)
    operands = [source, p.cast(lengths, "INT32")]
    options = {"SeqDim": op.time_axis, "BatchDim": op.batch_axis}
    y = p.add("REVERSE_SEQUENCE", operands, source.dtype, x.shape, **options)
    p.finish(node, p.cast(y, x.dtype))
