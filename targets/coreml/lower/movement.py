"""Operations that move elements: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.target import Need
from targets.coreml.dtypes import MAX_RANK
from targets.coreml.lower.heads import is_for_scores, without_height
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import lowers, makes
from targets.coreml.mil import Var


@lowers(ops.Reshape, any_rank=True)
def _reshape(p: Lowering, node: Node, op: ops.Reshape) -> None:
    (x,) = p.operands(node)
    dims = node.output.type.dims
    if len(dims) > MAX_RANK or dims == x.shape:
        p.bind(node.output, x)
    elif not dims:
        p.emit(node, "squeeze", x=x, axes=list(range(len(x.shape))))
    else:
        p.emit(node, "reshape", x=x, shape=list(dims))


def merged_transpose(dims: tuple[int, ...], perm: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The same movement on fewer axes: those of length 1 dropped, those that stay neighbours merged. Returns the
    shape of the operand and the permutation."""
    kept = [i for i in perm if dims[i] != 1]
    runs: list[list[int]] = []
    for axis in kept:
        if runs and not [i for i in range(runs[-1][-1] + 1, axis) if dims[i] != 1] and axis > runs[-1][-1]:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    order = sorted(range(len(runs)), key=lambda r: runs[r][0])
    shape = [int(np.prod([dims[i] for i in runs[r]])) for r in order]
    return shape or [1], [order.index(r) for r in range(len(runs))] or [0]


def _merges(node: Node) -> bool:
    (x,), op = node.input_types, node.op
    assert x is not None and isinstance(op, ops.Transpose)
    return len(merged_transpose(x.dims, op.perm)[0]) <= MAX_RANK


@lowers(
    ops.Transpose, needs=[Need(text=f"at most {MAX_RANK} groups of axes that move apart", holds=_merges)], any_rank=True
)
def _transpose(p: Lowering, node: Node, op: ops.Transpose) -> None:
    (x,) = p.operands(node)
    if not op.perm:
        p.bind(node.output, x)
    elif len(op.perm) <= MAX_RANK:
        p.emit(node, "transpose", x=x, perm=list(op.perm))
    else:
        (given,) = node.inputs
        assert given is not None
        p.bind(node.output, transposed(p, x, given.type.dims, op.perm))


def transposed(p: Lowering, x: Var, dims: tuple[int, ...], perm: tuple[int, ...]) -> Var:
    """`x`, held under any shape, seen as `dims` and permuted: under a shape of merged axes."""
    shape, order = merged_transpose(dims, perm)
    return p.transpose(p.reshape(x, shape), order)


@lowers(ops.Expand)
def _expand(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.spread(p.operands(node)[0], node.output.type.dims))


@lowers(ops.Tile)
def _tile(p: Lowering, node: Node, op: ops.Tile) -> None:
    (x,) = p.operands(node)
    if op.repeats:
        p.emit(node, "tile", x=x, reps=list(op.repeats))
    else:
        p.bind(node.output, x)


@lowers(ops.Concat, drops_empty=True)
def _concat(p: Lowering, node: Node, op: ops.Concat) -> None:
    parts = [p[v] for v in node.inputs if v is not None and 0 not in v.type.shape]
    p.bind(node.output, p.concat(parts, op.axis, node.output.name))


@lowers(ops.Split, drops_empty=True)
def _split(p: Lowering, node: Node, op: ops.Split) -> None:
    (x,) = p.operands(node)
    kept = [v for v in node.outputs if 0 not in v.type.shape]
    if len(kept) == 1:
        p.bind(kept[0], x)
        return
    if op.axis == 1 and any(is_for_scores(v, user) for v in kept for user in v.users):
        _split_heads(p, node, kept)
        return
    types = [(x.dtype, v.type.dims) for v in kept]
    operands: Operands = {"x": x, "split_sizes": [n for n in op.sizes if n], "axis": op.axis}
    for v, part in zip(kept, p.program.op("split", operands, types, kept[0].name or "split"), strict=True):
        p.bind(v, part)


def _split_heads(p: Lowering, node: Node, heads: Sequence[Value]) -> None:
    """Channels of [B, C, 1, S] as heads without their height, which those get back that others than scores read."""
    (source,) = node.inputs
    assert source is not None
    x = without_height(p, source)
    types = [(x.dtype, (v.type.dims[0], v.type.dims[1], v.type.dims[3])) for v in heads]
    operands: Operands = {"x": x, "split_sizes": [v.type.dims[1] for v in heads], "axis": 1}
    for v, part in zip(heads, p.program.op("split", operands, types, heads[0].name or "split"), strict=True):
        p.shared["without height", v] = part
        if v.n_out or not all(is_for_scores(v, user) for user in v.users):
            p.bind(v, p.add("expand_dims", {"x": part, "axes": [2]}, part.dtype, v.type.dims))


@lowers(ops.Slice)
def _slice(p: Lowering, node: Node, op: ops.Slice) -> None:
    (x,) = p.operands(node)
    if not op.starts:
        p.bind(node.output, x)
        return
    to_end = [step < 0 and end < 0 for step, end in zip(op.steps, op.ends, strict=True)]
    p.emit(
        node,
        "slice_by_index",
        x=x,
        begin=list(op.starts),
        end=[0 if open_ else end for open_, end in zip(to_end, op.ends, strict=True)],
        stride=list(op.steps),
        begin_mask=[False] * len(op.starts),
        end_mask=to_end,
        squeeze_mask=[False] * len(op.starts),
    )


MODES = {"reflect": "reflect", "edge": "replicate"}


def _index_bytes(node: Node) -> int:
    """Of the indices by which a padded tensor is gathered, if it is."""
    op, dims = node.op, node.output.type.dims
    return 0 if getattr(op, "mode", "") == "constant" else 4 * sum(dims)


@lowers(ops.Pad, needs=[makes(_index_bytes)])
def _pad(p: Lowering, node: Node, op: ops.Pad) -> None:
    """MIL pads floats alone, and reflects and replicates along the last two axes only, one element less than there
    are: other axes are brought there in pairs. What it cannot is gathered, or joined with what fills it."""
    (x, *fill), rank = p.operands(node), len(op.pads) // 2
    axes = [i for i in range(rank) if op.pads[i] or op.pads[rank + i]]
    if op.mode == "constant":
        p.bind(node.output, _pad_constant(p, x, op, axes, fill[0] if fill else None, node.output.name))
        return
    layered = x.dtype == p.precision and op.mode in MODES
    if layered and all(max(op.pads[i], op.pads[rank + i]) < x.shape[i] for i in axes):
        for first in range(0, len(axes), 2):
            x = _pad_pair(p, x, op, axes[first : first + 2])
    else:
        for axis in axes:
            widths = (op.pads[axis], op.pads[rank + axis])
            x = p.take(x, np.pad(np.arange(x.shape[axis]), widths, op.mode), axis)  # type: ignore[call-overload]  # a mode numpy has
    p.bind(node.output, x)


def _pad_constant(p: Lowering, x: Var, op: ops.Pad, axes: list[int], fill: Var | None, name: str) -> Var:
    rank = len(x.shape)
    if x.dtype == p.precision and (fill is None or fill.value is not None):
        value = float(op.value if fill is None else np.asarray(fill.value).item())
        grown = [d + op.pads[i] + op.pads[rank + i] for i, d in enumerate(x.shape)]
        operands: Operands = {"x": x, "pad": pairs(op.pads), "mode": "constant", "constant_val": value}
        return p.add("pad", operands, x.dtype, grown, name)
    if fill is None:
        fill = p.program.const(np.array(op.value), x.dtype, name="fill")
    single = p.reshape(fill, (1,) * rank) if fill.value is None else fill
    for axis in axes:
        parts = [x]
        for count, at in ((op.pads[axis], 0), (op.pads[rank + axis], 2)):
            if count:
                parts.insert(at, p.spread(single, [count if i == axis else d for i, d in enumerate(x.shape)]))
        x = p.concat(parts, axis)
    return x


def pairs(pads: tuple[int, ...]) -> list[int]:
    """ONNX begins-then-ends as MIL's begin, end of each axis."""
    half = len(pads) // 2
    return [p for i in range(half) for p in (pads[i], pads[half + i])]


def _pad_pair(p: Lowering, x: Var, op: ops.Pad, axes: list[int]) -> Var:
    rank, half = len(x.shape), len(op.pads) // 2
    perm = [i for i in range(rank) if i not in axes] + axes
    moved = p.transpose(x, perm)
    pads = [q for i in axes for q in (op.pads[i], op.pads[half + i])]
    grown = [*moved.shape[: rank - len(axes)], *(x.shape[i] + op.pads[i] + op.pads[half + i] for i in axes)]
    y = p.add("pad", {"x": moved, "pad": pads, "mode": MODES[op.mode], "constant_val": 0.0}, x.dtype, grown)
    return p.transpose(y, [perm.index(i) for i in range(rank)])


LAYERS = {("depth_to_space", "DCR"): "depth_to_space", ("depth_to_space", "CRD"): "pixel_shuffle"}


@lowers(ops.DepthToSpace, ops.SpaceToDepth)
def _blocks(p: Lowering, node: Node, op: ops.DepthToSpace | ops.SpaceToDepth) -> None:
    """MIL's layers take floats; for other elements and for SpaceToDepth in mode CRD the blocks are moved as axes."""
    (x,) = p.operands(node)
    factor = {"upscale_factor" if op.mode == "CRD" else "block_size": op.blocksize}
    if x.dtype == p.precision and (op.name, op.mode) in LAYERS:
        p.emit(node, LAYERS[op.name, op.mode], x=x, **factor)
    elif x.dtype == p.precision and op.mode == "DCR":
        p.emit(node, "space_to_depth", x=x, **factor)
    else:
        split, perm, merged = op.steps(*x.shape)
        p.bind(node.output, _moved_blocks(p, x, split, perm, merged))


def _moved_blocks(p: Lowering, x: Var, split: tuple[int, ...], perm: tuple[int, ...], merged: tuple[int, ...]) -> Var:
    """The transpose of six axes in two steps: the samples are an axis of their own only where there are several."""
    batch = split[0]
    rows = [p.cut(x, 0, n, n + 1) for n in range(batch)] if len(merged_transpose(split, perm)[0]) > MAX_RANK else [x]
    whole = len(rows) == 1
    parts = [transposed(p, row, split if whole else (1, *split[1:]), perm) for row in rows]
    return p.concat([p.reshape(part, merged if whole else (1, *merged[1:])) for part in parts], 0)


@lowers(ops.ReverseSequence)
def _reverse_sequence(p: Lowering, node: Node, op: ops.ReverseSequence) -> None:
    x, lengths = p.operands(node)
    p.emit(node, "reverse_sequence", x=x, lengths=lengths, seq_axis=op.time_axis, batch_axis=op.batch_axis)
