"""Matrices and tensors of low rank: truncated and randomised singular values, Tucker-2 and canonical polyadic forms.

Everything is computed in float64 and seeded, so that the same numbers give the same factors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.tensor import Array

LARGE = 1536  # of matrices with more rows and columns, the first singular values only, by random projection
MOST = 512  # of them
OVERSAMPLED, POWERS = 16, 2  # columns beyond those, and products with the matrix that sharpen the others
SWEEPS = 8  # of alternating orthogonal iteration
ITERATIONS = 40  # of alternating least squares
FLOOR = 1e-12  # of eigenvalues, relative to the largest


class Modes(NamedTuple):
    """Orthonormal columns with the energy of each, falling, and the energy of all that there are."""

    vectors: Array
    energies: Array
    total: float

    def tail(self) -> Array:
        """The share of the energy that the first 0, 1, 2, ... leave out."""
        left = self.total - np.concatenate([[0.0], np.cumsum(self.energies)])
        if len(self.energies) == len(self.vectors):
            left[-1] = 0.0
        return np.asarray(np.maximum(left, 0.0) / max(self.total, 1e-300))


def modes_of(gram: Array, most: int | None = None) -> Modes:
    """Eigenvectors of a symmetric positive matrix; of a large one the first `most`, by subspace iteration on random
    columns (N. Halko, P.-G. Martinsson, J. Tropp, Finding Structure with Randomness, 2011)."""
    size = len(gram)
    most = min(size, MOST if size > LARGE else size) if most is None else min(most, size)
    total = float(np.trace(gram))
    if size <= LARGE or most + OVERSAMPLED >= size // 2:
        energies, vectors = np.linalg.eigh(gram)
        return Modes(vectors[:, ::-1][:, :most], np.maximum(energies[::-1][:most], 0.0), total)
    q = np.random.default_rng(0).standard_normal((size, most + OVERSAMPLED))
    for _ in range(POWERS + 1):
        q = np.linalg.qr(gram @ q)[0]
    energies, small = np.linalg.eigh(q.T @ gram @ q)
    return Modes((q @ small[:, ::-1])[:, :most], np.maximum(energies[::-1][:most], 0.0), total)


def modes_within(gram: Array, columns: Array, most: int | None = None) -> Modes:
    """The modes of a symmetric positive matrix whose columns are sums of the given ones."""
    if columns.shape[1] >= len(gram):
        return modes_of(gram, most)
    q = np.linalg.qr(columns)[0]
    found = modes_of(q.T @ gram @ q, most)
    return Modes(q @ found.vectors, found.energies, float(np.trace(gram)))


def left_modes(matrix: Array, most: int | None = None) -> Modes:
    """Left singular vectors and squared singular values."""
    rows, columns = matrix.shape
    if min(rows, columns) > LARGE:
        return _sketched(matrix, min(most or MOST, rows))
    if rows > columns:
        u, s, _ = np.linalg.svd(matrix, full_matrices=False)
        most = len(s) if most is None else most
        return Modes(u[:, :most], np.square(s[:most]), float(np.square(s).sum()))
    return modes_of(matrix @ matrix.T, most)


def _sketched(matrix: Array, most: int) -> Modes:
    rng = np.random.default_rng(0)
    q = np.linalg.qr(matrix @ rng.standard_normal((matrix.shape[1], most + OVERSAMPLED)))[0]
    for _ in range(POWERS):
        q = np.linalg.qr(matrix @ (matrix.T @ q))[0]
    u, s, _ = np.linalg.svd(q.T @ matrix, full_matrices=False)
    return Modes((q @ u)[:, :most], np.square(s[:most]), float(np.square(matrix).sum()))


class Root(NamedTuple):
    """A square root of a covariance and the inverse of that."""

    root: Array
    inverse: Array


def root_of(covariance: Array) -> Root:
    """Symmetric roots; directions without energy get next to none."""
    energies, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(energies, FLOOR * max(float(energies[-1]), 1e-300)))
    return Root((vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T)


def orthonormal_rows(reduce: Array, expand: Array) -> tuple[Array, Array]:
    """The same product expand @ reduce with orthonormal rows of its right factor, [rank, inputs]."""
    q, triangle = np.linalg.qr(reduce.T)
    return q.T, expand @ triangle.T


def tucker(w: Array, inputs: int, outputs: int) -> tuple[Array, Array]:
    """Orthonormal columns for the inputs and for the results of a tensor [results, inputs, taps], by higher-order
    orthogonal iteration (L. De Lathauwer, B. De Moor, J. Vandewalle, 2000)."""
    m, c, _ = w.shape
    q = left_modes(w.transpose(1, 0, 2).reshape(c, -1)).vectors[:, :inputs]
    u = np.eye(m)
    for _ in range(SWEEPS):
        u = left_modes(np.einsum("mct,cr->mrt", w, q, optimize=True).reshape(m, -1)).vectors[:, :outputs]
        if outputs >= m:
            break
        q = left_modes(np.einsum("mct,ms->cst", w, u, optimize=True).reshape(c, -1)).vectors[:, :inputs]
    return q, u


def tucker_tails(w: Array) -> Array:
    """The share of energy that the first `outputs` and `inputs` modes of a tensor [results, inputs, taps] leave out,
    [results + 1, inputs + 1]: a bound on what `tucker` leaves."""
    m, c, _ = w.shape
    u = left_modes(w.reshape(m, -1)).vectors
    q = left_modes(w.transpose(1, 0, 2).reshape(c, -1)).vectors
    core = np.einsum("ms,mct,cr->srt", u, w, q, optimize=True)
    total = max(float(np.square(w).sum()), 1e-300)
    kept = np.zeros((m + 1, c + 1))
    sums = np.square(core).sum(2).cumsum(0).cumsum(1)
    kept[1:, 1:] = np.pad(sums, ((0, m - sums.shape[0]), (0, c - sums.shape[1])), "edge")
    return np.asarray(np.maximum(1.0 - kept / total, 0.0))


class Polyadic(NamedTuple):
    """Factors [results, rank], [inputs, rank] and [taps, rank] with the share of the energy that their sum of products
    leaves out."""

    results: Array
    inputs: Array
    taps: Array
    error: float


def polyadic(w: Array, rank: int) -> Polyadic:
    """Alternating least squares (J. Carroll, J. Chang, 1970; R. Harshman, 1970), from the first singular vectors and
    seeded normal numbers, slightly damped so that no products grow that cancel each other."""
    rng = np.random.default_rng(rank)
    unfolded = [np.moveaxis(w, i, 0).reshape(size, -1) for i, size in enumerate(w.shape)]
    factors = [_start(u, rank, rng) for u in unfolded]
    energy = max(float(np.square(w).sum()), 1e-300)
    for _ in range(ITERATIONS):
        for i in range(3):
            a, b = (factors[k] for k in range(3) if k != i)
            gram = (a.T @ a) * (b.T @ b)
            gram += 1e-6 * np.trace(gram) / rank * np.eye(rank)
            product = np.einsum("ar,br->abr", a, b).reshape(-1, rank)
            factors[i] = np.linalg.solve(gram, (unfolded[i] @ product).T).T
        _balance(factors)
    results, inputs, taps = factors
    made = np.einsum("mr,cr,tr->mct", results, inputs, taps, optimize=True)
    return Polyadic(results, inputs, taps, float(np.square(made - w).sum()) / energy)


def _start(unfolded: Array, rank: int, rng: np.random.Generator) -> Array:
    found = left_modes(unfolded).vectors[:, :rank]
    extra = rng.standard_normal((len(unfolded), rank - found.shape[1])) / np.sqrt(len(unfolded))
    return np.concatenate([found, extra], axis=1)


def _balance(factors: list[Array]) -> None:
    norms = [np.maximum(np.linalg.norm(f, axis=0), 1e-150) for f in factors]
    mean = np.cbrt(norms[0] * norms[1] * norms[2])
    for i, n in enumerate(norms):
        factors[i] = factors[i] * (mean / n)
