"""Sums, means and extremes along axes, products of two computed matrices, and pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from codegen.neon.int8_lookup import LogSoftmax, Normalization, Pool, Softmax, WideSoftmax
from codegen.neon.int8_matmul import MatMul
from codegen.neon.int8_nest import Nest, Operand
from codegen.neon.int8_resize import Bilinear, Extreme
from codegen.neon.sorting import TopK
from codegen.program import Split
from codegen.rendering import literal
from compiler.tensor import Array
from targets.neon.int8.elementwise import by, clamp, less
from targets.neon.int8.panels import short
from targets.neon.int8.program import CTYPES, IntegerProgram
from targets.neon.int8.table import lowers
from targets.source.lower.moving import dense
from targets.tflite.integer.activation import SOFTMAX_BITS
from targets.tflite.integer.exponential import exp_negative
from targets.tflite.integer.fixed import Factor, factor, rounded_shift, times
from targets.tflite.integer.kernel import Node, radius
from targets.tflite.integer.logarithm import INPUT_BITS, SUM_BITS
from targets.tflite.integer.lookup import softmax_factor, softmax_tables
from targets.tflite.integer.resize import places
from targets.tflite.integer.windows import Window


@lowers("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
def _reduced(p: IntegerProgram, node: Node) -> None:
    x = node.tensor(0)
    axes = {a % len(x.shape) for a in node.ints(1)}
    reduced_from(p, node, *_terms(node, prod(x.shape[a] for a in axes)), "int64_t" if node.is_wide else "int32_t")


def reduced_from(p: IntegerProgram, node: Node, start: str, update: str, result: str, sum_type: str) -> None:
    """What becomes of the elements along some axes."""
    x, y = node.tensor(0), node.result()
    axes = sorted({a % len(x.shape) for a in node.ints(1)})
    kept = [a for a in range(len(x.shape)) if a not in axes]
    strides = dense(x.shape)
    sizes = tuple(x.shape[a] for a in kept) or (1,)
    outer = tuple(strides[a] for a in kept) or (0,)
    source = Operand(ctype=CTYPES[x.dtype], strides=outer, inner=tuple(strides[a] for a in axes))
    kernel = Nest(
        word=node.operator.code.lower(),
        sizes=sizes,
        inner=tuple(x.shape[a] for a in axes),
        operands=(source,),
        start=start,
        update=update,
        result=result,
        sum_type=sum_type,
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
    update = f"sum + {less('a', node.zero_point())}"
    if code == "SUM" and node.is_wide:
        least, most = (literal(float(v)) for v in node.limits())
        scaled = f"roundf((float)sum * {literal(float(node.scale() / node.result_scale()))})"
        return "0", update, f"fminf(fmaxf({scaled}, {least}), {most})"
    f = factor(np.float64(node.scale()) / np.float64(node.result_scale()))
    if code == "MEAN":
        more = min(count.bit_length() - 1, 32, 31 + int(f.shift))
        f = Factor(np.asarray((int(f.mantissa) << more) // count), f.shift - more)
    return "0", update, clamp(node, by("(int32_t)sum" if node.is_wide else "sum", f))


@lowers("BATCH_MATMUL")
def _batch_matmul(p: IntegerProgram, node: Node) -> None:
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    f = factor(np.float64(node.scale(0) * node.scale(1)) / np.float64(node.result_scale()))
    update = f"sum + {less('a', node.zero_point(0))} * {less('b', node.zero_point(1))}"
    if node.is_wide:
        mantissa, right = short(node, f)
        least, most = (v - node.result_zero_point() for v in node.limits())
        zero = node.result_zero_point()
        result = f"limited(short_times(sum, {int(mantissa)}, {int(right)}), {least}, {most}) + {zero}"
        matrices(p, node, "0", update, result, "int64_t")
    elif not node.option("AdjX", False) and _is_batch(x.shape, y.shape) and _is_batch(w.shape, y.shape):
        _matrices(p, node, f)
    else:
        matrices(p, node, "0", update, clamp(node, by("sum", f)), "int32_t")


def matrices(p: IntegerProgram, node: Node, start: str, update: str, result: str, sum_type: str) -> None:
    """Products of matrices that are both computed, one element at a time."""
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    rank = len(y.shape)
    steps = []
    for t, flipped in ((x, node.option("AdjX", False)), (w, node.option("AdjY", False))):
        own = (1,) * (rank - len(t.shape)) + t.shape
        strides = [0 if n == 1 else s for n, s in zip(own, dense(own), strict=True)]
        steps.append([*strides[:-2], *(strides[-2:][::-1] if flipped else strides[-2:])])
    depth = x.shape[-2] if node.option("AdjX", False) else x.shape[-1]
    ctype = CTYPES[y.dtype]
    left = Operand(ctype=ctype, strides=(*steps[0][:-1], 0), inner=(steps[0][-1],))
    right = Operand(ctype=ctype, strides=(*steps[1][:-2], 0, steps[1][-1]), inner=(steps[1][-2],))
    kernel = Nest(
        word="matmul",
        sizes=y.shape,
        inner=(depth,),
        operands=(left, right),
        start=start,
        update=update,
        result=result,
        sum_type=sum_type,
        ctype=ctype,
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
    sums = [] if is_flipped else [p.scratch(4 * n * p.threads, "sums")]
    numbers = [*zeros, int(by.mantissa), int(by.shift), *node.limits()]
    title = f"products of {batch} matrices, {m}x{k} by {k}x{n}"
    moved = {"x": steps[0], "w": steps[1], "y": m * n}
    shared = Split(batch, count="batch", steps=moved, own={} if is_flipped else {"sums": 4 * n})
    places = [*given, *sums, p.result(y)]
    kernel = MatMul(is_flipped=is_flipped)
    p.call(node, kernel, *places, batch, m, n, k, *steps, *numbers, title=title, split=shared)


@lowers("SOFTMAX")
def _softmax(p: IntegerProgram, node: Node) -> None:
    x = node.tensor(0)
    n = x.shape[-1]
    title = f"softmax over {n}"
    if node.is_wide:
        exponentials, reciprocals = (p.constant(t.astype(np.int16), "samples") for t in softmax_tables())
        by = softmax_factor(node)
        numbers = int(by.mantissa), int(by.shift)
        found = p.at(x), exponentials, reciprocals, p.result(node.result())
        shared = rows_of(x.size // n, 2 * n)
        p.call(node, WideSoftmax(), *found, x.size // n, n, *numbers, title=title, split=shared)
        return
    scaling = np.float64(np.float32(node.option("Beta", 1.0))) * np.float64(node.scale())
    table, _, _ = _exponentials(node, min(scaling * 2.0 ** (31 - SOFTMAX_BITS), 2.0**31 - 1), SOFTMAX_BITS)
    place = p.constant(table.astype(np.int32), "exponentials")
    places = p.at(x), place, p.result(node.result())
    p.call(node, Softmax(), *places, x.size // n, n, title=title, split=rows_of(x.size // n, n))


def rows_of(count: int, nbytes: int) -> Split:
    """How threads share rows that lie one after the other."""
    return Split(count, count="rows", steps={"x": nbytes, "y": nbytes})


def _exponentials(node: Node, scale: float, bits: int) -> tuple[Array, Array, int]:
    """For each distance from the greatest element: its exponential in Q0.31, 0 where it counts for nothing, and its
    value with so many integer bits; and the least distance that counts."""
    f = factor(scale)
    lowest = -radius(bits, int(f.shift))
    difference = -np.arange(256)
    fine = times(np.maximum(difference, lowest), f)
    return np.where(difference >= lowest, exp_negative(fine, bits), 0), fine, lowest


@lowers("LOG_SOFTMAX")
def _log_softmax(p: IntegerProgram, node: Node) -> None:
    x = node.tensor(0)
    n = x.shape[-1]
    by = factor(min(np.float64(node.scale()) * 2.0 ** (31 - INPUT_BITS), 2.0**31 - 1))
    back = factor(2.0 ** (31 - int(by.shift)) / float(by.mantissa))
    scale = min(np.float64(node.scale()) * 2.0 ** (31 - INPUT_BITS), 2.0**31 - 1)
    exponentials, fine, lowest = _exponentials(node, scale, INPUT_BITS)
    tables = [p.constant(np.asarray(t, np.int32), "values") for t in (rounded_shift(exponentials, SUM_BITS), fine)]
    numbers = int(back.mantissa), int(back.shift), max(lowest - 1, -(2**31))
    places = p.at(x), *tables, p.result(node.result())
    p.call(node, LogSoftmax(), *places, x.size // n, n, *numbers, title=f"logarithm of softmax over {n}")


@lowers("L2_NORMALIZATION")
def _l2_normalization(p: IntegerProgram, node: Node) -> None:
    x = node.tensor(0)
    n = x.shape[-1]
    numbers = x.size // n, n, node.zero_point()
    p.call(node, Normalization(), p.at(x), p.result(node.result()), *numbers, title=f"norms of {n}")


@lowers("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(p: IntegerProgram, node: Node) -> None:
    pooled(p, node, partial(Pool, ctype=CTYPES[node.result().dtype]), node.limits())


def pooled(p: IntegerProgram, node: Node, make: Callable[..., Pool], limits: Sequence[float]) -> None:
    """Means or greatest elements of windows, limited."""
    x, y = node.tensor(0), node.result()
    window = Window.of(node, (node.option("FilterHeight", 1), node.option("FilterWidth", 1)))
    (top, _), (left, _) = window.padding(x.shape[1:3])
    kernel = make(is_mean=node.operator.code == "AVERAGE_POOL_2D", size=window.size, strides=window.strides)
    counts = [*x.shape, *y.shape[1:3], top, left, *limits]
    p.call(node, kernel, p.at(x), p.result(y), *counts, title=f"{window.size[0]}x{window.size[1]} windows")


@lowers("RESIZE_BILINEAR")
def _bilinear(p: IntegerProgram, node: Node) -> None:
    x, y = node.tensor(0), node.result()
    tables = [
        p.constant(np.stack(places(node, n, out), axis=-1).astype(np.int32), "places")
        for n, out in zip(x.shape[1:3], node.ints(1), strict=True)
    ]
    kernel = Bilinear(ctype=CTYPES[x.dtype])
    p.call(node, kernel, p.at(x), *tables, p.result(y), *x.shape, *y.shape[1:3], title=f"{x.shape} to {y.shape}")


@lowers("ARG_MAX", "ARG_MIN")
def _extreme(p: IntegerProgram, node: Node) -> None:
    extreme(p, node, Extreme(is_greatest=node.operator.code == "ARG_MAX", ctype=CTYPES[node.result().dtype]))


def extreme(p: IntegerProgram, node: Node, kernel: Extreme) -> None:
    """Places along one axis."""
    x, y = node.tensor(0), node.result()
    axis = node.ints(1)[0] % len(x.shape)
    counts = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
    p.call(node, kernel, p.at(x), p.result(y), *counts, title=f"{node.operator.code.lower()} over {x.shape[axis]}")


@lowers("TOPK_V2")
def _top_k(p: IntegerProgram, node: Node) -> None:
    x, count = node.tensor(0), node.ints(1)[0]
    values, at = node.result(0), node.result(1)
    n = x.shape[-1]
    wide = p.scratch(8 * at.size, "places") if at.dtype != "INT64" else p.result(at)
    kernel = TopK(ctype=CTYPES[x.dtype], is_largest=True)
    places = p.at(x), p.result(values), wide
    p.call(node, kernel, *places, x.size // n, n, 1, count, title=f"the {count} greatest of {n}")
    if at.dtype != "INT64":
        given = (Operand(ctype="int64_t", strides=(1,)),)
        cast = Nest(word="cast", sizes=(at.size,), operands=given, result="a", ctype=CTYPES[at.dtype])
        p.call(node, cast, wide, p.result(at), title="their places")
