"""Normalisations; statistics in fp32."""

from __future__ import annotations

import numpy as np

from compiler.errors import EmitError
from targets.coreml.evaluate.registry import Tensor, mil


def _scale_shift(y: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if gamma is not None:
        y = y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


@mil("batch_norm")
def batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, epsilon: float, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over axis 1."""
    shape = (-1,) + (1,) * (x.ndim - 2)
    y = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + epsilon)
    return _scale_shift(y, gamma, beta, shape)


def _standardize(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - np.mean(x, axis=axes, keepdims=True)
    return centred / np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True) + epsilon)


@mil("instance_norm")
def instance_norm(x: Tensor, epsilon: float, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    """Zero mean and unit variance of each channel of each sample, then scaled and shifted."""
    y = _standardize(x, tuple(range(2, x.ndim)), epsilon)
    return _scale_shift(y, gamma, beta, (-1,) + (1,) * (x.ndim - 2))


@mil("layer_norm")
def layer_norm(
    x: Tensor, axes: Tensor, epsilon: float, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """Zero mean and unit variance over `axes`, then scaled and shifted by parameters of the shape of those axes."""
    over = tuple(sorted(int(a) % x.ndim for a in axes))
    shape = tuple(x.shape[i] if i in over else 1 for i in range(x.ndim))
    return _scale_shift(_standardize(x, over, epsilon), gamma, beta, shape)


@mil("l2_norm")
def l2_norm(x: Tensor, epsilon: float) -> Tensor:
    """Elementwise x / sqrt(sum of squares of the last three axes + epsilon)."""
    return x / np.sqrt(np.sum(np.square(x), axis=(-3, -2, -1), keepdims=True) + epsilon)


@mil("local_response_norm")
def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """Elementwise x / (k + alpha / size * sum of squares of `size` channels around it) ** beta.

    Refused where Apple does not say what happens: an even size has no centre, and coremltools' own tests expect
    that a tensor of rank 3 is not summed along its axis 1.
    """
    if size % 2 == 0 or x.ndim != 4:
        raise EmitError(f"local_response_norm of size {size} over a tensor of rank {x.ndim} is not documented")
    reach = size // 2
    squares = np.pad(np.square(x), [(0, 0), (reach, reach), (0, 0), (0, 0)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x / np.power(k + alpha / size * total, beta)
