"""Normalisations along one axis: softmax and its kin, division by a norm."""

from __future__ import annotations

from math import prod

from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.softmax import Hardmax, SoftmaxRows
from codegen.program import Pointer, Split
from compiler import ops
from compiler.graph import Node
from compiler.ops.softmax import AxisWise
from compiler.target import dtypes
from compiler.tensor import BF16, F16, F32, F64, DType
from targets.source.elements import BOOL8, convert, element_type, plain_type, widened
from targets.source.lower.elementwise import COMPUTED, Given, compute
from targets.source.lower.reduce import Lines, line_of, operand, reduce_to, scratch
from targets.source.program import Program, bytes_of, ctype_of
from targets.source.reductions import extreme, logarithm_of_sum, norm, reduction_of, wide
from targets.source.table import lowers


def plain_dtype(dtype: DType) -> DType:
    """The type in which elements of a type are computed with."""
    return F64 if dtype is F64 else F32


@lowers(ops.Softmax, ops.LogSoftmax, needs=(COMPUTED,))
def _softmax(p: Program, node: Node, op: AxisWise) -> None:
    x = line_of(p, operand(node), (op.axis,))
    is_log = isinstance(op, ops.LogSoftmax)
    is_empty = 0 in x.sizes
    if x.dtype in (F16, F32) and is_inner(x) and not is_empty:
        _rows(p, node, x, is_log)
    elif not is_empty:
        _lines(p, node, x, is_log)
    else:
        p.result(node.output)


def is_inner(x: Lines) -> bool:
    """Whether what goes lies side by side."""
    gone = [is_gone for n, is_gone in zip(x.sizes, x.gone, strict=True) if n != 1]
    return True not in gone or False not in gone[gone.index(True) :]


def _rows(p: Program, node: Node, x: Lines, is_log: bool) -> None:
    rows, n = x.lines
    y = p.result(node.output, over=operand(node))
    row = bytes_of(x.dtype) * n
    split = Split(rows, count="rows", steps={"x": row, "y": row})
    kernel = SoftmaxRows(is_log=is_log, ctype=ctype_of(x.dtype))
    p.call(kernel, x.at, y, rows, n, node=node, title=f"{rows} rows of {n}", split=split)


def _lines(p: Program, node: Node, x: Lines, is_log: bool) -> None:
    """Along any axis and for any type: the largest element, powers, their sum, the quotient."""
    kind, stored = plain_type(x.dtype), element_type(x.dtype)
    top, total = (scratch(p, x.dtype, prod(x.kept), name) for name in ("top", "total"))
    reduce_to(p, node, x, wide(extreme(x.dtype, is_largest=True)), top)
    y = p.result(node.output)
    powers = y if kind == stored else scratch(p, x.dtype, prod(x.sizes), "powers")
    shifted = Apply("sub", (widened(Operand(0, stored)), Operand(1, kind)), kind)
    given = [Given(x.at, x.sizes), Given(top, x.kept)]
    compute(p, node, Apply("exp_negative", (shifted,), kind), given, powers, x.sizes, kind)
    summed = Lines(powers, plain_dtype(x.dtype), x.sizes, x.gone)
    if is_log:
        reduce_to(p, node, summed, logarithm_of_sum(summed.dtype), total)
        made: Expression = Apply("sub", (shifted, Operand(2, kind)), kind)
        compute(p, node, convert(made, stored), [*given, Given(total, x.kept)], y, x.sizes, stored)
        return
    reduce_to(p, node, summed, reduction_of(ops.ReduceSum, summed.dtype), total)
    made = Apply("div", (Operand(0, kind), Operand(1, kind)), kind)
    compute(p, node, convert(made, stored), [Given(powers, x.sizes), Given(total, x.kept)], y, x.sizes, stored)


@lowers(ops.Hardmax, needs=(dtypes(F16, BF16, F32, F64),))
def _hardmax(p: Program, node: Node, op: ops.Hardmax) -> None:
    x = line_of(p, operand(node), (op.axis,))
    y = p.result(node.output)
    if prod(x.sizes):
        at = x.gone.index(True)
        counts = prod(x.sizes[:at]), x.sizes[at], prod(x.sizes[at + 1 :])
        kernel = Hardmax(ctype=ctype_of(x.dtype))
        p.call(kernel, x.at, y, *counts, node=node, title=f"largest along axis {op.axis}")


@lowers(ops.LpNormalize, needs=(COMPUTED,))
def _lp_normalize(p: Program, node: Node, op: ops.LpNormalize) -> None:
    x = line_of(p, operand(node), (op.axis,))
    kind, stored = plain_type(x.dtype), element_type(x.dtype)
    total: Pointer = scratch(p, x.dtype, prod(x.kept), "norm")
    reduce_to(p, node, x, wide(norm(x.dtype, op.p)), total)
    divisor: Expression = Operand(1, kind)
    if op.eps > 0:
        divisor = Apply("max", (divisor, Number(op.eps, kind)), kind)
    is_zero = Apply("equal", (divisor, Number(0.0, kind)), BOOL8)
    divisor = Apply("select", (is_zero, Number(1.0, kind), divisor), kind)
    made = convert(Apply("div", (widened(Operand(0, stored)), divisor), kind), stored)
    given = [Given(x.at, x.sizes), Given(total, x.kept)]
    compute(p, node, made, given, p.result(node.output), x.sizes, stored)
