"""Operations that move elements: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import lowers, makes
from targets.coreai.program import Var


@lowers(ops.Reshape)
def _reshape(p: Lowering, node: Node, op: ops.Reshape) -> None:
    p.bind(node.output, p.reshape(p.operands(node)[0], node.output.type.dims))


@lowers(ops.Transpose)
def _transpose(p: Lowering, node: Node, op: ops.Transpose) -> None:
    p.bind(node.output, p.transpose(p.operands(node)[0], op.perm))


@lowers(ops.Expand)
def _expand(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.spread(p.operands(node)[0], node.output.type.dims))


@lowers(ops.Tile)
def _tile(p: Lowering, node: Node, op: ops.Tile) -> None:
    (x,) = p.operands(node)
    same = set(op.repeats) <= {1}
    p.bind(node.output, x if same else p.op("tile", [x, p.sizes(op.repeats)], x.dtype, node.output.type.dims))


@lowers(ops.Concat, drops_empty=True)
def _concat(p: Lowering, node: Node, op: ops.Concat) -> None:
    parts = [p[v] for v in node.inputs if v is not None and 0 not in v.type.shape]
    p.bind(node.output, p.concat(parts, op.axis))


@lowers(ops.Split, drops_empty=True)
def _split(p: Lowering, node: Node, op: ops.Split) -> None:
    (x,) = p.operands(node)
    kept = [v for v in node.outputs if 0 not in v.type.shape]
    for v, part in zip(kept, divided(p, x, [n for n in op.sizes if n], op.axis), strict=True):
        p.bind(v, part)


@lowers(ops.Slice)
def _slice(p: Lowering, node: Node, op: ops.Slice) -> None:
    p.bind(node.output, p.slice(p.operands(node)[0], op.starts, op.ends, op.steps))


def _index_bytes(node: Node) -> int:
    """Of the indices by which a padded tensor is gathered, if it is."""
    return 0 if getattr(node.op, "mode", "") == "constant" else 4 * sum(node.output.type.dims)


MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}


@lowers(ops.Pad, needs=[makes(_index_bytes)])
def _pad(p: Lowering, node: Node, op: ops.Pad) -> None:
    """Reflections reach one element less than there are; what the dialect cannot is gathered."""
    x, *fill = p.operands(node)
    rank = len(op.pads) // 2
    begins, ends = op.pads[:rank], op.pads[rank:]
    reach = all(max(b, e) < d for b, e, d in zip(begins, ends, x.shape, strict=True))
    if op.mode == "constant" or (op.mode in MODES and reach and x.dtype != "bool"):
        value = p.reshape(fill[0], ()) if fill else p.number(float(op.value), x.dtype)
        p.bind(node.output, p.pad(x, begins, ends, value, MODES[op.mode]))
        return
    for axis, widths in enumerate(zip(begins, ends, strict=True)):
        if any(widths):
            at = np.pad(np.arange(x.shape[axis]), widths, op.mode)  # type: ignore[call-overload]  # a mode numpy has
            x = p.take(x, p.ints(at), axis)
    p.bind(node.output, x)


@lowers(ops.DepthToSpace, ops.SpaceToDepth)
def _blocks(p: Lowering, node: Node, op: ops.DepthToSpace | ops.SpaceToDepth) -> None:
    (x,) = p.operands(node)
    split, perm, merged = op.steps(*x.shape)
    p.bind(node.output, p.reshape(p.transpose(p.reshape(x, split), perm), merged))


def divided(p: Lowering, x: Var, sizes: list[int], axis: int) -> list[Var]:
    """`x` cut into parts of these sizes along an axis."""
    if len(sizes) == 1:
        return [x]
    shapes = [[n if i == axis else d for i, d in enumerate(x.shape)] for n in sizes]
    return p.program.op("split", [x, p.sizes(sizes), p.axis(axis)], [(x.dtype, shape) for shape in shapes])
