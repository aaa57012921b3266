"""Elementwise operations, activations, reductions and creation, against coremltools' own evaluation of constants."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from compiler.tensor import Array
from targets.coreml.evaluate.special import erf
from tests.targets.coreml_harness import Case, In

RNG = np.random.default_rng(7)
X = np.array([[[-3.5, -1.0, -0.5, 0.0, 0.25], [0.5, 1.0, 1.5, 2.5, 7.0]]], np.float32)
POSITIVE = np.abs(X) + 0.25
UNIT = X / 8
INTS = np.array([[-7, -3, 0, 2, 9]], np.int32)


def f(*values: float) -> Array:
    return np.array(values, np.float32)


def running_sum(x: Array, exclusive: bool, reverse: bool) -> list[Array]:
    rows = x[..., ::-1] if reverse else x
    result = np.array([[[math.fsum(row[: i + (not exclusive)]) for i in range(5)] for row in plane] for plane in rows])
    return [result[..., ::-1] if reverse else result]


ON_REALS = (
    "abs ceil cos cosh erf exp exp2 floor round sign sin sinh square tan tanh relu relu6 sigmoid softplus softsign"
)
UNARY = [
    *(Case(kind, {"x": In(X)}) for kind in ON_REALS.split()),
    *(Case(kind, {"x": In(UNIT)}) for kind in ("acos", "asin", "atan", "atanh")),
    *(Case(kind, {"x": In(POSITIVE), "epsilon": np.float32(0.5)}) for kind in ("inverse", "log", "rsqrt")),
    Case("sqrt", {"x": In(POSITIVE)}),
    Case("identity", {"x": In(X)}, lambda: [X]),
    Case("silu", {"x": In(X)}, lambda: [X / (1 + np.exp(-X))]),
    Case("logical_not", {"x": X > 0}),
    Case("abs", {"x": In(INTS)}),
    Case("threshold", {"x": In(X), "alpha": np.float32(0.5)}),
    Case("clip", {"x": In(X), "alpha": np.float32(-1), "beta": np.float32(2)}),
]
ARITHMETIC = "add sub mul maximum minimum floor_div mod equal not_equal less less_equal greater greater_equal"
BINARY = [
    *(Case(kind, {"x": In(X), "y": In(f(1, -2, 0.5, 3, -0.75))}) for kind in ARITHMETIC.split()),
    *(Case(kind, {"x": In(INTS), "y": np.array([[2], [-3]], np.int32)}) for kind in ARITHMETIC.split()),
    Case("real_div", {"x": In(X), "y": In(f(1, -2, 0.5, 3, -0.75))}),
    Case("pow", {"x": In(POSITIVE), "y": In(f(2, 0.5, -1, 3, 0))}),
    *(
        Case(kind, {"x": X > 0, "y": np.array([True, False, True, True, False])})
        for kind in ("logical_and", "logical_or", "logical_xor")
    ),
    Case("select", {"cond": X > 0, "a": In(X), "b": In(X * 2)}),
    Case("cast", {"x": In(f(-1.7, 1.7, 0.0)), "dtype": "int32"}, lambda: [np.array([-1, 1, 0])]),
    Case("cast", {"x": In(f(-1.7, 1e-9, 0.0)), "dtype": "bool"}, lambda: [np.array([1, 1, 0])]),
    Case("cast", {"x": In(np.array([3, -4], np.int32)), "dtype": "fp16"}, lambda: [f(3, -4)]),
]
CHANNELS = {"x": In(X), "alpha": f(0.5, 2.0)}
ACTIVATIONS = [
    *(Case("gelu", {"x": In(X), "mode": m}) for m in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")),
    *(Case(kind, {"x": In(X), "alpha": np.float32(0.3)}) for kind in ("leaky_relu", "elu")),
    Case("thresholded_relu", {"x": In(X), "alpha": np.float32(1)}, lambda: [np.where(X >= 1, X, 0)]),
    *(
        Case(kind, {"x": In(X), "alpha": np.float32(0.4), "beta": np.float32(0.6)})
        for kind in ("clamped_relu", "sigmoid_hard", "linear_activation", "scaled_tanh")
    ),
    Case("prelu", {"x": In(np.stack([X, X])), "alpha": f(0.5)}),
    Case("softplus_parametric", {**CHANNELS, "beta": f(1.0, 0.5)}),
    *(Case("softmax", {"x": In(X), "axis": axis}) for axis in (0, 1, -1)),
    Case("softplus", {"x": In(f(100, -100))}, lambda: [f(100, math.exp(-100))]),
    Case("sigmoid", {"x": In(f(100, -100))}, lambda: [f(1, 0)]),
    Case("softmax", {"x": In(f(1000, 1000, -1000))}, lambda: [f(0.5, 0.5, 0)]),
]
SUMS = ("sum", "mean", "max", "min", "prod", "sum_square", "l1_norm", "l2_norm")
REDUCTIONS = [
    *(Case(f"reduce_{kind}", {"x": In(X), "axes": [-1], "keep_dims": False}) for kind in SUMS),
    *(Case(f"reduce_{kind}", {"x": In(X), "axes": [0, 1], "keep_dims": True}) for kind in SUMS),
    *(Case(f"reduce_{kind}", {"x": In(POSITIVE), "axes": None, "keep_dims": False}) for kind in SUMS),
    *(
        Case(f"reduce_{kind}", {"x": In(POSITIVE), "axes": [1], "keep_dims": keep})
        for kind in ("log_sum", "log_sum_exp")
        for keep in (True, False)
    ),
    Case("reduce_log_sum_exp", {"x": In(f(1000, 1000)), "axes": [0]}, lambda: [np.array(1000 + math.log(2))]),
    Case("reduce_sum", {"x": In(INTS), "axes": [1]}),
    *(
        Case(f"reduce_arg{kind}", {"x": In(X), "axis": 1, "keep_dims": keep})
        for kind in ("max", "min")
        for keep in (True, False)
    ),
]
TIES = np.array([[3, 1, 3, 2], [0, 5, 5, 5]], np.int32)
CREATION = [
    Case("fill", {"shape": np.array([2, 3]), "value": np.float32(1.5)}),
    Case("fill_like", {"ref_tensor": In(X), "value": 7}),
    Case("range_1d", {"start": 1, "end": 9, "step": 3}),
    Case("range_1d", {"start": np.float32(0.5), "end": np.float32(2), "step": np.float32(0.5)}),
    Case(
        "one_hot",
        {"indices": In(np.array([1, 0], np.int32)), "one_hot_vector_size": 3, "axis": 0, "on_value": 5, "off_value": 2},
        lambda: [np.array([[2, 5], [5, 2], [2, 2]])],
    ),
    Case(
        "one_hot",
        {"indices": In(np.array([[2]], np.int32)), "one_hot_vector_size": 3},
        lambda: [np.array([[[0, 0, 1]]])],
    ),
    *(Case("argsort", {"x": In(X), "axis": a, "ascending": up}) for a in (1, -1) for up in (True, False)),
    *(Case("topk", {"x": In(X), "k": 2, "axis": a, "ascending": up}) for a in (1, -1) for up in (True, False)),
    Case("topk", {"x": In(TIES), "k": 3}, lambda: [np.array([[3, 3, 2], [5, 5, 5]]), np.array([[0, 2, 3], [1, 2, 3]])]),
    Case("non_zero", {"x": In(TIES - 3)}),
    *(
        Case(
            "cumsum",
            {"x": In(X), "axis": 2, "exclusive": exclusive, "reverse": reverse},
            partial(running_sum, X, exclusive, reverse),
            types=[("fp32", X.shape)],
        )
        for exclusive in (True, False)
        for reverse in (True, False)
    ),
    Case(
        "cumsum",
        {"x": In(INTS), "axis": 1, "exclusive": True},
        lambda: [np.array([[0, -7, -10, -10, -8]])],
        types=[("int32", (1, 5))],
    ),
    *(Case("band_part", {"x": In(X), "lower": low, "upper": up}) for low, up in ((-1, 0), (0, -1), (0, 2), (1, 1))),
]


CASES = [*UNARY, *BINARY, *ACTIVATIONS, *REDUCTIONS, *CREATION]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_erf_is_exact_to_eleven_digits() -> None:
    x = np.concatenate([np.linspace(-7, 7, 5001), np.random.default_rng(0).standard_normal(2000)])
    assert np.max(np.abs(erf(x) - np.array([math.erf(v) for v in x]))) < 1e-11
    assert np.array_equal(erf(np.array([np.inf, -np.inf, 0.0])), [1, -1, 0])
    assert np.isnan(erf(np.array([np.nan]))[0])
