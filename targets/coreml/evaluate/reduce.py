"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from targets.coreml.evaluate.registry import FUNCTIONS, Tensor, mil


def _log_sum_exp(x: Tensor, axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    result = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return result if keepdims else np.squeeze(result, axis=axis)


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "reduce_l1_norm": lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims),
    "reduce_l2_norm": lambda x, axis, keepdims: np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims)),
    "reduce_log_sum": lambda x, axis, keepdims: np.log(np.sum(x, axis=axis, keepdims=keepdims)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, axis, keepdims: np.sum(np.square(x), axis=axis, keepdims=keepdims),
}


def _over_axes(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, keep_dims: bool, axes: Tensor | None = None) -> Tensor:
        axis = None if axes is None else tuple(int(a) for a in axes)
        return np.asarray(function(x, axis=axis, keepdims=keep_dims))

    return reduce


FUNCTIONS.update({name: _over_axes(function) for name, function in _REDUCTIONS.items()})


@mil("reduce_argmax")
def reduce_argmax(x: Tensor, axis: int, keep_dims: bool, output_dtype: str = "int32") -> Tensor:
    """Index of the first greatest element along `axis`."""
    return np.asarray(np.argmax(x, axis=axis, keepdims=keep_dims))


@mil("reduce_argmin")
def reduce_argmin(x: Tensor, axis: int, keep_dims: bool, output_dtype: str = "int32") -> Tensor:
    """Index of the first least element along `axis`."""
    return np.asarray(np.argmin(x, axis=axis, keepdims=keep_dims))
