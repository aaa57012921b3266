"""What Core AI's static programs cannot express, why, and the nearest that they can."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import TABLE, never

_DYNAMIC = "a number of results that is known before the model runs; {} (keep the full tensor and {})"
REASONS: dict[type[Op], str] = {
    ops.NonZero: _DYNAMIC.format("how many elements are not 0 is not", "multiply by a mask, or use Where"),
    ops.Compress: _DYNAMIC.format("how many conditions hold is not", "use Where, or Gather with constant indices"),
    ops.Unique: _DYNAMIC.format("how many elements are distinct is not", "deduplicate after the model"),
    ops.NonMaxSuppression: _DYNAMIC.format("how many boxes remain is not", "suppress after the model"),
    ops.BitCast: "reading the bits of floats (Cast converts the number)",
    ops.Det: "an operation for determinants of more than 4 rows (compute them before the model)",
    ops.RoiAlign: "as many points as a computed region has pixels (sampling_ratio over 0, or constant regions)",
}


def _unreachable(p: Lowering, node: Node, op: Op) -> None:
    raise AssertionError(f"{node!r} is refused before it is lowered")


for _op, _reason in REASONS.items():
    TABLE.lowers(_op, never(f"what Core AI does not have here: {_reason}"))(_unreachable)
