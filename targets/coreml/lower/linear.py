"""Convolution, dense layers and matrix products."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from targets.coreml.lower.table import FLOAT, Lowering, constant_operands, lowers
from targets.coreml.mil import Operand, Var


def pairs(pads: tuple[int, ...]) -> list[int]:
    """ONNX begins-then-ends as MIL's begin, end of each axis."""
    half = len(pads) // 2
    return [p for i in range(half) for p in (pads[i], pads[half + i])]


@lowers(ops.Conv, needs=[FLOAT])
def _conv(p: Lowering, node: Node, op: ops.Conv) -> None:
    x, w, *b = p.operands(node)
    bias = b[0] if b and b[0].value is not None else None
    operands: dict[str, Operand | None] = {
        "x": x,
        "weight": w,
        "bias": bias,
        "strides": list(op.strides),
        "pad_type": "custom",
        "pad": pairs(op.pads),
        "dilations": list(op.dilations),
        "groups": op.groups,
    }
    if b and bias is None:
        y = p.add("conv", operands, x.dtype, node.output.type.dims)
        p.emit(node, "add", x=y, y=_per_channel(p, b[0], len(x.shape)))
    else:
        p.emit(node, "conv", **operands)


def _per_channel(p: Lowering, b: Var, rank: int) -> Var:
    return p.reshape(b, [1, b.shape[0], *[1] * (rank - 2)])


@lowers(ops.ConvTranspose, needs=[FLOAT, constant_operands(1)])
def _conv_transpose(p: Lowering, node: Node, op: ops.ConvTranspose) -> None:
    """Output padding widens the result at the end: where the end pads cannot give way, zeros are appended."""
    x, w, *b = p.operands(node)
    n = len(op.strides)
    ends = [e - o for e, o in zip(op.pads[n:], op.output_padding, strict=True)]
    missing = [max(0, -e) for e in ends]
    pads = (*op.pads[:n], *(max(0, e) for e in ends))
    dims = node.output.type.dims
    inner = (*dims[:2], *(d - m for d, m in zip(dims[2:], missing, strict=True)))
    bias = b[0] if b and b[0].value is not None and not any(missing) else None
    y = p.add(
        "conv_transpose",
        {
            "x": x,
            "weight": w,
            "bias": bias,
            "pad": pairs(pads),
            "output_shape": list(inner),
            "pad_type": "custom",
            "strides": list(op.strides),
            "dilations": list(op.dilations),
            "groups": op.groups,
        },
        x.dtype,
        inner,
        node.output.name,
    )
    if any(missing):
        y = p.add(
            "pad",
            {
                "x": y,
                "pad": [0, 0, 0, 0, *(v for m in missing for v in (0, m))],
                "mode": "constant",
                "constant_val": 0.0,
            },
            x.dtype,
            dims,
        )
    if b and bias is None:
        y = p.binary("add", y, _per_channel(p, b[0], len(dims)))
    p.bind(node.output, y)


@lowers(ops.Dense, needs=[FLOAT])
def _dense(p: Lowering, node: Node, op: ops.Dense) -> None:
    """`linear` where weights and bias are constants and x has rank 2 or 3; else matmul and add."""
    value = node.inputs[1]
    assert value is not None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    x = p.operands(node)[0]
    if value.data is not None and (bias is None or bias.data is not None) and len(x.shape) in (2, 3):
        w = value.data if op.transposed else value.data.T
        weight = p.program.const(w, p.precision, name=value.name or "weight", key=(id(value.data), op.transposed))
        if bias is None:
            b: Var = p.program.const(np.zeros(w.shape[0], np.float32), p.precision, name="bias")
        else:
            b = p[bias]
        p.emit(node, "linear", x=x, weight=weight, bias=b)
        return
    w_var = p[value]
    y = p.add(
        "matmul",
        {"x": x, "y": w_var, "transpose_x": False, "transpose_y": op.transposed},
        x.dtype,
        node.output.type.dims,
    )
    p.bind(node.output, y if bias is None else p.binary("add", y, p[bias]))


@lowers(ops.MatMul, needs=[FLOAT])
def _matmul(p: Lowering, node: Node, op: ops.MatMul) -> None:
    x, y = p.operands(node)
    left = p.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = p.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    shape = (*batch, left.shape[-2], right.shape[-1])
    product = p.add(
        "matmul", {"x": left, "y": right, "transpose_x": False, "transpose_y": False}, x.dtype, shape, node.output.name
    )
    p.bind(node.output, p.reshape(product, node.output.type.dims))
