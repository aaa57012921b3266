"""Pooling. Maxima and sums are taken one axis after the other, so that cost grows with the sum of the kernel sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from targets.coreml.evaluate.registry import Tensor, mil
from targets.coreml.evaluate.window import Pads, pad_spatial, paddings


def _output_size(size: int, kernel: int, stride: int, pads: tuple[int, int], ceil: bool) -> int:
    """As PyTorch counts: with `ceil`, a last window that would begin in the padding at the end is dropped."""
    room = size + sum(pads) - kernel
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pads[0] and sum(pads) > 0 else count


def _reduce(x: Tensor, kernel: Sequence[int], strides: Sequence[int], counts: Sequence[int], join: np.ufunc) -> Tensor:
    """Windows of the last axes of `x`, reduced by the ufunc `join`."""
    for i, (k, s, n) in enumerate(zip(kernel, strides, counts, strict=True)):
        axis = x.ndim - len(kernel) + i
        before = (slice(None),) * axis
        if n == 1 and x.shape[axis] == k:
            x = join.reduce(x, axis=axis, keepdims=True)
            continue
        result = x[(*before, slice(0, s * (n - 1) + 1, s))].copy()
        for j in range(1, k):
            join(result, x[(*before, slice(j, j + s * (n - 1) + 1, s))], out=result)
        x = result
    return x


def _windows(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Sequence[int],
    ceil_mode: bool,
) -> tuple[list[int], list[int], list[int], Pads, Pads]:
    """Kernel, strides, output sizes; the padding that MIL means; the same with what ceil mode reads beyond the end."""
    kernel, steps = [int(k) for k in kernel_sizes], [int(s) for s in strides]
    sizes = x.shape[2:]
    pads = paddings(pad_type, pad, sizes, kernel, steps)
    counts = [_output_size(*g, ceil_mode) for g in zip(sizes, kernel, steps, pads, strict=True)]
    reads = [
        (before, max(after, (n - 1) * s + k - size - before))
        for size, k, s, n, (before, after) in zip(sizes, kernel, steps, counts, pads, strict=True)
    ]
    return kernel, steps, counts, pads, reads


@mil("max_pool")
def max_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, ceil_mode: bool, pad: Sequence[int] = ()
) -> Tensor:
    """The greatest element of each window; padding counts as minus infinity."""
    kernel, steps, counts, _, reads = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return _reduce(pad_spatial(x, reads, -np.inf), kernel, steps, counts, np.maximum)


@mil("avg_pool")
def avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    ceil_mode: bool,
    exclude_padding_from_average: bool,
    pad: Sequence[int] = (),
) -> Tensor:
    """The mean of each window, over its real elements or over those and the padding; what lies beyond the padding never
    counts.
    """
    kernel, steps, counts, pads, reads = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    total = _reduce(pad_spatial(x, reads, 0), kernel, steps, counts, np.add)
    for i, (size, k, s, n) in enumerate(zip(x.shape[2:], kernel, steps, counts, strict=True)):
        before, after = pads[i]
        start = np.arange(n) * s - before
        low, high = (0, size) if exclude_padding_from_average else (-before, size + after)
        members = np.minimum(start + k, high) - np.maximum(start, low)
        total = total / members.astype(np.float32).reshape((-1,) + (1,) * (len(counts) - 1 - i))
    return total


@mil("l2_pool")
def l2_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, ceil_mode: bool, pad: Sequence[int] = ()
) -> Tensor:
    """The square root of the sum of squares of each window."""
    kernel, steps, counts, _, reads = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.sqrt(_reduce(pad_spatial(np.square(x), reads, 0), kernel, steps, counts, np.add))
