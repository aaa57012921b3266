"""Truncated decompositions, and dimensions of clouds of points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes import _low_rank_algebra as algebra
from passes._low_rank_algebra import left_modes, modes_of, orthonormal_rows, polyadic, root_of, tucker, tucker_tails
from passes._low_rank_dimension import effective_rank, participation_ratio, two_nn


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), seed=st.integers(0, 999))
def test_projection_on_the_first_modes_leaves_the_tail_of_the_spectrum(rows: int, columns: int, seed: int) -> None:
    w = np.random.default_rng(seed).normal(size=(rows, columns))
    modes = left_modes(w)
    values = np.linalg.svd(w, compute_uv=False)
    for rank in range(min(rows, columns) + 1):
        u = modes.vectors[:, :rank]
        left = np.square(w - u @ (u.T @ w)).sum()
        assert np.isclose(left, np.square(values[rank:]).sum(), atol=1e-9)
        assert np.isclose(modes.tail()[rank], left / np.square(w).sum(), atol=1e-9)


def test_large_matrices_are_decomposed_by_random_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    w = (rng.normal(size=(300, 280)) * np.geomspace(1, 1e-3, 280)) @ rng.normal(size=(280, 260))
    exact, gram = left_modes(w), modes_of(w @ w.T)
    monkeypatch.setattr(algebra, "LARGE", 100)
    monkeypatch.setattr(algebra, "MOST", 40)
    for found in (left_modes(w), modes_of(w @ w.T)):
        assert found.vectors.shape == (300, 40)
        assert np.allclose(found.vectors.T @ found.vectors, np.eye(40), atol=1e-9)
        assert np.allclose(found.energies[:30], exact.energies[:30], rtol=1e-3)
        assert np.isclose(found.total, exact.total)
        assert np.allclose(found.tail()[:31], exact.tail()[:31], atol=1e-4)
    assert np.allclose(gram.energies[:30], exact.energies[:30])
    assert np.array_equal(left_modes(w).vectors, left_modes(w).vectors)


def test_roots_of_a_covariance() -> None:
    a = np.random.default_rng(1).normal(size=(5, 5))
    root = root_of(a @ a.T)
    assert np.allclose(root.root @ root.root, a @ a.T)
    assert np.allclose(root.root @ root.inverse, np.eye(5), atol=1e-6)


def test_a_factor_gets_orthonormal_rows_and_the_product_stays() -> None:
    rng = np.random.default_rng(2)
    reduce, expand = rng.normal(size=(3, 7)), rng.normal(size=(4, 5, 3))
    q, turned = orthonormal_rows(reduce, expand)
    assert np.allclose(q @ q.T, np.eye(3))
    assert np.allclose(turned @ q, expand @ reduce)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), inputs=st.integers(1, 6), outputs=st.integers(1, 7))
def test_tucker_is_no_worse_than_what_is_expected_of_it(seed: int, inputs: int, outputs: int) -> None:
    w = np.random.default_rng(seed).normal(size=(7, 6, 4))
    q, u = tucker(w, inputs, outputs)
    made = np.einsum("mo,os,sct,cr,dr->mdt", u, u.T, w, q, q)
    error = np.square(made - w).sum() / np.square(w).sum()
    assert error <= tucker_tails(w)[outputs, inputs] + 1e-9
    core = np.einsum("mo,mct,cr->ort", u, w, q)
    assert np.isclose(error, 1 - np.square(core).sum() / np.square(w).sum())


def test_polyadic_finds_a_tensor_of_low_rank_and_tells_its_error() -> None:
    rng = np.random.default_rng(3)
    factors = [rng.normal(size=(size, 3)) for size in (8, 6, 9)]
    w = np.einsum("mr,cr,tr->mct", *factors)
    assert polyadic(w, 3).error < 1e-6
    found = polyadic(w, 2)
    made = np.einsum("mr,cr,tr->mct", found.results, found.inputs, found.taps)
    assert np.isclose(found.error, np.square(made - w).sum() / np.square(w).sum())
    assert found.error > 0.01
    assert np.array_equal(polyadic(w, 2).taps, found.taps)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_dimension_by_two_nearest_neighbours(dimension: int) -> None:
    rng = np.random.default_rng(4)
    flat = rng.uniform(size=(1500, dimension))
    bent = np.concatenate([flat, np.square(flat), np.sin(3 * flat)], axis=1) @ rng.normal(size=(3 * dimension, 40))
    assert abs(two_nn(bent) - dimension) < 0.25 * dimension


def test_dimension_of_too_few_points_is_not_a_number() -> None:
    assert np.isnan(two_nn(np.ones((50, 3))))
    assert np.isnan(two_nn(np.eye(2)))


def test_counts_of_directions() -> None:
    assert np.isclose(participation_ratio(np.array([2.0, 2.0, 2.0, 0.0])), 3)
    assert np.isclose(effective_rank(np.array([4.0, 4.0, 0.0])), 2)
    assert participation_ratio(np.zeros(3)) == 0
