"""Real numbers as few bits and back."""

from __future__ import annotations

from math import prod

import numpy as np

from codegen.expression import Apply, Expression, Number, Operand
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of
from compiler.ops.quant import Quantization
from compiler.target import Need
from compiler.tensor import F32
from targets.source.elements import BOOL8, element_type
from targets.source.expressions import dequantized, quantized
from targets.source.lower.elementwise import COMPUTED, Given, compute, sizes_of
from targets.source.lower.reduce import line_of, operand, reduce_to
from targets.source.program import Program
from targets.source.reductions import extreme
from targets.source.table import lowers


def _fits(node: Node) -> bool:
    op = node.op
    assert isinstance(op, Quantization)
    parameters = [v for v in node.inputs[1:] if v is not None]
    whole = op.axis is None or not op.block_size or operand(node).type.dims[op.axis] % op.block_size == 0
    return whole or all(v.data is not None for v in parameters)


BLOCKS = Need(text="blocks that are whole, or constant scales and zero points", holds=_fits)


@lowers(ops.QuantizeLinear, ops.DequantizeLinear, needs=(COMPUTED, BLOCKS))
def _quantization(p: Program, node: Node, op: ops.QuantizeLinear | ops.DequantizeLinear) -> None:
    x = operand(node)
    parameters = [v for v in node.inputs[1:] if v is not None]
    cut = op.axis if op.block_size and op.axis is not None and not x.type.dims[op.axis] % op.block_size else None
    sizes = _sizes(x, x, op, cut)
    given = [Given(p.at(x), sizes), *(Given(_place(p, v, op, x, cut), _sizes(x, v, op, cut)) for v in parameters)]
    operands: list[Expression] = [Operand(i, element_type(v.type.dtype)) for i, v in enumerate((x, *parameters))]
    zero = operands[2] if len(operands) > 2 else None
    if isinstance(op, ops.QuantizeLinear):
        made = quantized(op, operands[0], operands[1], zero)
    else:
        made = dequantized(op, operands[0], operands[1], zero)
    compute(p, node, made, given, p.result(node.output), sizes, element_type(node.output.type.dtype))


def _sizes(x: Value, v: Value, op: Quantization, cut: int | None) -> list[int]:
    """The sizes of x, or of a parameter v beside it, as they lie; the axis that is cut is one of blocks and one of
    their elements."""
    sizes: list[int] = []
    for axis in order_of(x.type):
        n = x.type.dims[axis]
        if v is x:
            sizes += [n // op.block_size, op.block_size] if axis == cut else [n]
        elif axis == cut:
            sizes += [n // op.block_size, 1]
        else:
            sizes.append(n if op.axis is not None and (op.block_size or axis == op.axis) else 1)
    return sizes


def _place(p: Program, v: Value, op: Quantization, x: Value, cut: int | None) -> Pointer:
    """Where a parameter lies; one whose last block is not whole is repeated."""
    if cut is not None or not op.block_size or v.data is None:
        return p.at(v)
    spread = op.spread(np.asarray(v.data), x.type.dims)
    return p.constant(np.ascontiguousarray(spread.transpose(order_of(x.type))), v.name or "scale")


@lowers(ops.DynamicQuantizeLinear)
def _dynamic(p: Program, node: Node, _: ops.DynamicQuantizeLinear) -> None:
    x = operand(node)
    lines = line_of(p, x, range(x.type.rank))
    ends = [p.scratch(4, name) for name in ("low", "high")]
    for end, is_largest in zip(ends, (False, True), strict=True):
        reduce_to(p, node, lines, extreme(F32, is_largest), end)
    y, scale, zero = (p.result(v) for v in node.outputs)
    nothing = Number(0.0)
    low = Apply("min", (Operand(0), nothing))
    high = Apply("max", (Operand(1), nothing))
    width = Apply("div", (Apply("sub", (high, low)), Number(255.0)))
    compute(p, node, width, [Given(ends[0], [1]), Given(ends[1], [1])], scale, [1], "float")
    divisor = Apply("select", (Apply("equal", (Operand(1), nothing), BOOL8), Number(1.0), Operand(1)))
    shift = Apply("round", (Apply("div", (Apply("neg", (low,)), divisor)),))
    sizes = sizes_of(x.type)
    ones = [1] * len(sizes)
    compute(p, node, _byte(shift), [Given(ends[0], [1]), Given(scale, [1])], zero, [1], "uint8_t")
    rounded = Apply("round", (Apply("div", (Operand(0), divisor)),))
    moved = Apply("add", (rounded, Apply("convert", (Operand(2, "uint8_t"),))))
    if prod(sizes):
        given = [Given(lines.at, sizes), Given(scale, ones), Given(zero, ones)]
        compute(p, node, _byte(moved), given, y, sizes, "uint8_t")


def _byte(x: Expression) -> Expression:
    limited = Apply("min", (Apply("max", (x, Number(0.0))), Number(255.0)))
    return Apply("cut", (limited,), "uint8_t")
