"""Activations."""

from __future__ import annotations

import math

import numpy as np

from targets.coreml.evaluate.registry import Tensor, mil
from targets.coreml.evaluate.special import erf, sigmoid, softplus


@mil("sigmoid")
def sigmoid_(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return sigmoid(x)


@mil("silu")
def silu(x: Tensor) -> Tensor:
    """Elementwise x * sigmoid(x)."""
    return x * sigmoid(x)


@mil("relu")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return np.maximum(x, 0)


@mil("relu6")
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return np.minimum(np.maximum(x, 0), 6)


@mil("leaky_relu")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """Elementwise x, or alpha * x if x < 0."""
    return np.where(x < 0, x * alpha, x)


@mil("clamped_relu")
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(x, beta), or min(alpha * x, beta) if x < 0."""
    return np.minimum(np.where(x < 0, x * alpha, x), beta)


@mil("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """Elementwise x, or 0 if x < alpha."""
    return np.where(x < alpha, np.float32(0), x)


@mil("elu")
def elu(x: Tensor, alpha: float) -> Tensor:
    """Elementwise x, or alpha * (exp(x) - 1) if x < 0."""
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """A vector over axis 1 of `x`, shaped to broadcast."""
    return np.reshape(parameter, (-1,) + (1,) * (x.ndim - 2))


@mil("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """leaky_relu with one slope per channel (axis 1)."""
    return np.where(x < 0, x * _per_channel(alpha, x), x)


@mil("gelu")
def gelu(x: Tensor, mode: str) -> Tensor:
    """Elementwise x * Phi(x), exactly or in one of two approximations."""
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(np.float32(1.702) * x)
    return 0.5 * x * (1 + erf(x * np.float32(math.sqrt(0.5))))


@mil("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(alpha * x + beta, 0), 1)."""
    return np.clip(alpha * x + beta, 0, 1)


@mil("linear_activation")
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Elementwise alpha * x + beta."""
    return alpha * x + beta


@mil("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Elementwise alpha * tanh(beta * x)."""
    return alpha * np.tanh(beta * x)


@mil("softplus")
def softplus_(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return softplus(x)


@mil("softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Elementwise alpha * log(1 + exp(beta * x)), with vectors over axis 1."""
    return _per_channel(alpha, x) * softplus(_per_channel(beta, x) * x)


@mil("softsign")
def softsign(x: Tensor) -> Tensor:
    """Elementwise x / (1 + abs(x))."""
    return x / (1 + np.abs(x))


@mil("softmax")
def softmax(x: Tensor, axis: int) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`."""
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)
