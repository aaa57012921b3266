"""Convolution at learned, fractional positions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Self

import numpy as np

from compiler.op import Emitter, OnnxNode, expect, expect_opset, op
from compiler.ops.conv import Convolution, add_bias, expect_conv, sample_groups, times, window_attributes
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.ops.window import bound, read_kernel, read_window, sample_window, slide_all
from compiler.tensor import Array, TensorType


def bilinear(x: Array, rows: Array, columns: Array) -> Array:
    """Elements of images x [..., H, W] at fractional places [..., *P], 0 outside; leading axes are the same."""
    height, width = x.shape[-2:]
    lead = x.shape[:-2]
    flat = x.reshape(prod(lead), height * width)
    rows, columns = (np.broadcast_to(v, (*lead, *v.shape[len(lead) :])) for v in (rows, columns))
    top, left = np.floor(rows), np.floor(columns)
    y: Array = np.zeros(rows.shape, x.dtype)
    for at_row, row_weight in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for at_column, column_weight in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            inside = (at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width)
            place = np.where(inside, at_row * width + at_column, 0).astype(np.int64)
            seen = np.take_along_axis(flat, place.reshape(flat.shape[0], -1), 1).reshape(place.shape)
            y += np.where(inside, seen * row_weight * column_weight, 0)
    return y


@op("deform_conv", onnx="DeformConv", since=19)
class DeformConv(Convolution):
    """Conv over two axes, whose taps are moved by `offset` [N,offset_groups*K*2,*S'] (rows, columns) and weighed by
    `mask` [N,offset_groups*K,*S']; elements between pixels are bilinear, outside 0. Dai et al., arXiv:1703.06211."""

    offset_groups: int = 1

    def validate(self) -> None:
        super().validate()
        expect(self.offset_groups >= 1, f"offset_groups {self.offset_groups} should be at least 1")

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        offset: TensorType,
        b: TensorType | None = None,
        mask: TensorType | None = None,
    ) -> TensorType:
        expect_conv(x, w, b, times(w.shape[1], self.groups), w.shape[0])
        expect(x.rank == 4 and x.is_static, f"needs a static input of rank 4, got {x}")
        n, c = x.dims[:2]
        expect(c % self.offset_groups == 0, f"{c} channels do not split into {self.offset_groups} offset groups")
        kernel = bound(w.shape[2:])
        out = slide_all(x.shape[2:], kernel, self.strides, self.pads, self.dilations)
        taps = self.offset_groups * prod(kernel)
        moved, weighed = (x.with_shape((n, count, *out)) for count in (2 * taps, taps))
        expect(offset == moved, f"the offset should be {moved}, it is {offset}")
        expect(mask is None or mask == weighed, f"the mask should be {weighed}, it is {mask}")
        return x.with_shape((n, w.shape[0], *out))

    def evaluate(self, x: Array, w: Array, offset: Array, b: Array | None = None, mask: Array | None = None) -> Array:
        wide = widen(x)
        n, c = x.shape[:2]
        kernel, out, groups = w.shape[2:], offset.shape[2:], self.offset_groups
        moved = widen(offset).reshape(n, groups, 1, *kernel, 2, *out)
        places = []
        for i in range(2):
            tap = np.arange(kernel[i]).reshape(-1, *[1] * (3 - i)) * self.dilations[i]
            step = np.arange(out[i]).reshape(-1, *[1] * (1 - i)) * self.strides[i]
            places.append(moved[:, :, :, :, :, i] + (tap + step - self.pads[i]).astype(wide.dtype))
        columns = bilinear(wide.reshape(n, groups, c // groups, *x.shape[2:]), *places)
        if mask is not None:
            columns = columns * widen(mask).reshape(n, groups, 1, *kernel, *out)
        depth = c // self.groups * prod(kernel)
        weights = widen(w).reshape(self.groups, w.shape[0] // self.groups, depth)
        y = np.matmul(weights, columns.reshape(n, self.groups, depth, prod(out)))
        return add_bias(y.reshape(n, w.shape[0], *out), b).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        w = inputs[1]
        assert w is not None
        return outputs[0].size * prod(w.dims[1:])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        kernel = read_kernel(node, node.type(1).shape)
        window = read_window(node, node.type(0).shape[2:], kernel)
        return cls(groups=node.attr("group", 1), offset_groups=node.attr("offset_group", 1), **window)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, self.since, self.onnx)
        return e.node("DeformConv", *inputs, offset_group=self.offset_groups, **window_attributes(self, e))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        window = sample_window(rng, x.dims[2:])
        kernel = window.pop("kernel")
        groups, m = sample_groups(rng, x.dims[1])
        offset_groups, _ = sample_groups(rng, x.dims[1])
        out = slide_all(x.shape[2:], kernel, window["strides"], window["pads"], window["dilations"])
        taps = offset_groups * prod(kernel)
        others = [x.with_shape(s) for s in ((m, x.dims[1] // groups, *kernel), (x.dims[0], 2 * taps, *out), (m,))]
        mask = x.with_shape((x.dims[0], taps, *out))
        return cls(groups=groups, offset_groups=offset_groups, **window), (*others, mask)


__all__ = ["DeformConv"]
