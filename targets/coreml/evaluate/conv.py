"""Convolutions, in one to three dimensions: gathered patches times the weights, in fp32."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from targets.coreml.evaluate.registry import Tensor, mil
from targets.coreml.evaluate.window import Pads, pad_spatial, paddings, taps

_PATCH_ELEMENTS = 1 << 23


@mil("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    dilations: Tensor,
    groups: int,
    pad: Sequence[int] = (),
    bias: Tensor | None = None,
) -> Tensor:
    """Cross-correlation of (N, C, *D) with (O, C / groups, *K)."""
    kernel = weight.shape[2:]
    reach = [(k - 1) * int(d) + 1 for k, d in zip(kernel, dilations, strict=True)]
    steps = [int(s) for s in strides]
    padded = pad_spatial(x, paddings(pad_type, pad, x.shape[2:], reach, steps), 0)
    counts = [(size - r) // s + 1 for size, r, s in zip(padded.shape[2:], reach, steps, strict=True)]
    if groups == x.shape[1] and weight.shape[1] == 1:
        y = _depthwise(padded, weight, steps, dilations, counts)
    else:
        y = _grouped(padded, weight, steps, dilations, counts, groups)
    return y if bias is None else y + bias.reshape((-1,) + (1,) * len(kernel))


def _positions(kernel: Sequence[int], dilations: Sequence[int]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Each index into a kernel, and the offset in the input that it reads from."""
    for index in itertools.product(*map(range, kernel)):
        yield index, [i * int(d) for i, d in zip(index, dilations, strict=True)]


def _depthwise(x: Tensor, weight: Tensor, strides: list[int], dilations: Tensor, counts: list[int]) -> Tensor:
    batch, channels = x.shape[:2]
    w = weight.reshape(channels, -1, *weight.shape[2:])
    y = np.zeros((batch, channels, w.shape[1], *counts), np.float32)
    ones = (1,) * len(counts)
    for index, offset in _positions(weight.shape[2:], dilations):
        y += taps(x, offset, strides, counts)[:, :, None] * w[(..., *index)].reshape(channels, -1, *ones)
    return y.reshape(batch, -1, *counts)


def _grouped(
    x: Tensor, weight: Tensor, strides: list[int], dilations: Tensor, counts: list[int], groups: int
) -> Tensor:
    """Batched product (G, O / G, C / G * K) @ (G, C / G * K, positions), a slab of the first output axis at a time."""
    batch, channels = x.shape[:2]
    kernel = weight.shape[2:]
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = np.empty((batch, weight.shape[0], *counts), np.float32)
    row = channels * math.prod(kernel) * math.prod(counts[1:])
    rows = max(1, min(counts[0], _PATCH_ELEMENTS // max(row, 1)))
    for n, start in itertools.product(range(batch), range(0, counts[0], rows)):
        slab = [min(rows, counts[0] - start), *counts[1:]]
        patches: Tensor = np.empty((channels, *kernel, *slab), np.float32)
        for index, offset in _positions(kernel, dilations):
            offset[0] += start * strides[0]
            patches[(slice(None), *index)] = taps(x[n], offset, strides, slab)
        product = np.matmul(matrix, patches.reshape(groups, -1, math.prod(slab)))
        y[n, :, start : start + slab[0]] = product.reshape(-1, *slab)
    return y


@mil("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    dilations: Tensor,
    groups: int,
    pad: Sequence[int] = (),
    bias: Tensor | None = None,
    output_shape: Tensor | None = None,
) -> Tensor:
    """The transpose of convolution, of (N, C, *D) with (C, O / groups, *K).

    The full result has (D - 1) * stride + (K - 1) * dilation + 1 elements per axis; padding cuts it at both ends.
    `output_shape` fixes where it ends, beyond the full result with zeros.
    """
    batch, channels = x.shape[:2]
    kernel, steps = weight.shape[2:], [int(s) for s in strides]
    sizes = x.shape[2:]
    full = [(n - 1) * s + (k - 1) * int(d) + 1 for n, s, k, d in zip(sizes, steps, kernel, dilations, strict=True)]
    matrix = weight.reshape(groups, channels // groups, -1, *kernel)
    y = np.zeros((batch, groups, matrix.shape[2], *full), np.float32)
    columns = x.reshape(batch, groups, channels // groups, -1)
    for index, offset in _positions(kernel, dilations):
        part = np.matmul(matrix[(..., *index)].transpose(0, 2, 1), columns)
        taps(y, offset, steps, sizes)[...] += part.reshape(*part.shape[:3], *sizes)
    y = y.reshape(batch, -1, *full)
    wanted = None if output_shape is None else [int(n) for n in output_shape[2:]]
    y = _cut(y, *_extent(pad_type, pad, full, [n * s for n, s in zip(sizes, steps, strict=True)], wanted))
    return y if bias is None else y + bias.reshape((-1,) + (1,) * len(kernel))


def _extent(
    pad_type: str, pad: Sequence[int], full: list[int], same: list[int], wanted: list[int] | None
) -> tuple[list[int], list[int]]:
    """First element and number of elements kept of the full result, per axis."""
    if pad_type.startswith("same"):
        counts = wanted or same
        spare = [max(0, f - n) for f, n in zip(full, counts, strict=True)]
        return [s // 2 if pad_type == "same" else s - s // 2 for s in spare], counts
    pads: Pads = paddings(pad_type, pad, full, full, full)
    counts = wanted or [f - before - after for f, (before, after) in zip(full, pads, strict=True)]
    return [before for before, _ in pads], counts


def _cut(y: Tensor, starts: list[int], counts: list[int]) -> Tensor:
    beyond = [(0, max(0, s + n - size)) for s, n, size in zip(starts, counts, y.shape[2:], strict=True)]
    return taps(pad_spatial(y, beyond, 0), starts, [1] * len(starts), counts)
