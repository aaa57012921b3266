"""Activations of 16 bits: whole models, single values and budgets, executed in LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.api import Compiled, compile_model
from compiler.calibrate.trial import Trial, mean_snr
from compiler.compare import top1_agreement
from compiler.errors import LegalityError, UsageError, VerificationError
from compiler.evaluate import evaluate
from compiler.onnx_export import export_bytes
from compiler.oracle import open_session, run_session
from compiler.pass_manager import PassManager
from compiler.simulate import simulated
from compiler.tensor import I8, I16, Array
from passes._int16 import values, widened
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.check import check
from targets.tflite.int8_rules import builtins
from targets.tflite.reader import read
from targets.tflite.target import TfLiteTarget
from tests.passes.composed import Net
from tests.passes.weighted import KINDS, conv
from tests.real_models import real_model
from tests.targets.test_tflite_int8 import rows_of
from tests.targets.test_tflite_int8_layers import EVERY, Make

WEIGHTS_DB, ELSE_DB = 39.0, 65.0  # 8-bit weights limit what their layers reach
OF_WEIGHTS = (*KINDS, "convs of signals", "conv relu", "conv without bias", "residual", "classifier", "depth_to_space")
IN_EIGHT = {"elu": 38.0}  # no kernel takes 16 bits


def in_16(make: Make, folder: Path, widen: bool = True) -> tuple[TfLiteArtifact, Array, Array]:
    net = Net()
    graph = net.returns(make(net, net.input(1, 6, 8, 8)))
    rows = np.random.default_rng(5).normal(size=(6, 1, 6, 8, 8)).astype(np.float32)
    expected = np.concatenate([evaluate(graph, {"x0": r})["y0"].reshape(1, -1) for r in rows])
    target = TfLiteTarget("int16x8" if widen else "int8", calibrate=[{"x0": r} for r in rows], repair="off")
    rewritten, _ = PassManager(target.pipeline()).run(graph)
    artifact = target.emit(target.prepare(rewritten), folder / "m.tflite")
    assert [w for w in artifact.warnings if "INTEGER" in w] == []
    return artifact, expected, np.concatenate([artifact.run({"x0": r})["y0"].reshape(1, -1) for r in rows])


def snr_db(expected: Array, measured: Array) -> float:
    return mean_snr([{"y": expected}], [{"y": measured}])


@pytest.mark.parametrize("name", EVERY)
def test_layer(name: str, tmp_path: Path) -> None:
    artifact, expected, measured = in_16(EVERY[name], tmp_path)
    assert not {"DEQUANTIZE", "FULLY_CONNECTED"} & set(artifact.operators)
    kinds = {t.dtype for t in read(artifact.path).subgraphs[0].tensors}
    assert kinds <= {"INT16", "INT8", "INT32", "INT64", "BOOL"} and ("INT16" in kinds) is (name not in IN_EIGHT)
    least = IN_EIGHT.get(name, WEIGHTS_DB if name in OF_WEIGHTS else ELSE_DB)
    assert snr_db(expected, measured) > least, artifact.operators


def test_an_inverse_root_near_zero_has_places_of_its_own(tmp_path: Path) -> None:
    def make(n: Net, x: object) -> object:
        return n(ops.Pow(), n(ops.Mul(), x, x) + 0.01, -0.5)  # type: ignore[arg-type]  # of the composed net

    artifact, expected, measured = in_16(make, tmp_path)  # type: ignore[arg-type]  # see above
    assert artifact.operators["RSQRT"] == 2
    assert snr_db(expected, measured) > 45


def compiled(name: str, folder: Path, **options: object) -> Compiled:
    model = real_model(name)
    rows = {n: a[::2][:48] for n, a in rows_of(model)[0].items()}
    target = TfLiteTarget(**{"precision": "int16x8", "calibrate": rows, "repair": "off", **options})  # type: ignore[arg-type]  # chosen by the test
    return compile_model(model.path, target, folder / "m.tflite", inputs=model.bind, verify="off")


def outputs(name: str, result: Compiled) -> tuple[Array, Array]:
    model = real_model(name)
    session = open_session(model.path)
    rows, _ = rows_of(model)
    count = min(60, *map(len, rows.values()))
    feeds = [{n: a[i : i + 1] for n, a in rows.items()} for i in range(0, count, 2)]
    expected = [next(iter(run_session(session, f).values())).reshape(1, -1) for f in feeds]
    assert isinstance(result.artifact, TfLiteArtifact)
    measured = [next(iter(r.values())).reshape(1, -1) for r in result.artifact.run_rows(feeds)]
    return np.concatenate(expected), np.concatenate(measured)


@pytest.mark.parametrize(("name", "least"), [("mlperf_tiny_kws_dscnn", 30.0), ("vit_fashion_b1", 42.0)])
def test_real_models_agree_with_floats_and_with_the_simulation(name: str, least: float, tmp_path: Path) -> None:
    result = compiled(name, tmp_path)
    a, b = outputs(name, result)
    assert snr_db(a, b) > least and (top1_agreement(a, b) or 0) > 0.96
    feeds = [{n: v[i : i + 1] for n, v in rows_of(real_model(name))[0].items()} for i in range(4)]
    told = Trial(feeds).run(simulated(result.graph).graph)
    assert mean_snr(told, [result.run(f) for f in feeds]) > 40, "LiteRT computes what the simulation says"


def test_the_file_and_what_the_contract_says_of_it(tmp_path: Path) -> None:
    result = compiled("mlperf_tiny_kws_dscnn", tmp_path)
    graph = read(result.path).subgraphs[0]
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {"INT16"}
    for o in graph.operators:
        rule = builtins()[o.code].wide
        assert rule is not None and o.version >= rule.version
        if o.code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            x, w, b = (graph.tensors[i] for i in o.inputs)
            assert (x.dtype, w.dtype, b.dtype) == ("INT16", "INT8", "INT64")
            assert x.quantization and w.quantization and b.quantization and not x.quantization.zero_point.any()
            product = np.float32(x.quantization.scale[0]) * np.asarray(w.quantization.scale, np.float32)
            assert np.array_equal(np.asarray(b.quantization.scale, np.float32), product)
    for device in ("nnapi", "edgetpu"):
        report = check(result.path, device)
        assert report.kind == "16x8" and not any(p.on_device for p in report.placements)
        assert any("leave the device" in f.message for f in report.findings if f.severity == "error")


@pytest.mark.parametrize(("io_dtype", "kind"), [("int8", "INT8"), ("uint8", "UINT8"), ("float32", "FLOAT32")])
def test_inputs_and_outputs_have_the_type_asked_for(io_dtype: str, kind: str, tmp_path: Path) -> None:
    result = compiled("mnist_cnn_opset8", tmp_path, io_dtype=io_dtype)
    graph = read(result.path).subgraphs[0]
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {kind}
    assert (top1_agreement(*outputs("mnist_cnn_opset8", result)) or 0) == 1.0


def test_a_single_value_of_sixteen_bits_is_converted_around_its_layers(tmp_path: Path) -> None:
    """conv (8 bits) -> relu of 16 bits -> conv (8 bits): both convolutions compute in 16x8, the ports stay in 8."""
    net = Net()
    graph = net.returns(conv(net(ops.Relu(), conv(net.input(1, 6, 8, 8), 6)), 5))
    rows = [{"x0": np.random.default_rng(i).normal(size=(1, 6, 8, 8)).astype(np.float32)} for i in range(5)]
    target = TfLiteTarget("int8", calibrate=rows, repair="off", observer="minmax")
    rewritten, _ = PassManager(target.pipeline()).run(graph)
    (relu,) = rewritten.of(ops.Relu)
    for v in (relu.inputs[0], relu.output):
        assert v is not None and v.type.quant is not None
        v.type = v.type._replace(quant=widened(v.type.quant))
    artifact = target.emit(target.prepare(rewritten), tmp_path / "m.tflite")
    assert isinstance(artifact, TfLiteArtifact)
    assert artifact.operators == {"CONV_2D": 2, "QUANTIZE": 2}
    assert {str(p.quant.dtype) for p in (*artifact.inputs, *artifact.outputs) if p.quant} == {str(I8)}
    told = Trial(rows).run(simulated(rewritten).graph)
    assert mean_snr(told, [artifact.run(r) for r in rows]) > 45


def test_a_budget_is_kept_by_the_executed_file(tmp_path: Path) -> None:
    plain = compiled("mlperf_tiny_kws_dscnn", tmp_path, precision="int8")
    result = compiled("mlperf_tiny_kws_dscnn", tmp_path, precision="int8", min_psnr=44.0)
    assert isinstance(plain.artifact, TfLiteArtifact) and isinstance(result.artifact, TfLiteArtifact)
    (warning,) = [w for w in result.report.warnings if w.startswith("LEFT INT8 FOR THE BUDGET")]
    assert "in int16" in warning and "bytes" in warning and "NNAPI takes" in warning and "executed on" in warning
    assert float(warning.rpartition("PSNR ")[2].split()[0]) >= 44
    assert snr_db(*outputs("mlperf_tiny_kws_dscnn", result)) > snr_db(*outputs("mlperf_tiny_kws_dscnn", plain)) + 3
    kinds = {v.type.quant.dtype for v in values(result.graph) if v.type.quant}
    assert kinds == {I8, I16}
    entries = [e for e in result.ledger.entries if e.pass_name == "fall-back"]
    assert len(entries) == 1 and "in int16" in entries[0].rule


def test_a_budget_is_measured_on_rows_that_an_iterator_gives_once(tmp_path: Path) -> None:
    rows = [{"x0": r} for r in np.random.default_rng(0).normal(size=(40, 1, 1, 8, 8)).astype(np.float32)]
    net = Net()
    graph = net.returns(conv(net.input(1, 1, 8, 8), 3))
    found = [
        compile_model(
            export_bytes(graph), "nnapi", tmp_path / f"{i}.tflite", precision="int8", calibrate=source, min_psnr=20.0
        )
        for i, source in enumerate((iter(rows), rows))
    ]
    assert "executed on 40 rows" in found[0].artifact.notes[0]
    assert found[0].path.read_bytes() == found[1].path.read_bytes()


@pytest.mark.parametrize("labels", [np.array(["a"] * 8), np.zeros((8, 3), np.int64), np.zeros(8)])
def test_labels_that_are_no_classes_are_refused(labels: Array) -> None:
    data = {"x0": np.ones((8, 1, 8, 8), np.float32), "labels": labels}
    with pytest.raises(UsageError, match="not a class for each row"):
        TfLiteTarget("int8", calibrate=data, max_drop="1%")
    TfLiteTarget("int8", calibrate=data, min_psnr=30.0)


def test_a_budget_beyond_16x8_leaves_floats_that_litert_computes(tmp_path: Path) -> None:
    result = compiled("mlperf_tiny_kws_dscnn", tmp_path, precision="int8", min_psnr=66.0)
    assert isinstance(result.artifact, TfLiteArtifact)
    assert {"FLOAT32"} < {t.dtype for t in read(result.path).subgraphs[0].tensors}
    assert any("in float32" in w for w in result.report.warnings)
    a, b = outputs("mlperf_tiny_kws_dscnn", result)
    assert 20 * np.log10(np.abs(a).max() / np.sqrt(np.mean(np.square(a - b)))) > 60


def test_a_budget_that_nothing_keeps_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="cannot be met: in float32, executed"):
        compiled("mnist_cnn_opset8", tmp_path, precision="int8", min_psnr=300.0)
    assert not (tmp_path / "m.tflite").exists()


def test_strict_refuses_to_leave_int8(tmp_path: Path) -> None:
    model = real_model("mlperf_tiny_kws_dscnn")
    rows = {n: a[:40] for n, a in rows_of(model)[0].items()}
    target = TfLiteTarget("int8", calibrate=rows, repair="off", min_psnr=44.0, observer="minmax")
    with pytest.raises(
        LegalityError, match=r"(?s)budget is not met in full int8; it takes more bits for.*in int16 \(\+"
    ):
        compile_model(model.path, target, tmp_path / "m.tflite", inputs=model.bind, strict=True, verify="off")
    assert not (tmp_path / "m.tflite").exists()


def test_labels_in_the_data_make_the_drop_one_of_accuracy(tmp_path: Path) -> None:
    model = real_model("mlperf_tiny_kws_dscnn")
    rows, labels = model.labelled()
    result = compiled(
        "mlperf_tiny_kws_dscnn", tmp_path, precision="int8", calibrate={**rows, "labels": labels}, max_drop="0.5%"
    )
    target_notes = [*result.report.notes, *result.report.warnings]
    (text,) = [n for n in target_notes if "of the rows lost" in n]
    assert float(text.rpartition(" rows: ")[2].split(" %")[0]) <= 0.5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_drop": "0.5%"}, "--max-drop is for --precision int8"),
        ({"precision": "int8", "calibrate": "synthetic", "max_drop": "5x"}, "no share of the rows"),
        ({"precision": "int8", "calibrate": "synthetic", "min_psnr": float("nan")}, "no number of decibels"),
        ({"precision": "int8", "calibrate": "synthetic", "min_psnr": -3.0}, "-3 is no number of decibels above 0"),
        ({"precision": "int8", "calibrate": "synthetic", "max_drop": "-0.5%"}, "'-0.5%' is no share of the rows"),
        ({"precision": "int8", "calibrate": "synthetic", "repair": ""}, "there is no repair named ''"),
        ({"precision": "int16x8"}, "precision int16x8 needs data"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        TfLiteTarget(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_a_constant_of_zeros_takes_the_scale_of_its_partner(tmp_path: Path) -> None:
    """The kernels of sums take no operand whose step is far above that of the result."""
    net = Net()
    x = net.input(1, 6, 8, 8)
    small = net(ops.Mul(), x, 1e-6)
    zeros = np.zeros((1, 6, 8, 8), np.float32)
    graph = net.returns(net(ops.Sub(), zeros, small))
    rows = np.random.default_rng(5).normal(size=(4, 1, 6, 8, 8)).astype(np.float32)
    target = TfLiteTarget("int16x8", calibrate=[{"x0": r} for r in rows], repair="off")
    quantization = target.pipeline()[-2:]
    assert [str(step) for step in quantization] == ["annotate-int8", "widen-activations"]
    rewritten, _ = PassManager(quantization).run(graph)
    artifact = target.emit(target.prepare(rewritten), tmp_path / "m.tflite")
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(artifact.operators)
    for row in rows:
        assert snr_db(-1e-6 * row, artifact.run({"x0": row})["y0"]) > 60
