"""Products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from codegen.expression import Expression
from codegen.metal.batched import BatchedGemm
from codegen.metal.gemm import TILES, WIDE, Gemm, packed_panels
from codegen.metal.gemv import MOST_ROWS
from codegen.metal.launch import tile_for
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import F16, F32, Array
from targets.metal.lower.gated import is_beside, other_of, paired_bias, pairs, tail_of_both
from targets.metal.lower.gemv import Rows, Stored, few_rows, stored_matrix
from targets.metal.program import MetalProgram
from targets.metal.table import lowers
from targets.source.lower.flatten import in_memory
from targets.source.lower.plain import plain_product
from targets.source.lower.products import NUMBERS, Matrices, dense_matrices, matrices, operands
from targets.source.program import bytes_of, ctype_of

MATRICES, SUMS = "simdgroup_matrix", "simd_reduction"  # what kernels may need of a family


def is_float(node: Node) -> bool:
    """Whether the layer computes with floats of 32 or 16 bits, and has a result."""
    return node.output.type.dtype in (F32, F16) and bool(node.output.type.size)


@lowers(ops.Dense, needs=(NUMBERS,), tails=is_float)
def _dense(p: MetalProgram, node: Node, op: ops.Dense) -> None:
    x, w, b = operands(node)
    if is_float(node) and w.data is not None and (b is None or b.data is not None):
        if is_beside(p, node):
            return
        matrix = in_memory(x, np.asarray(w.data).T if op.transposed else np.asarray(w.data))
        title = f"{matrix.shape[0]} to {matrix.shape[1]} features"
        other = other_of(p, node)
        if other is None:
            product(p, node, x, matrix, b, title)
        else:
            _gated(p, node, other, matrix, f"gated, {title}")
    elif not _in_few_bits(p, node, stored_matrix(w, transposed=op.transposed)):
        computed(p, node, dense_matrices(node, op))


def _gated(p: MetalProgram, node: Node, other: Node, matrix: Array, title: str) -> None:
    """Two layers of which the tail of one makes a result of both."""
    p.beside[node] = other
    (x, _, b), (_, w_more, b_more) = operands(node), operands(other)
    assert isinstance(node.op, ops.Dense)
    more = in_memory(x, np.asarray(w_more.data).T if node.op.transposed else np.asarray(w_more.data))
    product(p, node, x, pairs(matrix, more), paired_bias(b, b_more), title, gate=tail_of_both(p, node, other))


@lowers(ops.MatMul, needs=(NUMBERS,), tails=is_float)
def _matmul(p: MetalProgram, node: Node, _: ops.MatMul) -> None:
    x, y, _none = operands(node)
    flat = y.type.dims[-2:] if y.type.rank >= 2 else ()
    if is_float(node) and y.data is not None and y.type.size == prod(flat) and len(flat) == 2:
        matrix = in_memory(x, np.asarray(y.data).reshape(flat))
        product(p, node, x, matrix, None, f"{flat[0]} to {flat[1]} features")
    elif not _in_few_bits(p, node, stored_matrix(y)):
        computed(p, node, matrices(x.type.dims, y.type.dims))


def _in_few_bits(p: MetalProgram, node: Node, matrix: Stored | None) -> bool:
    """Write the product of few rows with a matrix that is stored in few bits; False if it is another one."""
    x, _, b = operands(node)
    if matrix is None or not is_float(node) or (b is not None and b.data is None):
        return False
    k, n = matrix.stored.shape
    if node.output.type.size > MOST_ROWS * n or not p.family.has(SUMS):
        return False
    vector = vector_of(p.at(x), k, bytes_of(x.type.dtype))
    title = f"{k} to {n} features of {matrix.bits} bits"
    few_rows(p, node, Rows(x, matrix, biases(p, b), title), vector)
    return True


def computed(p: MetalProgram, node: Node, of: Matrices) -> None:
    """A product whose second operand is known at run time."""
    if not is_float(node):
        plain_product(p, node, of)
        return
    places = [p.at(v) for v in node.inputs if v is not None]
    tail = p.tail(node)
    element, count = bytes_of(node.output.type.dtype), prod(of.batch)
    cut = tile_for(of.m, of.n, of.k, p.gpu, TILES, element=element, batch=count).tile
    is_transposed = of.y[0] == 1 != of.y[1]
    kernel = BatchedGemm(
        rows=cut.rows,
        columns=cut.columns,
        has_matrices=p.family.has(MATRICES),
        vector=vector_of(places[0], of.k, element),
        ctype=ctype_of(node.output.type.dtype),
        tail=tail.expression,
        batch=of.batch,
        x_steps=of.x_steps,
        w_steps=of.y_steps,
        is_transposed=is_transposed,
        w_vector=vector_of(places[1], of.k if is_transposed else of.n, element),
        has_bias=len(places) > 2,
    )
    given = [*places, *(p.at(v) for v in tail.others), p.result(tail.value)]
    title = f"products of {'x'.join(map(str, of.batch)) or 'one'} matrices, {of.m}x{of.k} by {of.k}x{of.n}"
    p.call(kernel, *given, of.m, of.n, of.k, count, node=node, title=title)


def product(
    p: MetalProgram,
    node: Node,
    x: Value,
    matrix: Array,
    bias: Value | Array | None,
    title: str,
    to: Pointer | None = None,
    gate: Expression | None = None,
) -> None:
    """The rows of x, as they lie in memory, times a matrix [k, n]: the result of the layer with its tail, or what goes
    `to` another place. A `gate` is the tail that makes a result of two neighbouring columns."""
    k, n = matrix.shape
    matrix = matrix.astype(x.type.dtype.numpy)
    of = Rows(x, matrix, biases(p, bias), title, to)
    tail, is_gated = of.tail(p, node), gate is not None
    m = tail.value.type.size * (1 + is_gated) // n if to is None else x.type.size // k
    source, element = p.at(x), bytes_of(x.type.dtype)
    vector = vector_of(source, k, element)
    if m <= MOST_ROWS and p.family.has(SUMS):
        few_rows(p, node, of, vector)
        return
    cut = tile_for(m, n, k, p.gpu, TILES, element=element).tile
    others = [] if is_gated else [p.at(v) for v in tail.others]
    y = of.result(p, tail)
    kernel = Gemm(
        is_gated=is_gated,
        rows=cut.rows,
        columns=cut.columns,
        has_matrices=p.family.has(MATRICES),
        vector=vector,
        ctype=ctype_of(x.type.dtype),
        tail=gate or tail.expression,
        has_bias=bool(of.biases),
        **y.fields,
    )
    weights = p.constant(packed_panels(matrix, kernel), named(node))
    arguments = [source, weights, *of.biases, *others, y.at, m, n // (1 + is_gated), k, *y.numbers]
    p.call(kernel, *arguments, node=node, title=f"{title}, {m} row{'s' * (m != 1)}")


def vector_of(source: Pointer, k: int, nbytes: int) -> int:
    """How many neighbours in rows of k elements can be loaded at once."""
    return next(n for n in (WIDE, 2, 1) if k % n == 0 and source.offset % (n * nbytes) == 0)


def biases(p: MetalProgram, bias: Value | Array | None) -> Sequence[Pointer]:
    """Where the biases lie, as floats; nowhere if there are none."""
    data = bias if isinstance(bias, np.ndarray) or bias is None else bias.data
    if data is None:
        return []
    name = "b" if isinstance(bias, np.ndarray) or bias is None else bias.name or "b"
    return [p.constant(np.asarray(data).reshape(-1).astype(np.float32), name)]


def named(node: Node) -> str:
    """What the weights of a layer are called."""
    w = node.inputs[1]
    return (w.name if w is not None else None) or "w"
