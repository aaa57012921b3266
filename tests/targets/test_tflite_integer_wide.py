"""Kernels of 16-bit operands: the integer evaluator and LiteRT's reference kernels, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from targets.tflite.integer import IntegerModel
from targets.tflite.integer.kernel import NoReferenceError
from tests.targets.tflite_integer_cases import CASES, Draw
from tests.targets.tflite_integer_harness import Spec, Step, constant, executed, interpreter, ints, step, write

VERSIONS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "TRANSPOSE_CONV": 3, "FULLY_CONNECTED": 4, "BATCH_MATMUL": 3,
            "ADD": 4, "SUB": 5, "MUL": 4, "MAXIMUM": 4, "MINIMUM": 4, "AVERAGE_POOL_2D": 3, "MAX_POOL_2D": 3,
            "MEAN": 3, "SUM": 2, "REDUCE_MAX": 3, "REDUCE_MIN": 3, "RESIZE_BILINEAR": 4,
            "RESIZE_NEAREST_NEIGHBOR": 4}  # fmt: skip
SUMS = ["CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"]  # those that say of which type
INT32 = 2  # in the schema's enumeration of types


def widened(made: Step, bias: str = "int64") -> Step:
    """The operator with activations of 16 bits, whose zero points are 0, and biases of 64 or 32 bits."""
    kept: dict[int, Spec | None] = {id(None): None}

    def wide(t: Spec | None) -> Spec | None:
        if t is not None and id(t) not in kept:
            kept[id(t)] = t
            if t.data is None and t.dtype == "int8":
                kept[id(t)] = t._replace(dtype="int16", zero_point=0, scale=np.float32(t.unit / 64).item())
            elif t.data is not None and t.dtype == "int32" and t.scale is not None:
                scales = [s / 64 for s in np.atleast_1d(t.scale)]
                kept[id(t)] = t._replace(dtype=bias, data=t.data.astype(bias), scale=scales)
        return kept[id(t)]

    inputs = [wide(t) for t in made.inputs]
    outputs = [o for o in map(wide, made.outputs) if o is not None]
    options = {**made.options, "potScaleInt16": False} if made.code in ("ADD", "SUB") else made.options
    return made._replace(inputs=inputs, outputs=outputs, version=VERSIONS[made.code], options=options)


def assert_same(path: Path, seed: int, most: int = 2**15 - 1, reference: bool = True) -> None:
    model = IntegerModel(path)
    rng = np.random.default_rng(seed)
    feeds = {n: rng.integers(-most - 1, most + 1, t.shape).astype(t.dtype.lower()) for n, t in model.inputs.items()}
    for name, expected in executed(interpreter(path, reference), feeds).items():
        np.testing.assert_array_equal(model.run(feeds)[name], expected)


@pytest.mark.parametrize("code", VERSIONS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_agrees_with_reference_kernels(code: str, data: st.DataObject, tmp_path: Path) -> None:
    """SUM with the optimized kernel: the reference one takes 16-bit elements for others."""
    made: Callable[[Draw, str], Step] = CASES[code]
    path = write(tmp_path / "m.tflite", widened(made(Draw(data), code)))
    most = data.draw(st.sampled_from([500, 2**15 - 1]))
    assert_same(path, data.draw(st.integers(0, 2**32)), most, code != "SUM")


@pytest.mark.parametrize(("source", "result"), [("int8", "int16"), ("int16", "int8"), ("int16", "int16")])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scales=st.tuples(st.floats(2.0**-12, 1, width=32), st.floats(2.0**-12, 1, width=32)), seed=st.integers(0, 99))
def test_from_one_width_to_another(
    source: str, result: str, scales: tuple[float, float], seed: int, tmp_path: Path
) -> None:
    x, y = (Spec((3, 100), t, s, 7 if t == "int8" else 0) for t, s in zip((source, result), scales, strict=True))
    path = write(tmp_path / "m.tflite", step("QUANTIZE", [x], [y], 3))
    assert_same(path, seed, 127 if source == "int8" else 2**15 - 1)


@pytest.mark.parametrize("code", SUMS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_sums_of_32_bits(code: str, data: st.DataObject, tmp_path: Path) -> None:
    """Where the operator asks for them."""
    made = widened(CASES[code](Draw(data), code), "int32")
    path = write(tmp_path / "m.tflite", made._replace(options={**made.options, "quantizedBiasType": INT32}))
    assert_same(path, data.draw(st.integers(0, 2**32)))


def test_dense_layers_of_many_elements_round_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, w = Spec((500, 190), "int16", 0.001), constant(rng.integers(-127, 128, (4, 190)).astype(np.int8), [0.02] * 4)
    bias = constant(rng.integers(-(2**40), 2**40, 4), [0.00002] * 4)
    assert_same(
        write(tmp_path / "m.tflite", step("FULLY_CONNECTED", [x, w, bias], [Spec((500, 4), "int16", 0.9)], 4)), 0
    )


@pytest.mark.parametrize(("code", "shape"), [("CONV_2D", (4, 1, 1, 3)), ("FULLY_CONNECTED", (4, 3))])
def test_a_bias_of_another_type_than_the_sums_is_refused(code: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """LiteRT reads it as if it had that type, past its end."""
    inner = (1, 2, 2) if code == "CONV_2D" else (4,)
    x, w, b = Spec((*inner, 3), "int16", 0.01), constant(np.ones(shape, np.int8), 0.1), ints(1, 2, 3, 4)
    options = {"strideH": 1, "strideW": 1} if code == "CONV_2D" else {}
    path = write(tmp_path / "m.tflite", step(code, [x, w, b], [Spec((*inner, 4), "int16", 0.02)], 4, **options))
    with pytest.raises(NoReferenceError, match="bias of INT32 elements, which the runtime reads as INT64 ones"):
        IntegerModel(path).run({"t0": np.zeros(x.shape, np.int16)})


def test_sums_that_overflow_32_bits_are_refused(tmp_path: Path) -> None:
    x, w = Spec((1, 600), "int16", 0.01), constant(np.full((1, 600), 127, np.int8), 0.1)
    y = Spec((1, 1), "int16", 0.02)
    path = write(tmp_path / "m.tflite", step("FULLY_CONNECTED", [x, w, None], [y], 4, quantizedBiasType=INT32))
    with pytest.raises(NoReferenceError, match="overflow 32 bits"):
        IntegerModel(path).run({"t0": np.full(x.shape, 2**15 - 1, np.int16)})


@pytest.mark.parametrize("code", ["ADD", "SUB"])
def test_a_result_much_finer_than_an_operand_is_refused(code: str, tmp_path: Path) -> None:
    """LiteRT shifts by -2 bits there."""
    x, y = Spec((1, 4), "int16", 1.0), Spec((1, 4), "int16", 2.0**-15)
    made = step(code, [x, y], [Spec((1, 4), "int16", 2.2e-5)], VERSIONS[code], potScaleInt16=False)
    model = IntegerModel(write(tmp_path / "m.tflite", made))
    with pytest.raises(NoReferenceError, match="shifts by a negative number of bits"):
        model.run({"t0": np.zeros(x.shape, np.int16), "t1": np.full(y.shape, 20000, np.int16)})


def test_sums_that_are_exact_in_float64_only(tmp_path: Path) -> None:
    """Small numbers times great ones."""
    x, w = Spec((1, 30, 40), "int16", 0.001), Spec((1, 40, 20), "int16", 0.001)
    path = write(tmp_path / "m.tflite", step("BATCH_MATMUL", [x, w], [Spec((1, 30, 20), "int16", 0.0002)], 3))
    rng = np.random.default_rng(5)
    feeds = {
        "t0": rng.integers(-200, 201, x.shape).astype(np.int16),
        "t1": rng.integers(-(2**15), 2**15, w.shape).astype(np.int16),
    }
    np.testing.assert_array_equal(IntegerModel(path).run(feeds)["t2"], executed(interpreter(path), feeds)["t2"])
