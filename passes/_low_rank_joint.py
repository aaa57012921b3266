"""All factors of a split at once: alternating least squares on what rows of data show.

What the closed forms choose first, the channels of a bottleneck, they choose by the covariance of single channels or
columns. Here each factor in turn is fitted to the results with the others as they are, by the covariance of all that
the layer is summed over, with conjugate gradients from where it is (M. Hestenes, E. Stiefel, Methods of conjugate
gradients for solving linear systems, 1952): no step makes the error larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array
from passes._low_rank_algebra import Root

SWEEPS = 6  # over all factors
STEPS = 12  # of conjugate gradients for each of them
ENOUGH = 1e-4  # share of the error that a sweep takes away at least if another is to follow
MOST = 4e10  # multiply-accumulates in all, about

LETTERS = {
    "matrix": ("rct", "mr"),
    "tucker": ("rc", "srt", "ms"),
    "spatial": ("rch", "mrw"),
    "polyadic": ("rc", "rt", "mr"),
}  # of the factors; of a Tucker form without the last one, mrt is the second


class Goal(NamedTuple):
    """Results as a linear map of inputs should give them: the covariance of the inputs [n, n], that of results and
    inputs [results, n], and what errors cost, None: all alike."""

    inputs: Array
    cross: Array
    metric: Root | None

    def pull(self, weight: Array) -> Array:
        """How much the errors of a map [results, n] cost more with each of its numbers, but for what is constant."""
        return self._costs(weight @ self.inputs - self.cross)

    def bend(self, step: Array) -> Array:
        """How that changes with a step."""
        return self._costs(step @ self.inputs)

    def error(self, weight: Array) -> float:
        """The squared error of a map, but for a constant."""
        return float((self._costs(weight @ self.inputs - 2 * self.cross) * weight).sum())

    def _costs(self, x: Array) -> Array:
        return x if self.metric is None else self.metric.root @ (self.metric.root @ x)


class Product:
    """A weight [results, ...] as a product of factors, [results, inputs, *kernel] each."""

    def __init__(self, form: str, arrays: Sequence[Array], shape: Sequence[int]) -> None:
        letters = LETTERS[form]
        self.letters = letters if len(letters) == len(arrays) else ("rc", "mrt")
        self.result = "mchw" if form == "spatial" else "mct"
        self.shapes = [a.shape for a in arrays]
        self.whole = (*shape[:2], *(shape[2:] if form == "spatial" else (-1,)))
        self.factors = [
            a.reshape(*a.shape[: len(names) - 1], -1) for a, names in zip(arrays, self.letters, strict=True)
        ]

    def weight(self, index: int, factor: Array) -> Array:
        """The product [results, n] with another factor in one place."""
        factors = [*self.factors[:index], factor, *self.factors[index + 1 :]]
        made = np.einsum(f"{','.join(self.letters)}->{self.result}", *factors, optimize=True)
        return np.asarray(made.reshape(len(made), -1))

    def part(self, index: int, weight: Array) -> Array:
        """The transpose of `weight`, as a linear map of one factor."""
        names = [*self.letters[:index], *self.letters[index + 1 :], self.result]
        factors = [*self.factors[:index], *self.factors[index + 1 :], weight.reshape(self.whole)]
        return np.asarray(np.einsum(f"{','.join(names)}->{self.letters[index]}", *factors, optimize=True))

    @property
    def arrays(self) -> list[Array]:
        """The factors in the shapes that they came in."""
        return [f.reshape(shape) for f, shape in zip(self.factors, self.shapes, strict=True)]


def product_of(form: str, arrays: Sequence[Array], shape: Sequence[int]) -> Array:
    """The weight [results, n] that the layers of a split have together."""
    product = Product(form, arrays, shape)
    return product.weight(0, product.factors[0])


def is_affordable(results: int, summed: int) -> bool:
    """Whether a layer is small enough."""
    return results * summed * summed * SWEEPS * STEPS * 3 <= MOST


def refined(form: str, arrays: Sequence[Array], shape: Sequence[int], goal: Goal) -> list[Array]:
    """Factors of less error, from those given."""
    product = Product(form, arrays, shape)
    known = goal.error(product.weight(0, product.factors[0]))
    start = known
    for _ in range(SWEEPS):
        before = known
        for i in range(len(product.factors)):
            product.factors[i] = _descended(product, i, goal)
        known = goal.error(product.weight(0, product.factors[0]))
        if before - known <= ENOUGH * (start - known):
            break
    return product.arrays


def _descended(product: Product, index: int, goal: Goal) -> Array:
    """One factor after some steps of conjugate gradients."""
    factor = product.factors[index]
    left = -product.part(index, goal.pull(product.weight(index, factor)))
    step, energy = left, float(np.square(left).sum())
    for _ in range(STEPS):
        bent = product.part(index, goal.bend(product.weight(index, step)))
        curvature = float((step * bent).sum())
        if energy <= 1e-30 or curvature <= 0:
            break
        length = energy / curvature
        factor, left = factor + length * step, left - length * bent
        energy, last = float(np.square(left).sum()), energy
        step = left + energy / last * step
    return factor
