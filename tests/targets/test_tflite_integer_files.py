"""The integer evaluator on files of several operators, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.api import compile_model
from compiler.errors import CompileError
from targets.tflite.integer import IntegerModel, NoReferenceError
from targets.tflite.reader import read
from targets.tflite.target import TfLiteTarget
from tests.real_models import real_model
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

RNG = np.random.default_rng(7)
X = Spec((4,), "int8", 0.1)


def kernel(*shape: int, axis: int = 0) -> Spec:
    scales = RNG.uniform(0.001, 0.02, shape[axis]).tolist()
    return constant(RNG.integers(-127, 128, shape).astype(np.int8), scales, 0, axis)


def bias(source: float, weights: Spec) -> Spec:
    assert isinstance(weights.scale, list)
    return constant(RNG.integers(-900, 900, len(weights.scale)).astype(np.int32), [source * s for s in weights.scale])


def network() -> list[Step]:
    """A float image; convolution, a residual depthwise block, a gate, concatenation, classifier; a float result."""
    image = Spec((1, 12, 12, 3), "float32")
    x = Spec((1, 12, 12, 3), "int8", 0.03, -5)
    a, b, c = (Spec((1, 6, 6, 8), "int8", s, z) for s, z in ((0.05, -128), (0.06, 4), (0.08, -20)))
    gate = Spec((1, 6, 6, 8), "int8", 1 / 256, -128)
    gated = Spec((1, 6, 6, 8), "int8", 0.07, 9)
    moved = Spec((1, 6, 6, 8), "int8", 0.08, -20)
    joined = Spec((1, 6, 6, 16), "int8", 0.08, -20)
    mean = Spec((1, 1, 1, 16), "int8", 0.03, -11)
    flat = mean._replace(shape=(1, 16))
    logits = Spec((1, 10), "int8", 0.1, 3)
    odds, result = Spec((1, 10), "int8", 1 / 256, -128), Spec((1, 10), "float32")
    w, d, f = kernel(8, 3, 3, 3), kernel(1, 3, 3, 8, axis=3), kernel(10, 16)
    return [
        step("QUANTIZE", [image], [x], 2),
        step("CONV_2D", [x, w, bias(0.03, w)], [a], 3, strideH=2, strideW=2, fusedActivationFunction=3),
        step("DEPTHWISE_CONV_2D", [a, d, bias(0.05, d)], [b], 3, strideH=1, strideW=1, depthMultiplier=1),
        step("ADD", [a, b], [c], 2, fusedActivationFunction=1),
        step("LOGISTIC", [c], [gate], 2),
        step("MUL", [c, gate], [gated], 2),
        step("QUANTIZE", [gated], [moved], 2),
        step("CONCATENATION", [c, moved], [joined], 2, axis=3),
        step("MEAN", [joined, ints(1, 2)], [mean], 2, keepDims=True),
        step("RESHAPE", [mean, ints(1, 16)], [flat]),
        step("FULLY_CONNECTED", [flat, f, bias(0.03, f)], [logits], 4),
        step("SOFTMAX", [logits], [odds], 2, beta=1.0),
        step("DEQUANTIZE", [odds], [result], 2),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_network_agrees(seed: int, tmp_path: Path) -> None:
    assert_same(write(tmp_path / "m.tflite", *network()), seed)


def test_values_of_all_tensors(tmp_path: Path) -> None:
    """Numbers are the file's; the softmax sums to 1 within the rounding of ten results."""
    model = IntegerModel(write(tmp_path / "m.tflite", *network()))
    values = model.values({"t0": np.zeros((1, 12, 12, 3), np.float32)})
    assert (values[1] == -5).all()
    odds = next(v for n, v in values.items() if v.shape == (1, 10) and v.dtype == np.int8 and n + 1 in values)
    assert odds.dtype == np.int8
    (result,) = (values[t.number] for t in model.outputs.values())
    assert result.sum() == pytest.approx(1, abs=10 / 512)


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
@pytest.mark.parametrize("name", ["mlperf_tiny_resnet8", "mlperf_tiny_kws_dscnn", "vit_fashion_b1", "yunet_n_320"])
def test_all_tensors_of_emitted_models_agree(name: str, precision: str, tmp_path: Path) -> None:
    model = real_model(name)
    rows = [model.random_inputs(np.random.default_rng(s)) for s in range(4)]
    calibration = {n: np.concatenate([r[n] for r in rows]) for n in rows[0]}
    target = TfLiteTarget(precision=precision, calibrate=calibration, observer="minmax", repair="off")
    path = tmp_path / "m.tflite"
    compile_model(model.path, target, path, inputs=model.bind)
    evaluator, opened = IntegerModel(path), interpreter(path, keep=True)
    values = evaluator.values(random_feeds(evaluator, 0))
    for tensor in evaluator.inputs.values():
        opened.set_tensor(tensor.number, values[tensor.number])
    opened.invoke()
    computed = {n for o in read(path).subgraphs[0].operators for n in o.outputs}
    assert len(computed) > 10
    for number in computed:
        np.testing.assert_array_equal(values[number], opened.get_tensor(number))


def test_unknown_operator_is_refused(tmp_path: Path) -> None:
    x, y = Spec((4,), "float32"), Spec((4,), "float32")
    path = write(tmp_path / "m.tflite", step("COS", [x], [y]))
    with pytest.raises(NoReferenceError, match=r"operator 0 \(COS\) has no integer reference: it is of a kind"):
        IntegerModel(path)


def test_float_layers_are_refused(tmp_path: Path) -> None:
    x, y = Spec((4,), "float32"), Spec((4,), "float32")
    path = write(tmp_path / "m.tflite", step("RELU", [x], [y]))
    with pytest.raises(NoReferenceError, match=r"\(RELU\) .* works on FLOAT32 elements, not on INT16 or INT8"):
        IntegerModel(path)


def test_missing_scale_is_refused(tmp_path: Path) -> None:
    model = IntegerModel(write(tmp_path / "m.tflite", step("RELU", [Spec((4,))], [Spec((4,), "int8", 0.1)], 2)))
    with pytest.raises(NoReferenceError, match=r'it has no quantization of tensor "t0"'):
        model.run({"t0": np.zeros(4, np.int8)})


def test_other_results_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", step("MUL", [X, X], [Spec((4,), "int16", 0.1)], 2))
    with pytest.raises(NoReferenceError, match=r"operator 0 \(MUL\) .* gives INT16 elements of INT8 ones"):
        IntegerModel(path)


def test_operands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", step("ADD", [X, Spec((3,), "int8", 0.1)], [Spec((4,), "int8", 0.1)], 2))
    with pytest.raises(NoReferenceError, match=r"operator 0 \(ADD\) .* does not fit its operands"):
        IntegerModel(path).run({"t0": np.zeros(4, np.int8), "t1": np.zeros(3, np.int8)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r'input "t0" is missing'),
        ({"t0": np.zeros(4, np.int16)}, r'input "t0" is int16\[4\] where the file has int8\[4\]'),
        ({"t0": np.zeros(3, np.int8)}, r'input "t0" is int8\[3\] where the file has int8\[4\]'),
    ],
)
def test_wrong_inputs_are_named(feeds: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    model = IntegerModel(
        write(tmp_path / "m.tflite", step("RELU", [Spec((4,), "int8", 0.1)], [Spec((4,), "int8", 0.1)], 2))
    )
    with pytest.raises(CompileError, match=message):
        model.run(feeds)


def test_floats_are_rounded_half_away_from_zero(tmp_path: Path) -> None:
    """In the runtime and here."""
    path = write(tmp_path / "m.tflite", step("QUANTIZE", [Spec((4,), "float32")], [Spec((4,), "int8", 0.5)], 2))
    feeds = {"t0": np.array([0.25, -0.25, 0.75, -1.25], np.float32)}
    assert IntegerModel(path).run(feeds)["t1"].tolist() == [1, -1, 2, -3]
    assert executed(interpreter(path), feeds)["t1"].tolist() == [1, -1, 2, -3]
