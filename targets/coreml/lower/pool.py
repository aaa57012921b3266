"""Pooling."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from targets.coreml.lower.linear import pairs
from targets.coreml.lower.table import FLOAT, Lowering, lowers, op_need
from targets.coreml.mil import Var

UNDILATED = op_need("dilations of 1", lambda op: set(op.dilations) <= {1})
VALUES_ONLY = op_need("no indices output", lambda op: not op.indices)


def _window(op: ops.MaxPool | ops.AveragePool, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Begin and end pads of each spatial axis such that floor division gives the known output size; the last window
    of ceil mode may reach beyond what ONNX pads."""
    n = len(op.kernel)
    begins, ends = list(op.pads[:n]), list(op.pads[n:])
    for i in range(n):
        needed = (y[i + 2] - 1) * op.strides[i] + op.kernel[i]
        ends[i] = needed - x[i + 2] - begins[i]
    return begins, ends


def _crop(p: Lowering, x: Var, ends: list[int]) -> Var:
    """Drop what no window reaches, where the needed end pad is negative."""
    if min(ends) >= 0:
        return x
    stops = [*x.shape[:2], *(d + min(e, 0) for d, e in zip(x.shape[2:], ends, strict=True))]
    return p.add("slice_by_index", {"x": x, "begin": [0] * len(stops), "end": stops}, x.dtype, stops)


@lowers(ops.MaxPool, needs=[FLOAT, UNDILATED, VALUES_ONLY])
def _max_pool(p: Lowering, node: Node, op: ops.MaxPool) -> None:
    (x,) = p.operands(node)
    begins, ends = _window(op, x.shape, node.outputs[0].type.dims)
    x = _crop(p, x, ends)
    pads = pairs((*begins, *(max(0, e) for e in ends)))
    p.emit(
        node,
        "max_pool",
        x=x,
        kernel_sizes=list(op.kernel),
        strides=list(op.strides),
        pad_type="custom",
        pad=pads,
        ceil_mode=False,
    )


@lowers(ops.AveragePool, needs=[FLOAT, UNDILATED])
def _average_pool(p: Lowering, node: Node, op: ops.AveragePool) -> None:
    """Pads that count are made explicit; those beyond (ceil mode) never count."""
    (x,) = p.operands(node)
    begins, ends = _window(op, x.shape, node.output.type.dims)
    n = len(begins)
    if op.count_include_pad and any(op.pads):
        grown = (*x.shape[:2], *(d + op.pads[i] + op.pads[n + i] for i, d in enumerate(x.shape[2:])))
        x = p.add(
            "pad",
            {"x": x, "pad": [0, 0, 0, 0, *pairs(op.pads)], "mode": "constant", "constant_val": 0.0},
            x.dtype,
            grown,
        )
        begins, ends = [0] * n, [e - q for e, q in zip(ends, op.pads[n:], strict=True)]
    x = _crop(p, x, ends)
    pads = pairs((*begins, *(max(0, e) for e in ends)))
    p.emit(
        node,
        "avg_pool",
        x=x,
        kernel_sizes=list(op.kernel),
        strides=list(op.strides),
        pad_type="custom",
        pad=pads,
        exclude_padding_from_average=True,
        ceil_mode=False,
    )


@lowers(ops.GlobalAveragePool, ops.GlobalMaxPool, needs=[FLOAT])
def _global_pool(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    kind = "reduce_max" if isinstance(op, ops.GlobalMaxPool) else "reduce_mean"
    p.emit(node, kind, x=x, axes=list(range(2, len(x.shape))), keep_dims=True)
