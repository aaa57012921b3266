"""Resampling: MIL's own layers where they compute the same, gathers for other nearest modes, matrices for the rest."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.target import Need
from compiler.tensor import Array
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import FLOATS, lowers, makes
from targets.coreml.mil import Var

BILINEAR = {"half_pixel": "UNALIGN_CORNERS", "align_corners": "STRICT_ALIGN_CORNERS"}


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


SMOOTH = Need(
    text="floats (integers only in mode nearest)",
    holds=lambda node: getattr(node.op, "mode", "") == "nearest" or node.output.type.dtype in FLOATS,
)


def _made(node: Node) -> int:
    """Bytes of indices, of matrices (with the unit vectors they are made of), and of the mask of a crop."""
    (x,), op = node.input_types, node.op
    assert x is not None and isinstance(op, ops.Resize)
    axes = op.resized_axes(x.dims)
    mask = prod(op.sizes[a] for a in axes) if op.coordinates == "tf_crop_and_resize" else 0
    if op.mode == "nearest":
        return mask + 4 * sum(op.sizes[a] for a in axes)
    if _is_bilinear(op, x.dims, axes):
        return mask
    return mask + 4 * sum(x.dims[a] * max(x.dims[a], op.sizes[a]) for a in axes)


@lowers(ops.Resize, needs=[SMOOTH, makes(_made)])
def _resize(p: Lowering, node: Node, op: ops.Resize) -> None:
    (x,) = p.operands(node)
    shape = x.shape
    axes = op.resized_axes(shape)
    if op.mode == "nearest":
        x = _nearest(p, x, {axis: op.taps(axis, shape[axis]).places[:, 0] for axis in axes})
    elif _is_bilinear(op, shape, axes):
        height, width = op.sizes[-2:]
        sizes = {"target_size_height": height, "target_size_width": width}
        x = p.add("resize_bilinear", {"x": x, **sizes, "sampling_mode": BILINEAR[op.coordinates]}, x.dtype, op.sizes)
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
    value = int(op.extrapolation_value) if x.dtype == "int32" else float(op.extrapolation_value)
    return p.select(p.program.const(inside, "bool", name="inside"), x, value)


def _is_bilinear(op: ops.Resize, shape: tuple[int, ...], axes: list[int]) -> bool:
    rank = len(shape)
    spatial = rank in (3, 4) and all(axis >= rank - 2 for axis in axes)
    exact = all(abs(op.scales[a] * shape[a] - op.sizes[a]) < 1e-6 for a in axes)
    shrinks = any(op.sizes[a] < shape[a] for a in axes)
    plain = op.mode == "linear" and op.coordinates in BILINEAR and not op.exclude_outside
    return (
        plain
        and spatial
        and exact
        and not (op.antialias and shrinks)
        and min(shape[-2:]) > 1
        and min(op.sizes[-2:]) > 1
    )


def _nearest(p: Lowering, x: Var, indices: dict[int, Array]) -> Var:
    """Whole factors of the last two axes are one layer; other axes are gathered."""
    rank = len(x.shape)
    factors = [1, 1]
    for axis, index in indices.items():
        factor, rest = divmod(len(index), x.shape[axis])
        if (
            rest
            or axis < rank - 2
            or rank != 4
            or x.dtype != p.precision
            or not np.array_equal(index, np.arange(len(index)) // max(factor, 1))
        ):
            break
        factors[axis - rank + 2] = factor
    else:
        shape = (*x.shape[:-2], x.shape[-2] * factors[0], x.shape[-1] * factors[1])
        height, width = factors
        return p.add(
            "upsample_nearest_neighbor",
            {"x": x, "scale_factor_height": height, "scale_factor_width": width},
            x.dtype,
            shape,
        )
    for axis, index in indices.items():
        x = p.take(x, index, axis)
    return x


def _apply(p: Lowering, x: Var, axis: int, matrix: Array) -> Var:
    """Multiply along one axis: [.., in] by [in, out], with the axis brought last if it is not."""
    perm = [*(i for i in range(len(x.shape)) if i != axis), axis]
    weight = p.floats(matrix.T, "resampling")
    return p.transpose(p.matmul(p.transpose(x, perm), weight), [perm.index(i) for i in range(len(perm))])
