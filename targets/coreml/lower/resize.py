"""Resampling: MIL's own layers where they compute the same, gathers for other nearest modes, matrices for the rest."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.tensor import Array
from targets.coreml.lower.table import FLOAT, Lowering, lowers
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


@lowers(ops.Resize, needs=[FLOAT])
def _resize(p: Lowering, node: Node, op: ops.Resize) -> None:
    (x,) = p.operands(node)
    axes = op.resized_axes(x.shape)
    matrices = {axis: axis_matrix(op, axis, x.shape) for axis in axes}
    if op.mode == "nearest":
        p.bind(node.output, _nearest(p, x, matrices))
    elif _is_bilinear(op, x, axes):
        height, width = op.sizes[-2:]
        p.emit(
            node,
            "resize_bilinear",
            x=x,
            target_size_height=height,
            target_size_width=width,
            sampling_mode=BILINEAR[op.coordinates],
        )
    else:
        for axis in axes:
            x = _apply(p, x, axis, matrices[axis])
        p.bind(node.output, x)


def _is_bilinear(op: ops.Resize, x: Var, axes: list[int]) -> bool:
    rank = len(x.shape)
    spatial = rank in (3, 4) and all(axis >= rank - 2 for axis in axes)
    exact = all(abs(op.scales[a] * x.shape[a] - op.sizes[a]) < 1e-6 for a in axes)
    shrinks = any(op.sizes[a] < x.shape[a] for a in axes)
    plain = op.mode == "linear" and op.coordinates in BILINEAR and not op.exclude_outside
    return (
        plain
        and spatial
        and exact
        and not (op.antialias and shrinks)
        and min(x.shape[-2:]) > 1
        and min(op.sizes[-2:]) > 1
    )


def _nearest(p: Lowering, x: Var, matrices: dict[int, Array]) -> Var:
    """Whole factors of the last two axes are one layer; other axes are gathered."""
    indices = {axis: m.argmax(1) for axis, m in matrices.items()}
    rank = len(x.shape)
    factors = [1, 1]
    for axis, index in indices.items():
        factor, rest = divmod(len(index), x.shape[axis])
        if rest or axis < rank - 2 or rank != 4 or not np.array_equal(index, np.arange(len(index)) // max(factor, 1)):
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
        shape = tuple(len(index) if i == axis else d for i, d in enumerate(x.shape))
        x = p.add("gather", {"x": x, "indices": index.astype(np.int32), "axis": axis}, x.dtype, shape)
    return x


def _apply(p: Lowering, x: Var, axis: int, matrix: Array) -> Var:
    """Multiply along one axis: [.., in] by [in, out], with the axis brought last if it is not."""
    rank = len(x.shape)
    perm = [i for i in range(rank) if i != axis] + [axis]
    moved = x if axis == rank - 1 else p.transpose(x, perm)
    weight = p.program.const(np.ascontiguousarray(matrix.T.astype(np.float32)), p.precision, name="resampling")
    y = p.add(
        "matmul",
        {"x": moved, "y": weight, "transpose_x": False, "transpose_y": False},
        x.dtype,
        (*moved.shape[:-1], len(matrix)),
    )
    return y if axis == rank - 1 else p.transpose(y, [perm.index(i) for i in range(rank)])
