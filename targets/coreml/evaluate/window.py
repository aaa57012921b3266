"""Geometry shared by convolution and pooling: padding by MIL's `pad_type`, output sizes, strided views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from targets.coreml.evaluate.registry import Tensor

Pads = list[tuple[int, int]]


def paddings(
    pad_type: str, pad: Sequence[int], sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Elements before and after each spatial axis; `kernel` counts dilation.

    `same` gives ceil(size / stride) outputs and puts an odd element at the end, `same_lower` at the beginning.
    """
    if pad_type == "custom":
        return [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(len(sizes))]
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    result = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // s) - 1) * s + k - size)
        small, large = total // 2, total - total // 2
        result.append((large, small) if pad_type == "same_lower" else (small, large))
    return result


def pad_spatial(x: Tensor, pads: Pads, value: float) -> Tensor:
    """`x` with its last axes padded by `value`; `x` itself if there is nothing to pad."""
    if not any(before or after for before, after in pads):
        return x
    return np.pad(x, [(0, 0)] * (x.ndim - len(pads)) + pads, constant_values=value)


def taps(x: Tensor, offset: Sequence[int], strides: Sequence[int], counts: Sequence[int]) -> Tensor:
    """A view of what one kernel position meets: from `offset`, every `strides`, `counts` elements per axis."""
    window = tuple(slice(o, o + s * (n - 1) + 1, s) for o, s, n in zip(offset, strides, counts, strict=True))
    return x[(..., *window)]
