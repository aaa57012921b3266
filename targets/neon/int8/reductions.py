"""Sums, means and extremes along axes, products of two computed matrices, and pools."""

from __future__ import annotations

from math import prod

import numpy as np

from codegen.neon.int8_lookup import Pool, Softmax
from codegen.neon.int8_matmul import MatMul
from codegen.neon.int8_nest import Nest, Operand
from codegen.neon.int8_resize import Bilinear, Extreme
from targets.neon.int8.elementwise import by, clamp, less
from targets.neon.int8.program import CTYPES, IntegerProgram
from targets.neon.int8.table import lowers
from targets.source.lower.moving import dense
from targets.tflite.integer.activation import SOFTMAX_BITS
from targets.tflite.integer.exponential import exp_negative
from targets.tflite.integer.fixed import Factor, factor, times
from targets.tflite.integer.kernel import Node, radius
from targets.tflite.integer.resize import places
from targets.tflite.integer.windows import Window


@lowers("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
def _reduced(p: IntegerProgram, node: Node) -> None:
    x, y = node.tensor(0), node.result()
    axes = sorted({a % len(x.shape) for a in node.ints(1)})
    kept = [a for a in range(len(x.shape)) if a not in axes]
    strides = dense(x.shape)
    sizes = tuple(x.shape[a] for a in kept) or (1,)
    outer = tuple(strides[a] for a in kept) or (0,)
    source = Operand(ctype=CTYPES[x.dtype], strides=outer, inner=tuple(strides[a] for a in axes))
    start, update, result = _terms(node, int(np.prod([x.shape[a] for a in axes])))
    kernel = Nest(
        word=node.operator.code.lower(),
        sizes=sizes,
        inner=tuple(x.shape[a] for a in axes),
        operands=(source,),
        start=start,
        update=update,
        result=result,
        ctype=CTYPES[y.dtype],
    )
    p.call(node, kernel, p.at(x), p.result(y), title=f"{node.operator.code.lower()} over {len(axes)} axes")


def _terms(node: Node, count: int) -> tuple[str, str, str]:
    """The first sum, the next one, and the result."""
    code = node.operator.code
    if code in ("REDUCE_MAX", "REDUCE_MIN"):
        info = np.iinfo(np.int16 if node.is_wide else np.int8)
        sign, start = (">", info.min) if code == "REDUCE_MAX" else ("<", info.max)
        return str(start), f"a {sign} sum ? a : sum", "sum"
    if code == "SUM" and node.is_wide:
        raise node.refused("sums 16-bit elements, which this target does not")
    f = factor(np.float64(node.scale()) / np.float64(node.result_scale()))
    if code == "MEAN":
        more = min(count.bit_length() - 1, 32, 31 + int(f.shift))
        f = Factor(np.asarray((int(f.mantissa) << more) // count), f.shift - more)
    return "0", f"sum + {less('a', node.zero_point())}", clamp(node, by("sum", f))


@lowers("BATCH_MATMUL")
def _batch_matmul(p: IntegerProgram, node: Node) -> None:
    if node.is_wide:
        raise node.refused("multiplies matrices of 16-bit elements, which this target does not")
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    f = factor(np.float64(node.scale(0) * node.scale(1)) / np.float64(node.result_scale()))
    if not node.option("AdjX", False) and _is_batch(x.shape, y.shape) and _is_batch(w.shape, y.shape):
        _matrices(p, node, f)
        return
    rank = len(y.shape)
    steps = []
    for t, flipped in ((x, node.option("AdjX", False)), (w, node.option("AdjY", False))):
        own = (1,) * (rank - len(t.shape)) + t.shape
        strides = [0 if n == 1 else s for n, s in zip(own, dense(own), strict=True)]
        steps.append([*strides[:-2], *(strides[-2:][::-1] if flipped else strides[-2:])])
    depth = x.shape[-2] if node.option("AdjX", False) else x.shape[-1]
    left = Operand(ctype="int8_t", strides=(*steps[0][:-1], 0), inner=(steps[0][-1],))
    right = Operand(ctype="int8_t", strides=(*steps[1][:-2], 0, steps[1][-1]), inner=(steps[1][-2],))
    kernel = Nest(
        word="matmul",
        sizes=y.shape,
        inner=(depth,),
        operands=(left, right),
        start="0",
        update=f"sum + {less('a', node.zero_point(0))} * {less('b', node.zero_point(1))}",
        result=clamp(node, by("sum", f)),
        ctype="int8_t",
    )
    p.call(node, kernel, p.at(x), p.at(w), p.result(y), title=f"{x.shape} by {w.shape}")


def _is_batch(shape: tuple[int, ...], of: tuple[int, ...]) -> bool:
    """Whether the matrices are as many as those of the result, or one."""
    return prod(shape[:-2]) in (1, prod(of[:-2]))


def _matrices(p: IntegerProgram, node: Node, by: Factor) -> None:
    """Of operands of which neither is broadcast along some axes only."""
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    is_flipped = bool(node.option("AdjY", False))
    m, n, k = y.shape[-2], y.shape[-1], x.shape[-1]
    batch = prod(y.shape[:-2])
    steps = [prod(t.shape[-2:]) if prod(t.shape[:-2]) > 1 else 0 for t in (x, w)]
    zeros = node.zero_point(0), node.zero_point(1), node.result_zero_point()
    given = [p.at(x), p.at(w)]
    sums = [] if is_flipped else [p.scratch(4 * n, "sums")]
    numbers = [*zeros, int(by.mantissa), int(by.shift), *node.limits()]
    title = f"products of {batch} matrices, {m}x{k} by {k}x{n}"
    p.call(
        node, MatMul(is_flipped=is_flipped), *given, *sums, p.result(y), batch, m, n, k, *steps, *numbers, title=title
    )


@lowers("SOFTMAX")
def _softmax(p: IntegerProgram, node: Node) -> None:
    if node.is_wide:
        raise node.refused("has 16-bit elements, which this target does not take")
    x = node.tensor(0)
    scaling = np.float64(np.float32(node.option("Beta", 1.0))) * np.float64(node.scale())
    f = factor(min(scaling * 2.0 ** (31 - SOFTMAX_BITS), 2.0**31 - 1))
    lowest = -radius(SOFTMAX_BITS, int(f.shift))
    difference = -np.arange(256)
    exponentials = np.where(
        difference >= lowest, exp_negative(times(np.maximum(difference, lowest), f), SOFTMAX_BITS), 0
    )
    table = p.constant(exponentials.astype(np.int32), "exponentials")
    n = x.shape[-1]
    p.call(node, Softmax(), p.at(x), table, p.result(node.result()), x.size // n, n, title=f"softmax over {n}")


@lowers("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(p: IntegerProgram, node: Node) -> None:
    if node.is_wide:
        raise node.refused("has 16-bit elements, which this target does not take")
    x, y = node.tensor(0), node.result()
    window = Window.of(node, (node.option("FilterHeight", 1), node.option("FilterWidth", 1)))
    (top, _), (left, _) = window.padding(x.shape[1:3])
    kernel = Pool(is_mean=node.operator.code == "AVERAGE_POOL_2D", size=window.size, strides=window.strides)
    counts = [*x.shape, *y.shape[1:3], top, left, *node.limits()]
    p.call(node, kernel, p.at(x), p.result(y), *counts, title=f"{window.size[0]}x{window.size[1]} windows")


@lowers("RESIZE_BILINEAR")
def _bilinear(p: IntegerProgram, node: Node) -> None:
    x, y = node.tensor(0), node.result()
    if node.is_wide:
        raise node.refused("has 16-bit elements, which this target does not take")
    tables = [
        p.constant(np.stack(places(node, n, out), axis=-1).astype(np.int32), "places")
        for n, out in zip(x.shape[1:3], node.ints(1), strict=True)
    ]
    p.call(node, Bilinear(), p.at(x), *tables, p.result(y), *x.shape, *y.shape[1:3], title=f"{x.shape} to {y.shape}")


@lowers("ARG_MAX", "ARG_MIN")
def _extreme(p: IntegerProgram, node: Node) -> None:
    x, y = node.tensor(0), node.result()
    axis = node.ints(1)[0] % len(x.shape)
    kernel = Extreme(is_greatest=node.operator.code == "ARG_MAX", ctype=CTYPES[y.dtype])
    counts = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
    p.call(node, kernel, p.at(x), p.result(y), *counts, title=f"{node.operator.code.lower()} over {x.shape[axis]}")
