"""Affine quantization: parameters for a range of real numbers, and the integers of an array under them.

real = scale * (stored - zero_point), scale in float32. Rounding is to the nearest integer, ties to even, and what lies
outside saturates (B. Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.tensor import I8, Array, Block, DType, QuantParams

LEAST_SCALE = float(np.finfo(np.float32).tiny)  # the smallest scale that float32 holds with all its digits


def limits(dtype: DType, narrow: bool = False) -> tuple[int, int]:
    """The smallest and the largest stored integer; `narrow`: symmetric about 0, one fewer for signed types."""
    if dtype.kind == "u":
        return 0, (1 << dtype.bits) - 1
    high = (1 << (dtype.bits - 1)) - 1
    return (-high if narrow else -high - 1), high


def asymmetric(low: float, high: float, dtype: DType = I8) -> QuantParams:
    """Per-tensor parameters for the numbers from `low` to `high`, and for 0, which is stored exactly: the zero point is
    the integer nearest to where 0 falls, so that an end may saturate by half a step. A range without length has the
    scale 1. ValueError if an end is not finite."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"the range {low} to {high} is not finite")
    first, last = limits(dtype)
    scale = _held((high - low) / (last - first)) if high > low else 1.0
    return QuantParams((scale,), (min(max(round(first - low / scale), first), last),), None, dtype)


def symmetric(
    peaks: Sequence[float] | Array, axis: int | None, dtype: DType = I8, block: Block | None = None
) -> QuantParams:
    """Parameters with zero point 0 for magnitudes up to `peaks`, one for each place along `axis` (None: one in all),
    or as `block_peaks` gives them. A peak of 0 takes the largest scale of the others, or 1."""
    high = limits(dtype, narrow=True)[1]
    magnitudes = np.asarray(peaks, np.float64).reshape(-1)
    spare = float(magnitudes.max(initial=0.0)) or float(high)
    scales = np.maximum(np.where(magnitudes > 0, magnitudes, spare) / high, LEAST_SCALE)
    return QuantParams(tuple(scales.astype(np.float32).tolist()), (0,) * len(scales), axis, dtype, block)


def quantized(array: Array, params: QuantParams, narrow: bool = False) -> Array:
    """The stored integers, of the numpy type of `params`; `narrow`: as weights are, without the lowest integer.
    Not-a-number is stored as 0 is."""
    scale, zero = _shaped(params, array.shape)
    low, high = limits(params.dtype, narrow)
    kind = np.float64 if params.dtype.bits > 16 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        places = np.rint(array.astype(kind, copy=False) / scale.astype(kind)) + zero.astype(kind)
    places = np.where(np.isnan(places), zero, places)
    return np.asarray(np.clip(places, low, high)).astype(params.dtype.numpy)


def dequantized(stored: Array, params: QuantParams) -> Array:
    """The numbers that integers stand for, in float32."""
    scale, zero = _shaped(params, stored.shape)
    return np.asarray(((stored.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32))


def peaks_along(array: Array, axis: int | None) -> Array:
    """The largest magnitude at each place along `axis`, of finite elements; one number for None."""
    others = tuple(i for i in range(array.ndim) if i != axis)
    return np.asarray(np.maximum(array.max(others, initial=0.0), -array.min(others, initial=0.0)))


def block_peaks(array: Array, axis: int | None, block: Block) -> Array:
    """The largest magnitude in each block of each place along `axis`, in the order of QuantParams."""
    blocks, size = array.shape[block.axis] // block.size, block.size
    cut = array.reshape(*array.shape[: block.axis], blocks, size, *array.shape[block.axis + 1 :])
    kept = {block.axis, None if axis is None else axis + (axis > block.axis)}
    others = tuple(i for i in range(cut.ndim) if i not in kept)
    return np.asarray(np.maximum(cut.max(others, initial=0.0), -cut.min(others, initial=0.0))).reshape(-1)


def counts(params: QuantParams, dims: tuple[int, ...]) -> tuple[int, ...]:
    """How many scales there are along each axis of a tensor."""
    sizes = [1] * len(dims)
    if params.axis is not None:
        sizes[params.axis] = dims[params.axis]
    if params.block is not None:
        sizes[params.block.axis] = dims[params.block.axis] // params.block.size
    return tuple(sizes)


def rounded_up(scales: Array, dtype: np.dtype[np.generic]) -> Array:
    """Positive scales as the next numbers of a float type that are no smaller, so that the ends of a range stay in
    it."""
    nearest = scales.astype(dtype)
    return np.where(nearest < scales, np.nextafter(nearest, np.asarray(np.inf, dtype)), nearest)


def represented(params: QuantParams) -> tuple[float, float]:
    """The smallest and the largest number that per-tensor parameters hold."""
    low, high = limits(params.dtype)
    (scale,), (zero,) = params.scale, params.zero_point
    return scale * (low - zero), scale * (high - zero)


def part_of(params: QuantParams, start: int, stop: int) -> QuantParams:
    """The parameters of a piece along the first axis, which are not in blocks."""
    assert params.block is None, "blocks are not cut"
    if params.axis != 0:
        return params
    return params._replace(scale=params.scale[start:stop], zero_point=params.zero_point[start:stop])


def _shaped(params: QuantParams, dims: tuple[int, ...]) -> tuple[Array, Array]:
    """Scales and zero points in a shape that broadcasts to a tensor's."""
    shape = [-1 if i == params.axis else 1 for i in range(len(dims))]
    if params.block is not None:
        shape = list(counts(params, dims))
    scale, zero = (
        np.array(params.scale, np.float32).reshape(shape),
        np.array(params.zero_point, np.int64).reshape(shape),
    )
    if params.block is None:
        return scale, zero
    return scale.repeat(params.block.size, params.block.axis), zero.repeat(params.block.size, params.block.axis)


def _held(scale: float) -> float:
    """The nearest scale that float32 holds, and never 0."""
    return float(np.float32(max(scale, LEAST_SCALE)))
