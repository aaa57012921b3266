"""Slices, gathers and scatters. Negative indices count from the end, until iOS 16."""

from __future__ import annotations

import numpy as np

from compiler.errors import EmitError
from targets.coreml.evaluate.registry import Tensor, mil

_MODES: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}
Index = tuple[slice | int, ...]


def _checked(indices: Tensor, validate_indices: bool | None) -> Tensor:
    """`indices`; EmitError if one is negative in the forms since iOS 17, which have `validate_indices`: there it is
    undefined.

    What lies beyond the end numpy refuses.
    """
    if validate_indices is not None and np.any(np.asarray(indices) < 0):
        raise EmitError("a gather or scatter of the package has a negative index, which is undefined since iOS 17")
    return np.asarray(indices)


def _slices(
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None,
    begin_mask: Tensor | None,
    end_mask: Tensor | None,
    squeeze_mask: Tensor | None,
) -> Index:
    """The index of numpy for that of MIL: a set mask means from the beginning, to the end, or the one element at
    `begin`.
    """
    rank = len(begin)
    steps = [1] * rank if stride is None else [int(s) for s in stride]
    open_begin, open_end, squeezed = (
        [False] * rank if mask is None else [bool(m) for m in mask] for mask in (begin_mask, end_mask, squeeze_mask)
    )
    return tuple(
        int(begin[i])
        if squeezed[i]
        else slice(None if open_begin[i] else int(begin[i]), None if open_end[i] else int(end[i]), steps[i])
        for i in range(rank)
    )


@mil("slice_by_index", moves=True)
def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """x[begin:end:stride] on every axis."""
    return np.asarray(x[_slices(begin, end, stride, begin_mask, end_mask, squeeze_mask)])


@mil("slice_update", moves=True)
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """A copy of `x` in which the slice holds `update`."""
    result = np.array(x)
    result[_slices(begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return result


@mil("slice_by_size", moves=True)
def slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """`size` elements from `begin` on every axis; -1 takes the rest."""
    starts = [int(b) % n if b < 0 else int(b) for b, n in zip(begin, x.shape, strict=True)]
    return x[tuple(slice(b, None if s == -1 else b + int(s)) for b, s in zip(starts, size, strict=True))]


@mil("gather", moves=True)
def gather(
    x: Tensor,
    indices: Tensor,
    axis: int,
    batch_dims: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """x[:, ..., indices, ...] along `axis`; the first `batch_dims` axes go together."""
    axis %= np.ndim(x)
    indices = _checked(indices, validate_indices)
    if not batch_dims:
        return np.asarray(np.take(x, indices, axis=axis))
    lead = x.shape[:batch_dims]
    flat_x = x.reshape(-1, *x.shape[batch_dims:])
    flat_indices = np.reshape(indices, (-1, *np.shape(indices)[batch_dims:]))
    parts = [np.take(a, i, axis=axis - batch_dims) for a, i in zip(flat_x, flat_indices, strict=True)]
    return np.reshape(np.stack(parts), (*lead, *np.shape(parts[0])))


@mil("gather_along_axis", moves=True)
def gather_along_axis(x: Tensor, indices: Tensor, axis: int, validate_indices: bool | None = None) -> Tensor:
    """Elements along `axis`, each chosen by an index of its own."""
    return np.take_along_axis(x, _checked(indices, validate_indices).astype(np.int64), axis=axis)


@mil("gather_nd", moves=True)
def gather_nd(
    x: Tensor,
    indices: Tensor,
    batch_dims: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """Slices of `x` at the vectors in the last axis of `indices`; the first `batch_dims` axes go together."""
    indices = _checked(indices, validate_indices)
    own = np.ix_(*(np.arange(n) for n in indices.shape[:batch_dims])) if batch_dims else ()
    spread = tuple(a.reshape(a.shape + (1,) * (indices.ndim - 1 - batch_dims)) for a in own)
    return np.asarray(x[spread + tuple(np.moveaxis(indices, -1, 0))])


def _scatter(data: Tensor, index: Tensor, updates: Tensor, mode: str) -> Tensor:
    result = np.array(data)
    if mode == "update":
        result[index] = updates
    else:
        _MODES[mode].at(result, index, updates)
    return result


@mil("scatter")
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int,
    mode: str,
    validate_indices: bool | None = None,
) -> Tensor:
    """`data` with `updates` joined in along `axis` at `indices`."""
    return _scatter(data, (slice(None),) * (axis % data.ndim) + (_checked(indices, validate_indices),), updates, mode)


@mil("scatter_along_axis")
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int,
    mode: str,
    validate_indices: bool | None = None,
) -> Tensor:
    """`data` with each element of `updates` joined in along `axis` at an index of its own."""
    grid: list[Tensor | slice] = list(np.ix_(*(np.arange(n) for n in indices.shape)))
    grid[axis] = _checked(indices, validate_indices)
    return _scatter(data, tuple(grid), updates, mode)


@mil("scatter_nd")
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str,
    validate_indices: bool | None = None,
) -> Tensor:
    """`data` with slices joined in at the vectors in the last axis of `indices`."""
    return _scatter(data, tuple(np.moveaxis(_checked(indices, validate_indices), -1, 0)), updates, mode)
