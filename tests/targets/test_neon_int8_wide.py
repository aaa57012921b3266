"""Libraries of 16-bit integers, of floats between integers, of recurrent layers; and any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.api import compile_model
from compiler.tensor import Array
from targets.neon.int8.emit import lowered, objections
from targets.tflite.integer import IntegerModel
from targets.tflite.reader import read
from tests.real_models import real_model
from tests.targets.neon_integers import MixedModel, assert_exact
from tests.targets.test_neon_int8 import QUICK, compiled, depthwise, is_defined
from tests.targets.test_tflite_integer_wide import VERSIONS, widened
from tests.targets.tflite_integer_cases import CASES, Draw
from tests.targets.tflite_integer_harness import Spec, Step, constant, ints, random_feeds, step, write

INT32 = 2  # in the schema's enumeration of types
WIDE_FUNCTIONS = {  # and the scales of operand and result
    "LOGISTIC": (2.0**-12, 2.0**-15), "TANH": (0.0003, 2.0**-15), "EXP": (0.0002, 0.01), "LOG": (0.001, 0.0002),
    "GELU": (0.0003, 0.0003), "RSQRT": (0.001, 0.003), "SQRT": (0.002, 0.0003), "RELU": (0.001, 0.0007),
    "RELU6": (0.001, 0.0007), "LEAKY_RELU": (0.001, 0.0008), "ABS": (0.001, 0.0011), "NEG": (0.001, 0.001),
    "SOFTMAX": (0.0005, 2.0**-15),
}  # fmt: skip


def wide_feeds(model: IntegerModel, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(np.iinfo(t.dtype.lower()).min, np.iinfo(t.dtype.lower()).max, t.shape).astype(
            t.dtype.lower()
        )
        for name, t in model.inputs.items()
    }


@QUICK
@given(st.data())
def test_random_operators_of_16_bits(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One or more of each kind, in one library; sums of 64 and of 32 bits."""
    tmp = tmp_path_factory.mktemp("wide")
    d = Draw(data)
    made: Callable[[str], Step] = lambda code: CASES[code](d, code)  # noqa: E731  # a name for what is drawn twice
    products = [c for c in ("CONV_2D", "TRANSPOSE_CONV", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") for _ in range(2)]
    drawn = [widened(made(code)) for code in (*VERSIONS, *products) if "DEPTHWISE" not in code]
    short = [widened(made(code), "int32") for code in ("CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")]
    drawn += [s._replace(options={**s.options, "quantizedBiasType": INT32}) for s in short]
    steps = [s for s in drawn if is_defined(tmp / "one.tflite", s, -(2**15))]
    model = IntegerModel(write(tmp / "all.tflite", *steps))
    assert len(steps) > len(drawn) / 2
    assert_exact(tmp / "all.tflite", [wide_feeds(model, seed) for seed in range(2)], tmp, variants=["base"])


def test_functions_of_16_bits(tmp_path: Path) -> None:
    """All numbers, by tables and by formulas; from one width to another."""
    steps = []
    for code, scales in WIDE_FUNCTIONS.items():
        shape = (60, 3) if code == "SOFTMAX" else (2**16,)
        options: dict[str, Any] = {"LEAKY_RELU": {"alpha": 0.2}, "SOFTMAX": {"beta": 1.0}}.get(code, {})
        given, made = (Spec(shape, "int16", scale) for scale in scales)
        steps.append(step(code, [given], [made], 2, **options))
    for source, result in (("int8", "int16"), ("int16", "int8"), ("int16", "int16"), ("int16", "float32")):
        code = "DEQUANTIZE" if result == "float32" else "QUANTIZE"
        y = Spec((400,), result) if result == "float32" else Spec((400,), result, 0.03, 7 if result == "int8" else 0)
        steps.append(step(code, [Spec((400,), source, 0.02, 5 if source == "int8" else 0)], [y], 3))
    model = IntegerModel(write(tmp_path / "f.tflite", *steps))
    feeds = wide_feeds(model, 0)
    for name, array in feeds.items():
        if array.size == 2**16:
            low = 0 if steps[[*feeds].index(name)].code in ("RSQRT", "SQRT") else -(2**15)
            feeds[name] = np.maximum(np.arange(-(2**15), 2**15), low).astype(np.int16)
    assert_exact(tmp_path / "f.tflite", [feeds], tmp_path, variants=["base"])


def test_sums_that_32_bits_do_not_hold(tmp_path: Path) -> None:
    """The greatest numbers times the greatest weights, of as many elements as fit 32 bits, and of more."""
    steps = []
    for k in (515, 600):
        w = constant(np.full((9, k), 127, np.int8), [0.01] * 9)
        bias = constant(np.full(9, 2**34, np.int64), [0.00001] * 9)
        y = Spec((3, 9), "int16", 30.0)
        steps.append(step("FULLY_CONNECTED", [Spec((3, k), "int16", 0.001), w, bias], [y], 4))
        conv = constant(np.full((9, 1, 1, k), 127, np.int8), [0.01] * 9)
        x = Spec((1, 1, 3, k), "int16", 0.001)
        steps.append(step("CONV_2D", [x, conv, bias], [Spec((1, 1, 3, 9), "int16", 30.0)], 4, strideH=1, strideW=1))
    model = IntegerModel(write(tmp_path / "s.tflite", *steps))
    most = {name: np.full(t.shape, -(2**15), np.int16) for name, t in model.inputs.items()}
    assert_exact(tmp_path / "s.tflite", [most, wide_feeds(model, 1)], tmp_path, variants=["base"])


def test_depthwise_of_16_bits(tmp_path: Path) -> None:
    """Channels that fill eights, and others."""
    steps = [widened(depthwise(6, 7, c, 3, c, strideH=s, strideW=s)) for c, s in ((16, 1), (13, 2), (3, 1))]
    model = IntegerModel(write(tmp_path / "d.tflite", *steps))
    assert_exact(tmp_path / "d.tflite", [wide_feeds(model, 1)], tmp_path, variants=["base"])


# -- floats --------------------------------------------------------------------------------------------------


def floats() -> list[Step]:
    """Operators of floats, each of its own operands."""
    rng = np.random.default_rng(2)
    x, y = Spec((2, 5, 6), "float32"), Spec((2, 5, 6), "float32")
    row = Spec((1, 1, 6), "float32")
    steps = [
        step(code, [x, row], [y._replace()], 1, fusedActivationFunction=i)
        for i, code in enumerate(("ADD", "SUB", "MUL", "DIV"))
    ]
    steps += [step(code, [x, row], [y._replace()]) for code in ("MAXIMUM", "SQUARED_DIFFERENCE")]
    codes = ("TANH", "LOGISTIC", "EXP", "ABS", "RELU", "HARD_SWISH", "NEG", "FLOOR", "SOFTMAX")
    steps += [step(code, [x], [y._replace()], 1, **({"beta": 1.0} if code == "SOFTMAX" else {})) for code in codes]
    image = Spec((1, 5, 6, 9), "float32")
    weights = [constant(rng.standard_normal(s).astype(np.float32)) for s in ((10, 3, 3, 9), (1, 3, 3, 9), (7, 9))]
    biases = [constant(rng.standard_normal(n).astype(np.float32)) for n in (10, 9, 7)]
    options = {"strideH": 1, "strideW": 1, "padding": 0, "fusedActivationFunction": 1}
    steps.append(step("CONV_2D", [image, weights[0], biases[0]], [Spec((1, 5, 6, 10), "float32")], 1, **options))
    given = {**options, "depthMultiplier": 1}
    steps.append(step("DEPTHWISE_CONV_2D", [image, weights[1], biases[1]], [image._replace()], 1, **given))
    rows = Spec((5, 9), "float32")
    steps.append(step("FULLY_CONNECTED", [rows, weights[2], biases[2]], [Spec((5, 7), "float32")]))
    steps.append(step("BATCH_MATMUL", [x, Spec((2, 6, 4), "float32")], [Spec((2, 5, 4), "float32")]))
    for code in ("MEAN", "REDUCE_MAX"):
        steps.append(step(code, [x, ints(1)], [Spec((2, 1, 6), "float32")], 1, keepDims=True))
    return steps


def test_operators_of_floats(tmp_path: Path) -> None:
    """Within rounding of NumPy's."""
    path = write(tmp_path / "f.tflite", *floats())
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(t.shape).astype(np.float32) for n, t in MixedModel(path).inputs.items()}
    assert_exact(path, [feeds], tmp_path, variants=["base"])


def test_floats_between_integers(tmp_path: Path) -> None:
    """A quotient, as an island; a comparison, which chooses."""
    x, y = Spec((1, 40), "int8", 0.1, 3), Spec((1, 40), "int8", 0.05, -128)
    a, b, c, d, e = (Spec((1, 40), "float32") for _ in range(5))
    less = Spec((1, 40), "bool")
    result = Spec((1, 40), "int8", 0.02, 1)
    steps = [
        step("DEQUANTIZE", [x], [a], 2),
        step("DEQUANTIZE", [y], [b], 2),
        step("ADD", [b, constant(np.array([0.5], np.float32))], [c]),
        step("DIV", [a, c], [d]),
        step("LESS", [d, a], [less]),
        step("SELECT_V2", [less, d, a], [e]),
        step("QUANTIZE", [e], [result], 2),
    ]
    path = write(tmp_path / "i.tflite", *steps)
    model = MixedModel(path)
    assert_exact(path, [random_feeds(model, seed) for seed in range(3)], tmp_path)


def test_padding_of_floats_is_not_truncated(tmp_path: Path) -> None:
    x, y = Spec((2, 3), "float32"), Spec((4, 3), "float32")
    fill = constant(np.array(0.75, np.float32).reshape(()))
    pads = constant(np.array([[1, 1], [0, 0]], np.int32))
    path = write(tmp_path / "p.tflite", step("PADV2", [x, pads, fill], [y]))
    assert_exact(path, [{"t0": np.ones((2, 3), np.float32)}], tmp_path, variants=[])


# -- others --------------------------------------------------------------------------------------------------


def lstm(batch: int, steps: int, features: int, units: int, clip: float = 0.0) -> Step:
    rng = np.random.default_rng(features)
    x = Spec((batch, steps, features), "int8", 0.02, 4)

    def weights(n: int) -> Spec:
        return constant(rng.integers(-127, 128, (units, n)).astype(np.int8), 0.005)

    biases = [constant(rng.integers(-3000, 3000, units).astype(np.int32), 0.0001) for _ in range(4)]
    state = Spec((batch, units), "int8", 1 / 128, -5, variable=True)
    cell = Spec((batch, units), "int16", 2.0**-11, variable=True)
    inputs = [x, *(weights(features) for _ in range(4)), *(weights(units) for _ in range(4)), None, None, None]
    inputs += [*biases, None, None, state, cell, None, None, None, None]
    made = step("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [Spec((batch, steps, units), "int8", 1 / 128, -5)], 3)
    hidden = [*(Spec((0,), "int16", 2.0**-12) for _ in range(4)), Spec((0,), "int8", 1 / 128, -5)]
    options = {"fusedActivationFunction": 4, "cellClip": clip, "timeMajor": False}
    return made._replace(options=options, intermediates=hidden)


@pytest.mark.parametrize("clip", [0.0, 0.7])
def test_recurrent_layers(clip: float, tmp_path: Path) -> None:
    path = write(tmp_path / "l.tflite", lstm(2, 7, 5, 6, clip))
    assert_exact(path, [random_feeds(IntegerModel(path), seed) for seed in range(2)], tmp_path, variants=["base"])


def test_places_of_the_greatest(tmp_path: Path) -> None:
    x = Spec((3, 40), "int8", 0.1, 3)
    results = [Spec((3, 5), "int8", 0.1, 3), Spec((3, 5), "int32")]
    path = write(tmp_path / "t.tflite", step("TOPK_V2", [x, ints(5)], results))
    assert_exact(path, [random_feeds(IntegerModel(path), 0, -3)], tmp_path, variants=[])


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit(threads: int, tmp_path: Path) -> None:
    """Products by lines and by columns, depthwise, sums, tables, softmax, matrices; 16 bits and floats too."""
    rng = np.random.default_rng(1)

    def conv(h: int, w: int, c: int, n: int, k: int) -> Step:
        weights = constant(rng.integers(-127, 128, (n, k, k, c)).astype(np.int8), [0.004] * n)
        bias = constant(rng.integers(-999, 999, n).astype(np.int32), [0.0001] * n)
        options = {"strideH": 1, "strideW": 1, "padding": 0, "fusedActivationFunction": 0}
        y = Spec((1, h, w, n), "int8", 0.1)
        return step("CONV_2D", [Spec((1, h, w, c), "int8", 0.02, 3), weights, bias], [y], 3, **options)

    x = Spec((1, 60, 700), "int8", 0.1, 3)
    sums = step("ADD", [x, x._replace(scale=0.2)], [x._replace(scale=0.3)], 2, fusedActivationFunction=0)
    softmax = step("SOFTMAX", [x], [x._replace(scale=1 / 256, zero_point=-128)], 2, beta=1.0)
    a, b = Spec((6, 80, 70), "int8", 0.1, 3), Spec((6, 70, 90), "int8", 0.1, 1)
    product = step("BATCH_MATMUL", [a, b], [Spec((6, 80, 90), "int8", 0.9)], 2, adjX=False, adjY=False)
    steps = [conv(40, 40, 32, 40, 1), conv(7, 7, 300, 200, 1), conv(30, 30, 16, 24, 3), conv(1, 1, 900, 103, 1)]
    steps += [sums, softmax, product, step("LOGISTIC", [x], [x._replace(scale=1 / 256, zero_point=-128)], 2)]
    steps += [depthwise(40, 40, 24, 3, 0), widened(conv(30, 30, 16, 24, 3)), widened(depthwise(40, 40, 24, 3, 0))]
    steps.append(step("ADD", [x, Spec((1, 60, 1), "int8", 0.2)], [x._replace(scale=0.3)], 2, fusedActivationFunction=0))
    path = write(tmp_path / "t.tflite", *steps)
    model = IntegerModel(path)
    program = lowered(read(path), "auto", [*model.inputs], [*model.outputs], threads=threads)
    assert sum(c.split is not None for c in program.calls) >= len(steps)
    assert_exact(path, [wide_feeds(IntegerModel(path), 1)], tmp_path, threads=threads)


def test_a_whole_model_of_16_bits(tmp_path: Path) -> None:
    options = {"precision": "int16x8", "calibrate": "synthetic", "repair": "off"}
    model, artifact = compiled("mlperf_tiny_kws_dscnn", tmp_path, **options)
    assert {t.dtype for t in model.inputs.values()} == {"INT16"}
    feeds = wide_feeds(model, 0)
    found, _ = artifact.executed([*feeds.values()], [np.dtype(np.int16)])
    for (got, _), due in zip(found, model.run(feeds).values(), strict=True):
        np.testing.assert_array_equal(got[: due.size], due.reshape(-1))


def test_what_the_runtime_leaves_undefined_is_refused(tmp_path: Path) -> None:
    x, y = Spec((1, 4), "int16", 1.0), Spec((1, 4), "int16", 2.0**-15)
    made = step("SUB", [x, y], [Spec((1, 4), "int16", 2.2e-5)], VERSIONS["SUB"], potScaleInt16=False)
    path = write(tmp_path / "m.tflite", made)
    assert objections(read(path)) == []
    with pytest.raises(Exception, match="shifts by a negative number of bits"):
        lowered(read(path), "base", ["t0", "t1"], ["t2"])


def test_a_budget_mixes_widths_and_floats(tmp_path: Path) -> None:
    """What misses the budget in 8 bits gets 16, then floats; the library computes all three."""
    source = real_model("mnist_cnn_opset8")
    options: dict[str, Any] = {"precision": "int8", "calibrate": "synthetic", "repair": "off", "min_psnr": 48.0}
    made = compile_model(source.path, "neon", tmp_path / "mixed", **options)
    assert made.report.verification is not None
    assert any("LEFT INT8 FOR THE BUDGET" in w and "in float32" in w for w in made.artifact.warnings)
    text = (tmp_path / "mixed" / "kernels_int8.c").read_text()
    assert "void int16_panels_short(" in text and "void float_panels(" in text
