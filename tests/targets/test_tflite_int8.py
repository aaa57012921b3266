"""Models in 8-bit integers: what the files hold, and how near LiteRT's results are to those of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.api import Compiled, compile_model
from compiler.compare import Comparison
from compiler.errors import LegalityError, UsageError
from compiler.graph import Graph
from compiler.ops.elementwise import Abs
from compiler.oracle import open_session
from compiler.pass_manager import PassManager
from compiler.quantize import represented
from compiler.tensor import Array
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.check import check
from targets.tflite.reader import File, Tensor, read
from targets.tflite.target import TfLiteTarget
from tests.passes.composed import Net
from tests.real_models import RealModel, real_model

FLOATS = ("FLOAT32", "FLOAT16", "FLOAT64")
FULL = (
    "mnist_cnn_opset8",
    "mobilenetv2s_cifar10_b1",
    "mlperf_tiny_resnet8",
    "vit_fashion_b1",
    "vit_fashion_dyn",
    "dreamgpt_dyn",
)
SNR_DB = {"mlperf_tiny_kws_dscnn": 20.0, "vit_fashion_b1": 24.0}  # of the outputs on labelled rows


def rows_of(model: RealModel) -> tuple[dict[str, Array], Array]:
    """Rows to calibrate on and to compare on: labelled ones where there are some, else seeded ones; and labels."""
    if model.rows is not None:
        return model.labelled()
    seeds = [model.random_inputs(np.random.default_rng(s)) for s in range(24)]
    return {n: np.concatenate([s[n] for s in seeds]) for n in seeds[0]}, np.zeros(len(seeds), np.int64)


def in_int8(name: str, folder: Path, **options: object) -> Compiled:
    model = real_model(name)
    rows = {n: a[::4] for n, a in rows_of(model)[0].items()}
    path = folder / f"{name}.tflite"
    options = {"precision": "int8", "calibrate": rows, "observer": "minmax", **options}
    return compile_model(model.path, TfLiteTarget(**options), path, inputs=model.bind)  # type: ignore[arg-type]  # chosen by the test


def tensors(file: File) -> list[Tensor]:
    return list(file.subgraphs[0].tensors)


def operators(result: Compiled) -> dict[str, int]:
    assert isinstance(result.artifact, TfLiteArtifact)
    return result.artifact.operators


def snr_db(reference: Array, measured: Array) -> float:
    signal, noise = (
        np.square(reference, dtype=np.float64).sum(),
        np.square(reference - measured, dtype=np.float64).sum(),
    )
    return float(10 * np.log10(signal / noise))


@pytest.mark.parametrize("name", SNR_DB)
def test_labelled_rows_are_classified_as_before(name: str, tmp_path: Path) -> None:
    model = real_model(name)
    rows, labels = rows_of(model)
    result = in_int8(name, tmp_path)
    session = open_session(model.path)
    expected, measured = [], []
    for i in range(0, len(labels), 2):
        row = {n: a[i : i + 1] for n, a in rows.items()}
        expected.append(session.run(session.outputs, row)[0].reshape(-1))
        measured.append(next(iter(result.run(row).values())).reshape(-1))
    a, b = np.array(expected), np.array(measured)
    right, kept = (a.argmax(1) == labels[::2]).mean(), (b.argmax(1) == labels[::2]).mean()
    assert kept > right - 0.021, f"{kept} of the rows instead of {right}"
    assert snr_db(a, b) > SNR_DB[name]


@pytest.mark.parametrize(
    "name", ["mnist_cnn_opset8", "mobilenetv2s_cifar10_b1", "mlperf_tiny_resnet8", "vit_fashion_b1"]
)
def test_no_float_is_left_in_the_file(name: str, tmp_path: Path) -> None:
    result = in_int8(name, tmp_path)
    assert result.report.passed and not any("INTEGER" in w for w in result.artifact.warnings)
    file = read(result.path)
    assert len(file.subgraphs) == 1
    assert {t.dtype for t in tensors(file)} <= {"INT8", "INT32", "INT64", "BOOL"}
    for target in ("nnapi", "edgetpu"):
        assert [f for f in check(result.path, target).findings if f.severity == "error"] == []
    assert not {"QUANTIZE", "DEQUANTIZE", "FILL"} & set(operators(result))


def test_scales_keep_the_specification(tmp_path: Path) -> None:
    result = in_int8("mobilenetv2s_cifar10_b1", tmp_path)
    graph = read(result.path).subgraphs[0]
    products = [o for o in graph.operators if o.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert len(products) == 21
    for o in products:
        x, w, b = (graph.tensors[i] for i in o.inputs)
        assert x.quantization and w.quantization and b.quantization
        axis = 3 if o.code == "DEPTHWISE_CONV_2D" else 0
        assert w.quantization.axis == axis and len(w.quantization.scale) == w.shape[axis]
        assert w.data is not None and not np.any(w.quantization.zero_point)
        assert w.data.view(np.int8).min() == -127 or w.data.view(np.int8).max() == 127
        assert w.data.view(np.int8).min() >= -127
        scales = np.float32(x.quantization.scale[0]) * np.asarray(w.quantization.scale, np.float32)
        assert np.array_equal(np.asarray(b.quantization.scale, np.float32), scales)
    assert {o.version for o in products if o.code == "CONV_2D"} == {3}


@pytest.mark.parametrize(("io_dtype", "kinds"), [("int8", np.int8), ("uint8", np.uint8), ("float32", np.float32)])
def test_inputs_and_outputs_have_the_type_asked_for(io_dtype: str, kinds: type, tmp_path: Path) -> None:
    result = in_int8("mnist_cnn_opset8", tmp_path, io_dtype=io_dtype)
    graph = read(result.path).subgraphs[0]
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {np.dtype(kinds).name.upper()}
    conversions = {"int8": {}, "uint8": {"QUANTIZE": 2}, "float32": {"QUANTIZE": 1, "DEQUANTIZE": 1}}[io_dtype]
    assert {c: n for c, n in operators(result).items() if c.endswith("QUANTIZE")} == conversions
    row = real_model("mnist_cnn_opset8").random_inputs(np.random.default_rng(0))
    (output,) = result.run(row).values()
    (again,) = in_int8("mnist_cnn_opset8", tmp_path).run(row).values()
    assert output.dtype == np.float32 and np.array_equal(output, again)


def test_the_same_data_gives_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append(in_int8("mnist_cnn_opset8", tmp_path / name).path.read_bytes())
    assert files[0] == files[1]


def test_the_file_is_compared_on_the_calibration_data(tmp_path: Path) -> None:
    """The input of this network is pixels from 0 to 255: seeded normal numbers would be rounded to noise."""
    model = real_model("mnist_cnn_opset8")
    image = np.random.default_rng(1).integers(0, 256, (8, 1, 28, 28)).astype(np.float32)
    result = compile_model(
        model.path, "nnapi", tmp_path / "m.tflite", precision="int8", calibrate={"Input3": image}, observer="minmax"
    )
    assert isinstance(result.report.verification, list) and isinstance(result.report.verification[0], Comparison)
    assert result.report.passed and result.report.verification[0].psnr_db > 30
    assert isinstance(result.artifact, TfLiteArtifact)
    (port,) = result.artifact.inputs
    assert port.quant is not None and represented(port.quant) == pytest.approx((0, 255), abs=1)
    assert result.report.transposes is not None and "lower_bound_bytes" not in result.report.transposes


def test_what_has_no_kernel_stays_float_with_a_warning_or_is_refused(tmp_path: Path) -> None:
    rows = [
        {n: np.random.default_rng(i).uniform(0.5, 2, (1, 6)).astype(np.float32) for n in ("x0", "x1")} for i in range(8)
    ]

    def written(strict: bool) -> TfLiteArtifact:
        net = Net()
        graph = net.returns((net.input(1, 6) * 2.0) / net.input(1, 6))
        target = TfLiteTarget("int8", calibrate=rows, observer="minmax", repair="off")
        target.strict = strict
        rewritten, _ = PassManager(target.pipeline()).run(graph)
        return target.emit(target.prepare(rewritten), tmp_path / f"{strict}.tflite")

    artifact = written(strict=False)
    (warning,) = [w for w in artifact.warnings if "NOT FULL INTEGER" in w]
    assert "DIV" in warning and "no int8 kernel" in warning
    assert artifact.operators["DIV"] == 1
    np.testing.assert_allclose(artifact.run(rows[0])["y0"], 2 * rows[0]["x0"] / rows[0]["x1"], atol=0.1)
    with pytest.raises(LegalityError, match="DIV has no int8 kernel"):
        written(strict=True)
    assert not (tmp_path / "True.tflite").exists()


def test_a_division_by_what_is_positive_has_no_float(tmp_path: Path) -> None:
    rows = [{"x0": np.random.default_rng(i).normal(size=(1, 64)).astype(np.float32)} for i in range(8)]
    net = Net()
    x = net.input(1, 64)
    graph = net.returns(x / (net(Abs(), x) + 1.0))
    target = TfLiteTarget("int8", calibrate=rows, observer="minmax", repair="off")
    target.strict = True
    rewritten, _ = PassManager(target.pipeline()).run(graph)
    artifact = target.emit(target.prepare(rewritten), tmp_path / "m.tflite")
    assert not {"DIV", "DEQUANTIZE"} & set(artifact.operators)
    expected = np.concatenate([r["x0"] / (1 + np.abs(r["x0"])) for r in rows])
    assert snr_db(expected, np.concatenate([artifact.run(r)["y0"] for r in rows])) > 30


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "int8"}, "needs data that shows what numbers occur"),
        ({"precision": "fp16", "calibrate": "synthetic"}, "--calibrate is for --precision int8"),
        ({"io_dtype": "uint8"}, "--io-dtype is for --precision int8"),
        ({"precision": "int8", "calibrate": "synthetic", "io_dtype": "int4"}, "no I/O element type 'int4'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        TfLiteTarget(**options).settle(Graph())  # type: ignore[arg-type]  # wrong on purpose


def test_synthetic_data_is_warned_of(tmp_path: Path) -> None:
    model = real_model("mnist_cnn_opset8")
    result = compile_model(
        model.path, "nnapi", tmp_path / "m.tflite", precision="int8", calibrate="synthetic", observer="minmax"
    )
    assert any("SYNTHETIC" in w for w in result.artifact.warnings)
