"""Matrix products and Einstein sums."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.layout import ConvertLayout, logical, order_of
from compiler.target import op_need
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, lowers
from targets.tflite.model import Tensor

MAX_MATMUL_RANK = 4


@lowers(ops.Dense, needs=[FLOAT])
def _dense(p: Lowering, node: Node, op: ops.Dense) -> None:
    x, w, *bias = node.inputs
    assert x is not None and w is not None
    rows, weight = _flattened(p, x, w, op.transposed) or (p.get(x), p.get(w) if op.transposed else p.get(w, (1, 0)))
    b = p.get(bias[0]) if bias and bias[0] is not None else None
    y = p.fully_connected(p.reshape(rows, (1, *rows.shape)) if len(rows.shape) == 1 else rows, weight, b)
    p.finish(node, p.reshape(y, node.output.type.dims))


@lowers(ops.MatMul, needs=[FLOAT])
def _matmul(p: Lowering, node: Node, op: Op) -> None:
    """A constant matrix is the weight of a dense layer."""
    first, second = node.inputs
    assert first is not None and second is not None
    if second.data is not None and second.type.rank == 2 and first.type.rank > 1:
        rows, weight = _flattened(p, first, second, False) or (p.get(first), p.get(second, (1, 0)))
        p.finish(node, p.fully_connected(rows, weight, None))
        return
    x = p.get(first)
    y = p.get(second)
    x = p.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    y = p.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    p.finish(node, p.reshape(product(p, x, y), node.output.type.dims))


def _flattened(p: Lowering, x: Value, w: Value, transposed: bool) -> tuple[Tensor, Tensor] | None:
    """Rows x [N,K] that are an image in logical order, flattened, as they lie in memory before they are reordered, and
    the weight [M,K] with its columns in that order; None if x is something else."""
    reshape = x.node
    moved = reshape.inputs[0] if reshape is not None and isinstance(reshape.op, ops.Reshape) else None
    if moved is None or moved.node is None or not isinstance(moved.node.op, ConvertLayout) or w.data is None:
        return None
    (image,) = moved.node.inputs
    assert image is not None
    order, dims = p.order(image), image.type.dims
    if order_of(moved.type) != logical(len(dims)) or order[0] != 0 or x.type.shape != (dims[0], prod(dims[1:])):
        return None
    rows = p.reshape(p.get(image, order), x.type.dims)
    inner = w.data.reshape((-1, *dims[1:]) if transposed else (*dims[1:], -1))
    columns = order[1:] if transposed else tuple(a - 1 for a in order[1:])
    perm = (0 if transposed else len(columns), *columns)
    shape = (w.type.dims[0 if transposed else 1], w.type.dims[1 if transposed else 0])
    return rows, p.weight(inner, "FLOAT32", w.name or "weight", perm, shape)


def product(p: Lowering, x: Tensor, y: Tensor, adjoint: bool = False) -> Tensor:
    """x times y (or its transpose); leading axes broadcast, and are merged where there are many."""
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if len(lead) + 2 <= MAX_MATMUL_RANK:
        return p.matmul(x, y, adjoint)
    wide = [p.spread(t, (*lead, *t.shape[-2:])) if t.shape[:-2] != lead else t for t in (x, y)]
    first, second = (p.reshape(t, (prod(lead), *t.shape[-2:])) for t in wide)
    z = p.matmul(first, second, adjoint)
    return p.reshape(z, (*lead, *z.shape[-2:]))


def _pairs(op: ops.Einsum) -> bool:
    terms, result = op.equation.split("->")
    letters = terms.split(",")
    return len(letters) <= 2 and "." not in terms and all(len(set(t)) == len(t) for t in (*letters, result))


@lowers(ops.Einsum, needs=[FLOAT, op_need("one or two operands without ellipsis or diagonals", _pairs)])
def _einsum(p: Lowering, node: Node, op: ops.Einsum) -> None:
    """Axes that one operand alone has and the result lacks are summed; then a product of matrices."""
    terms, result = op.equation.split("->")
    names = terms.split(",")
    parts = []
    for i, (term, v) in enumerate(zip(names, node.inputs, strict=True)):
        assert v is not None
        others = set(result).union(*(t for k, t in enumerate(names) if k != i))
        gone = [k for k, c in enumerate(term) if c not in others]
        parts.append((p.reduce("SUM", p.get(v), gone, keep=False), "".join(c for c in term if c in others)))
    y, letters = parts[0] if len(parts) == 1 else _contracted(p, parts[0], parts[1], result)
    p.finish(node, p.transpose(y, [letters.index(c) for c in result]))


def _contracted(p: Lowering, a: tuple[Tensor, str], b: tuple[Tensor, str], result: str) -> tuple[Tensor, str]:
    """The product of two tensors whose axes have letters, summed over those that the result lacks."""
    (x, left), (y, right) = a, b
    sizes = {**dict(zip(left, x.shape, strict=True))}
    sizes.update((c, d) for c, d in zip(right, y.shape, strict=True) if sizes.get(c, 1) == 1)
    batch = [c for c in left if c in right and c in result]
    inner = [c for c in left if c in right and c not in result]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]

    def matrix(t: Tensor, letters: str, groups: list[list[str]]) -> Tensor:
        order = [c for g in groups for c in g]
        moved = p.transpose(t, [letters.index(c) for c in order])
        moved = p.spread(moved, [sizes[c] for c in order])
        return p.reshape(moved, [prod(sizes[c] for c in g) for g in groups])

    z = p.matmul(matrix(x, left, [batch, rows, inner]), matrix(y, right, [batch, columns, inner]), adjoint=True)
    letters = [*batch, *rows, *columns]
    return p.reshape(z, [sizes[c] for c in letters]), "".join(letters)
