"""Palettes: the nearest entry is found, tables fit numbers at least as well as equal steps, nothing is random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.palette import looked_up, places
from compiler.tensor import Array, Palette
from passes._palette import EXACT_UP_TO, palette_of, table_of

SIZES = st.integers(1, 400)
BITS = st.integers(1, 8)
SEEDS = st.integers(0, 1000)
SHAPES = ("normal", "laplace", "uniform", "lognormal")


def numbers(seed: int, size: int, kind: str = "normal") -> Array:
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-1, 1, size) if kind == "uniform" else getattr(rng, kind)(0.0, 1.0, size)
    return np.asarray(drawn * 10.0 ** rng.integers(-4, 4), np.float32)


def squared(data: Array, table: tuple[float, ...]) -> float:
    palette = Palette((table,))
    return float(np.square(data.astype(np.float64) - looked_up(places(data, palette), palette)).sum())


def uniform(data: Array, bits: int) -> tuple[float, ...]:
    return tuple(np.linspace(float(data.min()), float(data.max()), 1 << bits, dtype=np.float32).tolist())


@given(seed=SEEDS, size=SIZES, bits=BITS)
def test_each_number_becomes_the_nearest_entry(seed: int, size: int, bits: int) -> None:
    table = tuple(sorted(numbers(seed, 1 << bits).tolist()))
    data = numbers(seed + 1, size)
    palette = Palette((table,))
    stored = places(data, palette)
    assert palette.bits == bits and stored.dtype == np.uint8 and stored.max() < 1 << bits
    distance = np.abs(data.astype(np.float64) - looked_up(stored, palette))
    nearest = np.abs(data.astype(np.float64)[:, None] - np.array(table)).min(1)
    np.testing.assert_allclose(distance, nearest, rtol=1e-6, atol=1e-30)


@given(seed=SEEDS, size=st.integers(300, 3000), bits=BITS, kind=st.sampled_from(SHAPES))
def test_a_table_is_at_least_as_good_as_equal_steps(seed: int, size: int, bits: int, kind: str) -> None:
    data = numbers(seed, size, kind)
    table = table_of(data, bits)
    assert len(table) == 1 << bits and list(table) == sorted(table)
    assert squared(data, table) <= squared(data, uniform(data, bits)) * (1 + 1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_a_table_of_many_numbers_is_too(bits: int) -> None:
    """Beyond some size numbers are counted on a grid, which must not cost more than it is fine."""
    data = numbers(3, EXACT_UP_TO + 1)
    counted, exact = squared(data, table_of(data, bits)), squared(data, table_of(data[:-1], bits))
    assert counted <= 1.02 * exact
    assert counted <= squared(data, uniform(data, bits))


def test_two_clusters_are_found_and_many_bits_lose_little() -> None:
    data = np.array([1, 1.25, 0.75, -3, -3.5, -2.5] * 100, np.float32)
    assert table_of(data, 1) == (-3.0, 1.0)
    normal = numbers(0, 20000)
    lost = 10 * np.log10(squared(normal, table_of(normal, 4)) / np.square(normal.astype(np.float64)).sum())
    assert lost == pytest.approx(-20.22, abs=0.15)  # the Lloyd-Max quantizer of a normal density (J. Max, 1960)


@given(seed=SEEDS, size=st.integers(1, 16))
def test_few_different_numbers_are_stored_exactly(seed: int, size: int) -> None:
    data = numbers(seed, size)
    table = table_of(np.tile(data, 5), 4)
    assert squared(data, table) == 0
    assert len(table) == 16


@given(seed=SEEDS, bits=st.integers(1, 4))
def test_the_order_of_the_numbers_does_not_matter(seed: int, bits: int) -> None:
    data = numbers(seed, 500)
    assert table_of(data, bits) == table_of(np.random.default_rng(seed).permutation(data), bits)


@given(seed=SEEDS, axis=st.integers(0, 2))
def test_groups_have_tables_of_their_own(seed: int, axis: int) -> None:
    data = numbers(seed, 6**3).reshape(6, 6, 6)
    palette = palette_of(data, 2, axis, 3)
    assert palette.axis == axis and len(palette.tables) == 2
    stored = looked_up(places(data, palette), palette)
    for i, part in enumerate(np.split(data, 2, axis)):
        assert palette.tables[i] == table_of(part, 2)
        own = Palette((palette.tables[i],))
        assert np.array_equal(np.split(stored, 2, axis)[i], looked_up(places(part, own), own))
    assert palette_of(data, 2, axis, 0) == Palette((table_of(data, 2),))


@given(
    seed=SEEDS,
    size=st.integers(40, 3000),
    bits=st.integers(2, 8),
    kind=st.sampled_from(SHAPES),
    share=st.floats(0.3, 0.95),
)
def test_many_zeros_stay_zeros(seed: int, size: int, bits: int, kind: str, share: float) -> None:
    """With an entry of their own; the others are no worse than equal steps."""
    data = numbers(seed, size, kind)
    data[np.random.default_rng(seed).permutation(size)[: round(share * size)]] = 0
    palette = palette_of(data.reshape(1, -1), bits, 0, 0)
    (table,) = palette.tables
    assert 0.0 in table and len(table) == 1 << bits and list(table) == sorted(table)
    assert not looked_up(places(data, palette), palette)[data == 0].any()
    rest = data[data != 0]
    steps = np.linspace(float(rest.min()), float(rest.max()), len(table) - 1, dtype=np.float32)
    assert squared(data, table) <= squared(data, tuple(sorted([*steps.tolist(), 0.0]))) * (1 + 1e-5) + 1e-30


def test_few_zeros_are_numbers_like_others_and_one_bit_has_no_room_for_them() -> None:
    data = numbers(0, 4000)
    data[:400] = 0
    assert 0.0 not in palette_of(data, 4, 0, 0).tables[0]
    data[:2000] = 0
    assert 0.0 in palette_of(data, 2, 0, 0).tables[0] and 0.0 not in palette_of(data, 1, 0, 0).tables[0]


def test_every_table_of_a_weight_with_many_zeros_keeps_them() -> None:
    data = numbers(3, 8 * 512).reshape(8, 512)
    data[:4, ::2], data[4:, ::9] = 0, 0
    palette = palette_of(data, 3, 0, 2)
    assert len(palette.tables) == 4 and all(0.0 in table for table in palette.tables)
    assert not looked_up(places(data, palette), palette)[data == 0].any()
