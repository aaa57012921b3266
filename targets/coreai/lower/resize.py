"""Resampling: the dialect's interpolation where it computes the same, gathers for nearest, matrices for the rest."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.target import Need
from compiler.tensor import Array
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import FLOATS, lowers, makes
from targets.coreai.program import Var

SMOOTH = Need(
    text="floats (integers only in mode nearest)",
    holds=lambda node: getattr(node.op, "mode", "") == "nearest" or node.output.type.dtype in FLOATS,
)


def axis_matrix(op: ops.Resize, axis: int, dims: tuple[int, ...]) -> Array:
    """The [out, in] matrix that resampling one axis amounts to: what the operation makes of the unit vectors."""
    n = dims[axis]
    single = op.with_(
        sizes=(n, op.sizes[axis]),
        scales=(1.0, op.scales[axis]),
        roi=(0.0, op.roi[axis], 1.0, op.roi[len(dims) + axis]) if op.roi else (),
        extrapolation_value=0.0,
    )
    return np.asarray(single.evaluate(np.eye(n))).T


def _made(node: Node) -> int:
    """Bytes of indices, of matrices (with the unit vectors they are made of), and of the mask of a crop."""
    (x,), op = node.input_types, node.op
    assert x is not None and isinstance(op, ops.Resize)
    axes = op.resized_axes(x.dims)
    mask = prod(op.sizes[a] for a in axes) if op.coordinates == "tf_crop_and_resize" else 0
    if op.mode == "nearest":
        return mask + 4 * sum(op.sizes[a] for a in axes)
    if _is_interpolation(op, x.dims, axes):
        return mask
    return mask + 4 * sum(x.dims[a] * max(x.dims[a], op.sizes[a]) for a in axes)


@lowers(ops.Resize, needs=[SMOOTH, makes(_made)])
def _resize(p: Lowering, node: Node, op: ops.Resize) -> None:
    (x,) = p.operands(node)
    shape = x.shape
    axes = op.resized_axes(shape)
    if op.mode == "nearest":
        for axis in axes:
            x = p.take(x, p.ints(op.taps(axis, shape[axis]).places[:, 0]), axis)
    elif _is_interpolation(op, shape, axes):
        x = _interpolated(p, x, op, axes)
    else:
        for axis in axes:
            x = _apply(p, x, axis, axis_matrix(op, axis, shape))
    p.bind(node.output, _extrapolated(p, x, op, shape))


def _extrapolated(p: Lowering, x: Var, op: ops.Resize, shape: tuple[int, ...]) -> Var:
    """What lies outside of the cropped region, set to its value."""
    if op.coordinates != "tf_crop_and_resize":
        return x
    inside: Array = np.ones((1,) * len(shape), bool)
    for axis in op.resized_axes(shape):
        at = op.coordinates_of(axis, shape[axis])
        within = (at >= 0) & (at <= shape[axis] - 1)
        inside = inside & within.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    if inside.all():
        return x
    return p.select(p.program.const(inside, "bool"), x, op.extrapolation_value)


def _is_interpolation(op: ops.Resize, shape: tuple[int, ...], axes: list[int]) -> bool:
    """Whether the dialect's `interpolate` computes the layer: linear, over the last two axes of an image."""
    spatial = len(shape) == 4 and all(axis >= 2 for axis in axes)
    shrinks = any(op.sizes[a] < shape[a] for a in axes)
    plain = op.mode == "linear" and op.coordinates in ("half_pixel", "align_corners") and not op.exclude_outside
    single = op.coordinates == "align_corners" and any(min(op.sizes[a], shape[a]) < 2 for a in axes)
    return plain and spatial and not single and not (op.antialias and shrinks)


def _interpolated(p: Lowering, x: Var, op: ops.Resize, axes: list[int]) -> Var:
    """Element i lies at (i + 0.5 - offset) / scale - 0.5."""
    scale, offset = np.ones(len(x.shape)), np.zeros(len(x.shape))
    for a in axes:
        corners = op.coordinates == "align_corners"
        scale[a] = (op.sizes[a] - 1) / (x.shape[a] - 1) if corners else op.scales[a]
        offset[a] = 0.5 * (1 - scale[a]) if corners else 0.0
    grid = [p.program.const(v.astype(np.float32), "fp32") for v in (scale, offset)]
    mode = "interpolation_mode = #coreai.interpolation_mode<linear>"
    return p.op("interpolate", [x, p.ints(op.sizes), *grid], x.dtype, op.sizes, mode)


def _apply(p: Lowering, x: Var, axis: int, matrix: Array) -> Var:
    """Multiply along one axis: [.., in] by [in, out], with the axis brought last if it is not."""
    perm = [*(i for i in range(len(x.shape)) if i != axis), axis]
    moved = p.transpose(x, perm)
    rows = p.reshape(moved, (prod(moved.shape[:-1]), moved.shape[-1]))
    y = p.reshape(p.matmul(rows, p.floats(matrix.T)), (*moved.shape[:-1], len(matrix)))
    return p.transpose(y, [perm.index(i) for i in range(len(perm))])
