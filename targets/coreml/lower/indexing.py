"""Gathers, scatters and one-hot rows."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.target import Need
from targets.coreml.lower.table import FLOATS, INTS, MAX_RANK, Lowering, lowers, op_need, operand_types
from targets.coreml.mil import Operand, Var

DATA = operand_types(*FLOATS, *INTS)
READABLE = Need(
    text=f"operands of rank at most {MAX_RANK}",
    holds=lambda node: all(t is None or t.rank <= MAX_RANK for t in node.input_types),
)


def _indices(p: Lowering, v: Value | None, length: int) -> Var:
    """Indices counted from the front: constants are converted now, computed ones by a select."""
    assert v is not None
    if v.data is not None:
        data = np.asarray(v.data)
        return p.program.const(
            np.where(data < 0, data + length, data).astype(np.int32), "int32", name=v.name or "indices"
        )
    i = p.cast(p[v], "int32")
    negative = p.add("less", {"x": i, "y": 0}, "bool", i.shape)
    return p.add("select", {"cond": negative, "a": p.like(i, "add", y=length), "b": i}, "int32", i.shape)


@lowers(ops.Gather, any_rank=True, needs=[READABLE])
def _gather(p: Lowering, node: Node, op: ops.Gather) -> None:
    """With indices of several axes the result's rank may be too high: then they are gathered as one row."""
    x = p.operands(node)[0]
    indices = _indices(p, node.inputs[1], x.shape[op.axis])
    source = p.cast(x, "int32") if x.dtype == "bool" else x
    dims = node.output.type.dims
    if len(dims) > MAX_RANK:
        indices = p.reshape(indices, (int(np.prod(indices.shape)),))
        dims = (*x.shape[: op.axis], *indices.shape, *x.shape[op.axis + 1 :])
    y = p.add("gather", {"x": source, "indices": indices, "axis": op.axis}, source.dtype, dims, node.output.name)
    p.bind(node.output, p.cast(y, x.dtype))


@lowers(ops.GatherElements, needs=[DATA])
def _gather_elements(p: Lowering, node: Node, op: ops.GatherElements) -> None:
    x = p.operands(node)[0]
    indices = _indices(p, node.inputs[1], x.shape[op.axis])
    cropped = x
    if any(d > i for k, (d, i) in enumerate(zip(x.shape, indices.shape, strict=True)) if k != op.axis):
        ends = [d if k == op.axis else i for k, (d, i) in enumerate(zip(x.shape, indices.shape, strict=True))]
        cropped = p.add("slice_by_index", {"x": x, "begin": [0] * len(ends), "end": ends}, x.dtype, ends)
    p.emit(node, "gather_along_axis", x=cropped, indices=indices, axis=op.axis)


@lowers(ops.GatherND, needs=[DATA])
def _gather_nd(p: Lowering, node: Node, op: ops.GatherND) -> None:
    x = p.operands(node)[0]
    indices = _nd_indices(p, node.inputs[1], x.shape[op.batch_dims :])
    p.emit(node, "gather_nd", x=x, indices=indices, batch_dims=op.batch_dims if p.ios >= 16 else None)


def _nd_indices(p: Lowering, v: Value | None, dims: tuple[int, ...]) -> Var:
    """Index tuples counted from the front."""
    assert v is not None
    lengths = np.array(dims[: v.type.dims[-1]], np.int32)
    if v.data is not None:
        data = np.asarray(v.data)
        return p.program.const(
            np.where(data < 0, data + lengths, data).astype(np.int32), "int32", name=v.name or "indices"
        )
    i = p.cast(p[v], "int32")
    negative = p.add("less", {"x": i, "y": 0}, "bool", i.shape)
    return p.add("select", {"cond": negative, "a": p.like(i, "add", y=lengths), "b": i}, "int32", i.shape)


MODES = {"none": "update", "add": "add", "mul": "mul", "min": "min", "max": "max"}


@lowers(ops.ScatterElements, needs=[DATA])
def _scatter_elements(p: Lowering, node: Node, op: ops.ScatterElements) -> None:
    x, _, updates = p.operands(node)
    indices = _indices(p, node.inputs[1], x.shape[op.axis])
    p.emit(node, "scatter_along_axis", data=x, indices=indices, updates=updates, axis=op.axis, mode=MODES[op.reduction])


@lowers(ops.ScatterND, needs=[DATA])
def _scatter_nd(p: Lowering, node: Node, op: ops.ScatterND) -> None:
    x, _, updates = p.operands(node)
    indices = _nd_indices(p, node.inputs[1], x.shape)
    p.emit(node, "scatter_nd", data=x, indices=indices, updates=updates, mode=MODES[op.reduction])


@lowers(ops.OneHot, needs=[op_need("a known depth", lambda op: op.depth > 0)])
def _one_hot(p: Lowering, node: Node, op: ops.OneHot) -> None:
    """Each index compared with every position, then a choice between the two values."""
    index, values = node.inputs
    assert index is not None and values is not None
    rank = index.type.rank + 1
    axis = op.axis % rank
    i = _indices(p, index, op.depth)
    column = p.reshape(i, (*i.shape[:axis], 1, *i.shape[axis:]))
    positions = np.arange(op.depth, dtype=np.int32).reshape([-1 if k == axis else 1 for k in range(rank)])
    hit = p.add("equal", {"x": column, "y": positions}, "bool", node.output.type.dims)
    off, on = (_scalar(p, values, k) for k in (0, 1))
    p.emit(node, "select", cond=hit, a=on, b=off)


def _scalar(p: Lowering, values: Value, k: int) -> Operand:
    if values.data is not None:
        number = values.data[k].item()
        return p.program.const(
            np.array(number, np.float32 if values.type.dtype.is_float else np.int32), p.dtype(values.type.dtype)
        )
    v = p[values]
    part = p.add("slice_by_index", {"x": v, "begin": [k], "end": [k + 1]}, v.dtype, (1,))
    return part
