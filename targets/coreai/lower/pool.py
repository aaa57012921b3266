"""Pooling: the dialect's windows over two or three axes, which have no pads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.target import op_need
from compiler.tensor import Array
from targets.coreai.dtypes import limits
from targets.coreai.lower.linear import in_plane, plane
from targets.coreai.lower.lowering import FLOATS as HELD_FLOATS
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import FLOAT, NUMBER, lowers
from targets.coreai.program import Var

VALUES = op_need("no indices, or a small window (limits in docs/passes/decompose.md)", lambda op: not op.indices)
PLANES = op_need("one to three spatial axes", lambda op: 1 <= len(op.kernel) <= 3)


def _window(op: ops.Pool, x: Sequence[int], y: Sequence[int]) -> tuple[list[int], list[int]]:
    """Begin and end pads of each spatial axis such that floor division gives the known output size; the last window
    of ceil mode may reach beyond what ONNX pads. A negative end pad is what no window reaches."""
    n = len(op.kernel)
    begins, ends = list(op.pads[:n]), list(op.pads[n:])
    for i in range(n):
        needed = (y[i + 2] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1
        ends[i] = needed - x[i + 2] - begins[i]
    return begins, ends


def _fitted(p: Lowering, x: Var, op: ops.Pool, dims: Sequence[int], fill: float) -> Var:
    begins, ends = _window(op, x.shape, dims)
    stops = [*x.shape[:2], *(d + min(e, 0) for d, e in zip(x.shape[2:], ends, strict=True))]
    x = p.slice(x, [0] * len(stops), stops, [1] * len(stops))
    return p.pad(x, [0, 0, *begins], [0, 0, *(max(0, e) for e in ends)], fill)


def _pooled(p: Lowering, kind: str, x: Var, op: ops.Pool, dims: Sequence[int]) -> Var:
    n = len(op.kernel)
    spatial = [p.sizes(in_plane(v)) for v in (op.kernel, op.strides, op.dilations)]
    more = [p.flag(False)] if kind == "max_pool" else []
    name = f"{kind}_3d" if n == 3 else f"{kind}_2d"
    return p.reshape(p.op(name, [plane(p, x), *spatial, *more], x.dtype, in_plane(dims[2:], dims[:2])), dims)


@lowers(ops.MaxPool, needs=[VALUES, PLANES, NUMBER])
def _max_pool(p: Lowering, node: Node, op: ops.MaxPool) -> None:
    (x,), dims = p.operands(node), node.output.type.dims
    lowest = -np.inf if x.dtype in HELD_FLOATS else limits(x.dtype)[0]
    p.bind(node.output, _pooled(p, "max_pool", _fitted(p, x, op, dims, lowest), op, dims))


@lowers(ops.AveragePool, needs=[FLOAT, PLANES])
def _average_pool(p: Lowering, node: Node, op: ops.AveragePool) -> None:
    """Sums divided by how many elements each window has, pads among them if they count."""
    (x,), dims = p.operands(node), node.output.type.dims
    total = _pooled(p, "sum_pool", _fitted(p, x, op, dims, 0.0), op, dims)
    p.bind(node.output, p.binary("divide", total, p.floats(_counts(op, x.shape, dims))))


def _counts(op: ops.AveragePool, x: Sequence[int], y: Sequence[int]) -> Array:
    """How many elements each window has, as [1,...] or as many axes as there are spatial ones."""
    counts = np.ones(())
    for i, k in enumerate(op.kernel):
        size, begin, end = x[i + 2], op.pads[i], op.pads[len(op.kernel) + i]
        low, high = (-begin, size + end) if op.count_include_pad else (0, size)
        at = np.arange(y[i + 2])[:, None] * op.strides[i] - begin + np.arange(k) * op.dilations[i]
        along = ((at >= low) & (at < high)).sum(1)
        counts = counts[..., None] * along
    return counts if len(np.unique(counts)) > 1 else counts.reshape(-1)[:1].reshape(())
