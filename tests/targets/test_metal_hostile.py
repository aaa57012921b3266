"""Names, numbers and shapes that would break generated Metal, Swift or Objective-C++."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as h
import onnx.numpy_helper as nh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.api import compile_model
from compiler.errors import EmitError
from targets.metal.artifact import MetalArtifact
from targets.metal.execute.grammar import faults
from tests.targets import metal_parse
from tests.targets.test_neon_hostile import NAMES, SPECIAL, WORDS, named, same


def written(source: onnx.ModelProto, folder: Path) -> MetalArtifact:
    artifact = compile_model(source, "metal", output=folder, precision="fp32", verify="off").artifact
    assert isinstance(artifact, MetalArtifact)
    return artifact


def check(names: Sequence[str], graph: str, folder: Path) -> None:
    """Run, compare; the text keeps to the language, the host's sources are parsed."""
    artifact = written(named(names, graph), folder)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = artifact.run({f"{n}x": x + i for i, n in enumerate(names)})
    for i, n in enumerate(names):
        product = (x + i) @ (np.arange(9, dtype=np.float32).reshape(3, 3) + i)
        assert np.array_equal(found[f"{n} "], -product) and np.array_equal(found[f"{n}  "], product), n
    assert faults((folder / "model.metal").read_text(encoding="utf-8")) == []
    for name in ("Model.swift", "main.swift", "Model.h", "Model.mm"):
        text = (folder / name).read_text(encoding="utf-8")
        assert metal_parse.faults(metal_parse.parsed(name, text)) == []


@pytest.mark.parametrize("graph", ['*/ " ??/ %n \\', "//\n#error \\"])
def test_names(graph: str, tmp_path: Path) -> None:
    check([*NAMES, "kernel", "device", "thread", "half", "float4", "self", "import Metal"], graph, tmp_path / "model")


@pytest.mark.parametrize("name", ["my model-7*", "class", "模型", "Metal", "MTLDevice"])
def test_the_folder_gives_the_name(name: str, tmp_path: Path) -> None:
    check(["a"], name, tmp_path / name)


@settings(max_examples=2, deadline=None)
@given(st.lists(WORDS, min_size=5, max_size=20, unique_by=str.strip))
def test_any_name(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    check(names, names[0], tmp_path_factory.mktemp("any") / "model")


@pytest.mark.parametrize("value", [*SPECIAL[[0, 1, 3, 5]], SPECIAL], ids=str)
def test_numbers(value: np.ndarray, tmp_path: Path) -> None:
    """Weights that are not finite, negative zeros and the smallest numbers arrive as they are, in tables and code."""
    weight = np.asarray(value, np.float32)
    nodes = [h.make_node("Add", ["x", "w"], ["s"]), h.make_node("Mul", ["x", "w"], ["p"])]
    info = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (2, 8)) for n in ("x", "s", "p")]
    graph = h.make_graph(nodes, "g", info[:1], info[1:], [nh.from_array(weight, "w")])
    artifact = written(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), tmp_path / "m")
    x = np.stack([SPECIAL, np.arange(8, dtype=np.float32)])
    found = artifact.run({"x": x})
    with np.errstate(all="ignore"):
        assert same(found["s"], x + weight) and same(found["p"], x * weight)


@pytest.mark.parametrize("name", ["thesis.txt", "plan.json", "model.metal"])
def test_a_folder_of_something_else_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text("mine")
    with pytest.raises(EmitError):
        written(named(["a"], "g"), tmp_path / "m")
    assert [p.read_text() for p in (tmp_path / "m").iterdir()] == ["mine"]


def test_a_folder_of_an_earlier_model_is_replaced(tmp_path: Path) -> None:
    written(named(["a"], "g"), tmp_path / "m")
    (tmp_path / "m" / "Model.h").write_text("old")
    written(named(["b"], "g"), tmp_path / "m")
    assert "old" not in (tmp_path / "m" / "Model.h").read_text().split()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(named(["a", "b"], "g"), tmp_path / name / "m")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n / "m").iterdir()} for n in ("one", "two"))
    assert first == second
