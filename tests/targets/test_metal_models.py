"""Trained models as Metal sources: golden files of a small one, accuracy, dispatches, launches, warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as h
import onnx.numpy_helper as nh
import pytest

from compiler.api import compile_model
from compiler.errors import UsageError
from targets.metal.artifact import MetalArtifact
from targets.metal.execute import Executor, faults
from targets.metal.execute.build import cxx
from targets.metal.families import families, gpu

EXAMPLES = Path(__file__).parents[2] / "examples"
GOLDEN = Path(__file__).parent / "golden" / "metal" / "cnn"
MODELS = sorted(EXAMPLES.glob("*.onnx"))
LEAST = {"fp32": 90.0, "fp16": 50.0}  # dB


def small_cnn() -> onnx.ModelProto:
    """Two convolutions, one of them with a residual, a depthwise one, a pool, a dense layer and a softmax."""
    rng = np.random.default_rng(5)
    shapes = {"w0": (16, 3, 3, 3), "b0": (16,), "w1": (16, 16, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (16, 10)}
    weights = [nh.from_array((rng.standard_normal(s) / 4).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        h.make_node("Conv", ["image", "w0", "b0"], ["c0"], "stem", pads=[1] * 4, strides=[2, 2]),
        h.make_node("Relu", ["c0"], ["r0"]),
        h.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "body", pads=[1] * 4),
        h.make_node("Add", ["c1", "r0"], ["a1"]),
        h.make_node("Relu", ["a1"], ["r1"]),
        h.make_node("Conv", ["r1", "w2"], ["c2"], "depthwise", pads=[1] * 4, group=16),
        h.make_node("GlobalAveragePool", ["c2"], ["g"]),
        h.make_node("Flatten", ["g"], ["f"]),
        h.make_node("MatMul", ["f", "w3"], ["m"], "head"),
        h.make_node("Softmax", ["m"], ["scores"], axis=1),
    ]
    ports = [h.make_tensor_value_info("image", 1, (1, 3, 12, 12)), h.make_tensor_value_info("scores", 1, (1, 10))]
    graph = h.make_graph(nodes, "cnn", ports[:1], ports[1:], weights)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def test_golden_files(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What a small CNN becomes; `pytest --update-golden` writes it anew, to be read before it is committed."""
    compile_model(small_cnn(), "metal", output=tmp_path / "cnn")
    found = {name: (tmp_path / "cnn" / name).read_text(encoding="utf-8") for name in ("model.metal", "plan.json")}
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (GOLDEN / name).write_text(text, encoding="utf-8")
    assert found == {name: (GOLDEN / name).read_text(encoding="utf-8") for name in found}


def compiled(path: Path, folder: Path, precision: str) -> tuple[MetalArtifact, dict[str, Any]]:
    made = compile_model(path, "metal", output=folder, precision=precision)
    assert isinstance(made.artifact, MetalArtifact)
    return made.artifact, made.report.as_json()


@pytest.mark.parametrize("precision", list(LEAST))
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_accuracy(path: Path, precision: str, tmp_path: Path) -> None:
    """Executed with every check; the text keeps to the language, and no compiler has a word to say of it."""
    _, report = compiled(path, tmp_path / "model", precision)
    verification = report["verification"]
    assert verification["passed"]
    assert min(o["psnr_db"] for o in verification["outputs"]) > LEAST[precision]
    assert faults((tmp_path / "model" / "model.metal").read_text(encoding="utf-8")) == []
    for name in ("g++", "clang++"):
        try:
            compiler = cxx(name)
        except UsageError:
            continue
        assert Executor(tmp_path / "model", checks=False, compiler=compiler).program().warnings == "", name


@pytest.mark.parametrize(
    ("model", "layers", "most"), [("mobilenetv2s_cifar10_b1", 20, 1.2), ("vit_fashion_b1", 4, 7.5)]
)
def test_dispatches(model: str, layers: int, most: float, tmp_path: Path) -> None:
    """Of a convolution, or of a block of a transformer, without those at either end of the model."""
    artifact, _ = compiled(EXAMPLES / f"{model}.onnx", tmp_path / "model", "fp32")
    plan = json.loads((artifact.path / "plan.json").read_text(encoding="utf-8"))
    titles = [d["title"] for d in plan["dispatches"]]
    moves = [t for t in titles if "transpose" in t or "into" in t or "repeated" in t]
    assert (len(titles) - len(moves) - 3) / layers <= most, titles


@pytest.mark.parametrize("family", families())
def test_launches_keep_to_the_limits_of_a_family(family: str, tmp_path: Path) -> None:
    limits = gpu(family)
    made = compile_model(EXAMPLES / "vit_fashion_b1.onnx", "metal", output=tmp_path / "m", gpu=family, verify="off")
    details = made.report.as_json()["details"]
    plan = json.loads((tmp_path / "m" / "plan.json").read_text(encoding="utf-8"))
    assert plan["family"] == family and details["gpu"] == limits.name
    for dispatch, launch in zip(plan["dispatches"], details["launches"], strict=True):
        assert np.prod(dispatch["threads"]) <= limits.threads_per_threadgroup
        assert sum(dispatch["threadgroup_memory"]) <= limits.threadgroup_memory
        assert 0 < launch["occupancy"] <= 1 and launch["microseconds"] > 0
    assert details["milliseconds"] == pytest.approx(
        sum(x["microseconds"] for x in details["launches"]) / 1000, abs=1e-4
    )
    assert details["moved"] >= details["least"] > 0
