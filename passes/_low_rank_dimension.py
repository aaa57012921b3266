"""How many dimensions a cloud of points has."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array

POINTS = 1000  # that neighbours are looked for among
DISCARDED = 0.1  # share of the largest ratios of distances, which outliers make


def two_nn(points: Array) -> float:
    """The dimension of the manifold that points [points, numbers] lie on, from the ratio of the distances to the second
    and the first neighbour, which is Pareto distributed with the dimension as its exponent (E. Facco et al., Estimating
    the intrinsic dimension of datasets by a minimal neighborhood information, 2017). NaN for fewer than 3 points that
    differ."""
    points = np.unique(points.astype(np.float64), axis=0)
    if len(points) > POINTS:
        points = points[np.random.default_rng(0).choice(len(points), POINTS, replace=False)]
    if len(points) < 3:
        return float("nan")
    squares = np.square(points).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
    np.fill_diagonal(distances, np.inf)
    first, second = np.sqrt(np.partition(distances, 1, axis=1)[:, :2]).T
    apart = first > 1e-6 * second
    ratios = np.sort(second[apart] / first[apart])
    count = len(ratios)
    kept = max(int(count * (1 - DISCARDED)), 1)
    x, y = np.log(ratios[:kept]), -np.log1p(-np.arange(1, kept + 1) / (count + 1))
    energy = float(x @ x) if count else 0.0
    return float(x @ y) / energy if energy > 0 else float("nan")


def participation_ratio(energies: Array) -> float:
    """(sum of energies)^2 / sum of squared energies: how many directions of equal energy would be as spread."""
    squares = float(np.square(energies).sum())
    return float(energies.sum()) ** 2 / squares if squares > 0 else 0.0


def effective_rank(energies: Array) -> float:
    """exp of the entropy of the singular values, each seen as a share of their sum (O. Roy, M. Vetterli, The effective
    rank, 2007). `energies` are their squares."""
    values = np.sqrt(np.maximum(energies, 0.0))
    shares = values / max(float(values.sum()), 1e-300)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
