"""Normalisations and softmax."""

from __future__ import annotations

from math import prod

from compiler import ops
from compiler.graph import Node
from compiler.target import Need, constant_operands, op_need
from targets.coreml.lower.linear import per_channel
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import FLOAT, lowers
from targets.coreml.mil import Var

VOLUME = Need(text="a rank of 3 to 5", holds=lambda node: 3 <= node.output.type.rank <= 5, source="MIL batch_norm")


@lowers(ops.BatchNorm, needs=[FLOAT, VOLUME, constant_operands(1, 2, 3, 4)])
def _batch_norm(p: Lowering, node: Node, op: ops.BatchNorm) -> None:
    x, scale, bias, mean, variance = p.operands(node)
    p.emit(node, "batch_norm", x=x, mean=mean, variance=variance, gamma=scale, beta=bias, epsilon=op.eps)


@lowers(ops.InstanceNorm, needs=[FLOAT])
def _instance_norm(p: Lowering, node: Node, op: ops.InstanceNorm) -> None:
    """`instance_norm` takes constants and ranks 3 and 4; spatial axes beyond are made one."""
    x, scale, bias = p.operands(node)
    flat = x if len(x.shape) in (3, 4) else p.reshape(x, (*x.shape[:2], prod(x.shape[2:])))
    if scale.value is not None and bias.value is not None:
        y = p.like(flat, "instance_norm", gamma=scale, beta=bias, epsilon=op.eps)
    else:
        y = p.like(flat, "instance_norm", epsilon=op.eps)
        y = _scaled(p, y, scale, bias)
    p.bind(node.output, p.reshape(y, x.shape))


def _scaled(p: Lowering, x: Var, scale: Var, bias: Var) -> Var:
    rank = len(x.shape)
    return p.like(p.like(x, "mul", y=per_channel(p, scale, rank)), "add", y=per_channel(p, bias, rank))


@lowers(ops.GroupNorm, needs=[FLOAT])
def _group_norm(p: Lowering, node: Node, op: ops.GroupNorm) -> None:
    """Groups in a row of their own are normalised like a layer; scale and bias of each channel follow."""
    x, scale, bias = p.operands(node)
    rows = p.reshape(x, (x.shape[0], op.groups, prod(x.shape[1:]) // op.groups))
    y = p.reshape(p.like(rows, "layer_norm", axes=[2], epsilon=op.eps), x.shape)
    p.bind(node.output, _scaled(p, y, scale, bias))


@lowers(ops.LayerNorm, needs=[FLOAT])
def _layer_norm(p: Lowering, node: Node, op: ops.LayerNorm) -> None:
    x, scale, *bias = p.operands(node)
    axes = list(op.axes(len(x.shape)))
    fits = scale.shape == tuple(x.shape[a] for a in axes) and (not bias or bias[0].shape == scale.shape)
    if fits and scale.value is not None and (not bias or bias[0].value is not None):
        p.emit(node, "layer_norm", x=x, axes=axes, gamma=scale, beta=bias[0] if bias else None, epsilon=op.eps)
        return
    scale, *bias = _aligned(p, node, len(x.shape) - 1 - axes[-1])
    y = p.like(p.like(x, "layer_norm", axes=axes, epsilon=op.eps), "mul", y=scale)
    p.bind(node.output, p.like(y, "add", y=bias[0]) if bias else y)


def _aligned(p: Lowering, node: Node, after: int) -> list[Var]:
    """The parameters of a normalisation with as many axes of 1 behind as are not normalised."""
    found = []
    for v in node.inputs[1:]:
        assert v is not None
        dims = (*v.type.dims, *[1] * after)
        known = v.data if after else None
        found.append(p.reshape(p[v], dims) if known is None else p.floats(known.reshape(dims)))
    return found


@lowers(ops.RmsNorm, needs=[FLOAT])
def _rms_norm(p: Lowering, node: Node, op: ops.RmsNorm) -> None:
    x = p.operands(node)[0]
    axes = op.axes(len(x.shape))
    (scale,) = _aligned(p, node, len(x.shape) - 1 - axes[-1])
    mean = p.reduce(p.like(x, "square"), "reduce_mean", axes)
    p.emit(node, "mul", x=p.like(x, "mul", y=p.like(mean, "rsqrt", epsilon=op.eps)), y=scale)


@lowers(
    ops.LocalResponseNorm,
    needs=[FLOAT, op_need("a window centred on its channel, of odd size", lambda op: op.size % 2 == 1)],
)
def _local_response_norm(p: Lowering, node: Node, op: ops.LocalResponseNorm) -> None:
    (x,) = p.operands(node)
    p.emit(node, "local_response_norm", x=x, size=op.size, alpha=op.alpha, beta=op.beta, k=op.bias)


@lowers(ops.LpNormalize, needs=[FLOAT, op_need("p of 1 or 2", lambda op: op.p in (1, 2))])
def _lp_normalize(p: Lowering, node: Node, op: ops.LpNormalize) -> None:
    (x,) = p.operands(node)
    norm = p.reduce(x, f"reduce_l{op.p}_norm", [op.axis])
    smallest = 2.0**-24 if p.precision == "fp16" else 2.0**-126
    p.emit(node, "real_div", x=x, y=p.like(norm, "maximum", y=max(op.eps, smallest)))


@lowers(ops.Softmax, needs=[FLOAT])
def _softmax(p: Lowering, node: Node, op: ops.Softmax) -> None:
    p.emit(node, "softmax", x=p.operands(node)[0], axis=op.axis)


@lowers(ops.LogSoftmax, needs=[FLOAT])
def _log_softmax(p: Lowering, node: Node, op: ops.LogSoftmax) -> None:
    """x - max(x) - log(sum(exp(x - max(x))))."""
    (x,) = p.operands(node)
    shifted = p.like(x, "sub", y=p.reduce(x, "reduce_max", [op.axis]))
    total = p.reduce(p.like(shifted, "exp"), "reduce_sum", [op.axis])
    p.emit(node, "sub", x=shifted, y=p.like(total, "log", epsilon=0.0))
