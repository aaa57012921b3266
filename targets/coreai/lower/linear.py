"""Convolution, dense layers and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler import ops
from compiler.graph import Node
from compiler.ops.integer import IntegerConvolution
from compiler.target import Need, op_need
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import FLOAT, NUMBER, SOURCE, lowers
from targets.coreai.program import Var

PLANES = op_need("one to three spatial axes", lambda op: 1 <= len(op.strides) <= 3)


@lowers(ops.Conv, needs=[FLOAT, PLANES])
def _conv(p: Lowering, node: Node, op: ops.Conv) -> None:
    x, w, *b = p.operands(node)
    y = convolved(p, x, w, op, node.output.type.dims)
    p.bind(node.output, p.binary("add", y, per_channel(p, b[0], len(y.shape))) if b else y)


def convolved(p: Lowering, x: Var, w: Var, op: ops.Conv | IntegerConvolution, dims: Sequence[int]) -> Var:
    """The dialect's convolution has two or three spatial axes and no pads; one axis is the last of two."""
    n = len(op.strides)
    x = p.pad(x, [0, 0, *op.pads[:n]], [0, 0, *op.pads[n:]])
    x, w = plane(p, x), plane(p, w)
    spatial = [p.sizes(in_plane(v)) for v in (op.strides, op.dilations)]
    kind = "conv3d" if n == 3 else "conv2d"
    y = p.op(kind, [x, w, *spatial, p.size(op.groups)], x.dtype, in_plane(dims[2:], dims[:2]))
    return p.reshape(y, dims)


def plane(p: Lowering, x: Var) -> Var:
    """A tensor with one spatial axis under two."""
    return p.reshape(x, in_plane(x.shape[2:], x.shape[:2]))


def in_plane(spatial: Sequence[int], before: Sequence[int] = ()) -> tuple[int, ...]:
    """Sizes along one spatial axis as along two; those along more as they are."""
    return (*before, 1, *spatial) if len(spatial) == 1 else (*before, *spatial)


def per_channel(p: Lowering, b: Var, rank: int) -> Var:
    """A vector over axis 1, shaped to broadcast."""
    return p.reshape(b, [b.shape[0], *[1] * (rank - 2)])


@lowers(ops.ConvTranspose, needs=[FLOAT, PLANES])
def _conv_transpose(p: Lowering, node: Node, op: ops.ConvTranspose) -> None:
    """The dialect takes pads that are alike at both ends; others are cut off the whole result, and output padding
    that the pads at the end do not cover widens it with zeros."""
    x, w, *b = p.operands(node)
    n, dims = len(op.strides), node.output.type.dims
    begins = op.pads[:n]
    ends = [e - o for e, o in zip(op.pads[n:], op.output_padding, strict=True)]
    alike = list(begins) == ends
    y = _transposed(p, x, w, op, begins if alike else [0] * n)
    if not alike:
        cut = [d - max(0, e) for d, e in zip(y.shape[2:], ends, strict=True)]
        y = p.slice(y, [0, 0, *begins], [*y.shape[:2], *cut], [1] * (n + 2))
        y = p.pad(y, [0] * (n + 2), [0, 0, *(max(0, -e) for e in ends)])
    assert y.shape == dims
    p.bind(node.output, p.binary("add", y, per_channel(p, b[0], len(dims))) if b else y)


def _transposed(p: Lowering, x: Var, w: Var, op: ops.ConvTranspose, pads: Sequence[int]) -> Var:
    n = len(op.strides)
    steps = zip(x.shape[2:], op.strides, pads, op.dilations, w.shape[2:], strict=True)
    shape = [(d - 1) * s - 2 * pad + dilation * (k - 1) + 1 for d, s, pad, dilation, k in steps]
    dims = (x.shape[0], w.shape[1] * op.groups, *shape)
    zeros = [0] * max(n, 2)
    spatial = [p.sizes(v) for v in (in_plane(op.strides), zeros[:-n] + list(pads), in_plane(op.dilations), zeros)]
    kind = "conv_transpose3d" if n == 3 else "conv_transpose2d"
    operands = [plane(p, x), plane(p, w), *spatial, p.size(op.groups)]
    return p.reshape(p.op(kind, operands, x.dtype, in_plane(shape, dims[:2])), dims)


@lowers(ops.Dense, needs=[NUMBER])
def _dense(p: Lowering, node: Node, op: ops.Dense) -> None:
    """A product of matrices: all axes of x before the last are made one."""
    x, weight = p.operand(node, 0), node.inputs[1]
    assert x is not None and weight is not None
    bias = p.operand(node, 2)
    rows = p.reshape(x, (prod(x.shape[:-1]), x.shape[-1]))
    y = p.reshape(p.matmul(rows, p.matrix(weight, op.transposed)), node.output.type.dims)
    p.bind(node.output, y if bias is None else p.binary("add", y, bias))


@lowers(ops.MatMul, needs=[NUMBER])
def _matmul(p: Lowering, node: Node, op: ops.MatMul) -> None:
    x, y = p.operands(node)
    p.bind(node.output, product(p, x, y, node.output.type.dims))


def product(p: Lowering, x: Var, y: Var, dims: tuple[int, ...]) -> Var:
    """numpy's matmul, vectors promoted."""
    left = p.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = p.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    return p.reshape(p.matmul(left, right), dims)


SCORES, WEIGHTED = "bchk,bchq->bkhq", "bchk,bkhq->bchq"


def _is_product_of_heads(node: Node) -> bool:
    op, operands = node.op, node.inputs
    assert isinstance(op, ops.Einsum)
    return op.equation in (SCORES, WEIGHTED) and all(x is not None and x.type.shape[2] == 1 for x in operands)


HEADS = Need(
    text=f"one of the products of attention per head, {SCORES} or {WEIGHTED}, with h = 1; others decompose",
    holds=_is_product_of_heads,
    source=SOURCE,
    confidence="documented",
)


@lowers(ops.Einsum, needs=[FLOAT, HEADS])
def _einsum(p: Lowering, node: Node, op: ops.Einsum) -> None:
    """Matrices of channels or keys, and places. The dialect has no product that takes an operand transposed: keys are
    transposed, once for all heads of queries that read them."""
    x, y = (_without_height(p, v) for v in p.operands(node))
    if op.equation == SCORES:
        key = ("turned", x)
        if key not in p.shared:
            p.shared[key] = p.swapped(x)
        x = p.shared[key]
    p.bind(node.output, p.reshape(p.matmul(x, y), node.output.type.dims))


def _without_height(p: Lowering, x: Var) -> Var:
    """`x` [B, C, 1, S] as [B, C, S], once for all that ask for it."""
    key = ("without height", x)
    if key not in p.shared:
        p.shared[key] = p.reshape(x, (x.shape[0], x.shape[1], x.shape[3]))
    return p.shared[key]
