"""The integer evaluator and LiteRT's reference kernels, bit for bit, on random operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from targets.tflite.integer import IntegerModel
from targets.tflite.integer.model import KERNELS
from tests.targets.tflite_integer_cases import CASES, LEAST, Draw
from tests.targets.tflite_integer_harness import (
    Spec,
    Step,
    assert_same,
    constant,
    executed,
    interpreter,
    ints,
    random_feeds,
    step,
    write,
)

X = Spec((2, 4, 6, 3), "int8", 0.05, 3)
N = Spec((50, 2), "int32")


def of(*shape: int) -> Spec:
    return X._replace(shape=shape)


def pads(*values: tuple[int, int]) -> Spec:
    return constant(np.array(values, np.int32))


def scalar(value: int) -> Spec:
    return constant(np.array(value, np.int32))


MOVED = {
    "reshape": step("RESHAPE", [X, ints(8, 18)], [of(8, 18)]),
    "squeeze": step("SQUEEZE", [of(1, 2, 3)], [of(2, 3)], squeezeDims=[0]),
    "expand": step("EXPAND_DIMS", [X, ints(0)], [of(1, *X.shape)]),
    "transpose": step("TRANSPOSE", [X, ints(0, 3, 1, 2)], [of(2, 3, 4, 6)], 2),
    "concatenation": step("CONCATENATION", [X, of(2, 4, 1, 3)], [of(2, 4, 7, 3)], 2, axis=2),
    "pack": step("PACK", [X, of(*X.shape)], [of(2, 2, 4, 6, 3)], 2, axis=1, valuesCount=2),
    "unpack": step("UNPACK", [X], [of(2, 4, 6) for _ in range(3)], 2, axis=3, num=3),
    "split": step("SPLIT", [ints(2), X], [of(2, 4, 3, 3) for _ in range(2)], 2, numSplits=2),
    "split at": step("SPLIT_V", [X, ints(1, -1), scalar(2)], [of(2, 4, 1, 3), of(2, 4, 5, 3)], 2, numSplits=2),
    "slice": step("SLICE", [X, ints(0, 1, 2, 0), ints(-1, 2, 3, 1)], [of(2, 2, 3, 1)], 2),
    "strided": step(
        "STRIDED_SLICE",
        [X, ints(0, 3, 1, 1), ints(2, 0, 6, 2), ints(1, -1, 2, 1)],
        [of(2, 4, 3)],
        2,
        endMask=2,
        shrinkAxisMask=8,
    ),
    "gather": step("GATHER", [X, ints(2, 0, 2)], [of(2, 4, 3, 3)], 2, axis=2),
    "gather places": step("GATHER_ND", [X, pads((1, 3), (0, 2))], [of(2, 6, 3)], 2),
    "pad": step("PAD", [X, pads((0, 0), (1, 0), (0, 2), (0, 0))], [of(2, 5, 8, 3)], 2),
    "pad with": step(
        "PADV2",
        [X, pads((0, 0), (1, 0), (0, 2), (0, 0)), constant(np.array([-9], np.int8), 0.05, 3)],
        [of(2, 5, 8, 3)],
        2,
    ),
    "mirror": step("MIRROR_PAD", [X, pads((0, 0), (1, 0), (0, 2), (0, 0))], [of(2, 5, 8, 3)], 2, mode=0),
    "mirror edge": step("MIRROR_PAD", [X, pads((0, 0), (1, 0), (0, 2), (0, 0))], [of(2, 5, 8, 3)], 2, mode=1),
    "tile": step("TILE", [X, ints(1, 2, 1, 2)], [of(2, 8, 6, 6)], 2),
    "broadcast": step("BROADCAST_TO", [of(1, 4, 1, 3), ints(2, 4, 6, 3)], [X], 2),
    "reverse": step("REVERSE_V2", [X, ints(1)], [of(*X.shape)], 3),
    "select": step("SELECT_V2", [Spec(X.shape, "bool"), X, of(*X.shape)], [of(*X.shape)]),
    "select old": step("SELECT", [Spec(X.shape, "bool"), X, of(*X.shape)], [of(*X.shape)]),
    "fill": step("FILL", [ints(2, 3), constant(np.array(-7, np.int8), 0.05, 3)], [of(2, 3)], 3),
    "depth to space": step("DEPTH_TO_SPACE", [of(1, 3, 2, 8)], [of(1, 6, 4, 2)], blockSize=2),
    "space to depth": step("SPACE_TO_DEPTH", [X], [of(2, 2, 3, 12)], 2, blockSize=2),
    "space to batch": step("SPACE_TO_BATCH_ND", [X, ints(2, 3), pads((1, 1), (0, 3))], [of(12, 3, 3, 3)], 2),
    "batch to space": step("BATCH_TO_SPACE_ND", [of(12, 3, 3, 3), ints(2, 3), pads((1, 1), (0, 3))], [X], 2),
    "greatest": step("ARG_MAX", [X, ints(3)], [Spec((2, 4, 6), "int32")], 2, outputType=2),
    "least": step("ARG_MIN", [X, ints(1)], [Spec((2, 6, 3), "int32")], 2, outputType=2),
    "top": step("TOPK_V2", [X, scalar(2)], [of(2, 4, 6, 2), Spec((2, 4, 6, 2), "int32")], 2),
    "cast": step("CAST", [N._replace(dtype="int64")], [N]),
    "cast stored": step("CAST", [X], [Spec(X.shape, "int32")]),
    "remainder": step("FLOOR_MOD", [N, constant(np.array([7, -3], np.int32))], [Spec((50, 2), "int32")]),
    "quotient": step("FLOOR_DIV", [N, constant(np.array([7, -3], np.int32))], [Spec((50, 2), "int32")], 2),
    "whole sum": step("ADD", [N, ints(100, -5)], [Spec((50, 2), "int32")]),
    "whole difference": step("SUB", [N, ints(2**31 - 50, 5)], [Spec((50, 2), "int32")]),
    "whole product": step("MUL", [N, ints(100, -5)], [Spec((50, 2), "int32")]),
    "whole maximum": step("MAXIMUM", [N, ints(10, -5)], [Spec((50, 2), "int32")]),
    "whole minimum": step("MINIMUM", [N, ints(10, -5)], [Spec((50, 2), "int32")]),
    "shape": step("SHAPE", [X], [Spec((4,), "int32")], outType=2),
}


@pytest.mark.parametrize("code", CASES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_agrees_with_reference_kernels(code: str, data: st.DataObject, tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", CASES[code](Draw(data), code))
    assert_same(path, data.draw(st.integers(0, 2**32)), LEAST.get(code, -128))


def grid(code: str, scale: float) -> Step:
    """Many pairs of elements."""
    x, y = Spec((1, 300, 1), "int8", 0.0371, 5), Spec((1, 1, 300), "int8", 0.0193, -17)
    return step(code, [x, y], [Spec((1, 300, 300), "int8", scale, 2)], 2)


DENSE = {
    "ADD": grid("ADD", 0.0473),
    "SUB": grid("SUB", 0.0473),
    "MUL": grid("MUL", 0.1234),
    "SQUARED_DIFFERENCE": grid("SQUARED_DIFFERENCE", 0.31),
    "SOFTMAX": step(
        "SOFTMAX", [Spec((3000, 12), "int8", 0.061)], [Spec((3000, 12), "int8", 1 / 256, -128)], 2, beta=1.0
    ),
    "FULLY_CONNECTED": step(
        "FULLY_CONNECTED",
        [Spec((400, 1), "int8", 0.5, 3), constant(np.array([[1], [2], [3], [5]], np.int8), 0.5), None],
        [Spec((400, 4), "int8", 1.0, -7)],
        4,
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_rounds_as_reference_kernels_do(name: str, tmp_path: Path) -> None:
    assert_same(write(tmp_path / "m.tflite", DENSE[name]), 0)


@pytest.mark.parametrize("name", MOVED)
def test_moves_and_counts_as_reference_kernels_do(name: str, tmp_path: Path) -> None:
    assert_same(write(tmp_path / "m.tflite", MOVED[name]), 0)


@pytest.mark.parametrize(
    ("x", "w", "y", "total", "expected"),
    [
        (0.0025694111827760935, 0.03772836923599243, 0.02974146045744419, 16414, 53),
        (0.09901531040668488, 0.02526930347084999, 0.6648337841033936, -24313, -92),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_dense_layers_multiply_by_the_real_factor(
    x: float, w: float, y: float, total: int, expected: int, channels: int, tmp_path: Path
) -> None:
    """Where a mantissa of 31 bits gives another result."""
    weights = constant(np.zeros((2, 1), np.int8), [w] * channels)
    bias = constant(np.full(2, total, np.int32), [x * w] * channels)
    path = write(
        tmp_path / "m.tflite",
        step("FULLY_CONNECTED", [Spec((1, 1), "int8", x), weights, bias], [Spec((1, 2), "int8", y)], 4),
    )
    assert_same(path, 0)
    assert IntegerModel(path).run({"t0": np.zeros((1, 1), np.int8)})["t3"].tolist() == [[expected] * 2]


def test_elu_agrees_with_the_only_kernel_there_is(tmp_path: Path) -> None:
    """The reference resolver has none."""
    x, y = Spec((4, 300), "int8", 0.04, -20), Spec((4, 300), "int8", 0.03, -90)
    assert_same(write(tmp_path / "m.tflite", step("ELU", [x], [y])), 0, reference=False)


@pytest.mark.parametrize(("scale", "code", "expected"), [(0.14687348902225494, 26, 123), (2.044280529022217, -3, -127)])
def test_logistic_is_a_table_of_float32_numbers(scale: float, code: int, expected: int, tmp_path: Path) -> None:
    """Where a fixed-point form gives another result."""
    x, y = Spec((1, 256), "int8", scale), Spec((1, 256), "int8", 1 / 256, -128)
    path = write(tmp_path / "m.tflite", step("LOGISTIC", [x], [y], 2))
    feeds = {"t0": np.arange(-128, 128, dtype=np.int8)[None]}
    ours = IntegerModel(path).run(feeds)["t1"]
    assert ours[0, code + 128] == expected
    np.testing.assert_array_equal(ours, executed(interpreter(path), feeds)["t1"])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_lstm_agrees_over_several_runs(data: st.DataObject, tmp_path: Path) -> None:
    assert_same(write(tmp_path / "m.tflite", lstm(Draw(data))), data.draw(st.integers(0, 2**32)), runs=3)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_reset_gives_an_lstm_its_first_state_back(data: st.DataObject, tmp_path: Path) -> None:
    model = IntegerModel(write(tmp_path / "m.tflite", lstm(Draw(data))))
    feeds = random_feeds(model, 0)
    (first,), (_,) = model.run(feeds).values(), model.run(feeds).values()
    model.reset()
    (again,) = model.run(feeds).values()
    np.testing.assert_array_equal(first, again)


def lstm(d: Draw) -> Step:
    """Gates in the order input, forget, cell, output; the states are variables, which the runs carry on."""
    batch, times, features, units = d.count(1, 2), d.count(1, 5), d.count(1, 6), d.count(1, 6)
    time_major = d.of(False, True)
    outer = (times, batch) if time_major else (batch, times)
    x = Spec((*outer, features), "int8", d.scale(), d.zero())
    state = Spec((batch, units), "int8", d.scale(2.0**-8, 2.0**-6), d.zero(), variable=True)
    cell = Spec((batch, units), "int16", 2.0 ** d.count(-13, -10), variable=True)
    weights = [constant(d.weights(units, n), d.scale(2.0**-9, 2.0**-6)) for n in [features] * 4 + [units] * 4]
    scales = [x.unit * w.unit for w in weights[:4]]
    biases = [d.bias(units, 1.0, [s])._replace(scale=s) for s in scales]
    result = Spec((*outer, units), "int8", state.scale, state.zero_point)
    hidden = Spec((0,), "int8", state.scale, state.zero_point)
    inputs = [x, *weights, None, None, None, *biases, None, None, state, cell, None, None, None, None]
    options = {"fusedActivationFunction": 4, "cellClip": d.of(0.0, 1.0, 10.0), "timeMajor": time_major}
    none = [Spec((0,), "float32") for _ in range(4)]
    return Step("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [result], 1, options, [*none, hidden])


def test_every_kernel_is_compared() -> None:
    moved = {s.code for s in MOVED.values()}
    assert set(KERNELS) - set(CASES) - moved == {"ELU", "UNIDIRECTIONAL_SEQUENCE_LSTM"}
