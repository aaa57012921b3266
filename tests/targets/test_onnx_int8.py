"""Target `onnx`, int8: QDQ files that say what the annotations say, and that ONNX Runtime computes in integers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from compiler.api import Compiled, compile_model
from compiler.calibrate.trial import snr
from compiler.errors import LegalityError, OnnxError, UsageError
from compiler.onnx_export import export_bytes
from compiler.op import OPS
from compiler.oracle import run_graph
from compiler.quantize import dequantized, quantized, symmetric
from compiler.simulate import simulated
from compiler.tensor import I16, U8, Array
from targets.onnx.int8_rules import kernels, scheme
from targets.onnx.qdq import QdqGraph
from tests.command import build, f32, info, node
from tests.real_models import RealModel, real_model

INTEGERS = ("QLinear", "QGemm", "MatMulIntegerToFloat")


def weights(**shapes: tuple[int, ...]) -> dict[str, Any]:  # Any: with constants of other kinds added
    """Numbers that keep the magnitude of what they are multiplied with; the same for the same names."""
    made: dict[str, Any] = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(list(name.encode()))
        made[name] = f32(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))
    return made


def network() -> onnx.ModelProto:
    """Convolutions and a branch that is added, joined, pooled, and classified."""
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("Clip", "c1 low high", "r1"),
        node("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1], group=8),
        node("Add", "c2 r1", "s"),
        node("Concat", "s r1", "j", axis=1),
        node("MaxPool", "j", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("LeakyRelu", "m", "l", alpha=0.1),
        node("GlobalAveragePool", "l", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w3 b3", "z"),
        node("Softmax", "z", "y"),
    ]
    constants = weights(w1=(8, 3, 3, 3), b1=(8,), w2=(8, 1, 3, 3), b2=(8,), w3=(16, 10), b3=(10,))
    constants |= {"low": f32(0), "high": f32(6)}
    return build(nodes, [info("x", [1, 3, 8, 8])], [info("y", [1, 10])], constants)


def rows(compiled_for: onnx.ModelProto, count: int = 4) -> list[dict[str, Array]]:
    inputs = compiled_for.graph.input
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in inputs}
    rng = np.random.default_rng(1)
    return [{n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]


def quantize(model: Any, **options: Any) -> Compiled:  # Any: handed on
    data = options.pop("calibrate", None) or rows(model)
    return compile_model(model, "onnx", precision="int8", calibrate=data, observer="minmax", **options)


def run(path: Path, feeds: dict[str, Array], optimized: bool = True, dump: Path | None = None) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if dump is not None:
        options.optimized_model_filepath = str(dump)
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def optimized(path: Path, feeds: dict[str, Array], folder: Path) -> Counter[str]:
    """The operators of the graph that ONNX Runtime executes."""
    run(path, feeds, dump=folder / "dump.onnx")
    return Counter(n.op_type for n in onnx.load(folder / "dump.onnx").graph.node)


def test_the_runtime_computes_everything_in_integers(tmp_path: Path) -> None:
    model = network()
    compiled = quantize(model)
    onnx.checker.check_model(compiled.path, full_check=True)
    found = optimized(compiled.path, rows(model)[0], tmp_path)
    assert found["QLinearConv"] == 2 and found["QLinearAdd"] == 1 and found["QLinearConcat"] == 1
    assert found["QLinearLeakyRelu"] == 1 and found["QLinearGlobalAveragePool"] == 1
    assert found["QGemm"] == 1 and found["QLinearSoftmax"] == 1
    assert found["QuantizeLinear"] == 1 and found["DequantizeLinear"] == 1
    assert found["MaxPool"] + found["NhwcMaxPool"] == 1
    assert not {"Conv", "Add", "Clip", "Gemm", "Softmax"} & set(found)
    assert compiled.artifact.warnings == [w for w in compiled.artifact.warnings if "NOT FULL" not in w]


def test_the_file_is_the_simulation(tmp_path: Path) -> None:
    """Unoptimised it gives the bits of the simulation; in integers it is as near as a last bit that falls otherwise."""
    model = network()
    compiled = quantize(model)
    for feeds in rows(model):
        expected = run_graph(simulated(compiled.graph).graph, feeds)["y"]
        assert np.array_equal(run(compiled.path, feeds, optimized=False)["y"], expected)
        assert np.array_equal(compiled.run(feeds)["y"], expected)
        assert np.abs(run(compiled.path, feeds)["y"] - expected).max() <= 2 / 256


def test_weights_are_stored_as_integers_along_their_axis() -> None:
    compiled = quantize(network())
    written = onnx.load(compiled.path)
    stored = {t.name: t for t in written.graph.initializer}
    kinds = Counter(t.data_type for t in stored.values() if np.prod(t.dims) > 1)
    assert kinds[TensorProto.INT8] >= 3 and kinds[TensorProto.INT32] == 3  # weights; biases
    origin = {n.output[0]: n for n in written.graph.node}
    for conv in (n for n in written.graph.node if n.op_type == "Conv"):
        x, w, b = (origin[name] for name in conv.input)
        assert {n.op_type for n in (x, w, b)} == {"DequantizeLinear"}
        s_in, s_w, s_b = (onnx.numpy_helper.to_array(stored[n.input[1]]) for n in (x, w, b))
        assert s_w.shape == (8,)
        np.testing.assert_allclose(s_b, s_in * s_w, rtol=1e-6)
        assert onnx.numpy_helper.to_array(stored[w.input[0]]).min() >= -127


def test_the_same_model_gives_the_same_bytes() -> None:
    model = network()
    first, second = quantize(model), quantize(model)
    assert first.path.read_bytes() == second.path.read_bytes()


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_ports_of_integers(io: str) -> None:
    model, feeds = network(), rows(network())[0]
    floats, integers = quantize(model), quantize(model, io_dtype=io)
    written = onnx.load(integers.path)
    kind = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}[io]
    ports = (*written.graph.input, *written.graph.output)
    assert [p.type.tensor_type.elem_type for p in ports] == [kind, kind]
    np.testing.assert_array_equal(integers.run(feeds)["y"], floats.run(feeds)["y"])
    quants = integers.artifact.quants  # type: ignore[attr-defined]  # an OnnxArtifact
    stored = run(integers.path, {"x": quantized(feeds["x"], quants["x"])}, optimized=False)["y"]
    np.testing.assert_array_equal(dequantized(stored, quants["y"]), integers.run(feeds)["y"])


def test_a_dense_layer_of_many_axes_is_one_kernel(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "q"), node("Reshape", "q s", "y")]
    constants = {**weights(w=(16, 12), b=(12,)), "s": np.array([2, 60])}
    model = build(nodes, [info("x", [2, 5, 16])], [info("y", [2, 60])], constants)
    compiled, feeds = quantize(model), rows(model)[0]
    found = optimized(compiled.path, feeds, tmp_path)
    assert found["QGemm"] == 1 and not {"Add", "MatMul", "QLinearAdd", "Gemm"} & set(found)
    np.testing.assert_array_equal(
        run(compiled.path, feeds, optimized=False)["y"], run_graph(simulated(compiled.graph).graph, feeds)["y"]
    )


def test_layers_of_floats_are_left_alone_and_named() -> None:
    """A value between layers without kernels of integers is not rounded, and the summary says who they are."""
    nodes = [node("Conv", "x w", "c"), node("Sin", "c", "s"), node("Cos", "s", "t"), node("Tanh", "t", "y")]
    model = build(nodes, [info("x", [1, 3, 4, 4])], [info("y", [1, 4, 4, 4])], weights(w=(4, 3, 1, 1)))
    compiled = quantize(model)
    annotated = {n.op.name: n.output.type.quant is not None for n in compiled.graph.nodes}
    assert annotated == {"conv": True, "sin": False, "cos": False, "tanh": False}
    assert any("NOT FULL INTEGER: 3 layers" in w for w in compiled.artifact.warnings)
    with pytest.raises(LegalityError, match="sin has no kernel of integers"):
        quantize(model, strict=True)


def test_masks_without_end_are_stored(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "p"), node("Where", "m p n", "q"), node("Softmax", "q", "y", axis=-1)]
    constants = {**weights(w=(8, 8)), "n": f32(-np.inf), "m": np.tri(8, dtype=bool)}
    model = build(nodes, [info("x", [8, 8])], [info("y", [8, 8])], constants)
    compiled, feeds = quantize(model), rows(model)[0]
    expected = run(_saved(model, tmp_path), feeds)["y"]
    assert np.abs(compiled.run(feeds)["y"] - expected).max() < 0.05
    assert optimized(compiled.path, feeds, tmp_path)["QLinearWhere"] == 1


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def test_rules_name_layers_and_kernels_that_exist() -> None:
    rules = scheme()
    assert rules.integer <= kernels().keys()
    assert {*rules.integer, *rules.same, *kernels(), *rules.fixed} <= OPS.keys()


@pytest.mark.parametrize(("kind", "block"), [("int8", None), ("int8", 32), ("int4", None), ("int4", 0)])
def test_weights_alone(kind: str, block: int | None) -> None:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("Gemm", "r v b", "y", transB=1)]
    constants = weights(w=(64, 96), v=(48, 96), b=(48,))
    model = build(nodes, [info("x", [4, 64])], [info("y", [4, 48])], constants)
    compiled = compile_model(model, "onnx", weights=kind, block_size=block)
    onnx.checker.check_model(compiled.path, full_check=True)
    found = Counter(t.data_type for t in onnx.load(compiled.path).graph.initializer if t.name in "wv")
    assert found == {TensorProto.INT8 if kind == "int8" else TensorProto.INT4: 2}
    for feeds in rows(model):
        expected = run_graph(simulated(compiled.graph).graph, feeds)["y"]
        np.testing.assert_allclose(compiled.run(feeds)["y"], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(run(compiled.path, feeds)["y"], expected, rtol=1e-3, atol=1e-2)


def test_options_that_do_not_fit() -> None:
    model = network()
    for options, message in (
        ({"precision": "int8"}, "needs data"),
        ({"observer": "minmax"}, "--observer is for --precision int8"),
        ({"io_dtype": "int8"}, "--io-dtype is for --precision int8"),
        ({"precision": "fp16"}, "no precision 'fp16' for onnx"),
        ({"precision": "int8", "calibrate": "synthetic", "io_dtype": "int16"}, "no I/O element type"),
        ({"weights": "palette4"}, "no storage of weights 'palette4' for onnx"),
        ({"block_size": 32}, "--block-size is for --weights"),
        ({"weights": "int4", "opset": 20}, "need --opset 21"),
        ({"precision": "int8", "calibrate": "synthetic", "weights": "int8"}, "leave --weights out"),
    ):
        with pytest.raises(UsageError, match=message):
            compile_model(model, "onnx", **options)


@pytest.mark.parametrize("opset", [13, 18, 21, 25])
def test_every_opset_can_be_chosen(opset: int) -> None:
    model = network()
    compiled = quantize(model, opset=opset)
    onnx.checker.check_model(compiled.path, full_check=True)
    assert compiled.report.passed


def test_values_of_sixteen_bits() -> None:
    """What is annotated as int16 is stored so, from the opset on that has it."""
    graph = quantize(network()).graph
    for n in graph.nodes:
        if n.op.name == "add":
            n.output.type = n.output.type._replace(quant=symmetric([9.0], None, I16))
    stored = QdqGraph(graph, scheme(), U8, ports=None).graph
    written = onnx.load_from_string(export_bytes(stored))
    onnx.checker.check_model(written, full_check=True)
    assert TensorProto.INT16 in {t.data_type for t in written.graph.initializer}
    feeds = rows(network())[0]
    assert np.array_equal(run_graph(stored, feeds)["y"], run_graph(simulated(graph).graph, feeds)["y"])
    with pytest.raises(OnnxError, match="needs ONNX opset 21"):
        export_bytes(stored, 20)


FLOAT_MODELS = ("mnist_mlp_bn_opset9", "mlperf_tiny_resnet8", "vit_fashion_dyn", "mlperf_tiny_vww")


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_trained_models(name: str, tmp_path: Path) -> None:
    model: RealModel = real_model(name)
    feeds = [model.random_inputs(np.random.default_rng(i)) for i in range(3)]
    compiled = quantize(model.path, calibrate=feeds, inputs=model.bind, verify="off")
    onnx.checker.check_model(compiled.path, full_check=True)
    simulation = run_graph(simulated(compiled.graph).graph, feeds[0])
    reference = run(model.path, feeds[0])
    for key, written in compiled.run(feeds[0]).items():
        assert np.array_equal(written, simulation[key])
        assert snr([reference[key]], [run(compiled.path, feeds[0])[key]]) > 15
    found = optimized(compiled.path, feeds[0], tmp_path)
    integers = sum(count for code, count in found.items() if code.startswith(INTEGERS))
    assert integers >= sum(n.op.name in scheme().integer for n in compiled.graph.nodes)
    assert not {"Conv", "Gemm", "MatMul", "Add", "Softmax"} & set(found)


def test_data_may_come_in_pieces_or_as_one() -> None:
    """The same data as rows in a list and as one array give the same file."""
    model = network()
    data = rows(model)
    joined = {"x": np.concatenate([r["x"] for r in data])}
    first, second = quantize(model, calibrate=data), quantize(model, calibrate=joined)
    assert first.path.read_bytes() == second.path.read_bytes()
