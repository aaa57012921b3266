"""Operations that move elements: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.target import Need
from compiler.tensor import DTYPES
from targets.coreml.lower.table import FLOAT, FLOATS, INTS, MAX_RANK, Lowering, lowers, op_need, operand_types
from targets.coreml.mil import Var


@lowers(ops.Reshape, any_rank=True)
def _reshape(p: Lowering, node: Node, op: ops.Reshape) -> None:
    (x,) = p.operands(node)
    dims = node.output.type.dims
    if len(dims) > MAX_RANK:
        p.bind(node.output, x)
    elif x.dtype == "bool":
        p.bind(node.output, p.cast(p.reshape(p.cast(x, "int32"), dims), "bool"))
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
    if len(op.perm) <= MAX_RANK:
        p.emit(node, "transpose", x=x, perm=list(op.perm))
        return
    assert node.inputs[0] is not None
    shape, perm = merged_transpose(node.inputs[0].type.dims, op.perm)
    p.bind(node.output, p.transpose(p.reshape(x, shape), perm))


@lowers(ops.Expand)
def _expand(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    _broadcast(p, node, x)


def _broadcast(p: Lowering, node: Node, x: Var) -> None:
    dims = node.output.type.dims
    aligned = p.reshape(x, (*[1] * (len(dims) - len(x.shape)), *x.shape))
    reps = [d // a for d, a in zip(dims, aligned.shape, strict=True)]
    if set(reps) <= {1}:
        p.bind(node.output, aligned)
    else:
        p.emit(node, "tile", x=aligned, reps=reps)


@lowers(ops.Tile)
def _tile(p: Lowering, node: Node, op: ops.Tile) -> None:
    p.emit(node, "tile", x=p.operands(node)[0], reps=list(op.repeats))


@lowers(ops.Concat)
def _concat(p: Lowering, node: Node, op: ops.Concat) -> None:
    p.emit(node, "concat", values=p.operands(node), axis=op.axis)


@lowers(ops.Split)
def _split(p: Lowering, node: Node, op: ops.Split) -> None:
    p.emit_all(node, "split", x=p.operands(node)[0], split_sizes=list(op.sizes), axis=op.axis)


@lowers(ops.Slice)
def _slice(p: Lowering, node: Node, op: ops.Slice) -> None:
    to_end = [step < 0 and end < 0 for step, end in zip(op.steps, op.ends, strict=True)]
    p.emit(
        node,
        "slice_by_index",
        x=p.operands(node)[0],
        begin=list(op.starts),
        end=[0 if open_ else end for open_, end in zip(to_end, op.ends, strict=True)],
        stride=list(op.steps),
        begin_mask=[False] * len(op.starts),
        end_mask=to_end,
        squeeze_mask=[False] * len(op.starts),
    )


MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


def _padded_axes(pads: tuple[int, ...]) -> list[int]:
    half = len(pads) // 2
    return [i for i in range(half) if pads[i] or pads[half + i]]


CONSTANT_FILL = op_need("mode constant, reflect or edge", lambda op: op.mode in MODES)


@lowers(ops.Pad, needs=[operand_types(*FLOATS, *INTS), CONSTANT_FILL])
def _pad(p: Lowering, node: Node, op: ops.Pad) -> None:
    """MIL reflects and replicates along the last two axes only: others are brought there, one pair at a time."""
    x = p.operands(node)[0]
    half = len(op.pads) // 2
    fill = node.inputs[1] if len(node.inputs) > 1 else None
    if op.mode == "constant":
        value = float(op.value) if fill is None else float(np.asarray(fill.data).reshape(-1)[0])
        number = value if x.dtype == p.precision else int(value)
        pads = [q for i in range(half) for q in (op.pads[i], op.pads[half + i])]
        p.emit(node, "pad", x=x, pad=pads, mode="constant", constant_val=number)
        return
    axes = _padded_axes(op.pads)
    for first in range(0, len(axes), 2):
        x = _pad_pair(p, x, op, axes[first : first + 2])
    p.bind(node.output, x)


def _pad_pair(p: Lowering, x: Var, op: ops.Pad, axes: list[int]) -> Var:
    rank, half = len(x.shape), len(op.pads) // 2
    perm = [i for i in range(rank) if i not in axes] + axes
    moved = x if perm == list(range(rank)) else p.transpose(x, perm)
    pads = [q for i in axes for q in (op.pads[i], op.pads[half + i])]
    grown = [*moved.shape[: rank - len(axes)], *(x.shape[i] + op.pads[i] + op.pads[half + i] for i in axes)]
    y = p.add("pad", {"x": moved, "pad": pads, "mode": MODES[op.mode], "constant_val": 0.0}, x.dtype, grown)
    return y if moved is x else p.transpose(y, [perm.index(i) for i in range(rank)])


@lowers(ops.DepthToSpace, needs=[FLOAT])
def _depth_to_space(p: Lowering, node: Node, op: ops.DepthToSpace) -> None:
    (x,) = p.operands(node)
    if op.mode == "CRD":
        p.emit(node, "pixel_shuffle", x=x, upscale_factor=op.blocksize)
    else:
        p.emit(node, "depth_to_space", x=x, block_size=op.blocksize)


@lowers(ops.SpaceToDepth, needs=[FLOAT, op_need("mode DCR", lambda op: op.mode == "DCR")])
def _space_to_depth(p: Lowering, node: Node, op: ops.SpaceToDepth) -> None:
    p.emit(node, "space_to_depth", x=p.operands(node)[0], block_size=op.blocksize)


@lowers(ops.ConstantOfShape)
def _constant_of_shape(p: Lowering, node: Node, op: ops.ConstantOfShape) -> None:
    dtype = DTYPES[op.dtype]
    data = np.broadcast_to(np.array(op.value, dtype.numpy), op.shape)
    p.bind(node.output, p.constant(data, node.output.name or "const", dtype))


@lowers(ops.Trilu, needs=[operand_types(*FLOATS, *INTS)])
def _trilu(p: Lowering, node: Node, op: ops.Trilu) -> None:
    (x,) = p.operands(node)
    rows, columns = x.shape[-2:]
    kept = np.triu(np.ones((rows, columns), bool), op.k) if op.upper else np.tril(np.ones((rows, columns), bool), op.k)
    mask = p.program.const(np.broadcast_to(kept, x.shape).copy(), "bool", name="mask")
    p.emit(node, "select", cond=mask, a=x, b=0.0 if x.dtype == p.precision else 0)


@lowers(ops.ReverseSequence, needs=[FLOAT])
def _reverse_sequence(p: Lowering, node: Node, op: ops.ReverseSequence) -> None:
    x, lengths = p.operands(node)
    p.emit(node, "reverse_sequence", x=x, lengths=lengths, seq_axis=op.time_axis, batch_axis=op.batch_axis)
