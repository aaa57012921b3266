"""Normalisations with parameters."""

from __future__ import annotations

from math import prod

import numpy as np

from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.norm import LocalResponse, NormRows
from codegen.program import Split
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of, physical_axis
from compiler.ops.norm import TrailingNorm
from compiler.target import dtypes
from compiler.tensor import BF16, F16, F32, F64, TensorType
from targets.source.elements import convert, element_type, plain_type, widened
from targets.source.lower.elementwise import COMPUTED, Given, compute, sizes_of
from targets.source.lower.reduce import Lines, line_of, operand, reduce_to, scratch
from targets.source.lower.softmax import is_inner, plain_dtype
from targets.source.program import Program, bytes_of, ctype_of
from targets.source.reductions import inverse_rms, reduction_of, variance, wide
from targets.source.table import lowers


@lowers(ops.LayerNorm, ops.RmsNorm, needs=(COMPUTED,))
def _trailing(p: Program, node: Node, op: TrailingNorm) -> None:
    x = operand(node)
    lines = line_of(p, x, op.axes(x.type.rank))
    parameters = [v for v in node.inputs[1:] if v is not None]
    if _are_rows(lines, x, parameters):
        _rows(p, node, op, lines, parameters)
        return
    after = x.type.rank - 1 - op.axes(x.type.rank)[-1]
    given = [Given(p.at(v), sizes_of(_spread(v.type, after), x.type)) for v in parameters]
    _standardised(p, node, lines, given, op.eps, [v.type for v in parameters], is_rms=isinstance(op, ops.RmsNorm))


def _are_rows(lines: Lines, x: Value, parameters: list[Value]) -> bool:
    """Whether the row kernel does it: floats side by side, with parameters of their number in the same order."""
    whole = prod(n for n, is_gone in zip(lines.sizes, lines.gone, strict=True) if is_gone)
    axes = [axis for axis, is_gone in zip(order_of(x.type), lines.gone, strict=True) if is_gone]
    plain = all(v.type.dtype is lines.dtype and v.type.size == whole and v.type.layout is None for v in parameters)
    return lines.dtype in (F16, F32) and plain and is_inner(lines) and axes == sorted(axes) and bool(prod(lines.sizes))


def _rows(p: Program, node: Node, op: TrailingNorm, lines: Lines, parameters: list[Value]) -> None:
    rows, n = lines.lines
    given = [p.at(v) for v in parameters]
    y = p.result(node.output, over=operand(node))
    kernel = NormRows(is_rms=isinstance(op, ops.RmsNorm), has_bias=len(given) > 1, ctype=ctype_of(lines.dtype))
    row = bytes_of(lines.dtype) * n
    split = Split(rows, count="rows", steps={"x": row, "y": row})
    p.call(kernel, lines.at, *given, y, rows, n, op.eps, node=node, title=f"{rows} rows of {n}", split=split)


def _spread(t: TensorType, after: int) -> TensorType:
    """The type with axes of one element behind its own."""
    return TensorType(t.dtype, (*t.shape, *[1] * after))


def _standardised(
    p: Program,
    node: Node,
    x: Lines,
    parameters: list[Given],
    eps: float,
    types: list[TensorType],
    is_rms: bool = False,
) -> None:
    """(x - mean) / sqrt(variance + eps) * scale + bias, with statistics along what goes of x."""
    kind, stored = plain_type(x.dtype), element_type(x.dtype)
    inverse = scratch(p, x.dtype, prod(x.kept), "inverse")
    given = [Given(x.at, x.sizes), Given(inverse, x.kept)]
    made: Expression = widened(Operand(0, stored))
    if is_rms:
        reduce_to(p, node, x, inverse_rms(x.dtype, eps), inverse)
        given.append(Given(inverse, x.kept))
    else:
        mean = scratch(p, x.dtype, prod(x.kept), "mean")
        reduce_to(p, node, x, wide(reduction_of(ops.ReduceMean, x.dtype)), mean)
        reduce_to(p, node, x, variance(x.dtype, eps), inverse, mean)
        given.append(Given(mean, x.kept))
        made = Apply("sub", (made, Operand(2, kind)), kind)
    made = Apply("mul", (made, Operand(1, kind)), kind)
    for i, (parameter, t) in enumerate(zip(parameters, types, strict=True)):
        value = convert(widened(Operand(3 + i, element_type(t.dtype))), kind)
        made = Apply("add" if i else "mul", (made, value), kind)
        given.append(parameter)
    compute(p, node, convert(made, stored), given, p.result(node.output), x.sizes, stored)


@lowers(ops.InstanceNorm, ops.GroupNorm, needs=(COMPUTED,))
def _grouped(p: Program, node: Node, op: ops.InstanceNorm | ops.GroupNorm) -> None:
    """The axis of channels as one of groups and one of their channels."""
    x = operand(node)
    channels = x.type.dims[1]
    groups = op.groups if isinstance(op, ops.GroupNorm) else channels
    sizes: list[int] = []
    gone: list[bool] = []
    own: list[int] = []  # of parameters
    for axis in order_of(x.type):
        sizes += [groups, channels // groups] if axis == 1 else [x.type.dims[axis]]
        gone += [False, True] if axis == 1 else [axis > 1]
        own += [groups, channels // groups] if axis == 1 else [1]
    lines = Lines(p.at(x), x.type.dtype, sizes, gone)
    parameters = [v for v in node.inputs[1:] if v is not None]
    _standardised(p, node, lines, [Given(p.at(v), own) for v in parameters], op.eps, [v.type for v in parameters])


@lowers(ops.BatchNorm, needs=(COMPUTED,))
def _batch(p: Program, node: Node, op: ops.BatchNorm) -> None:
    x, *parameters = (operand(node, i) for i in range(5))
    kind, stored = plain_type(x.type.dtype), element_type(x.type.dtype)
    sizes = sizes_of(x.type)
    own = [n if axis == 1 else 1 for axis, n in zip(order_of(x.type), sizes, strict=True)]
    wide_x = widened(Operand(0, stored))
    if all(v.data is not None for v in parameters):
        scale, bias, mean, var = (np.asarray(v.data).astype(np.float64) for v in parameters)
        factor = scale / np.sqrt(var + op.eps)
        numpy = plain_dtype(x.type.dtype).numpy
        folded = {"scale": factor, "shift": bias - mean * factor}
        given = [Given(p.constant(array.astype(numpy), name), own) for name, array in folded.items()]
        made = Apply("mul", (wide_x, Operand(1, kind)), kind)
        made = Apply("add", (made, Operand(2, kind)), kind)
    else:
        given = [Given(p.at(v), own) for v in parameters]
        e = [convert(widened(Operand(i + 1, element_type(v.type.dtype))), kind) for i, v in enumerate(parameters)]
        root = Apply("sqrt", (Apply("add", (e[3], Number(op.eps, kind)), kind),), kind)
        made = Apply("mul", (Apply("sub", (wide_x, e[2]), kind), Apply("div", (e[0], root), kind)), kind)
        made = Apply("add", (made, e[1]), kind)
    y = p.result(node.output, over=x)
    compute(p, node, convert(made, stored), [Given(p.at(x), sizes), *given], y, sizes, stored)


@lowers(ops.LocalResponseNorm, needs=(dtypes(F16, BF16, F32, F64),))
def _local_response(p: Program, node: Node, op: ops.LocalResponseNorm) -> None:
    x = operand(node)
    source, y = p.at(x), p.result(node.output)
    sizes, at = sizes_of(x.type), physical_axis(x.type, 1)
    before = (op.size - 1) // 2
    kernel = LocalResponse(ctype=ctype_of(x.type.dtype), before=before, after=op.size - 1 - before, beta=float(op.beta))
    counts = prod(sizes[:at]), sizes[at], prod(sizes[at + 1 :])
    numbers = float(op.bias), float(op.alpha / op.size)
    p.call(kernel, source, y, *counts, *numbers, node=node, title=f"{op.size} channels of {x.type}")
