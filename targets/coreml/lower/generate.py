"""Operations that make their elements out of little: constants, ranges, shapes, masks, one-hot rows, running sums."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import NUMBER, lowers


@lowers(ops.CumSum, needs=[NUMBER])
def _cumsum(p: Lowering, node: Node, op: ops.CumSum) -> None:
    (x,) = p.operands(node)
    p.finish(node, p.like(x, "cumsum", axis=op.axis, exclusive=op.exclusive, reverse=op.reverse))
