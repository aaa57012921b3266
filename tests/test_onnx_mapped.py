"""Large models, which ONNX Runtime is given with their weights beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import onnx_mapped, oracle
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.onnx_mapped import mapped
from compiler.oracle import reference_run, run_graph

W = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def save(path: Path, constant: bool = False, function: bool = False) -> Path:
    """y = x @ W, the weights of 16 KiB in an initializer or in a Constant node, the product perhaps in a function."""
    tensor = numpy_helper.from_array(W, "W")
    domain = "own" if function else ""
    nodes = [helper.make_node("Product" if function else "MatMul", ["x", "W"], ["y"], domain=domain)]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["W"], value=tensor))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [] if constant else [tensor])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = helper.make_node("MatMul", ["a", "b"], ["c"])
    own = helper.make_function("own", "Product", ["a", "b"], ["c"], [body], opsets[:1])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[own] if function else [])
    onnx.save(model, path)
    return path


def test_the_copy_is_the_model_with_its_weights_outside(tmp_path: Path) -> None:
    source, folder = save(tmp_path / "m.onnx"), tmp_path / "copy"
    folder.mkdir()
    copy = mapped(source, folder)
    assert copy == folder / "model.onnx" and copy.stat().st_size < 2000
    original, found = onnx.load(source), onnx.load(copy)
    assert [n.SerializeToString() for n in found.graph.node] == [n.SerializeToString() for n in original.graph.node]
    assert np.array_equal(numpy_helper.to_array(found.graph.initializer[0]), W)


@pytest.mark.parametrize("kind", ["constant", "function"])
def test_what_would_not_be_the_same_is_not_copied(tmp_path: Path, kind: str) -> None:
    source = save(tmp_path / "m.onnx", constant=kind == "constant", function=kind == "function")
    assert mapped(source, tmp_path) is None
    assert mapped(save(tmp_path / "m.onnx"), tmp_path / "nowhere") is None


@pytest.mark.parametrize("kind", ["initializer", "constant", "function"])
def test_large_models_run_as_small_ones(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "m.onnx", constant=kind == "constant", function=kind == "function")
    graph = import_model(str(source)).graph
    small = reference_run(str(source), graph, {}, None, 0)
    monkeypatch.setattr(onnx_mapped, "LARGE", 1)
    large = reference_run(str(source), graph, {}, None, 0)
    assert np.array_equal(small.outputs["y"], large.outputs["y"])
    assert np.allclose(large.outputs["y"], large.inputs["x"] @ W, atol=1e-5)


def test_large_graphs_run_as_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph: Graph = import_model(str(save(tmp_path / "m.onnx"))).graph
    x = {"x": np.ones((1, 64), np.float32)}
    small = run_graph(graph, x)["y"]
    monkeypatch.setattr(oracle, "MAPPED_FROM", 1)
    assert np.array_equal(run_graph(graph, x)["y"], small)
