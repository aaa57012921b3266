"""How the results of each operation are bounded: the rules of `Spans`."""

from __future__ import annotations

from math import exp, inf, log, log1p, prod, sqrt
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.reduce import Reduce
from compiler.span import ANY, SLACK, ZERO, Span, Spans, normalized, spans, weighted

__all__ = ["ANY", "Span", "Spans"]

UNIT = Span(0.0, 1.0)
BOTH = Span(-1.0, 1.0)
DIPS = {ops.Gelu: 0.171, ops.Silu: 0.279, ops.HardSwish: 0.376, ops.Mish: 0.309}  # how far below 0 the curves reach


# -- what moves or chooses elements ----------------------------------------------------------------------------


@spans(ops.Identity, ops.Reshape, ops.Transpose, ops.Slice, ops.Gather, ops.GatherElements, ops.GatherND, ops.Split,
       ops.Expand, ops.Tile, ops.ReverseSequence, ops.DepthToSpace, ops.SpaceToDepth, ops.ConvertLayout,
       ops.GlobalMaxPool, ops.GlobalAveragePool)  # fmt: skip
def _moved(s: Spans, node: Node, _op: Op) -> Span:
    return s.first(node)


@spans(ops.ReduceMax, ops.ReduceMin, ops.ReduceMean)
def _reduced(s: Spans, node: Node, _op: Op) -> Span | None:
    x = node.inputs[0]
    return s[x] if x is not None and x.type.is_static and 0 not in x.type.shape else None


@spans(ops.MaxPool)
def _largest(s: Spans, node: Node, op: ops.MaxPool) -> Span | None:
    """A window that lies in the padding gives the smallest number there is."""
    return None if any(op.pads) and not _meets(op) else s.first(node)


def _meets(op: ops.MaxPool) -> bool:
    """Whether every window meets an element, because pads are smaller than it and nothing is dilated."""
    n = len(op.kernel)
    pads = zip(op.pads[:n], op.pads[n:], op.kernel, strict=True)
    return set(op.dilations) <= {1} and all(max(before, after) < k for before, after, k in pads)


@spans(ops.AveragePool, ops.Trilu)
def _with_zero(s: Spans, node: Node, _op: Op) -> Span:
    return s.first(node).joined(ZERO)


@spans(ops.Concat, ops.Mean)
def _joined(s: Spans, node: Node, _op: Op) -> Span:
    first, *others = s.all(node)
    return first.joined(*others) if others else first


@spans(ops.Where)
def _chosen(s: Spans, node: Node, _op: Op) -> Span:
    return s[node.inputs[1]].joined(s[node.inputs[2]])


@spans(ops.Pad)
def _padded(s: Spans, node: Node, op: ops.Pad) -> Span:
    x = s.first(node)
    if op.mode != "constant":
        return x
    return x.joined(s[node.inputs[1]] if len(node.inputs) > 1 else Span(float(op.value), float(op.value)))


# -- arithmetic --------------------------------------------------------------------------------------------------


@spans(ops.Add, ops.Sum)
def _added(s: Spans, node: Node, _op: Op) -> Span:
    known = s.all(node)
    return _sum(known)


def _sum(known: list[Span]) -> Span:
    rounding = 1e-6 * sum(k.size for k in known if k.is_bounded)
    return Span(sum(k.low for k in known) - rounding, sum(k.high for k in known) + rounding)


@spans(ops.Sub)
def _subtracted(s: Spans, node: Node, _op: Op) -> Span:
    a, b = s.all(node)
    return _sum([a, Span(-b.high, -b.low)])


@spans(ops.Mul)
def _multiplied(s: Spans, node: Node, _op: Op) -> Span:
    a, b = s.all(node)
    if node.inputs[0] is node.inputs[1]:
        return Span(a.least**2, _power(a.size, 2))
    return a.times(b)


@spans(ops.Div)
def _divided(s: Spans, node: Node, _op: Op) -> Span | None:
    a, b = s.all(node)
    return None if not b.least else a.times(Span(*sorted((1 / b.low, 1 / b.high))))


@spans(ops.Reciprocal)
def _inverted(s: Spans, node: Node, _op: Op) -> Span | None:
    x = s.first(node)
    return None if not x.least else Span(*sorted((1 / x.low, 1 / x.high)))


@spans(ops.Pow)
def _raised(s: Spans, node: Node, _op: Op) -> Span | None:
    x, y = s.all(node)
    if y.low != y.high or (x.low <= 0 and y.low != 2) or not y.is_bounded:
        return None
    if y.low == 2:
        return Span(x.least**2, _power(x.size, 2))
    return Span(*sorted((_power(x.low, y.low), _power(x.high, y.low))))


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent) if base else (0.0 if exponent > 0 else inf)
    except OverflowError:
        return inf


@spans(ops.Neg)
def _negated(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    return Span(-x.high, -x.low)


@spans(ops.Abs)
def _absolute(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    return Span(x.least, x.size)


@spans(ops.Max, ops.Min)
def _extreme(s: Spans, node: Node, op: Op) -> Span:
    known, best = s.all(node), max if isinstance(op, ops.Max) else min
    return Span(best(k.low for k in known), best(k.high for k in known))


@spans(ops.Cast)
def _cast(s: Spans, node: Node, _op: Op) -> Span | None:
    x = node.inputs[0]
    if x is None or node.output.type.dtype.bits < 32:
        return None
    return s[x] if x.type.dtype.is_float else s.integers(x)


# -- functions ---------------------------------------------------------------------------------------------------


@spans(ops.Sigmoid, ops.Softmax, ops.HardSigmoid)
def _unit(_s: Spans, _node: Node, _op: Op) -> Span:
    return UNIT


@spans(ops.Tanh, ops.Erf, ops.Sin, ops.Cos, ops.Softsign, ops.LpNormalize)
def _both(_s: Spans, _node: Node, _op: Op) -> Span:
    return BOTH


@spans(ops.LogSoftmax)
def _below_zero(_s: Spans, _node: Node, _op: Op) -> Span:
    return Span(-inf, 0.0)


@spans(ops.Relu)
def _rectified(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    return Span(max(x.low, 0.0), max(x.high, 0.0))


@spans(ops.Clip)
def _clipped(s: Spans, node: Node, op: ops.Clip) -> Span | None:
    x = s.first(node)
    return None if op.low > op.high else Span(*(min(max(end, op.low), op.high) for end in x))


@spans(ops.LeakyRelu, ops.Elu, ops.PRelu)
def _leaky(s: Spans, node: Node, op: Any) -> Span:
    x = s.first(node)
    slope = s[node.inputs[1]].size if isinstance(op, ops.PRelu) else abs(op.alpha)
    below = x.times(Span(-slope, slope)) if isinstance(op, ops.PRelu) else Span(slope * min(x.low, 0.0), 0.0)
    if isinstance(op, ops.Elu):
        below = Span(-slope, slope)
    elif isinstance(op, ops.LeakyRelu) and op.alpha < 0:
        below = Span(0.0, slope * max(-x.low, 0.0))
    return Span(max(x.low, 0.0), max(x.high, 0.0)).joined(below, ZERO)


@spans(*DIPS)
def _dipping(s: Spans, node: Node, op: Any) -> Span | None:
    if isinstance(op, ops.Silu) and op.alpha != 1.0:
        return None
    x = s.first(node)
    return Span(max(x.low, 0.0) * 0.5 if x.low > 0 else -DIPS[type(op)], max(x.high, 0.0))


@spans(ops.Softplus)
def _soft(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    return Span(max(x.low, 0.0), x.high + 1.0 if x.high > 0 else log1p(exp(max(x.high, -700.0))))


@spans(ops.Exp)
def _exponential(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    low, high = (exp(end) if end < 700 else inf for end in x)
    return Span(low, high)


@spans(ops.Log)
def _logarithm(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    return Span(log(x.low) if x.low > 0 else -inf, log(x.high) if x.high > 0 else inf)


@spans(ops.Sqrt)
def _root(s: Spans, node: Node, _op: Op) -> Span:
    x = s.first(node)
    return Span(sqrt(max(x.low, 0.0)), sqrt(max(x.high, 0.0)))


# -- sums --------------------------------------------------------------------------------------------------------


@spans(ops.ReduceSum, ops.ReduceL1, ops.ReduceL2, ops.ReduceSumSquare)
def _total(s: Spans, node: Node, op: Reduce) -> Span | None:
    v = node.inputs[0]
    if v is None or not v.type.is_static:
        return None
    x, count = s[v], prod(v.type.dims[a] for a in op.axes)
    if isinstance(op, ops.ReduceSum):
        return Span(x.low * count, x.high * count).widened() if count else ZERO
    size, least = (_power(end, 1 if isinstance(op, ops.ReduceL1) else 2) * count for end in (x.size, x.least))
    found = Span(0.0 if not count else least, size).widened()
    return Span(sqrt(max(found.low, 0.0)), sqrt(found.high)) if isinstance(op, ops.ReduceL2) else found


@spans(ops.CumSum)
def _running(s: Spans, node: Node, op: ops.CumSum) -> Span | None:
    v = node.inputs[0]
    if v is None or not v.type.is_static:
        return None
    x, count = s[v], v.type.dims[op.axis]
    return Span(min(x.low, 0.0) * count, max(x.high, 0.0) * count)


@spans(ops.Conv, ops.ConvTranspose)
def _convolved(s: Spans, node: Node, op: Any) -> Span | None:
    """Per filter; where the kernel hangs over the edge, or a transposed one leaves gaps, some terms are missing."""
    x, w, bias = s.first(node), node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if not x.is_bounded or w is None or w.data is None:
        return None
    if isinstance(op, ops.ConvTranspose):
        grouped = w.data.reshape(op.groups, -1, *w.data.shape[1:])
        y = weighted(s, x, grouped, (1, *range(3, grouped.ndim)), partial=True)
    else:
        y = weighted(s, x, w.data, tuple(range(1, w.data.ndim)), partial=any(op.pads))
    return _sum([y, s[bias]])


@spans(ops.Dense)
def _dense(s: Spans, node: Node, op: ops.Dense) -> Span | None:
    x, w, bias = s.first(node), node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if not x.is_bounded or w is None or w.data is None:
        return None
    return _sum([weighted(s, x, w.data, (1 if op.transposed else 0,), partial=False), s[bias]])


@spans(ops.MatMul)
def _product(s: Spans, node: Node, _op: Op) -> Span | None:
    x, y = node.inputs
    if x is None or y is None or not s[x].is_bounded or not x.type.is_static:
        return None
    if y.data is not None and y.data.ndim >= 2:
        return weighted(s, s[x], y.data, (y.data.ndim - 2,), partial=False)
    one = s[x].times(s[y])
    return Span(one.low * x.type.dims[-1], one.high * x.type.dims[-1]).widened(1e-6 * one.size * x.type.dims[-1])


@spans(ops.Attention)
def _attended(s: Spans, node: Node, _op: Op) -> Span:
    """Averages of the values, or nothing."""
    return s[node.inputs[2]].joined(ZERO)


# -- normalisations ----------------------------------------------------------------------------------------------


@spans(ops.LayerNorm, ops.RmsNorm)
def _normalized(s: Spans, node: Node, op: Any) -> Span | None:
    x, scale, *bias = node.inputs
    if x is None or not x.type.is_static or op.eps < 0:
        return None
    return normalized(prod(x.type.dims[a] for a in op.axes(x.type.rank)), s[scale], s[bias[0]] if bias else ZERO)


@spans(ops.InstanceNorm, ops.GroupNorm)
def _by_channel(s: Spans, node: Node, op: Any) -> Span | None:
    x, scale, bias = node.inputs
    if x is None or not x.type.is_static or op.eps < 0:
        return None
    count = prod(x.type.dims[2:]) * (x.type.dims[1] // op.groups if isinstance(op, ops.GroupNorm) else 1)
    return normalized(count, s[scale], s[bias])


@spans(ops.BatchNorm)
def _batch(s: Spans, node: Node, op: ops.BatchNorm) -> Span | None:
    x, parts = s.first(node), [v.data for v in node.inputs[1:] if v is not None]
    if not x.is_bounded or len(parts) < 4 or any(p is None for p in parts):
        return None
    scale, bias, mean, variance = (np.asarray(p, np.float64) for p in parts)
    factor = scale / np.sqrt(variance + op.eps)
    ends = np.stack([(end - mean) * factor for end in x])
    found = Span(float((ends.min(0) + bias).min()), float((ends.max(0) + bias).max()))
    return found.widened(SLACK * float(np.abs(factor * mean).max() + np.abs(bias).max()))
