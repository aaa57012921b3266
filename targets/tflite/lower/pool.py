"""Pooling, channels last."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.layout import channels_last
from compiler.ops.window import same_pads
from compiler.target import op_need
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, lowers, ranks
from targets.tflite.model import Tensor
from targets.tflite.opset import SAME, VALID

Ints = tuple[int, ...]
VALUES_ONLY = op_need("no indices output", lambda op: not op.indices)
# Large images of few channels are padded faster by the runtime than by its delegate, the change of hands included.
LARGE = 1 << 19  # elements
NARROW = 32  # channels
DENSE = op_need("dilations of 1", lambda op: set(op.dilations) <= {1})


def _reach(op: ops.Pool, spatial: Ints, out: Ints) -> Ints:
    """Pads with which the windows of the known output fit. An end is negative where so much is beyond the last window
    that another would fit."""
    n = len(op.kernel)
    ends = [
        (out[i] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1 - spatial[i] - op.pads[i]
        for i in range(n)
    ]
    unread = [0 if -op.strides[i] < end < 0 and op.dilations[i] == 1 else end for i, end in enumerate(ends)]
    return (*op.pads[:n], *unread)


def _slide(p: Lowering, code: str, x: Tensor, kernel: Ints, strides: Ints, scheme: int) -> Tensor:
    """Windows over [N,H,W,C], or over three spatial axes as two sweeps."""
    if len(kernel) == 3:
        n, d, h, w, c = x.shape
        y = _slide(p, code, p.reshape(x, (n * d, h, w, c)), kernel[1:], strides[1:], scheme)
        h, w = y.shape[1:3]
        y = _slide(p, code, p.reshape(y, (n, d, h * w, c)), (kernel[0], 1), (strides[0], 1), scheme)
        return p.reshape(y, (n, y.shape[1], h, w, c))
    if len(kernel) == 1:
        y = _slide(p, code, p.reshape(x, (x.shape[0], 1, *x.shape[1:])), (1, *kernel), (1, *strides), scheme)
        return p.reshape(y, (y.shape[0], *y.shape[2:]))
    out = [
        -(-d // s) if scheme == SAME else (d - k) // s + 1
        for d, k, s in zip(x.shape[1:3], kernel, strides, strict=True)
    ]
    options = {
        "Padding": scheme,
        "StrideH": strides[0],
        "StrideW": strides[1],
        "FilterHeight": kernel[0],
        "FilterWidth": kernel[1],
    }
    return p.add(code, [x], x.dtype, (x.shape[0], *out, x.shape[3]), **options)


def _filled(p: Lowering, x: Tensor, pads: Ints, value: float) -> Tensor:
    """`x` [N,*S,C] with its spatial axes padded, or cut where an end pad is negative."""
    n = len(pads) // 2
    ends = [min(d + e, d) for d, e in zip(x.shape[1:-1], pads[n:], strict=True)]
    x = p.cut(x, [0] * len(x.shape), (x.shape[0], *ends, x.shape[-1]))
    return p.pad(x, (0, *pads[:n], 0), (0, *(max(e, 0) for e in pads[n:]), 0), value)


@lowers(ops.MaxPool, needs=[VALUES_ONLY, DENSE, FLOAT, ranks(3, 5)])
def _max_pool(p: Lowering, node: Node, op: ops.MaxPool) -> None:
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x, out = p.get(v, order), node.outputs[0].type.dims[2:]
    pads = _reach(op, x.shape[1:-1], out)
    if pads == same_pads(x.shape[1:-1], op.kernel, op.strides, op.dilations, upper=True) and any(pads):
        y = _slide(p, "MAX_POOL_2D", x, op.kernel, op.strides, SAME)
    else:
        delegated = prod(x.shape) < LARGE or x.shape[-1] > NARROW
        outside = 0.0 if delegated and p.model.is_nonnegative(x) else -inf
        y = _slide(p, "MAX_POOL_2D", _filled(p, x, pads, outside), op.kernel, op.strides, VALID)
    p.finish(node, y, order)


@lowers(ops.AveragePool, needs=[DENSE, FLOAT, ranks(3, 5)])
def _average_pool(p: Lowering, node: Node, op: ops.AveragePool) -> None:
    """Elements outside do not count: the builtin's own rule where its padding is ours, else the mean with zeros is
    corrected by a constant factor per window."""
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x, out = p.get(v, order), node.output.type.dims[2:]
    pads = _reach(op, x.shape[1:-1], out)
    same = pads == same_pads(x.shape[1:-1], op.kernel, op.strides, op.dilations, upper=True)
    if same and any(pads) and not op.count_include_pad and len(op.kernel) < 3:
        p.finish(node, _slide(p, "AVERAGE_POOL_2D", x, op.kernel, op.strides, SAME), order)
        return
    x = _filled(p, x, pads, 0.0)
    factor = counted(op, v.type.dims[2:], out)
    y = _slide(p, "AVERAGE_POOL_2D", x, op.kernel, op.strides, VALID)
    if factor is not None:
        y = p.binary("MUL", y, p.const(factor[None, ..., None], "FLOAT32"))
    p.finish(node, y, order)


def counted(op: ops.AveragePool, spatial: Ints, out: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """Size of the window over the number of its elements that count, for each window; None if it is 1 everywhere."""
    n = len(out)
    factor = np.ones(out)
    for i in range(n):
        at = np.arange(out[i])[:, None] * op.strides[i] + np.arange(op.kernel[i]) * op.dilations[i] - op.pads[i]
        low, high = (-op.pads[i], spatial[i] + op.pads[n + i]) if op.count_include_pad else (0, spatial[i])
        count = ((at >= low) & (at < high)).sum(1)
        factor *= (op.kernel[i] / count).reshape([-1 if k == i else 1 for k in range(n)])
    return None if (factor == 1).all() else factor


@lowers(ops.GlobalAveragePool, ops.GlobalMaxPool, needs=[FLOAT])
def _global_pool(p: Lowering, node: Node, op: Op) -> None:
    (v,) = node.inputs
    assert v is not None
    order = p.order(v)
    x = p.get(v, order)
    axes = [i for i, a in enumerate(order) if a > 1]
    code = "REDUCE_MAX" if isinstance(op, ops.GlobalMaxPool) else "MEAN"
    p.finish(node, p.reduce(code, x, axes), order)
