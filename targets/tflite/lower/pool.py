"""Pooling, channels last."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.layout import channels_last
from compiler.ops.window import same_pads
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, lowers, op_need, ranks
from targets.tflite.model import Tensor
from targets.tflite.opset import SAME, VALID

Ints = tuple[int, ...]
VALUES_ONLY = op_need("no indices output", lambda op: not op.indices)


def _reach(op: ops.Pool, spatial: Ints, out: Ints) -> Ints:
    """Pads with which the windows of the known output just fit; what no window reaches has a negative end."""
    n = len(op.kernel)
    ends = [
        (out[i] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1 - spatial[i] - op.pads[i]
        for i in range(n)
    ]
    return (*op.pads[:n], *ends)


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


def _taps(p: Lowering, x: Tensor, op: ops.Pool, out: Ints, code: str) -> Tensor:
    """A dilated window as one strided slice per place in it."""
    result: Tensor | None = None
    for tap in np.ndindex(*op.kernel):
        begins = [t * d for t, d in zip(tap, op.dilations, strict=True)]
        ends = [b + (o - 1) * s + 1 for b, o, s in zip(begins, out, op.strides, strict=True)]
        part = p.cut(x, (0, *begins, 0), (x.shape[0], *ends, x.shape[-1]), (1, *op.strides, 1))
        result = part if result is None else p.binary(code, result, part)
    assert result is not None
    return result


@lowers(ops.MaxPool, needs=[VALUES_ONLY, FLOAT, ranks(3, 5)])
def _max_pool(p: Lowering, node: Node, op: ops.MaxPool) -> None:
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x, out = p.get(v, order), node.outputs[0].type.dims[2:]
    pads = _reach(op, x.shape[1:-1], out)
    if set(op.dilations) > {1} or max(op.dilations) > 1:
        y = _taps(p, _filled(p, x, pads, -inf), op, out, "MAXIMUM")
    elif pads == same_pads(x.shape[1:-1], op.kernel, op.strides, op.dilations, upper=True) and any(pads):
        y = _slide(p, "MAX_POOL_2D", x, op.kernel, op.strides, SAME)
    else:
        y = _slide(p, "MAX_POOL_2D", _filled(p, x, pads, -inf), op.kernel, op.strides, VALID)
    p.finish(node, y, order)


@lowers(ops.AveragePool, needs=[FLOAT, ranks(3, 5)])
def _average_pool(p: Lowering, node: Node, op: ops.AveragePool) -> None:
    """Elements outside do not count: the builtin's own rule where its padding is ours, else the mean with zeros is
    corrected by a constant factor per window."""
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x, out = p.get(v, order), node.output.type.dims[2:]
    pads = _reach(op, x.shape[1:-1], out)
    same = pads == same_pads(x.shape[1:-1], op.kernel, op.strides, op.dilations, upper=True)
    dilated = max(op.dilations) > 1
    if same and any(pads) and not op.count_include_pad and not dilated and len(op.kernel) < 3:
        p.finish(node, _slide(p, "AVERAGE_POOL_2D", x, op.kernel, op.strides, SAME), order)
        return
    x = _filled(p, x, pads, 0.0)
    factor = counted(op, v.type.dims[2:], out)
    if dilated:
        y = p.times(_taps(p, x, op, out, "ADD"), 1 / prod(op.kernel))
    else:
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


@lowers(ops.LpPool, needs=[FLOAT, ranks(3, 5)])
def _lp_pool(p: Lowering, node: Node, op: ops.LpPool) -> None:
    """The root of the window size times the mean of powers."""
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x, out = p.get(v, order), node.output.type.dims[2:]
    x = _filled(p, x, _reach(op, x.shape[1:-1], out), 0.0)
    size = p.unary("ABS", x)
    powers = size if op.p == 1 else p.unary("SQUARE", x) if op.p == 2 else p.binary("POW", size, p.scalar(float(op.p)))
    if max(op.dilations) > 1:
        total = _taps(p, powers, op, out, "ADD")
    else:
        mean = _slide(p, "AVERAGE_POOL_2D", powers, op.kernel, op.strides, VALID)
        total = p.times(mean, float(prod(op.kernel)))
    p.finish(node, root(p, total, op.p), order)


def root(p: Lowering, total: Tensor, power: int) -> Tensor:
    """The p-th root."""
    if power == 1:
        return total
    return p.unary("SQRT", total) if power == 2 else p.binary("POW", total, p.scalar(1 / power))


@lowers(ops.GlobalAveragePool, ops.GlobalMaxPool, ops.GlobalLpPool, needs=[FLOAT])
def _global_pool(p: Lowering, node: Node, op: Op) -> None:
    (v,) = node.inputs
    assert v is not None
    order = p.order(v)
    x = p.get(v, order)
    axes = [i for i, a in enumerate(order) if a > 1]
    if isinstance(op, ops.GlobalLpPool):
        powers = p.unary("ABS", x) if op.p == 1 else p.binary("POW", p.unary("ABS", x), p.scalar(float(op.p)))
        y = root(p, p.reduce("SUM", powers, axes), op.p)
    else:
        y = p.reduce("REDUCE_MAX" if isinstance(op, ops.GlobalMaxPool) else "MEAN", x, axes)
    p.finish(node, y, order)
