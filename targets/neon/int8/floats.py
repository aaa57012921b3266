"""Operators of floats, which stay between operators of integers, and of truth values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, prod
from typing import Any

import numpy as np

from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.elementwise import Elementwise
from codegen.neon.int8_lookup import Pool
from codegen.neon.int8_nest import Nest
from codegen.neon.int8_nest import Operand as Element
from codegen.neon.int8_resize import Bilinear, Extreme
from codegen.neon.softmax import SoftmaxRows
from codegen.rendering import literal
from compiler import ops
from compiler.tensor import Array
from targets.neon.int8.elementwise import COMPARISONS, collapsed, nest
from targets.neon.int8.panels import float_limits
from targets.neon.int8.program import CTYPES, IntegerProgram
from targets.neon.int8.reductions import extreme, matrices, pooled, reduced_from
from targets.neon.int8.table import float_lowers
from targets.source.expressions import EXPRESSIONS, Layer
from targets.tflite.integer.kernel import Node

Make = Callable[[Node], Any]  # Any: an operation of the layer graph
UNARY: dict[str, Make] = {
    "ABS": lambda _: ops.Abs(),
    "NEG": lambda _: ops.Neg(),
    "EXP": lambda _: ops.Exp(),
    "LOG": lambda _: ops.Log(),
    "SQRT": lambda _: ops.Sqrt(),
    "SIN": lambda _: ops.Sin(),
    "COS": lambda _: ops.Cos(),
    "TANH": lambda _: ops.Tanh(),
    "LOGISTIC": lambda _: ops.Sigmoid(),
    "FLOOR": lambda _: ops.Floor(),
    "CEIL": lambda _: ops.Ceil(),
    "ROUND": lambda _: ops.Round(),
    "SIGN": lambda _: ops.Sign(),
    "RELU": lambda _: ops.Relu(),
    "RELU6": lambda _: ops.Clip(low=0.0, high=6.0),
    "RELU_N1_TO_1": lambda _: ops.Clip(low=-1.0, high=1.0),
    "RELU_0_TO_1": lambda _: ops.Clip(low=0.0, high=1.0),
    "LEAKY_RELU": lambda node: ops.LeakyRelu(alpha=float(node.option("Alpha", 0.0))),
    "ELU": lambda _: ops.Elu(),
    "HARD_SWISH": lambda _: ops.HardSwish(),
    "GELU": lambda node: ops.Gelu(approximate="tanh" if node.option("Approximate", False) else "none"),
}
BINARY: dict[str, str] = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "div",
    "MAXIMUM": "max",
    "MINIMUM": "min",
    "POW": "pow",
    "FLOOR_MOD": "floored_rest",
}


@float_lowers(*UNARY)
def _function(p: IntegerProgram, node: Node) -> None:
    layer = Layer(UNARY[node.operator.code](node), [Operand(0)], "float")
    computed(p, node, 1, EXPRESSIONS[type(layer.op)](layer))


@float_lowers(*BINARY)
def _binary(p: IntegerProgram, node: Node) -> None:
    computed(p, node, 2, Apply(BINARY[node.operator.code], (Operand(0), Operand(1))))


@float_lowers("SQUARE", "RSQRT", "SQUARED_DIFFERENCE", "FLOOR_DIV", "PRELU", "ZEROS_LIKE")
def _composed(p: IntegerProgram, node: Node) -> None:
    x, y = Operand(0), Operand(1)
    difference = Apply("sub", (x, y))
    positive = Apply("greater_or_equal", (x, Number(0.0)), "bool8_t")
    made: dict[str, tuple[int, Expression]] = {
        "SQUARE": (1, Apply("mul", (x, x))),
        "RSQRT": (1, Apply("div", (Number(1.0), Apply("sqrt", (x,))))),
        "SQUARED_DIFFERENCE": (2, Apply("mul", (difference, difference))),
        "FLOOR_DIV": (2, Apply("floor", (Apply("div", (x, y)),))),
        "PRELU": (2, Apply("select", (positive, x, Apply("mul", (x, y))))),
        "ZEROS_LIKE": (1, Apply("mul", (x, Number(0.0)))),
    }
    computed(p, node, *made[node.operator.code])


def computed(p: IntegerProgram, node: Node, count: int, expression: Expression) -> None:
    """A function of some operands, which broadcast, limited by the fused activation."""
    low, high = float_limits(node)
    expression = Apply("max", (expression, Number(low))) if low > -inf else expression
    expression = Apply("min", (expression, Number(high))) if high < inf else expression
    operands = [node.tensor(i) for i in range(count)]
    y = node.result()
    sizes, strides = collapsed(y.shape, [t.shape for t in operands])
    axes = tuple(tuple(s != 0 for s in own) for own in strides)
    kernel = Elementwise(expression=expression, ctype="float", axes=axes, rank=len(sizes))
    sources = [p.at(t) for t in operands]
    p.call(node, kernel, *sources, p.result(y), *sizes, title=f"{node.operator.code.lower()} of {y.size} floats")


@float_lowers(*COMPARISONS)
def _comparison(p: IntegerProgram, node: Node) -> None:
    word = node.operator.code.lower()
    nest(p, node, word, [node.tensor(i) for i in range(2)], f"a {COMPARISONS[node.operator.code]} b")


@float_lowers("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT")
def _logical(p: IntegerProgram, node: Node) -> None:
    text = {"LOGICAL_AND": "a && b", "LOGICAL_OR": "a || b", "LOGICAL_NOT": "!a"}[node.operator.code]
    nest(p, node, node.operator.code.lower(), [node.tensor(i) for i in range(len(node.operator.inputs))], text)


@float_lowers("CAST")
def _cast(p: IntegerProgram, node: Node) -> None:
    """To integers towards 0; what does not fit is undefined, as in the runtime."""
    nest(p, node, "cast", [node.tensor(0)], "a != 0" if node.result().dtype == "BOOL" else "a")


# -- products ------------------------------------------------------------------------------------------------


@float_lowers("BATCH_MATMUL")
def _batch_matmul(p: IntegerProgram, node: Node) -> None:
    matrices(p, node, "0.0f", "sum + a * b", "sum", "float")


@float_lowers("SOFTMAX", "LOG_SOFTMAX")
def _softmax(p: IntegerProgram, node: Node) -> None:
    if node.option("Beta", 1.0) != 1.0:
        raise node.refused("has a factor of its exponents")
    x = node.tensor(0)
    n = x.shape[-1]
    kernel = SoftmaxRows(is_log=node.operator.code == "LOG_SOFTMAX")
    p.call(node, kernel, p.at(x), p.result(node.result()), x.size // n, n, title=f"softmax over {n}")


@float_lowers("L2_NORMALIZATION")
def _l2_normalization(p: IntegerProgram, node: Node) -> None:
    x = node.tensor(0)
    n = x.shape[-1]
    sums = p.scratch(4 * (x.size // n), "norms")
    rows = (x.size // n,)
    kernel = Nest(
        word="norm",
        sizes=rows,
        inner=(n,),
        operands=(Element(ctype="float", strides=(n,), inner=(1,)),),
        start="0.0f",
        update="sum + a * a",
        result="fmaxf(sqrtf(sum), 1e-6f)",
        sum_type="float",
        ctype="float",
    )
    p.call(node, kernel, p.at(x), sums, title="norms")
    operands = (Element(ctype="float", strides=(n, 1)), Element(ctype="float", strides=(1, 0)))
    scaled = Nest(word="normal", sizes=(*rows, n), operands=operands, result="a / b", ctype="float")
    p.call(node, scaled, p.at(x), sums, p.result(node.result()), title="elements by norms")


# -- reductions ----------------------------------------------------------------------------------------------


@float_lowers("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
def _reduced(p: IntegerProgram, node: Node) -> None:
    shape = node.tensor(0).shape
    count = prod(shape[a] for a in {a % len(shape) for a in node.ints(1)})
    terms = {
        "MEAN": ("0.0f", "sum + a", f"sum / {literal(float(count))}"),
        "SUM": ("0.0f", "sum + a", "sum"),
        "REDUCE_PROD": ("1.0f", "sum * a", "sum"),
        "REDUCE_MAX": ("-INFINITY", "a > sum ? a : sum", "sum"),
        "REDUCE_MIN": ("INFINITY", "a < sum ? a : sum", "sum"),
    }
    reduced_from(p, node, *terms[node.operator.code], "float")


@float_lowers("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(p: IntegerProgram, node: Node) -> None:
    pooled(p, node, partial(Pool, ctype="float"), float_limits(node))


@float_lowers("ARG_MAX", "ARG_MIN")
def _extreme(p: IntegerProgram, node: Node) -> None:
    is_greatest = node.operator.code == "ARG_MAX"
    extreme(p, node, Extreme(is_greatest=is_greatest, ctype=CTYPES[node.result().dtype], of="float"))


@float_lowers("RESIZE_BILINEAR")
def _bilinear(p: IntegerProgram, node: Node) -> None:
    x, y = node.tensor(0), node.result()
    found = [_places(node, n, out) for n, out in zip(x.shape[1:3], node.ints(1), strict=True)]
    tables = [p.constant(places, "places") for places, _ in found]
    by = [p.constant(distances, "distances") for _, distances in found]
    counts = [*x.shape, *y.shape[1:3]]
    p.call(node, Bilinear(ctype="float"), p.at(x), *tables, *by, p.result(y), *counts, title=f"{x.shape} to {y.shape}")


def _places(node: Node, size: int, out: int) -> tuple[Array, Array]:
    """For each of `out` places the elements before and after it, and its distance to the former, computed in float32;
    the third number of each place is not read."""
    align, half = node.option("AlignCorners", False) and out > 1, node.option("HalfPixelCenters", False)
    step = np.float32(size - 1) / np.float32(out - 1) if align else np.float32(size) / np.float32(out)
    place = np.arange(out).astype(np.float32)
    place = (place + np.float32(0.5)) * step - np.float32(0.5) if half else place * step
    before = np.maximum(np.floor(place), 0).astype(np.int32)
    after = np.minimum(np.ceil(place), size - 1).astype(np.int32)
    return np.stack([before, after, np.zeros_like(before)], axis=-1), (place - before).astype(np.float32)
