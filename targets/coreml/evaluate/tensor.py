"""Operations that make, order or count elements."""

from __future__ import annotations

import numpy as np

from targets.coreml.evaluate.registry import Tensor, mil


@mil("fill", moves=True)
def fill(shape: Tensor, value: float) -> Tensor:
    """A tensor of `shape`, every element `value`."""
    return np.full([int(n) for n in shape], value)


@mil("fill_like", moves=True)
def fill_like(ref_tensor: Tensor, value: float) -> Tensor:
    """A tensor shaped as `ref_tensor`, every element `value`."""
    return np.full(np.shape(ref_tensor), value)


@mil("range_1d")
def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... before `end`."""
    return np.arange(start, end, step)


@mil("one_hot", moves=True)
def one_hot(indices: Tensor, one_hot_vector_size: int, axis: int, on_value: float = 1, off_value: float = 0) -> Tensor:
    """A new axis that holds `on_value` at the index and `off_value` elsewhere."""
    classes = np.arange(int(one_hot_vector_size))
    hit = np.expand_dims(np.asarray(indices), axis)
    new = axis % hit.ndim
    return np.where(hit == classes.reshape((-1,) + (1,) * (hit.ndim - 1 - new)), on_value, off_value)


def _order(x: Tensor, axis: int, ascending: bool) -> Tensor:
    """Indices that sort `x`; equal elements keep their order."""
    if ascending:
        return np.argsort(x, axis=axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.flip(x.shape[axis] - 1 - backwards, axis)


@mil("argsort")
def argsort(x: Tensor, axis: int, ascending: bool) -> Tensor:
    """Indices that sort `x` along `axis`."""
    return _order(x, axis, ascending)


@mil("topk")
def topk(
    x: Tensor,
    k: int,
    axis: int,
    ascending: bool,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """The first `k` elements along `axis` of the sorted `x`, and their indices."""
    indices = np.take(_order(x, axis, ascending), np.arange(int(k)), axis=axis)
    values = np.take_along_axis(x, indices, axis=axis)
    return (values, indices) if return_indices else (values,)


@mil("non_zero")
def non_zero(x: Tensor) -> Tensor:
    """The positions of the elements that are not zero, one a row."""
    return np.argwhere(x)


@mil("cumsum")
def cumsum(x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Running sums along `axis`, from either end, with or without the element itself."""
    data = np.flip(x, axis) if reverse else x
    total = np.cumsum(data, axis=axis, dtype=x.dtype)
    total = total - data if exclusive and x.dtype.kind != "f" else _shifted(total, axis) if exclusive else total
    return np.flip(total, axis) if reverse else total


def _shifted(total: Tensor, axis: int) -> Tensor:
    """One step later along `axis`, beginning with zero."""
    result = np.zeros_like(total)
    lead = (slice(None),) * (axis % total.ndim)
    result[(*lead, slice(1, None))] = total[(*lead, slice(None, -1))]
    return result


@mil("band_part", moves=True)
def band_part(x: Tensor, lower: int, upper: int) -> Tensor:
    """`x` with zeros outside the band of the last two axes; a negative width keeps that triangle."""
    row, column = np.ogrid[: x.shape[-2], : x.shape[-1]]
    keep = np.ones((x.shape[-2], x.shape[-1]), np.bool_)
    if lower >= 0:
        keep &= row - column <= lower
    if upper >= 0:
        keep &= column - row <= upper
    return np.where(keep, x, np.zeros((), x.dtype))
