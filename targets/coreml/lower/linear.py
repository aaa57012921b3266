"""Convolution, dense layers and matrix products."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.target import Need, op_need
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.movement import pairs
from targets.coreml.lower.table import FLOAT, NUMBER, lowers, since
from targets.coreml.mil import Var


def _computed_weight(node: Node) -> bool:
    weight = node.inputs[1]
    return weight is not None and weight.data is None


STILL = Need(
    text="dilations of 1 where the weight is computed (a dilated kernel can be a constant, or widened with zeros)",
    holds=lambda node: not _computed_weight(node) or set(getattr(node.op, "dilations", ())) <= {1},
    source="coremltools 9.0, type inference of conv",
    confidence="documented",
)
PLANES = op_need("one to three spatial axes", lambda op: 1 <= len(op.strides) <= 3)


@lowers(ops.Conv, needs=[FLOAT, PLANES, STILL])
def _conv(p: Lowering, node: Node, op: ops.Conv) -> None:
    x, w, *b = p.operands(node)
    bias = b[0] if b and b[0].value is not None else None
    operands: Operands = {
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
        p.emit(node, "add", x=y, y=per_channel(p, b[0], len(x.shape)))
    else:
        p.emit(node, "conv", **operands)


def per_channel(p: Lowering, b: Var, rank: int) -> Var:
    """A vector over axis 1, shaped to broadcast."""
    return p.reshape(b, [1, b.shape[0], *[1] * (rank - 2)])


@lowers(
    ops.ConvTranspose,
    needs=[FLOAT, PLANES, STILL, since(17, "a ConvTranspose with a computed weight", _computed_weight)],
)
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
    y = transposed_conv(p, op, x, w, bias, pads, inner, node.output.name)
    if any(missing):
        widths = [0, 0, 0, 0, *(v for m in missing for v in (0, m))]
        y = p.add("pad", {"x": y, "pad": widths, "mode": "constant", "constant_val": 0.0}, x.dtype, dims)
    if b and bias is None:
        y = p.binary("add", y, per_channel(p, b[0], len(dims)))
    p.bind(node.output, y)


def transposed_conv(
    p: Lowering,
    op: ops.ConvTranspose,
    x: Var,
    w: Var,
    bias: Var | None,
    pads: tuple[int, ...],
    shape: tuple[int, ...],
    name: str = "",
) -> Var:
    """MIL's conv_transpose, with the strides, dilations and groups of `op`."""
    operands: Operands = {
        "x": x,
        "weight": w,
        "bias": bias,
        "pad": pairs(pads),
        "output_shape": list(shape),
        "pad_type": "custom",
        "strides": list(op.strides),
        "dilations": list(op.dilations),
        "groups": op.groups,
    }
    return p.add("conv_transpose", operands, x.dtype, shape, name)


SPATIAL = op_need("one to three spatial axes", lambda op: 1 <= len(op.image) <= 3)


@lowers(ops.Dense, needs=[NUMBER])
def _dense(p: Lowering, node: Node, op: ops.Dense) -> None:
    """`linear` where weights and bias are constants and x has rank 2 or 3; else matmul and add."""
    value = node.inputs[1]
    assert value is not None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    x = p.operand(node, 0)
    assert x is not None
    constant = value.data is not None and (bias is None or bias.data is not None)
    if constant and len(x.shape) in (2, 3) and x.dtype == p.precision:
        weight = p.weight(value, swapped=not op.transposed)
        p.emit(node, "linear", x=x, weight=weight, bias=None if bias is None else p[bias])
        return
    row = p.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    y = p.reshape(p.matmul(row, p[value], op.transposed), node.output.type.dims)
    p.finish(node, y if bias is None else p.binary("add", y, p[bias]))


@lowers(ops.MatMul, needs=[NUMBER])
def _matmul(p: Lowering, node: Node, op: ops.MatMul) -> None:
    x, y = p.operands(node)
    p.finish(node, product(p, x, y, node.output.type.dims, node.output.name))


def product(p: Lowering, x: Var, y: Var, dims: tuple[int, ...], name: str = "") -> Var:
    """numpy's matmul, vectors promoted."""
    left = p.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = p.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    return p.reshape(p.matmul(left, right, name=name), dims)
