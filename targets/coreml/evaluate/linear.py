"""Matrix products and attention."""

from __future__ import annotations

import math

import numpy as np

from targets.coreml.evaluate.activation import softmax
from targets.coreml.evaluate.registry import Tensor, mil


@mil("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Elementwise x @ weight.T + bias."""
    y = np.matmul(x, weight.T)
    return y if bias is None else y + bias


@mil("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool, transpose_y: bool) -> Tensor:
    """Product of the last two axes, each transposed if asked for."""
    a = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    b = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return np.matmul(a, b)


@mil("einsum")
def einsum(values: list[Tensor], equation: str) -> Tensor:
    """Sum of products by Einstein's convention."""
    return np.asarray(np.einsum(equation, *values, optimize=True))


@mil("scaled_dot_product_attention")
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(Q K' / sqrt(E) + mask) V; a boolean mask keeps where it is true."""
    scores = np.matmul(query, np.swapaxes(key, -1, -2)) / np.float32(math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == np.bool_ else scores + attn_mask
    return np.matmul(softmax(scores, -1), value)
