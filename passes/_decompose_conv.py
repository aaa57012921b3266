"""Transposed convolutions as convolutions of images with zeros between their elements."""

from __future__ import annotations

from math import prod

from compiler import ops
from passes._decompose import decomposes
from passes._terms import Term, formula


@decomposes(ops.ConvTranspose)
@formula
def _conv_transpose(op: ops.ConvTranspose, x: Term, w: Term, b: Term | None = None) -> Term:
    """Of any number of axes, groups and dilations: the kernel, mirrored, slides over every place that it reached."""
    n, out = len(op.strides), x.add.node.output.type.dims[2:]
    kernel = w.dims[2:]
    for i in range(n):
        x = _stuffed(x, 2 + i, op.strides[i])
        reach = (kernel[i] - 1) * op.dilations[i]
        x = _from(x, 2 + i, op.pads[i] - reach, out[i] + reach)
    conv = ops.Conv(strides=(1,) * n, pads=(0,) * 2 * n, dilations=op.dilations, groups=op.groups)
    return x.via(conv, _mirrored(w, op.groups), b)


@decomposes(ops.Conv)
@formula
def _dilated_conv(op: ops.Conv, x: Term, w: Term, b: Term | None = None) -> Term | None:
    """A computed kernel with zeros where its dilations leave gaps."""
    if w.value.data is not None or set(op.dilations) <= {1}:
        return None
    for i, d in enumerate(op.dilations):
        k = w.dims[2 + i]
        w = _stuffed(w, 2 + i, d).part(2 + i, 0, (k - 1) * d + 1)
    return x.via(op.with_(dilations=(1,) * len(op.dilations)), w, b)


def _stuffed(x: Term, axis: int, stride: int) -> Term:
    """x with stride - 1 zeros after each element along an axis."""
    if stride == 1:
        return x
    before, length, after = prod(x.dims[:axis]), x.dims[axis], prod(x.dims[axis + 1 :])
    wide = x.reshape(before, length, 1, after).via(ops.Pad(pads=(0, 0, 0, 0, 0, 0, stride - 1, 0)))
    return wide.reshape(*x.dims[:axis], length * stride, *x.dims[axis + 1 :])


def _from(x: Term, axis: int, start: int, length: int) -> Term:
    """So many elements along an axis, from `start` on, which may be negative; zeros where x has none."""
    x = x.part(axis, max(start, 0), min(x.dims[axis], max(start + length, 0)))
    before = max(-start, 0)
    after = length - before - x.dims[axis]
    if not before and not after:
        return x
    pads = [0] * (2 * len(x.dims))
    pads[axis], pads[len(x.dims) + axis] = before, after
    return x.via(ops.Pad(pads=tuple(pads)))


def _mirrored(w: Term, groups: int) -> Term:
    """A kernel [C,M/groups,*K] as [M,C/groups,*K], every axis of K reversed."""
    c, m, *kernel = w.dims
    for axis, k in enumerate(kernel, 2):
        w = w.part(axis, k - 1, -1, -1) if k > 1 else w
    window = prod(kernel)
    swapped = w.reshape(groups, c // groups, m, window).transpose(0, 2, 1, 3)
    return swapped.reshape(groups * m, c // groups, *kernel)
