"""Convolutions and their transposes, channels last; one spatial axis is two of which one has length 1."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import channels_last
from compiler.ops.window import Index, same_pads
from compiler.target import Need, op_need
from compiler.tensor import Array
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, lowers, ranks
from targets.tflite.model import Tensor
from targets.tflite.opset import SAME, VALID

Ints = tuple[int, ...]
POINT = ((1, 1), (0, 0, 0, 0), (1, 1))  # strides, pads and dilations of a convolution with a kernel of 1x1


def padding(p: Lowering, x: Tensor, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints) -> tuple[Tensor, int]:
    """`x` [N,*S,C], perhaps padded with zeros, and the padding scheme that gives the pads of a window."""
    n = len(kernel)
    if not any(pads):
        return x, VALID
    if pads == same_pads(x.shape[1:-1], kernel, strides, dilations, upper=True):
        return x, SAME
    return p.pad(x, (0, *pads[:n], 0), (0, *pads[n:], 0)), VALID


def flat(x: Tensor, p: Lowering) -> Tensor:
    """[N,L,C] as an image of one row."""
    return p.reshape(x, (x.shape[0], 1, *x.shape[1:]))


def widened(values: Ints, fill: int) -> Ints:
    """Numbers per spatial axis (begins, then ends, if twice as many), with those of a row axis put before."""
    if len(values) == 2 and fill == 0:
        return (0, values[0], 0, values[1])
    return (fill, *values)


@lowers(ops.Conv, needs=[FLOAT, ranks(3, 5)])
def _conv(p: Lowering, node: Node, op: ops.Conv) -> None:
    x, w, *bias = node.inputs
    assert x is not None and w is not None
    order = channels_last(x.type.rank)
    image = p.get(x, order)
    b = p.get(bias[0]) if bias and bias[0] is not None else None
    rank = x.type.rank
    if rank == 5:
        p.finish(node, _conv_3d(p, image, p.get(w, (2, 3, 4, 1, 0)), b, op), order)
        return
    strides, pads, dilations = op.strides, op.pads, op.dilations
    if rank == 3:
        image, strides, dilations, pads = flat(image, p), (1, *strides), (1, *dilations), widened(pads, 0)
    depthwise = op.groups > 1 and w.type.dims[1] == 1 and op.groups == image.shape[3]
    perm = (1, *range(2, rank), 0) if depthwise else (0, *range(2, rank), 1)
    weight = _kernel(p, w, perm, tuple(w.type.dims[i] for i in perm))
    y = convolved(p, image, weight, b, (strides, pads, dilations), depthwise)
    p.finish(node, p.reshape(y, [node.output.type.dims[i] for i in order]), order)


def _kernel(p: Lowering, w: Value, perm: Ints, shape: Ints) -> Tensor:
    """A kernel with its axes permuted; one of one spatial axis has one row."""
    wide = shape if len(shape) == 4 else (shape[0], 1, *shape[1:])
    if w.data is None:
        return p.reshape(p.get(w, perm), wide)
    return p.weight(w.data, "FLOAT32", w.name or "weight", perm, wide)


def convolved(
    p: Lowering, x: Tensor, w: Tensor, b: Tensor | None, window: tuple[Ints, Ints, Ints], depthwise: bool
) -> Tensor:
    """x [N,H,W,C] convolved with w [M,KH,KW,C/groups], or [1,KH,KW,M] if depthwise, plus b [M]."""
    strides, pads, dilations = window
    kernel = w.shape[1:3]
    x, scheme = padding(p, x, kernel, strides, pads, dilations)
    filters = w.shape[3] if depthwise else w.shape[0]
    b = b or p.const(np.zeros(filters), "FLOAT32")
    out = [
        -(-d // s) if scheme == SAME else (d - (k - 1) * t - 1) // s + 1
        for d, k, s, t in zip(x.shape[1:3], kernel, strides, dilations, strict=True)
    ]
    options = {
        "Padding": scheme,
        "StrideH": strides[0],
        "StrideW": strides[1],
        "DilationHFactor": dilations[0],
        "DilationWFactor": dilations[1],
    }
    if depthwise:
        options["DepthMultiplier"] = filters // x.shape[3]
    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    return p.add(code, [x, w, b], x.dtype, (x.shape[0], *out, filters), **options)


def _conv_3d(p: Lowering, x: Tensor, w: Tensor, b: Tensor | None, op: ops.Conv) -> Tensor:
    """Groups are convolved one by one."""
    if op.groups > 1:
        channels, filters = x.shape[4] // op.groups, w.shape[4] // op.groups
        one = op.with_(groups=1)
        parts = [
            _conv_3d(
                p,
                p.part(x, 4, g * channels, (g + 1) * channels),
                p.part(w, 4, g * filters, (g + 1) * filters),
                None if b is None else p.part(b, 0, g * filters, (g + 1) * filters),
                one,
            )
            for g in range(op.groups)
        ]
        return p.concat(parts, 4)
    kernel = w.shape[:3]
    x = p.pad(x, (0, *op.pads[:3], 0), (0, *op.pads[3:], 0))
    out = [
        (d - (k - 1) * t - 1) // s + 1
        for d, k, s, t in zip(x.shape[1:4], kernel, op.strides, op.dilations, strict=True)
    ]
    fields = ("D", "H", "W")
    options = {f"Stride{f}": v for f, v in zip(fields, op.strides, strict=True)}
    options |= {f"Dilation{f}Factor": v for f, v in zip(fields, op.dilations, strict=True)}
    b = b or p.const(np.zeros(w.shape[4]), "FLOAT32")
    return p.add("CONV_3D", [x, w, b], x.dtype, (x.shape[0], *out, w.shape[4]), Padding=VALID, **options)


SMALL_EXTRA = op_need(
    "output_padding below the strides",
    lambda op: all(e < s for e, s in zip(op.output_padding, op.strides, strict=True)),
)


def _plain(node: Node) -> bool:
    w, op = node.inputs[1], node.op
    assert w is not None and isinstance(op, ops.ConvTranspose)
    return w.data is not None or set(op.dilations) == {1}


PLAIN = Need(text="dilations of 1, or a constant weight", holds=_plain)


@lowers(ops.ConvTranspose, needs=[FLOAT, ranks(3, 4), PLAIN, SMALL_EXTRA])
def _conv_transpose(p: Lowering, node: Node, op: ops.ConvTranspose) -> None:
    """Each group on its own; dilated kernels are written with zeros in between."""
    x, w, *bias = node.inputs
    assert x is not None and w is not None
    rank, order = x.type.rank, channels_last(x.type.rank)
    image = p.get(x, order)
    kernel = _filters(p, w, op.dilations)
    strides, pads, out = op.strides, op.pads, node.output.type.dims[2:]
    if rank == 3:
        image, kernel = flat(image, p), p.reshape(kernel, (kernel.shape[0], 1, *kernel.shape[1:]))
        strides, pads, out = (1, *strides), widened(pads, 0), (1, *out)
    b = p.get(bias[0]) if bias and bias[0] is not None else None
    parts = []
    images = p.split(image, [image.shape[3] // op.groups] * op.groups, 3)
    kernels = p.split(kernel, [image.shape[3] // op.groups] * op.groups, 3)
    filters = [kernels[0].shape[0]] * op.groups
    shifts = [None] * op.groups if b is None else p.split(b, filters, 0)
    for own, weight, shift in zip(images, kernels, shifts, strict=True):
        parts.append(_transposed(p, own, weight, shift, strides, pads, out))
    p.finish(node, p.reshape(p.concat(parts, 3), [node.output.type.dims[i] for i in order]), order)


def _filters(p: Lowering, w: Value, dilations: Ints) -> Tensor:
    """A kernel [C,M,*K] as [M,*K,C], with zeros between its elements if it is dilated."""
    order = (*range(1, w.type.rank), 0)
    if w.data is None or set(dilations) == {1}:
        return p.get(w, order)
    return p.weight(_dilated(np.asarray(w.data), dilations), "FLOAT32", w.name or "weight", order)


def _dilated(w: Array, dilations: Ints) -> Array:
    """A kernel [C,M,*K] with zeros between its elements."""
    if set(dilations) == {1}:
        return w
    grown = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    out = np.zeros((*w.shape[:2], *grown), w.dtype)
    inside: Index = (..., *(slice(None, None, d) for d in dilations))
    out[inside] = w
    return out


def _transposed(p: Lowering, x: Tensor, w: Tensor, b: Tensor | None, strides: Ints, pads: Ints, out: Ints) -> Tensor:
    """One TRANSPOSE_CONV: with the builtin's padding where that is ours, else without, and what is too much cut off."""
    batch, kernel, size = x.shape[0], w.shape[1:3], x.shape[1:3]
    natural = [(d - 1) * s + k for d, s, k in zip(size, strides, kernel, strict=True)]
    total = [max(n - o, 0) for n, o in zip(natural, out, strict=True)]
    fits = all(-(-o // s) == d for o, s, d in zip(out, strides, size, strict=True))
    same = any(pads) and fits and all(t // 2 == begin for t, begin in zip(total, pads[:2], strict=True))
    whole = [max(n, begin + o) for n, begin, o in zip(natural, pads[:2], out, strict=True)]
    shape = (batch, *(out if same else whole), w.shape[0])
    inputs = [p.ints(shape), w, x, *([b] if b is not None else [])]
    options = {"Padding": SAME if same else VALID, "StrideH": strides[0], "StrideW": strides[1]}
    y = p.add("TRANSPOSE_CONV", inputs, x.dtype, shape, **options)
    if same:
        return y
    ends = [begin + o for begin, o in zip(pads[:2], out, strict=True)]
    return p.cut(y, (0, *pads[:2], 0), (batch, *ends, w.shape[0]))
