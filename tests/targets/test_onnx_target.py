"""Target `onnx`: clean files that the checker and ONNX Runtime take, whose names and metadata are the model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from compiler.api import compile_model, load
from compiler.errors import OnnxError, UsageError
from compiler.onnx_export import DEFAULT_OPSET, export_bytes, export_model
from tests.command import build, convolutional, f32, info, node
from tests.onnx_models import same
from tests.real_models import RealModel, real_model

SMALL = (
    "fault_mlp_ai4i",
    "mnist_mlp_bn_opset9",
    "vit_fashion_b1",
    "yunet_n_320",
    "mobilenet_v1_025_128_qdq",
    "silero_vad_16k_static",
)


def compiled_file(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:  # Any: handed on
    """What the target writes for a model."""
    compiled = compile_model(model, "onnx", **options)
    return onnx.load(compiled.path)


def test_trained_models_come_back_clean_and_equal(model: RealModel, tmp_path: Path) -> None:
    """The file passes the full check, has no more nodes, keeps the interface, and gives the same numbers."""
    path = tmp_path / "o.onnx"
    compiled = compile_model(model.path, "onnx", path, inputs=model.bind)
    onnx.checker.check_model(path, full_check=True)
    original, written = onnx.load(model.path), onnx.load(path)
    assert max(o.version for o in written.opset_import) >= DEFAULT_OPSET
    assert len(written.graph.node) <= len(original.graph.node)
    constants = {t.name for t in original.graph.initializer}
    assert [i.name for i in written.graph.input] == [i.name for i in original.graph.input if i.name not in constants]
    assert [o.name for o in written.graph.output] == [o.name for o in original.graph.output]
    assert compiled.report.verification is not None and compiled.report.passed
    feeds = model.random_inputs(np.random.default_rng(4))
    results = [
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, feeds) for p in (model.path, path)
    ]
    for reference, result in zip(*results, strict=True):
        assert reference.dtype == result.dtype
        if result.dtype.kind == "f" and "int8" not in model.name and "qdq" not in model.name:
            noise = np.sqrt(np.mean(np.square(reference.astype(np.float64) - result)))
            assert 20 * np.log10(max(np.abs(reference).max(), 1e-30) / max(noise, 1e-30)) > 100


@pytest.mark.parametrize("opset", [13, 14, 16, 18, 20, 22, 23, 25, 26, 27, 28])
@pytest.mark.parametrize("name", SMALL)
def test_every_opset_can_be_chosen(name: str, opset: int, tmp_path: Path) -> None:
    model = real_model(name)
    compiled = compile_model(model.path, "onnx", tmp_path / "o.onnx", inputs=model.bind, opset=opset)
    written = onnx.load(compiled.path)
    assert [o.version for o in written.opset_import if o.domain == ""] == [opset]
    onnx.checker.check_model(written, full_check=True)
    assert compiled.report.passed and compiled.report.tolerance_db == 100


@pytest.mark.parametrize("opset", [0, 12, 29, -1])
def test_opsets_that_cannot_be_written(opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset} cannot be written"):
        compile_model(convolutional(), "onnx", opset=opset)


def test_a_layer_that_an_opset_lacks_is_named() -> None:
    graph = load(build([node("BitwiseAnd", "x x", "y")], [info("x", [2], 6)], [info("y", [2], 6)], opset=18))
    with pytest.raises(OnnxError, match="needs ONNX opset 18") as caught:
        export_bytes(graph, 13)
    assert "y_node" in str(caught.value) and "raise --opset" in str(caught.value)


@pytest.mark.parametrize(
    ("op_type", "kind", "attributes", "opset"),
    [
        ("BitShift", TensorProto.INT32, {"direction": "LEFT"}, 28),
        ("BitShift", TensorProto.UINT32, {"direction": "LEFT"}, DEFAULT_OPSET),
        ("Mod", TensorProto.FLOAT, {}, 28),
        ("Mod", TensorProto.FLOAT, {"fmod": 1}, DEFAULT_OPSET),
        ("Mod", TensorProto.INT32, {}, DEFAULT_OPSET),
        ("Celu", TensorProto.FLOAT16, {}, 28),
        ("Celu", TensorProto.FLOAT, {}, DEFAULT_OPSET),
    ],
)
def test_element_types_that_came_later_raise_the_opset(
    op_type: str, kind: int, attributes: dict[str, Any], opset: int
) -> None:
    inputs = "x" if op_type == "Celu" else "x x"
    model = build([node(op_type, inputs, "y", **attributes)], [info("x", [2], kind)], [info("y", [2], kind)], opset=28)
    written = onnx.load_from_string(export_bytes(load(model)))
    assert written.opset_import[0].version == opset
    onnx.checker.check_model(written, full_check=True)
    if opset > DEFAULT_OPSET:
        with pytest.raises(OnnxError, match=f"{op_type} of these elements needs ONNX opset 28"):
            export_bytes(load(model), DEFAULT_OPSET)


def test_weights_inline_or_external(tmp_path: Path) -> None:
    model = real_model("mnist_mlp_bn_opset9")
    inline = compile_model(model.path, "onnx", tmp_path / "inline.onnx")
    external = compile_model(model.path, "onnx", tmp_path / "external.onnx", external=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["external.onnx", "external.onnx.data", "inline.onnx"]
    assert inline.report.size == (tmp_path / "inline.onnx").stat().st_size
    data = tmp_path / "external.onnx.data"
    assert external.report.size == (tmp_path / "external.onnx").stat().st_size + data.stat().st_size
    assert (tmp_path / "external.onnx").stat().st_size < 10_000 < data.stat().st_size
    feeds = model.random_inputs(np.random.default_rng(0))
    a, b = inline.run(feeds), external.run(feeds)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    onnx.checker.check_model(tmp_path / "external.onnx", full_check=True)
    held = [
        {t.name: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (inline.path, external.path)
    ]
    assert held[0].keys() == held[1].keys() and all(same(held[0][k], held[1][k]) for k in held[0])


def test_the_model_itself_may_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(real_model("mnist_mlp_bn_opset9").path.read_bytes())
    first = compile_model(path, "onnx", path)
    written = path.read_bytes()
    again = compile_model(path, "onnx", path)
    assert path.read_bytes() == written
    assert first.report.passed and again.report.passed and again.report.before.layers == first.report.after.layers


def test_nodes_tensors_and_metadata_keep_their_names() -> None:
    model = convolutional()
    model.doc_string, model.domain, model.model_version = "Two blocks.", "org.example", 3
    model.metadata_props.add(key="author", value="somebody")
    written = compiled_file(model)
    assert (written.doc_string, written.domain, written.model_version) == ("Two blocks.", "org.example", 3)
    assert {p.key: p.value for p in written.metadata_props} == {"author": "somebody"}
    assert [n.op_type for n in written.graph.node] == ["Conv", "Relu", "Conv"]
    originals = {n.name for n in model.graph.node}
    assert {n.name for n in written.graph.node} < originals
    assert [list(n.output) for n in written.graph.node[1:]] == [["r"], ["b1"]]
    assert {t.name for t in written.graph.initializer} >= {"w0", "w1"}
    untouched = compiled_file(model, passes="")
    assert [n.name for n in untouched.graph.node] == [n.name for n in model.graph.node]
    assert {t.name for t in untouched.graph.initializer} == {t.name for t in model.graph.initializer}


def test_nodes_without_names_are_called_by_what_they_compute() -> None:
    nodes = [onnx.helper.make_node("Relu", ["x"], ["first"]), onnx.helper.make_node("Neg", ["first"], ["y"])]
    written = compiled_file(build(nodes, [info("x", [2])], [info("y", [2])]))
    assert [n.name for n in written.graph.node] == ["first", "y"]


def test_names_stay_unique() -> None:
    """Tensors that share a name with a node or with what an operation needs beside it."""
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["constant"], "same"),
        onnx.helper.make_node("Mod", ["constant", "k"], ["value"], "same", fmod=1),
        onnx.helper.make_node("Clip", ["value", "constant_1"], ["y"], "same"),
    ]
    weights: dict[str, Any] = {"k": np.float32(3), "constant_1": np.float32(0.5)}
    model = build(nodes, [info("x", [4])], [info("y", [4]), info("constant", [4])], weights)
    compiled = compile_model(model, "onnx", verify="off")  # ONNX Runtime does not take nodes of one name
    written = onnx.load(compiled.path)
    onnx.checker.check_model(written, full_check=True)
    names = [n.name for n in written.graph.node]
    assert len(set(names)) == len(names) and names[0] == "same"
    made = [o for n in written.graph.node for o in n.output] + [t.name for t in written.graph.initializer] + ["x"]
    assert len(set(made)) == len(made)
    x = f32([-1, 0.2, 2, 7])
    np.testing.assert_allclose(compiled.run({"x": x})["y"], np.maximum(np.fmod(np.maximum(x, 0), 3), 0.5))


def test_the_ir_version_fits_the_opset() -> None:
    graph = load(convolutional())
    for opset, version in ((13, 9), (20, 9), (21, 10), (23, 11), (25, 13), (28, 14)):
        assert export_model(graph, opset)[0].ir_version == version


def test_a_run_reads_what_is_on_disk(tmp_path: Path) -> None:
    compiled = compile_model(convolutional(), "onnx", tmp_path / "o.onnx")
    written = onnx.load(tmp_path / "o.onnx")
    del written.graph.node[1:]
    written.graph.output[0].name = written.graph.node[0].output[0]
    onnx.save(written, tmp_path / "o.onnx")
    assert list(compiled.run({"x": np.zeros((1, 3, 8, 8), np.float32)})) == [written.graph.output[0].name]


@pytest.mark.parametrize(
    ("layer", "results", "shape", "kind"),
    [
        (node("TopK", "x k", "v i"), "v i", [2, 6], TensorProto.INT64),
        (node("MaxPool", "x", "v i", kernel_shape=[2, 2]), "v i", [1, 1, 4, 4], TensorProto.INT64),
        (node("DynamicQuantizeLinear", "x", "q s z"), "q s z", [2, 6], TensorProto.FLOAT),
        (node("Unique", "x", "u a i c"), "u a i c", [2, 6], TensorProto.INT64),
        (node("Split", "x n", "a b c", axis=1), "a b c", [2, 6], TensorProto.FLOAT),
        (node("LSTM", "x w r", "o h c", hidden_size=2), "o h c", [3, 1, 4], TensorProto.FLOAT),
    ],
    ids=lambda p: p.op_type if isinstance(p, onnx.NodeProto) else "",
)
def test_any_result_may_be_the_only_one_that_is_read(
    layer: onnx.NodeProto, results: str, shape: list[int], kind: int
) -> None:
    rng = np.random.default_rng(6)
    weights = {"k": np.array([2]), "n": np.array([1, 2, 3]), "w": f32(rng.standard_normal((1, 8, 4)))}
    weights["r"] = f32(rng.standard_normal((1, 8, 2)))
    weights = {name: w for name, w in weights.items() if name in layer.input}
    kinds = {"q": TensorProto.UINT8, "z": TensorProto.UINT8, "v": TensorProto.FLOAT, "u": TensorProto.FLOAT}
    feeds = {"x": f32(rng.standard_normal(shape))}
    for read in results.split():
        output = info(read, None, kinds.get(read, kind))
        model = build([layer], [info("x", shape)], [output], weights)
        compiled = compile_model(model, "onnx", passes="")
        written = onnx.load(compiled.path)
        onnx.checker.check_model(written, full_check=True)
        session = onnxruntime.InferenceSession(compiled.path, providers=["CPUExecutionProvider"])
        original = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(session.run(None, feeds)[0], original.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (
            node(
                "RoiAlign", "x r b", "y", output_height=2, output_width=2, coordinate_transformation_mode="half_pixel"
            ),
            [1, 1, 6, 6],
        ),
        (node("MaxRoiPool", "x rois", "y", pooled_shape=[2, 2]), [1, 1, 6, 6]),
        (node("GlobalLpPool", "x", "y", p=2), [1, 2, 3, 3]),
    ],
    ids=lambda p: p.op_type if isinstance(p, onnx.NodeProto) else "",
)
def test_operators_without_a_kernel_at_the_default_opset_are_compared(layer: onnx.NodeProto, shape: list[int]) -> None:
    weights: dict[str, Any] = {"r": f32([[0, 0, 4, 4]]), "b": np.array([0]), "rois": f32([[0, 0, 0, 4, 4]])}
    weights = {name: w for name, w in weights.items() if name in layer.input}
    model = build([layer], [info("x", shape)], [info("y", None)], weights)
    compiled = compile_model(model, "onnx")
    assert compiled.report.passed and compiled.report.verification is not None
    feeds = {"x": f32(np.random.default_rng(7).standard_normal(shape))}
    original = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(compiled.run(feeds)["y"], original.run(None, feeds)[0], rtol=1e-6)
