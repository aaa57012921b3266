"""Which single weights of a matrix become zeros, and what the others become for it.

By magnitude (S. Han et al., Learning both Weights and Connections, 2015), or with second-order statistics H = X^T X of
what the layer reads: columns are gone through in order, weights of least w^2 / [H^-1]_ii become zeros, and those behind
take up the error (E. Frantar & D. Alistarh, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot,
2023, after optimal brain surgeon).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array
from passes._rounding import damped, errors

PANEL = 64  # inputs of which those to become zeros are chosen at once


class Pattern(NamedTuple):
    """How many weights are left: `kept` of every `of` neighbours in a row, or a share of all if `of` is 0."""

    amount: float
    kept: int = 0
    of: int = 0


def by_magnitude(w: Array, pattern: Pattern) -> Array:
    """Which weights [groups, results, inputs] become zeros."""
    return _least(np.abs(w), pattern)


def _least(scores: Array, pattern: Pattern) -> Array:
    """The smallest of scores [groups, results, inputs], the first of equal ones; `of` divides the inputs."""
    if pattern.of:
        parts = scores.reshape(*scores.shape[:-1], -1, pattern.of)
        order = parts.argsort(-1, kind="stable").argsort(-1, kind="stable")
        return np.asarray(order < pattern.of - pattern.kept).reshape(scores.shape)
    order = scores.reshape(-1).argsort(kind="stable")
    marks = np.zeros(scores.size, np.bool_)
    marks[order[: round(pattern.amount * scores.size)]] = True
    return marks.reshape(scores.shape)


def pruned(w: Array, pattern: Pattern, blocks: Sequence[Array], count: int) -> Array:
    """w [groups, results, inputs] with zeros. `blocks` are those of H along its diagonal, from `count` rows; by them,
    damped, the error of no block is larger than with zeros by magnitude and the other weights as they were."""
    made = np.where(by_magnitude(w, pattern), 0, w).astype(np.float32)
    start = 0
    for h in blocks:
        part = np.s_[..., start : start + h.shape[-1]]
        share = float((made[part] == 0).mean())
        made[part] = _block(w[part].astype(np.float32), made[part], pattern._replace(amount=share), damped(h, count))
        start += h.shape[-1]
    return made


def _block(w: Array, plain: Array, pattern: Pattern, h: Array) -> Array:
    if not np.isfinite(h).all() or not np.isfinite(w).all():
        return plain
    fed = _with_feedback(w, pattern, h)
    return fed if errors(fed - w, h).sum() < errors(plain - w, h).sum() else plain


def _with_feedback(w: Array, pattern: Pattern, h: Array) -> Array:
    inverse = np.linalg.inv(h.astype(np.float64))
    upper = np.linalg.cholesky(inverse).transpose(0, 2, 1).astype(np.float32)
    left = w.copy()
    for start in range(0, w.shape[-1], PANEL):
        end = min(start + PANEL, w.shape[-1])
        spread = np.diagonal(upper, axis1=1, axis2=2)[:, None, start:end]
        zeros = _least(np.square(left[..., start:end] / spread), pattern)
        error = np.empty((*w.shape[:2], end - start), np.float32)
        for i in range(start, end):
            column = np.where(zeros[..., i - start], 0, left[..., i])
            error[..., i - start] = (left[..., i] - column) / upper[:, i, i][:, None]
            left[..., i + 1 : end] -= error[..., i - start][..., None] * upper[:, None, i, i + 1 : end]
            left[..., i] = column
        left[..., end:] -= np.matmul(error, upper[:, start:end, end:])
    return left
