"""Nodes of opsets before 7, said as opset 7 says them: broadcasting by attributes, and modes for training.

Source: the operators' version history in ONNX. Between the versions not named here only the allowed element types and
the attribute `consumed_inputs`, which says nothing about values, have changed.
"""

from __future__ import annotations

from math import prod

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder
from compiler.op import OnnxNode, normalize_axis
from compiler.ops.shape import Reshape

MODERN = 7
BROADCASTING = frozenset(("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"))
# Operators that took other operands or attributes, and the opset from which on they are what they are in 7.
CHANGED = {
    "Cast": 6,
    "GRU": 3,
    "GlobalLpPool": 2,
    "LpPool": 2,
    "Pad": 2,
    "Reshape": 5,
    "Split": 2,
    "Tile": 6,
    "Upsample": 7,
}


def modernise(node: OnnxNode, builder: LayerBuilder) -> None:
    """Rewrite the operands of a node of an opset before 7. Raises OnnxError for what has no equal there."""
    first = CHANGED.get(node.op_type, 0)
    if node.version < first:
        raise OnnxError(
            f"{node.op_type} before opset {first} is not supported", hint="onnx.version_converter can change the opset"
        )
    if node.op_type in ("BatchNormalization", "Dropout") and not node.attr("is_test", 0):
        raise OnnxError(
            f"{node.op_type} without is_test is in training mode before opset 7", hint="export the model for inference"
        )
    if node.op_type in BROADCASTING and node.attr("broadcast", 0):
        _align(node, builder)
    if node.op_type == "PRelu":
        _align_slope(node, builder)


def _align(node: OnnxNode, builder: LayerBuilder) -> None:
    """The second operand fits the first from `axis` on; without one, at the end, as it does in opset 7."""
    x, y = node.operands()
    assert isinstance(x, Value) and isinstance(y, Value)  # importing, not decoding
    axis = normalize_axis(node.attr("axis", x.type.rank - y.type.rank), x.type.rank) if y.type.rank else 0
    trailing = x.type.rank - axis - y.type.rank
    if trailing < 0:
        raise OnnxError(f"an operand of rank {y.type.rank} does not fit one of rank {x.type.rank} from axis {axis} on")
    if trailing and y.type.rank:
        node.inputs = (x, builder.add(Reshape(shape=(*y.type.dims, *(1,) * trailing)), y))


def _align_slope(node: OnnxNode, builder: LayerBuilder) -> None:
    """One slope for all, or one for each channel."""
    x, slope = node.operands()
    assert isinstance(x, Value) and isinstance(slope, Value)  # importing, not decoding
    count = prod(slope.type.dims)
    if slope.type.rank == 1 and count > 1 and x.type.rank > 2:
        node.inputs = (x, builder.add(Reshape(shape=(count, *(1,) * (x.type.rank - 2))), slope))
