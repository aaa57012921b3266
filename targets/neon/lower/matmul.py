"""Products of matrices: dense layers, pointwise convolutions, and products of two computed operands."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from codegen.expression import Expression
from codegen.neon.gemm import SIZE, WIDTH, Gemm
from codegen.neon.gemm_half import HALF, Fp16Gemm, Fp16MatMul, HalfGemm, HalfMatMul, Halved, blocks, walk
from codegen.neon.gemm_model import Tiles, schedule, tiles
from codegen.neon.gemm_schedule import FMLA
from codegen.neon.matmul import MatMul
from codegen.program import Kernel, Pointer, Split
from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import F16, F32, Array
from targets.neon.blocking import Core, block
from targets.neon.program import NeonProgram
from targets.neon.table import lowers
from targets.source.lower.flatten import in_memory
from targets.source.lower.plain import plain_product
from targets.source.lower.products import NUMBERS, Matrices, bias_of, dense_matrices, matrices, operands
from targets.source.program import Tail

OVERREAD = 32  # floats that kernels may read beyond packed weights
FLOATS = (F16, F32)  # types that vectors multiply
FEW = 32  # times the multiply-accumulates of a layer that a model has at least for it to be small
NEAR = 8  # layers behind which outputs are


def is_float(node: Node) -> bool:
    """Whether the layer multiplies floats of 32 or 16 bits, and has a result."""
    return node.output.type.dtype in FLOATS and bool(node.output.type.size)


@lowers(ops.Dense, needs=(NUMBERS,), tails=is_float)
def _dense(p: NeonProgram, node: Node, op: ops.Dense) -> None:
    x, w, b = operands(node)
    if is_float(node) and w.data is not None and (b is None or b.data is not None):
        matrix = in_memory(x, np.asarray(w.data).T if op.transposed else np.asarray(w.data))
        product(p, node, x, matrix, b, f"{matrix.shape[0]} to {matrix.shape[1]} features")
        return
    computed(p, node, dense_matrices(node, op))


@lowers(ops.MatMul, needs=(NUMBERS,), tails=is_float)
def _matmul(p: NeonProgram, node: Node, _: ops.MatMul) -> None:
    x, y, _none = operands(node)
    flat = y.type.dims[-2:] if y.type.rank >= 2 else ()
    if is_float(node) and y.data is not None and y.type.size == prod(flat) and len(flat) == 2:
        matrix = in_memory(x, np.asarray(y.data).reshape(flat))
        product(p, node, x, matrix, None, f"{flat[0]} to {flat[1]} features")
        return
    computed(p, node, matrices(x.type.dims, y.type.dims))


def computed(p: NeonProgram, node: Node, of: Matrices) -> None:
    """A product whose second operand is known at run time."""
    given = [v for v in node.inputs if v is not None]
    title = f"products of {'x'.join(map(str, of.batch)) or 'one'} matrices, {of.m}x{of.k} by {of.k}x{of.n}"
    if not is_float(node) or not of.k:
        plain_product(p, node, of)
        return
    places = [p.at(v) for v in given]
    tail = p.tail(node)
    if node.output.type.dtype is F16:
        kernel, nbytes = half_packing(p, node, of, len(given) > 2, tail.expression)
    else:
        made = packing(of, p.core, len(given) > 2).with_(tail=tail.expression)
        kernel, nbytes = made.with_(gemm=made.gemm.with_(tail=tail.expression)), SIZE * room(of)
    others = [p.at(v) for v in tail.others]
    items = prod(of.batch)
    if items == 1 and p.threads > 1 and isinstance(kernel, MatMul) and node.output.type.dtype is F32:
        packed_first(p, node, kernel, title)
        return
    panels = p.scratch(nbytes * (p.threads if items > 1 else 1), "panels")
    split = Split(items, begin="begin", end="end", own={"panels": nbytes}) if items > 1 else None
    part = (0, items) if items > 1 else ()
    p.call(kernel, *places, *others, p.result(tail.value), panels, *part, node=node, title=title, split=split)


def packed_first(p: NeonProgram, node: Node, kernel: MatMul, title: str) -> None:
    """One product in two steps, so that threads share the rows: they all read the operand that was packed."""
    x, y, b = operands(node)
    tail, of = p.tail(node), kernel
    panels = p.scratch(SIZE * ((of.k + 1) * -(-of.n // WIDTH) * WIDTH + OVERREAD), "panels")
    bias = None if b is None else p.at(b)
    counts = of.k, of.n, of.row, of.column, of.gemm.columns
    p.call(of.pack, p.at(y), bias, panels, *counts, node=node, title=f"panels of {of.n} columns")
    others = [p.at(v) for v in tail.others]
    split = shared(of.m, of.n, of.k, (of.gemm.rows, of.gemm.columns), of.counts[0])
    source, z = p.at(x), p.result(tail.value)
    p.call(of.gemm, source, panels, *others, z, *of.counts, of.n, of.k, of.block, node=node, title=title, split=split)


def shared(m: int, n: int, k: int, tile: tuple[int, int], tiles: int, size: int = SIZE) -> Split:
    """Tiles of rows by threads, or panels of columns of a single row; elements have `size` bytes."""
    rows, columns = tile
    if m == 1:
        return Split(n, "n", steps={"w": (k + 1) * size, "y": size, "r": size}, grain=columns)
    step = {"x": rows * k * size, "y": rows * n * size, "r": rows * n * size}
    return Split(tiles, "tiles", steps=step, last=("last_tiles",))


def packing(of: Matrices, core: Core, has_bias: bool = False) -> MatMul:
    """The kernel that packs the second operand."""
    cut = tiles(of.m, of.n, of.k, in_order=core.is_in_order)
    return MatMul(
        **{name: getattr(of, name) for name in ("batch", "x_steps", "y_steps", "m", "n", "k")},
        row=of.y[0],
        column=of.y[1],
        gemm=gemm(cut, of.k, in_order=core.is_in_order),
        counts=(cut.count, cut.last_count) if cut.last_rows else (cut.count,),
        block=block(cut.count, cut.rows * of.k * SIZE, core),
        has_bias=has_bias,
    )


def half_packing(p: NeonProgram, node: Node, of: Matrices, has_bias: bool, tail: Expression) -> tuple[Kernel, int]:
    """The same for halves, and the bytes that the packed operand takes."""
    in_order = p.core.is_in_order
    cut = tiles(of.m, of.n, of.k, instruction=HALF, in_order=in_order)
    form = packing(of, p.core, has_bias).values()
    form |= {"counts": (cut.count, cut.last_count) if cut.last_rows else (cut.count,), "tail": tail}
    form["block"] = block(cut.count, cut.rows * of.k * HalfGemm.size, p.core)
    gemms = half_gemms(cut, of.k, tail, in_order=in_order)
    kinds = (HalfMatMul, Fp16MatMul)
    made = [kind(**{**form, "gemm": g}) for kind, g in zip(kinds, gemms, strict=False)]
    return among(p, node, made), HalfGemm.size * room(of, HalfGemm.lanes)


def room(of: Matrices, width: int = WIDTH) -> int:
    """Elements of a packed matrix; vectors have `width` of them."""
    return (of.k + 1) * -(-of.n // width) * width + OVERREAD * SIZE


def product(
    p: NeonProgram,
    node: Node,
    x: Value,
    matrix: Array,
    bias: Value | Array | None,
    title: str,
    to: tuple[Pointer, Expression] | None = None,
) -> None:
    """The rows of x, as they lie in memory, times a matrix [k, n]: the result of the layer with its tail, or what goes
    to another place with an end of its own (`to`)."""
    k, n = matrix.shape
    tail = p.tail(node) if to is None else Tail(to[1], (), node.outputs[0])
    m = prod(tail.value.type.dims) // n if to is None else x.type.size // k
    in_order = p.core.is_in_order
    is_half = x.type.dtype is F16
    cut = tiles(m, n, k, instruction=HALF if is_half else FMLA, in_order=in_order)
    kernel: Kernel = gemm(cut, k, in_order=in_order).with_(tail=tail.expression)
    name = node.inputs[1].name if node.inputs[1] is not None else "w"
    size = SIZE
    if is_half:
        kernel, size = among(p, node, half_gemms(cut, k, tail.expression, in_order=in_order)), HalfGemm.size
    weights = p.constant(packed(matrix, bias_of(bias, n), cut, is_half), name or "w")
    others = [p.at(v) for v in tail.others]
    source = p.at(x)
    y = p.result(tail.value) if to is None else to[0]
    numbers = [cut.count, cut.last_count] if cut.last_rows else [cut.count]
    numbers += [n, k, block(cut.count, cut.rows * k * size, p.core), *[blocks(k)] * is_half]
    columns = cut.vectors * (HalfGemm.lanes if is_half else WIDTH)
    split = shared(m, n, k, (cut.rows, columns), cut.count, size)
    title = f"{title}, {m} row{'s' * (m != 1)}"
    p.call(kernel, source, weights, *others, y, *numbers, node=node, title=title, split=split)


def gemm(cut: Tiles, k: int, *, in_order: bool = False) -> Gemm:
    """The kernel for a product with k elements in a row, cut as told."""
    made = schedule(cut.rows, cut.vectors, in_order=in_order)
    assert made is not None
    return Gemm(
        rows=cut.rows,
        vectors=cut.vectors,
        last_rows=cut.last_rows,
        last_columns=cut.last_columns,
        rest=k % made.per_turn,
        is_short=k < made.per_turn,
        in_order=in_order,
    )


def half_gemms(cut: Tiles, k: int, tail: Expression, *, in_order: bool = False) -> list[HalfGemm]:
    """The kernels for a product of halves, those that any processor runs first; cut as told."""
    kept = ("rows", "vectors", "last_rows", "last_columns")
    made = HalfGemm(**{name: getattr(cut, name) for name in kept}, tail=tail, in_order=in_order)
    way = walk(k, ())
    if way is None:
        return [made]
    depth = {"rest": way.run % made.per_turn, "is_short": way.run < made.per_turn}
    return [made, Fp16Gemm(**{**made.values(), **depth}, folds=bool(way.levels))]


def among(p: NeonProgram, node: Node, variants: Sequence[Kernel]) -> Kernel:
    """The kernel that the library is for, or all of them, of which the processor chooses: the first one needs nothing,
    the last one the multiply-accumulate of halves. Small layers whose results are those of the model have the first,
    which rounds once."""
    if len(variants) == 1 or p.isa == "base" or (node.macs * FEW < p.macs and is_last(node.output)):
        return variants[0]
    return Halved(variants=tuple(variants)) if p.isa == "auto" else variants[-1]


def is_last(v: Value) -> bool:
    """Whether only layers of no products are between a value and outputs of the model, a few of them."""
    waiting = [v]
    for _ in range(NEAR):
        waiting = list(dict.fromkeys(y for x in waiting for user in x.users for y in user.outputs))
        if any(y.node is not None and y.node.macs for y in waiting):
            return False
    return not waiting


def packed(matrix: Array, bias: Array, cut: Tiles, is_half: bool = False) -> Array:
    """[k, n] and [n] as the kernel reads them: for each panel of columns the biases, then the rows; missing columns are
    zeros, and so is what is read beyond the end."""
    k, n = matrix.shape
    dtype, vector = (np.float16, HalfGemm.lanes) if is_half else (np.float32, WIDTH)
    rows = np.concatenate([bias.reshape(1, n), matrix]).astype(dtype)
    width = vector * cut.vectors
    whole = cut.panels * width
    parts = [rows[:, :whole].reshape(k + 1, cut.panels, width).transpose(1, 0, 2).reshape(-1)]
    if whole < n:
        last = np.zeros((k + 1, -(-cut.last_columns // vector) * vector), dtype)
        last[:, : n - whole] = rows[:, whole:]
        parts.append(last.reshape(-1))
    return np.concatenate([*parts, np.zeros(OVERREAD * SIZE // np.dtype(dtype).itemsize, dtype)])
