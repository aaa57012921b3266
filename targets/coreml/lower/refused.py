"""What Core ML cannot express, why, and the nearest that it can."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import TABLE, never

_DYNAMIC = "a number of results that is known before the model runs; {} (keep the full tensor and {})"
REASONS: dict[type[Op], str] = {
    ops.NonZero: _DYNAMIC.format("how many elements are not 0 is not", "multiply by a mask, or use Where"),
    ops.Compress: _DYNAMIC.format("how many conditions hold is not", "use Where, or Gather with constant indices"),
    ops.Unique: _DYNAMIC.format("how many elements are distinct is not", "deduplicate after the model"),
    ops.NonMaxSuppression: _DYNAMIC.format("how many boxes remain is not", "suppress after the model"),
    ops.Det: "an operation for determinants (write out the formula for small matrices)",
    ops.DeformConv: "convolution at computed offsets (GridSample, then Conv)",
    ops.RoiAlign: "average pooling of regions by ONNX's sampling points (Resize or GridSample with a fixed grid)",
    ops.MaxRoiPool: "maximum pooling of computed regions (Slice with constant bounds, then MaxPool)",
    ops.BitCast: "reading the bits of an element as another type (Cast converts the number)",
    ops.BitwiseAnd: "bitwise operations (Mod and Div by powers of two pick out bits; And on booleans)",
    ops.BitwiseOr: "bitwise operations (Mod and Div by powers of two pick out bits; Or on booleans)",
    ops.BitwiseXor: "bitwise operations (Mod and Div by powers of two pick out bits; Xor on booleans)",
}


def _unreachable(p: Lowering, node: Node, op: Op) -> None:
    raise AssertionError(f"{node!r} is refused before it is lowered")


for _op, _reason in REASONS.items():
    TABLE.lowers(_op, never(f"what Core ML does not have: {_reason}"))(_unreachable)
