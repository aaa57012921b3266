"""Resampling: of channels-last images line by line, else axis by axis."""

from __future__ import annotations

import numpy as np

from codegen.neon.gemm import SIZE
from codegen.neon.resize import ResizeMixed, ResizeNearest
from codegen.program import Split
from compiler import ops
from compiler.graph import Node
from compiler.ops.layout import channels_last, order_of
from compiler.ops.resize import Taps
from compiler.ops.window import Ints
from compiler.tensor import F16, F32, Array
from targets.source.lower.windows import plain_resize
from targets.source.needs import NUMBERS
from targets.source.program import Program, bytes_of, ctype_of
from targets.source.table import lowers

MANY = 8  # taps along an axis that are written out


def is_image(node: Node, op: ops.Resize) -> bool:
    """Whether a layer resamples the pixels of channels-last images, and nothing else."""
    x = node.inputs[0]
    assert x is not None
    last = channels_last(x.type.rank)
    lies = order_of(x.type) == last and order_of(node.output.type) == last
    axes = op.resized_axes(x.type.dims)
    is_known = op.coordinates != "tf_crop_and_resize" and (op.mode == "nearest" or x.type.dtype in (F16, F32))
    return lies and is_known and x.type.rank in (3, 4) and bool(axes) and min(axes) > 1 and bool(node.output.type.size)


@lowers(ops.Resize, needs=(NUMBERS,))
def _resize(p: Program, node: Node, op: ops.Resize) -> None:
    x = node.inputs[0]
    assert x is not None
    if not is_image(node, op):
        plain_resize(p, node, op)
        return
    down, along = (taps_of(op, x.type.dims, axis) for axis in (x.type.rank - 2, x.type.rank - 1))
    taps = (down.places.shape[1], along.places.shape[1])
    if max(taps) > MANY:
        plain_resize(p, node, op)
        return
    n, c, *size = x.type.dims
    shape = [n, *size] if len(size) == 2 else [n, 1, *size]
    out = [len(down.places), len(along.places)]
    out += [0, out[0]]
    split = Split(out[0], begin="begin", end="end")
    title = f"{op.mode} resize of {x.type} to {' x '.join(map(str, op.sizes[2:]))}"
    source, rows, columns = p.at(x), table(down.places), table(along.places)
    places = [p.constant(rows, "rows"), p.constant(columns, "columns")]
    if op.mode == "nearest":
        kernel = ResizeNearest(size=bytes_of(x.type.dtype))
        p.call(kernel, source, *places, p.result(node.output), *shape, c, *out, node=node, title=title, split=split)
        return
    weights = [p.constant(np.ascontiguousarray(t.weights, np.float32), "weights") for t in (down, along)]
    room = SIZE * shape[2] * c
    line = [p.scratch(p.threads * room, "line")] * (taps[0] > 1)
    split = Split(out[0], begin="begin", end="end", own={"line": room} if line else {})
    tables = (places[0], weights[0], places[1], weights[1])
    y = p.result(node.output)
    mixed = ResizeMixed(taps=taps, ctype=ctype_of(x.type.dtype))
    p.call(mixed, source, *tables, *line, y, *shape, c, *out, node=node, title=title, split=split)


def taps_of(op: ops.Resize, dims: Ints, axis: int) -> Taps:
    """What results along an axis read; they stay as they are along others than the spatial ones and those that are
    resampled."""
    if axis > 1 and axis in op.resized_axes(dims):
        return op.taps(axis, dims[axis])
    size = dims[axis] if axis > 1 else 1
    return Taps(np.arange(size)[:, None], np.ones((size, 1), np.float32))


def table(places: Array) -> Array:
    """As kernels read it."""
    return np.ascontiguousarray(places, np.int32)
