"""Least squares for the change of weights, damped by as much as parts of the rows that are left out ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.tensor import Array

DAMPINGS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # relative to the mean energy of an input


class Normal:
    """Normal equations of several least squares problems, in parts of the rows.

    grams   [parts, problems, inputs + 1, inputs + 1]; the last input is 1, for a bias
    cross   [parts, problems, inputs + 1, results]
    free    whether there is a bias
    shares  [results], what a squared error of each costs
    """

    def __init__(self, grams: Array, cross: Array, free: bool, shares: Array | None = None) -> None:
        self.grams, self.cross, self.free = grams, cross, free
        self.shares = np.ones(cross.shape[-1]) if shares is None else shares

    def solve(self) -> Array | None:
        """The change [problems, inputs + 1, results] that errs least; None if none errs less than no change, on parts
        that are left out."""
        whole, cross = self.grams.sum(0), self.cross.sum(0)
        if not (np.isfinite(whole).all() and np.isfinite(cross).all()):
            return None
        count = len(self.grams)
        errors = np.zeros(len(DAMPINGS))
        for gram, pull in zip(self.grams, self.cross, strict=True) if count > 1 else ():
            trial = self._changes(whole - gram, cross - pull)
            for i, change in enumerate(trial):
                bent = np.matmul(gram, change)
                errors[i] += float((self.shares * (change * (bent - 2 * pull))).sum())
        best = int(errors.argmin())
        if count > 1 and not errors[best] < 0:
            return None
        found = list(self._changes(whole, cross))[best if count > 1 else len(DAMPINGS) // 2]
        return found if np.isfinite(found).all() else None

    def _changes(self, gram: Array, pull: Array) -> Sequence[Array]:
        """For each damping."""
        inner, edge, corner = gram[:, :-1, :-1], gram[:, :-1, -1:], np.maximum(gram[:, -1:, -1:], 1e-30)
        first, last = pull[:, :-1], pull[:, -1:]
        if self.free:
            inner = inner - edge @ edge.transpose(0, 2, 1) / corner
            first = first - edge @ last / corner
        energies, vectors = np.linalg.eigh(inner)
        scale = np.maximum(energies.mean(1), 1e-30)[:, None, None]
        turned = vectors.transpose(0, 2, 1) @ first
        weight = self.shares.mean() / np.maximum(self.shares, 1e-12 * self.shares.max())
        found = []
        for damping in DAMPINGS:
            below = np.maximum(energies, 0.0)[:, :, None] + damping * scale * weight
            change = vectors @ (turned / below)
            shift = (last - edge.transpose(0, 2, 1) @ change) / corner
            found.append(np.concatenate([change, shift if self.free else np.zeros_like(shift)], 1))
        return found
