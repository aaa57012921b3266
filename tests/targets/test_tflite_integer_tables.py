"""Functions of 16-bit numbers on all of them, and softmax: the integer evaluator and LiteRT's reference kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compiler.tensor import Array
from targets.tflite.integer import IntegerModel
from targets.tflite.integer.kernel import NoReferenceError
from tests.targets.tflite_integer_harness import Spec, executed, interpreter, step, write

ALL = np.arange(-(2**15), 2**15, dtype=np.int16).reshape(256, 256)
VERSIONS = {"EXP": 2, "LOG": 2, "GELU": 2, "SQRT": 2, "RSQRT": 3, "ABS": 3, "NEG": 1, "RELU": 3, "RELU6": 3,
            "LEAKY_RELU": 2}  # fmt: skip
ROOTS = ("SQRT", "RSQRT")
EXPONENTS = st.floats(-18, -9)
FIXED = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def f32(value: float) -> float:
    return float(np.float32(value))


def assert_same(path: Path, x: Array) -> None:
    (ours,), (theirs,) = IntegerModel(path).run({"t0": x}).values(), executed(interpreter(path), {"t0": x}).values()
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("code", VERSIONS)
@FIXED
@given(x=EXPONENTS, y=EXPONENTS, alpha=st.floats(0, 1, width=32))
def test_functions(code: str, x: float, y: float, alpha: float, tmp_path: Path) -> None:
    options = {"alpha": alpha} if code == "LEAKY_RELU" else {}
    source = Spec(ALL.shape, "int16", f32(2**x))
    result = Spec(ALL.shape, "int16", f32(2 ** (x if code == "NEG" else y + 8 if code in ROOTS else y)))
    path = write(tmp_path / "m.tflite", step(code, [source], [result], VERSIONS[code], **options))
    assert_same(path, np.maximum(ALL, 0) if code in ROOTS else ALL)


@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
@FIXED
@given(scale=st.floats(-20, 2).map(lambda e: f32(2**e)))
@example(scale=2.0**-13)
@example(scale=2.0**-12)
@example(scale=2.0**-11)
@example(scale=f32(2.0**-12 * 1.0004))
@example(scale=f32(2.0**-12 * 1.0009))
@example(scale=f32(2.0**-11 * 0.9995))
def test_sigmoids(code: str, scale: float, tmp_path: Path) -> None:
    """Scales next to a power of two are taken for it."""
    y = Spec(ALL.shape, "int16", 2.0**-15)
    assert_same(write(tmp_path / "m.tflite", step(code, [Spec(ALL.shape, "int16", scale)], [y], 3)), ALL)


@FIXED
@given(
    depth=st.integers(1, 400), scale=st.floats(-18, -4), beta=st.sampled_from([1.0, 0.5, 0.3]), seed=st.integers(0, 99)
)
def test_softmax(depth: int, scale: float, beta: float, seed: int, tmp_path: Path) -> None:
    x = Spec((64, depth), "int16", f32(2**scale))
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**15), 2**15, x.shape)
    values[::2] = np.clip(rng.normal(0, 3 / x.unit, (32, depth)), -(2**15), 2**15 - 1)
    y = Spec(x.shape, "int16", 2.0**-15)
    assert_same(write(tmp_path / "m.tflite", step("SOFTMAX", [x], [y], 3, beta=f32(beta))), values.astype(np.int16))


@FIXED
@given(depth=st.integers(1, 700), scale=st.floats(-12, 9), seed=st.integers(0, 99))
def test_log_softmax(depth: int, scale: float, seed: int, tmp_path: Path) -> None:
    x = Spec((64, depth), "int8", f32(2**scale), 11)
    rng = np.random.default_rng(seed)
    values = rng.integers(-128, 128, x.shape)
    values[::2] = np.clip(rng.normal(0, 3 / x.unit, (32, depth)), -128, 127)
    y = Spec(x.shape, "int8", 1 / 16, 127)
    assert_same(write(tmp_path / "m.tflite", step("LOG_SOFTMAX", [x], [y], 2)), values.astype(np.int8))


def test_softmax_is_near_the_real_one(tmp_path: Path) -> None:
    x = Spec((100, 30), "int16", 2.0**-11)
    path = write(tmp_path / "m.tflite", step("SOFTMAX", [x], [Spec(x.shape, "int16", 2.0**-15)], 3, beta=1.0))
    values = np.random.default_rng(0).normal(0, 2, x.shape) * 2**11
    (odds,) = IntegerModel(path).run({"t0": values.astype(np.int16)}).values()
    exps = np.exp(values.astype(np.int16) / 2**11)
    np.testing.assert_allclose(odds / 2**15, exps / exps.sum(axis=1, keepdims=True), atol=2e-4)


def refused(path: Path, x: Array, match: str) -> None:
    model = IntegerModel(path)
    with pytest.raises(NoReferenceError, match=match):
        model.run({"t0": x})


def test_512_equal_exponentials_stop_the_runtime(tmp_path: Path) -> None:
    y = Spec((1, 512), "int8", 1 / 256, -128)
    path = write(tmp_path / "m.tflite", step("SOFTMAX", [Spec((1, 512), "int8", 0.1)], [y], 2, beta=1.0))
    refused(path, np.zeros((1, 512), np.int8), "add up to 512 or more, where the runtime stops")


def test_a_table_with_infinite_samples_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """exp(120) is beyond float32."""
    x = Spec((1, 2), "int16", 2.0**-8)
    path = write(tmp_path / "m.tflite", step("EXP", [x], [Spec((1, 2), "int16", 2.0**-15)], 2))
    assert_same(path, np.array([[-(2**15), 60 * 256]], np.int16))
    refused(path, np.array([[0, 120 * 256]], np.int16), "leaves float32, which leaves its table undefined")


def test_gelu_by_tanh_is_refused(tmp_path: Path) -> None:
    x, y = Spec((1, 2), "int16", 0.001), Spec((1, 2), "int16", 0.001)
    path = write(tmp_path / "m.tflite", step("GELU", [x], [y], 2, approximate=True))
    refused(path, np.zeros((1, 2), np.int16), "last bit depends on the C library")


def test_a_sigmoid_of_great_numbers_is_refused(tmp_path: Path) -> None:
    x, y = Spec((1, 2), "int16", 8.0), Spec((1, 2), "int16", 2.0**-15)
    path = write(tmp_path / "m.tflite", step("LOGISTIC", [x], [y], 3))
    refused(path, np.zeros((1, 2), np.int16), "products overflow 32 bits")


@pytest.mark.parametrize(("zero", "result"), [(3, 0.1), (0, 0.2)])
def test_a_sign_is_changed_around_zero_only(zero: int, result: float, tmp_path: Path) -> None:
    x, y = Spec((1, 2), "int8", 0.1, zero), Spec((1, 2), "int8", result, zero)
    refused(write(tmp_path / "m.tflite", step("NEG", [x], [y])), np.zeros((1, 2), np.int8), "has a zero point")
