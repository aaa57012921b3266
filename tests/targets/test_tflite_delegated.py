"""Layers written with the operators that LiteRT's delegate takes: which operators those are, and their numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.api import Compiled, compile_model, load
from compiler.evaluate import evaluate
from compiler.tensor import Array
from targets.tflite.artifact import TfLiteArtifact


def compiled(body: str, tmp_path: Path, channels: int = 4, size: int = 9) -> tuple[dict[str, int], Array, Array]:
    """Operators of the file of a graph from x to y, and what it and the evaluator give for numbers of both signs."""
    rng = np.random.default_rng(0)
    text = f"""
        <ir_version: 8, opset_import: ["" : 15]>
        g (float[1, {channels}, {size}, {size}] x) => (float[n, c, h, w] y) <
            float[{channels}] s = {{{", ".join(f"{v:.3f}" for v in rng.uniform(0.5, 2, channels))}}},
            float[{channels}] t = {{{", ".join(f"{v:.3f}" for v in rng.standard_normal(channels))}}}
        > {{ {body} }}"""
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    result: Compiled = compile_model(model, "nnapi", tmp_path / "m.tflite", verify="off")
    assert isinstance(result.artifact, TfLiteArtifact)
    x = rng.standard_normal((1, channels, size, size)).astype(np.float32) * 3
    expected = evaluate(load(model), {"x": x})["y"]
    return result.artifact.operators, result.artifact.run({"x": x})["y"], expected


POOL = "MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 0, 0]>"


@pytest.mark.parametrize(
    "before",
    ["r = Relu(x)", "a = Sigmoid(x) r = Concat<axis = 1>(a, a)", "a = Relu(x) r = AveragePool<kernel_shape=[2, 2]>(a)"],
)
def test_what_is_never_negative_is_padded_with_zeros_before_a_max_pool(before: str, tmp_path: Path) -> None:
    operators, y, expected = compiled(f"{before} y = {POOL}(r)", tmp_path, size=10)
    assert operators.get("PAD") == 1 and "PADV2" not in operators
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "before", ["e = Exp(x) r = Neg(e)", "a = Relu(x) e = Exp(x) n = Neg(e) r = Concat<axis = 1>(a, n)"]
)
def test_what_may_be_negative_is_not(before: str, tmp_path: Path) -> None:
    operators, y, expected = compiled(f"{before} y = {POOL}(r)", tmp_path, size=10)
    assert operators.get("PADV2") == 1
    assert expected.min() < 0
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize(("channels", "size", "code"), [(2, 500, "PAD"), (2, 520, "PADV2"), (64, 112, "PAD")])
def test_the_runtime_pads_what_is_large_and_narrow(channels: int, size: int, code: str, tmp_path: Path) -> None:
    operators, y, expected = compiled(f"r = Relu(x) y = {POOL}(r)", tmp_path, channels=channels, size=size)
    assert {"PAD", "PADV2"} & set(operators) == {code}
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [9, 10, 11])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (2, 3), (1, 3)])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_what_no_window_reaches_is_not_cut_off(pool: str, kernel: int, stride: int, size: int, tmp_path: Path) -> None:
    window = f"kernel_shape = [{kernel}, {kernel}], strides = [{stride}, {stride}]"
    operators, y, expected = compiled(f"y = {pool}<{window}>(x)", tmp_path, size=size)
    assert "STRIDED_SLICE" not in operators
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.75])
@pytest.mark.parametrize("window", [3, 4, 5])
def test_response_normalisation_is_roots_and_a_band_matrix(window: int, beta: float, tmp_path: Path) -> None:
    body = f"y = LRN<size = {window}, alpha = 0.3, beta = {beta}, bias = 1.5>(x)"
    operators, y, expected = compiled(body, tmp_path, channels=8)
    assert operators == {"CONV_2D": 1, "MUL": 1 if beta == 0.5 else 2, "RSQRT": 1, "SQUARE": 1} | (
        {} if beta == 0.5 else {"SQRT": 1}
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "channels", "code"),
    [
        ("size = 3, beta = 0.6, bias = 1.0", 8, "LOCAL_RESPONSE_NORMALIZATION"),
        ("size = 4, beta = 0.6, bias = 1.0", 8, "POW"),
        ("size = 3, beta = 0.75, bias = 1.0", 520, "LOCAL_RESPONSE_NORMALIZATION"),
    ],
)
def test_other_response_normalisations(attributes: str, channels: int, code: str, tmp_path: Path) -> None:
    operators, y, expected = compiled(f"y = LRN<alpha = 0.3, {attributes}>(x)", tmp_path, channels, size=3)
    assert operators[code] == 1 and "CONV_2D" not in operators
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)


def test_a_scale_and_shift_with_its_activation_is_one_operator(tmp_path: Path) -> None:
    body = f"a = {POOL}(x) b = BatchNormalization(a, s, t, t, s) y = Relu(b)"
    operators, y, expected = compiled(body, tmp_path)
    assert operators == {"DEPTHWISE_CONV_2D": 1, "MAX_POOL_2D": 1, "PADV2": 1}
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "operators"),
    [
        ("y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)", {"ADD": 1, "MUL": 1}),
        ("y = HardSigmoid<alpha = 0.2, beta = 0.5>(x)", {"ADD": 1, "MINIMUM": 1, "MUL": 1}),
        ("y = HardSigmoid<alpha = 0.2, beta = 0.0>(x)", {"MINIMUM": 1, "MUL": 1}),
        ("y = HardSigmoid<alpha = 1.0, beta = 0.0>(x)", {"MINIMUM": 1, "RELU": 1}),
    ],
)
def test_a_clipped_line_is_bent_where_it_is_computed(body: str, operators: dict[str, int], tmp_path: Path) -> None:
    found, y, expected = compiled(body, tmp_path)
    assert found == operators
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
