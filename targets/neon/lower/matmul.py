"""Products of matrices: dense layers, pointwise convolutions, and products of two computed operands."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from codegen.expression import Expression
from codegen.neon.gemm import SIZE, WIDTH, Gemm
from codegen.neon.gemm_model import Tiles, schedule, tiles
from codegen.neon.matmul import MatMul, PlainMatMul
from codegen.program import Pointer, Split
from compiler import ops
from compiler.graph import Node, Value
from compiler.target import dtypes
from compiler.tensor import BF16, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Array
from targets.neon.blocking import Core, block
from targets.neon.program import NeonProgram
from targets.neon.table import lowers
from targets.source.program import Tail, ctype_of

OVERREAD = 32  # floats that kernels may read beyond packed weights
NUMBERS = dtypes(F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64)
WIDE = {"float": "float", "double": "double", "half_t": "float", "bfloat_t": "float"}  # of sums; integers wrap around


def is_f32(node: Node) -> bool:
    """Whether the layer computes with floats of 32 bits, and has a result."""
    return node.output.type.dtype is F32 and bool(node.output.type.size)


@lowers(ops.Dense, needs=(NUMBERS,), tails=is_f32)
def _dense(p: NeonProgram, node: Node, op: ops.Dense) -> None:
    x, w, b = operands(node)
    if is_f32(node) and w.data is not None and (b is None or b.data is not None):
        matrix = np.asarray(w.data).T if op.transposed else np.asarray(w.data)
        product(p, node, x, matrix, b, f"{matrix.shape[0]} to {matrix.shape[1]} features")
        return
    k, n = w.type.dims[::-1] if op.transposed else w.type.dims
    steps = (1, k) if op.transposed else (n, 1)
    m = prod(x.type.dims[:-1])
    computed(p, node, Matrices((), m, n, k, (), (), (k, 1), steps))


@lowers(ops.MatMul, needs=(NUMBERS,), tails=is_f32)
def _matmul(p: NeonProgram, node: Node, _: ops.MatMul) -> None:
    x, y, _none = operands(node)
    flat = y.type.dims[-2:] if y.type.rank >= 2 else ()
    if is_f32(node) and y.data is not None and y.type.size == prod(flat) and len(flat) == 2:
        matrix = np.asarray(y.data).reshape(flat)
        product(p, node, x, matrix, None, f"{flat[0]} to {flat[1]} features")
        return
    computed(p, node, matrices(x.type.dims, y.type.dims))


def operands(node: Node) -> tuple[Value, Value, Value | None]:
    """Of a product: two matrices, and biases if there are any."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    return x, w, b


class Matrices(NamedTuple):
    """Operands of a product [*batch, m, k] by [*batch, k, n]: elements from one matrix to the next along each axis of
    the batch, then between rows and columns."""

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    x_steps: tuple[int, ...]
    y_steps: tuple[int, ...]
    x: tuple[int, int]
    y: tuple[int, int]


def matrices(x: Sequence[int], y: Sequence[int]) -> Matrices:
    """Of numpy.matmul for dense operands of these shapes. Matrices of x that lie one below the other and share y become
    one."""
    x = (1, *x) if len(x) == 1 else tuple(x)
    y = (*y, 1) if len(y) == 1 else tuple(y)
    rank = max(len(x), len(y))
    a, b = ((1,) * (rank - len(s)) + tuple(s) for s in (x, y))
    m, k, n = a[-2], a[-1], b[-1]
    batch = [max(p, q) if p and q else 0 for p, q in zip(a[:-2], b[:-2], strict=True)]
    x_steps, y_steps = _steps(a), _steps(b)
    while batch and not y_steps[-1] and (x_steps[-1] or batch[-1] == 1):
        m *= batch.pop()
        x_steps.pop()
        y_steps.pop()
    return Matrices(tuple(batch), m, n, k, tuple(x_steps), tuple(y_steps), (k, 1), (n, 1))


def _steps(shape: Sequence[int]) -> list[int]:
    """Elements from one matrix to the next along each leading axis; 0 along those that are repeated."""
    return [prod(shape[axis + 1 :]) if size != 1 else 0 for axis, size in enumerate(shape[:-2])]


def computed(p: NeonProgram, node: Node, of: Matrices) -> None:
    """A product whose second operand is known at run time."""
    given = [v for v in node.inputs if v is not None]
    dtype = node.output.type.dtype
    title = f"products of {'x'.join(map(str, of.batch)) or 'one'} matrices, {of.m}x{of.k} by {of.k}x{of.n}"
    places = [p.at(v) for v in given]
    if not is_f32(node) or not of.k:
        ctype = ctype_of(dtype)
        plain = PlainMatMul(
            ctype=ctype,
            wide=WIDE.get(ctype, "uint64_t"),
            batch=of.batch,
            m=of.m,
            n=of.n,
            k=of.k,
            x=(*of.x_steps, *of.x),
            y=(*of.y_steps, *of.y),
            has_bias=len(given) > 2,
        )
        p.call(plain, *places, p.result(node.output), node=node, title=title)
        return
    tail = p.tail(node)
    kernel = packing(of, p.core, len(given) > 2).with_(tail=tail.expression)
    kernel = kernel.with_(gemm=kernel.gemm.with_(tail=tail.expression))
    others = [p.at(v) for v in tail.others]
    panels = p.scratch(SIZE * room(of), "panels")
    p.call(kernel, *places, *others, p.result(tail.value), panels, node=node, title=title)


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


def room(of: Matrices) -> int:
    """Floats of a packed matrix."""
    return (of.k + 1) * -(-of.n // WIDTH) * WIDTH + OVERREAD


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
    cut = tiles(m, n, k, in_order=in_order)
    kernel = gemm(cut, k, in_order=in_order).with_(tail=tail.expression)
    name = node.inputs[1].name if node.inputs[1] is not None else "w"
    weights = p.constant(packed(matrix, bias_of(bias, n), cut), name or "w")
    others = [p.at(v) for v in tail.others]
    source = p.at(x)
    y = p.result(tail.value) if to is None else to[0]
    blocks = block(cut.count, cut.rows * k * SIZE, p.core)
    counts = [cut.count, cut.last_count] if cut.last_rows else [cut.count]
    step = {"x": cut.rows * k * SIZE, "y": cut.rows * n * SIZE, "r": cut.rows * n * SIZE}
    split = Split(cut.count, "tiles", steps=step, last=("last_tiles",))
    title = f"{title}, {m} row{'s' * (m != 1)}"
    p.call(kernel, source, weights, *others, y, *counts, n, k, blocks, node=node, title=title, split=split)


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


def bias_of(bias: Value | Array | None, n: int) -> Array:
    """Its data, or zeros."""
    if isinstance(bias, np.ndarray):
        return bias
    return np.zeros(n, np.float32) if bias is None or bias.data is None else np.asarray(bias.data).reshape(-1)


def packed(matrix: Array, bias: Array, cut: Tiles) -> Array:
    """[k, n] and [n] as the kernel reads them: for each panel of columns the biases, then the rows; missing columns are
    zeros, and so is what is read beyond the end."""
    k, n = matrix.shape
    rows = np.concatenate([bias.reshape(1, n), matrix]).astype(np.float32)
    width = WIDTH * cut.vectors
    whole = cut.panels * width
    parts = [rows[:, :whole].reshape(k + 1, cut.panels, width).transpose(1, 0, 2).reshape(-1)]
    if whole < n:
        last = np.zeros((k + 1, -(-cut.last_columns // WIDTH) * WIDTH), np.float32)
        last[:, : n - whole] = rows[:, whole:]
        parts.append(last.reshape(-1))
    return np.concatenate([*parts, np.zeros(OVERREAD, np.float32)])
