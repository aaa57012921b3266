"""Pooling: MIL's layers, and where they lack dilations or positions, the elements at each place of the window."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.target import op_need
from compiler.tensor import I8, U8
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.movement import pairs
from targets.coreml.lower.table import FLOAT, FLOATS, lowers, operand_types
from targets.coreml.mil import Operand, Var

DENSE = op_need(
    "dilations of 1, or few places along an axis (limits in docs/passes/decompose.md)",
    lambda op: set(op.dilations) <= {1},
)
VALUES = op_need("no indices, or a small window (limits in docs/passes/decompose.md)", lambda op: not op.indices)
PLANES = op_need("one to three spatial axes", lambda op: 1 <= len(op.kernel) <= 3)


def _window(op: ops.Pool, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Begin and end pads of each spatial axis such that floor division gives the known output size; the last window
    of ceil mode may reach beyond what ONNX pads."""
    n = len(op.kernel)
    begins, ends = list(op.pads[:n]), list(op.pads[n:])
    for i in range(n):
        needed = (y[i + 2] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1
        ends[i] = needed - x[i + 2] - begins[i]
    return begins, ends


def _crop(p: Lowering, x: Var, ends: list[int]) -> Var:
    """Drop what no window reaches, where the needed end pad is negative."""
    stops = [*x.shape[:2], *(d + min(e, 0) for d, e in zip(x.shape[2:], ends, strict=True))]
    return p.slice(x, [0] * len(stops), stops, [1] * len(stops))


def _padded(p: Lowering, x: Var, pads: tuple[int, ...], value: float) -> Var:
    """`x` with its spatial axes padded."""
    if not any(pads):
        return x
    n = len(pads) // 2
    grown = (*x.shape[:2], *(d + pads[i] + pads[n + i] for i, d in enumerate(x.shape[2:])))
    operands: Operands = {"x": x, "pad": [0, 0, 0, 0, *pairs(pads)], "mode": "constant"}
    return p.add("pad", {**operands, "constant_val": value}, x.dtype, grown)


def _layer(p: Lowering, kind: str, x: Var, op: ops.Pool, dims: tuple[int, ...], name: str, **more: Operand) -> Var:
    """MIL's layer; pads that it does not have are cut off x, those that are beyond it are its own."""
    begins, ends = _window(op, x.shape, dims)
    x = _crop(p, x, ends)
    operands: Operands = {
        "x": x,
        "kernel_sizes": list(op.kernel),
        "strides": list(op.strides),
        "pad_type": "custom",
        "pad": pairs((*begins, *(max(0, e) for e in ends))),
        "ceil_mode": False,
        **more,
    }
    return p.add(kind, operands, x.dtype, dims, name)


@lowers(ops.MaxPool, needs=[VALUES, PLANES, DENSE, operand_types(*FLOATS, I8, U8)])
def _max_pool(p: Lowering, node: Node, op: ops.MaxPool) -> None:
    """Bytes are exact in every float type."""
    (given,) = p.operands(node)
    y = _layer(p, "max_pool", p.cast(given, p.precision), op, node.output.type.dims, node.output.name)
    p.bind(node.output, p.cast(y, given.dtype))


@lowers(ops.AveragePool, needs=[FLOAT, PLANES, DENSE])
def _average_pool(p: Lowering, node: Node, op: ops.AveragePool) -> None:
    """Pads that count are made explicit; those beyond (ceil mode) never count."""
    (x,) = p.operands(node)
    dims, n = node.output.type.dims, len(op.kernel)
    if op.count_include_pad and any(op.pads):
        x, op = _padded(p, x, op.pads, 0.0), op.with_(pads=(0,) * (2 * n))
    p.bind(node.output, _layer(p, "avg_pool", x, op, dims, node.output.name, exclude_padding_from_average=True))
