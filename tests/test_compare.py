"""Distances between results: special values first, then the largest difference and the PSNR."""

from __future__ import annotations

from math import inf, log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.compare import IDENTICAL_DB, compare, compare_all, rounding_limit, top1_agreement
from compiler.tensor import DTYPES, Array


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def test_psnr_is_the_peak_over_the_root_mean_square_error() -> None:
    c = compare("y", floats(1, -2, 3, 4), floats(1, -2, 3, 4.5))
    assert c.name == "y" and c.max_abs == 0.5
    assert c.psnr_db == pytest.approx(20 * log10(4 / (0.5 / 2)))
    assert c.limit_db == 100 and c.top1_agreement is None


def test_equal_results_are_identical() -> None:
    for a in (floats(1, 2), floats(np.nan, inf, -inf), np.zeros((0, 3)), np.array("x", object), np.array([True])):
        assert compare("", a, a.copy())[1:3] == (0.0, IDENTICAL_DB)
    assert compare("", floats(0.0), floats(-0.0)).max_abs == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (floats(np.nan, 1), floats(1, np.nan)),
        (floats(np.nan, 1), floats(1, 1)),
        (floats(1, 1), floats(1, np.nan)),
        (floats(inf, 1), floats(-inf, 1)),
        (floats(inf, 1), floats(np.nan, 1)),
        (floats(1, 1), floats(inf, 1)),
        (floats(1, 1), floats(1)),
        (floats(1), floats(1).reshape(1, 1)),
        (np.array(["a"], object), np.array(["b"], object)),
        (np.array(["1"], object), floats(1)),
    ],
)
def test_special_values_elsewhere_and_other_shapes_are_infinitely_far(a: Array, b: Array) -> None:
    c = compare("", a, b)
    assert c.max_abs == inf and c.psnr_db == -IDENTICAL_DB and c.as_json()["max_abs"] is None


def test_special_values_in_the_same_places_do_not_hide_the_rest() -> None:
    c = compare("", floats(np.nan, 10, inf, 0), floats(np.nan, 11, inf, 0))
    assert c.max_abs == 1 and c.psnr_db == pytest.approx(20 * log10(10 / 0.5))


def test_numbers_compare_across_element_types() -> None:
    assert compare("", np.array([1, 2]), floats(1, 2)).max_abs == 0
    assert compare("", floats(0, 1), np.array([False, True])).max_abs == 0
    half = floats(1, 3).astype(DTYPES["bf16"].numpy)
    assert compare("", half, floats(1, 2.5)).max_abs == 0.5


def test_integers_that_float64_cannot_tell_apart() -> None:
    big = 2**62
    assert compare("", np.array([big]), np.array([big + 1])).max_abs == 1
    assert compare("", np.array([-(2**63)]), np.array([2**63 - 1])).max_abs == pytest.approx(2.0**64)
    assert compare("", np.array([0, 255], np.uint8), np.array([255, 0], np.uint8)).max_abs == 255
    assert compare("", np.array([2**64 - 1], np.uint64), np.array([2**64 - 2], np.uint64)).max_abs == 1


def test_extreme_numbers_neither_overflow_nor_vanish() -> None:
    assert compare("", np.array([1e300, 1]), np.array([-1e300, 1])).psnr_db == pytest.approx(-20 * log10(2**0.5))
    assert compare("", np.array([1.7e308]), np.array([-1.7e308]))[1:3] == (inf, -IDENTICAL_DB)
    tiny = compare("", np.array([1e-300, 1e-300]), np.array([1e-300, 1.1e-300]))
    assert tiny.psnr_db == pytest.approx(20 * log10(10 * 2**0.5), abs=1e-6)
    assert compare("", floats(0), floats(1e-9)).psnr_db == -IDENTICAL_DB


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9), st.integers(-9, 9), st.floats(0.0, 1.0))
def test_psnr_does_not_depend_on_the_scale(values: list[float], exponent: int, error: float) -> None:
    a, scale = np.array([*values, 1.0]), 2.0**exponent  # a power of two scales without rounding
    b = a + error
    one, other = compare("", a, b), compare("", a * scale, b * scale)
    assert one.psnr_db == pytest.approx(other.psnr_db, abs=1e-3) or one.max_abs < 1e-9


def test_limits_follow_the_element_type() -> None:
    expected = {"f32": 100, "f64": 100, "f16": 45, "bf16": 45, "f8e5m2": 10, "i64": 400, "bool": 400, "i4": 400}
    assert {n: rounding_limit(np.zeros(1, DTYPES[n].numpy)) for n in expected} == expected


def test_top1_agreement_is_the_share_of_rows_with_one_winner() -> None:
    a = np.array([[1, 2, 3], [3, 2, 1]])
    assert top1_agreement(a, np.array([[0, 0, 9], [0, 1, 0]])) == 0.5
    assert compare("", a, a).top1_agreement == 1.0
    for other in (np.zeros(3), np.zeros((3, 1)), np.zeros((0, 3)), np.zeros((2, 3, 4))):
        assert top1_agreement(other, other) is None


def test_all_outputs_in_the_order_of_the_reference() -> None:
    reference = {"b": floats(1), "a": floats(2), "c": floats(3)}
    found = compare_all(reference, {"a": floats(2), "b": floats(1), "other": floats(0)})
    assert [(c.name, c.max_abs) for c in found] == [("b", 0.0), ("a", 0.0), ("c", inf)]


def test_json_holds_plain_values() -> None:
    line = compare("y", floats(1, 2), floats(1, 2.001)).as_json()
    assert line == {"name": "y", "max_abs": pytest.approx(1e-3, rel=1e-3), "psnr_db": 69.03, "top1_agreement": None}


def test_the_peak_of_a_bounded_output_is_what_it_can_reach() -> None:
    reference, result = floats(1e-5, 2e-5), floats(1e-5, 2e-5 + 1e-7)
    assert compare("", reference, result).psnr_db < 60
    assert compare("", reference, result, peak=1.0).psnr_db == pytest.approx(20 * log10(2**0.5 / 1e-7), abs=0.1)
