"""ONNX operators that only rename a shape, or nothing at all."""

from __future__ import annotations

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.op import OnnxNode, expect, normalize_axis
from compiler.ops.generate import ConstantOfShape
from compiler.ops.parts import Pad, Slice
from compiler.ops.shape import Reshape, ShapeOf, SizeOf, resolve_reshape
from compiler.tensor import Dim, Shape

MAX_EYE = 2**28  # elements of an identity matrix that is made at import


def operand(node: OnnxNode, index: int = 0) -> Value:
    """Operand `index` as the graph value it is while importing; OnnxError if it is omitted."""
    node.type(index)
    value = node.inputs[index]
    assert isinstance(value, Value)
    return value


def _reshaped(b: LayerBuilder, x: Value, shape: Shape) -> Value:
    return x if shape == x.type.shape else b.add(Reshape(shape=shape), x)


@importer("Squeeze")
def squeeze(node: OnnxNode, b: LayerBuilder) -> Value:
    """Dimensions of 1 taken out: the named ones, or all."""
    x = operand(node)
    axes = {normalize_axis(a, x.type.rank) for a in node.ints("axes", 1, ())}
    for a in axes:
        expect(x.type.shape[a] == 1, f"axis {a} of {x.type} is not 1 and cannot be squeezed")
    if not axes:
        axes = {i for i, d in enumerate(x.type.shape) if d == 1}
    return _reshaped(b, x, tuple(d for i, d in enumerate(x.type.shape) if i not in axes))


@importer("Unsqueeze")
def unsqueeze(node: OnnxNode, b: LayerBuilder) -> Value:
    """Dimensions of 1 put in, so that they stand at `axes` of the result."""
    x = operand(node)
    given = node.ints("axes", 1)
    rank = x.type.rank + len(given)
    axes = {normalize_axis(a, rank) for a in given}
    expect(len(axes) == len(given), f"axes {list(given)} name one axis twice")
    rest = iter(x.type.shape)
    return _reshaped(b, x, tuple(1 if i in axes else next(rest) for i in range(rank)))


@importer("Flatten")
def flatten(node: OnnxNode, b: LayerBuilder) -> Value:
    """The axes before `axis` as one, the others as one."""
    x = operand(node)
    shape, rank = x.type.shape, x.type.rank
    axis = node.attr("axis", 1)
    expect(-rank <= axis <= rank, f"axis {axis} is out of range for rank {rank}")
    axis = axis + rank if axis < 0 else axis
    return _reshaped(b, x, (_product(shape[:axis]), _product(shape[axis:])))


def _product(dims: Shape) -> Dim:
    return resolve_reshape(dims, (-1,))[0]


@importer("Identity")
def identity(node: OnnxNode, _: LayerBuilder) -> Value:
    """The operand itself."""
    return operand(node)


@importer("Dropout")
def dropout(node: OnnxNode, b: LayerBuilder) -> tuple[Value, ...]:
    """The operand itself, as in inference, and a mask of ones (of zeros before opset 12, as ONNX Runtime has it);
    training with a ratio of 0 is the same."""
    x = operand(node)
    training = bool(node.const(2, np.array(False)).reshape(-1)[0])
    if training and node.scalar("ratio", 1, 0.5) != 0:
        raise OnnxError("dropout in training mode is random; export the model for inference")
    if node.n_outputs < 2:
        return (x,)
    return x, b.add(ConstantOfShape(shape=x.type.dims, value=node.version >= 12, dtype="bool"))


@importer("Shape")
def shape_of(node: OnnxNode, b: LayerBuilder) -> Value:
    """The dimensions asked for, as a constant if they are bound."""
    x, op = operand(node), ShapeOf.from_onnx(node)
    dims = x.type.shape[op.start : x.type.rank if op.end < 0 else op.end]
    if any(isinstance(d, str) for d in dims):
        return b.add(op, x)
    return b.const(np.array(dims, np.int64))


@importer("Size")
def size_of(node: OnnxNode, b: LayerBuilder) -> Value:
    """The number of elements, as a constant if it is known."""
    x = operand(node)
    return b.const(np.array(x.type.size, np.int64)) if x.type.is_static else b.add(SizeOf(), x)


@importer("EyeLike")
def eye_like(node: OnnxNode, b: LayerBuilder) -> Value:
    """Ones on diagonal k of a matrix of zeros, a constant."""
    x = operand(node)
    expect(x.type.rank == 2, f"needs a matrix, got {x.type}")
    expect(x.type.size <= MAX_EYE, f"{x.type} is too large for a constant")
    rows, columns = x.type.dims
    dtype = node.attr("dtype", x.type.dtype)
    return b.const(np.eye(rows, columns, node.attr("k", 0)).astype(dtype.numpy))


@importer("Pad")
def pad(node: OnnxNode, b: LayerBuilder) -> Value:
    """A slice for the negative pads, then a pad for the positive ones."""
    op = Pad.from_onnx(node)
    x, *fill = (operand(node), *(v for v in node.operands()[1:] if isinstance(v, Value)))
    rank = x.type.rank
    if min(op.pads, default=0) < 0:
        axes = [i for i in range(rank) if min(op.pads[i], op.pads[rank + i]) < 0]
        lengths = x.type.dims
        starts = [max(0, -op.pads[i]) for i in axes]
        ends = [lengths[i] + min(0, op.pads[rank + i]) for i in axes]
        expect(all(s <= e for s, e in zip(starts, ends, strict=True)), f"pads {op.pads} take more than {x.type} has")
        x = b.add(Slice.of(x.type, axes, starts, ends), x)
        op = op.with_(pads=tuple(max(0, p) for p in op.pads))
    return b.add(op, x, *fill) if any(op.pads) else x


@importer("CenterCropPad")
def center_crop_pad(node: OnnxNode, b: LayerBuilder) -> Value:
    """Each axis cut, or filled up with zeros, evenly on both sides; the odd element goes to (or stays at) the end."""
    x = operand(node)
    rank, lengths = x.type.rank, x.type.dims
    axes = [normalize_axis(a, rank) for a in node.ints("axes", None, tuple(range(rank)))]
    wanted = node.ints("shape", 1)
    expect(len(wanted) == len(axes), f"needs {len(axes)} lengths, got {len(wanted)}")
    cut = [(a, (lengths[a] - n) // 2, n) for a, n in zip(axes, wanted, strict=True) if n < lengths[a]]
    if cut:
        where, starts, sizes = zip(*cut, strict=True)
        x = b.add(Slice.of(x.type, where, starts, [s + n for s, n in zip(starts, sizes, strict=True)]), x)
    pads = [0] * (2 * rank)
    for a, n in zip(axes, wanted, strict=True):
        missing = max(0, n - lengths[a])
        pads[a], pads[rank + a] = missing // 2, missing - missing // 2
    return b.add(Pad(pads=tuple(pads)), x) if any(pads) else x
