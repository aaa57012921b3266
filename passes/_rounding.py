"""Rounding of weights so that what a layer computes changes least, and not the weights.

The error of a row w of weights is e^T H e with e = rounded - w and H = X^T X. Weights are rounded one after the other;
those not yet rounded take up the error (error feedback as in E. Frantar et al., GPTQ, 2022, after optimal brain
surgeon). Then single weights go one step up or down as long as that helps, which also undoes what was a loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.tensor import Array

DAMPING = 0.01  # least share of the mean of H's diagonal that is added to it
PANEL = 64  # inputs whose feedback to those behind is added up
MOVES = 64  # steps that a row of weights may make at the end


def rounded(w: Array, step: Array, limit: int, blocks: Sequence[Array], count: int) -> Array:
    """The multiples of `step`, up to `limit` of them, that w [groups, results, inputs] is rounded to. `blocks` are
    those of H along its diagonal, from `count` rows; by them, damped, no result's error is larger than with the nearest
    multiples."""
    made = np.empty(w.shape, np.float32)
    start = 0
    for h in blocks:
        part = np.s_[..., start : start + h.shape[-1]]
        made[part] = _block(w[part].astype(np.float32), step[part].astype(np.float32), limit, damped(h, count))
        start += h.shape[-1]
    return made


def errors(delta: Array, h: Array) -> Array:
    """e^T H e of each row, [groups, results]."""
    return np.asarray((np.matmul(delta, h) * delta).sum(-1))


def damped(h: Array, count: int) -> Array:
    """H, more even the fewer rows it is from."""
    size = h.shape[-1]
    mean = np.trace(h, axis1=1, axis2=2)[:, None, None] / size
    share = max(DAMPING, size / (size + count))
    return np.asarray((1 - share) * h + share * np.maximum(mean, 1e-12) * np.eye(size, dtype=h.dtype))


def _block(w: Array, step: Array, limit: int, h: Array) -> Array:
    nearest = _nearest(w, step, limit)
    fed = _with_feedback(w, step, limit, h)
    better = errors(fed - w, h) < errors(nearest - w, h)
    return _descended(w, step, limit, h, np.where(better[..., None], fed, nearest))


def _nearest(w: Array, step: Array, limit: int) -> Array:
    return np.asarray(np.clip(np.rint(w / step), -limit, limit) * step)


def _with_feedback(w: Array, step: Array, limit: int, h: Array) -> Array:
    """Rounded in the order of falling importance."""
    order = np.argsort(-np.diagonal(h, axis1=1, axis2=2), axis=1)
    sorted_h = np.take_along_axis(np.take_along_axis(h, order[:, :, None], 1), order[:, None, :], 2)
    inverse = np.linalg.inv(sorted_h.astype(np.float64))
    upper = np.linalg.cholesky(inverse).transpose(0, 2, 1).astype(np.float32)
    left = np.take_along_axis(w, order[:, None, :], 2)
    steps = np.take_along_axis(step, order[:, None, :], 2)
    for start in range(0, w.shape[-1], PANEL):
        end = min(start + PANEL, w.shape[-1])
        error = np.empty((*w.shape[:2], end - start), np.float32)
        for i in range(start, end):
            column = _nearest(left[..., i], steps[..., i], limit)
            error[..., i - start] = (left[..., i] - column) / upper[:, i, i][:, None]
            left[..., i + 1 : end] -= error[..., i - start][..., None] * upper[:, None, i, i + 1 : end]
            left[..., i] = column
        left[..., end:] -= np.matmul(error, upper[:, start:end, end:])
    return np.take_along_axis(left, np.argsort(order, axis=1)[:, None, :], 2)


def _descended(w: Array, step: Array, limit: int, h: Array, q: Array) -> Array:
    """With single steps up or down, the best of each row, while they lower its error."""
    diagonal = np.diagonal(h, axis1=1, axis2=2)[:, None, :]
    slope = np.matmul(q - w, h)
    own = step * step * diagonal
    for _ in range(min(MOVES, 4 * w.shape[-1])):
        up = -np.sign(slope)
        gain = 2 * np.abs(slope) * step - own
        gain[np.abs(np.rint(q / step) + up) > limit] = 0
        best = gain.argmax(-1)[..., None]
        move = np.take_along_axis(up * step, best, -1)
        move[np.take_along_axis(gain, best, -1) <= 1e-6 * np.take_along_axis(own, best, -1)] = 0
        if not move.any():
            break
        np.put_along_axis(q, best, np.take_along_axis(q, best, -1) + move, -1)
        slope += move * np.take_along_axis(h, best, 1)
    return q
