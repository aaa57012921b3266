"""--split: several packages instead of one that is too large, run one after another from their manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler import ops
from compiler.api import Compiled, compile_model
from compiler.cli import main
from compiler.errors import EmitError, UsageError
from compiler.graph import Graph
from compiler.pipeline import MANIFEST
from compiler.tensor import BOOL, F32, Array, TensorType
from targets.coreml import chunks
from targets.coreml.package import read_package, weight_bytes
from targets.coreml.target import CoreMLTarget
from tests.real_models import real_model
from tests.targets.coreml_layers import compiled

VIT = "vit_fashion_b1"


def build(name: str, folder: Path, **options: Any) -> tuple[Compiled, dict[str, Array]]:
    """A trained model, verified on random inputs, and these."""
    model = real_model(name)
    data = model.random_inputs(np.random.default_rng(3))
    output = folder / "m.mlpackage"
    return compile_model(model.path, "ane", output, inputs=model.bind, verify_data=data, **options), data


def manifest(result: Compiled) -> Any:
    return json.loads((result.path / MANIFEST).read_text())


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        (VIT, 50_000, {}),
        (VIT, 100_000, {"precision": "fp32"}),
        (VIT, 50_000, {"deployment_target": "iOS15"}),
        (VIT, 50_000, {"weights": "int8"}),
        ("mobilenetv2s_cifar10_b1", 50_000, {}),
        ("gtcrn_simple", 50_000, {}),
        ("mobilenet_v1_025_128_qdq", 300_000, {}),
    ],
)
def test_chunks_together_are_the_model(name: str, size: int, options: dict[str, Any], tmp_path: Path) -> None:
    """Within the limit, verified, and to the bit what one package gives."""
    result, data = build(name, tmp_path, split=f"{size / 1000}KB", **options)
    assert result.report.passed and result.path == tmp_path / "m"
    content = manifest(result)
    sizes = [weight_bytes(result.path / chunk["package"]) for chunk in content["chunks"]]
    assert sizes == [chunk["weight_bytes"] for chunk in content["chunks"]] and max(sizes) <= size
    single, _ = build(name, tmp_path, **options)
    assert len(sizes) >= weight_bytes(single.path) / size
    expected, found = single.run(data), result.run(data)
    for output, array in expected.items():
        assert array.dtype == found[output].dtype and np.array_equal(array, found[output])


def test_the_manifest_names_what_the_packages_have(tmp_path: Path) -> None:
    result, _ = build(VIT, tmp_path, split="100KB")
    content = manifest(result)
    assert [c["package"] for c in content["chunks"]] == [f"m_{k}.mlpackage" for k in range(len(content["chunks"]))]
    for chunk in content["chunks"]:
        description = read_package(result.path / chunk["package"]).spec.description
        assert [p["name"] for p in chunk["inputs"]] == [f.name for f in description.input]
        assert [p["name"] for p in chunk["outputs"]] == [f.name for f in description.output]
        for port, feature in zip([*chunk["inputs"], *chunk["outputs"]], [*description.input, *description.output],
                                 strict=True):  # fmt: skip
            assert port["shape"] == list(feature.type.multiArrayType.shape)
    inner = [p for chunk in content["chunks"][1:] for p in chunk["inputs"]]
    assert {p["dtype"] for p in inner} == {"fp16"}
    crossing = sum(2 * int(np.prod(p["shape"])) for p in inner)
    assert crossing == sum(chunk["crossing_bytes"] for chunk in content["chunks"])
    assert any("split into" in note for note in result.report.notes)


def test_the_manifest_is_what_runs(tmp_path: Path) -> None:
    result, data = build(VIT, tmp_path, split="100KB", verify="off")
    content = manifest(result)
    content["chunks"].pop()
    (result.path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(EmitError, match="which nothing gives"):
        result.run(data)
    shutil.rmtree(result.path)
    with pytest.raises(EmitError, match="cannot be read"):
        result.run(data)


def test_a_model_that_fits_stays_one_package(tmp_path: Path) -> None:
    result, _ = build(VIT, tmp_path, split="1GB")
    assert result.path == tmp_path / "m.mlpackage" and weight_bytes(result.path) > 0


def test_values_of_every_kind_cross(tmp_path: Path) -> None:
    """A boolean mask, integers, a scalar, an input read on both sides, and an output that is read on as well."""
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.add_input(TensorType(F32, (4, 64)), "x")
    flag = graph.add_input(TensorType(BOOL, (4, 1)), "flag")
    weights = [graph.const(rng.standard_normal((64, 64)).astype(np.float32) / 8, f"w{k}") for k in range(3)]
    (mask,) = graph.add(ops.Greater(), x, graph.const(np.zeros((), np.float32)), names=["mask"])
    (best,) = graph.add(ops.ArgMax(axis=1, keepdims=True), x, names=["best"])
    (mean,) = graph.add(ops.ReduceMean(axes=(0, 1), keepdims=False), x, names=["mean"])
    v = inner = x
    for k, w in enumerate(weights):
        inner = v
        (v,) = graph.add(ops.Dense(), v, w, names=[f"dense{k}"])
    (kept,) = graph.add(ops.Where(), mask, v, x, names=["kept"])
    (shifted,) = graph.add(ops.Add(), kept, mean)
    (chosen,) = graph.add(ops.Where(), flag, shifted, x)
    graph.set_outputs([chosen, best, inner, mean], ["y", "best", "inner", "x_1"])
    given = {"x": rng.standard_normal((4, 64)).astype(np.float32), "flag": np.array([[True], [False]] * 2)}
    expected = compiled(graph, tmp_path / "whole", precision="fp16").run(given)
    target = CoreMLTarget(split="9KB")
    artifact = target.emit(target.prepare(graph), tmp_path / "m.mlpackage")
    assert len(list(artifact.path.glob("*.mlpackage"))) == 3
    found = artifact.run(given)
    for name, array in expected.items():
        assert array.dtype == found[name].dtype and np.array_equal(array, found[name]), name


def test_an_image_goes_to_the_chunk_that_reads_it(tmp_path: Path) -> None:
    model = real_model("mobilenetv2s_cifar10_b1")
    name = next(iter(model.inputs))
    pixels = np.random.default_rng(0).integers(0, 256, model.inputs[name].shape).astype(np.float32)
    image = [f"{name}:scale=0.0078125,bias=-1/-1/-1"]
    results = [
        compile_model(model.path, "ane", tmp_path / f"m{k}.mlpackage", verify="off", image=image, split=size)
        for k, size in enumerate((None, "100KB"))
    ]
    assert manifest(results[1])["chunks"][0]["inputs"][0]["dtype"] == "image RGB"
    one, several = (next(iter(r.run({name: pixels / 128 - 1}).values())) for r in results)
    assert np.array_equal(one, several)


def test_losses_are_found_in_every_chunk(tmp_path: Path) -> None:
    result, data = build(VIT, tmp_path, split="100KB", verify="off")
    losses = result.artifact.losses(result.graph, data)
    whole, _ = build(VIT, tmp_path, verify="off")
    assert [str(x) for x in losses] == [str(x) for x in whole.artifact.losses(whole.graph, data)]


def test_a_constant_above_the_limit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.mlpackage"
    assert main([str(real_model(VIT).path), "-o", str(path), "--split", "10KB", "--verify", "off"]) == 2
    message = capsys.readouterr().err
    assert "cannot be split, and a chunk may hold 10,000" in message and "--split a larger size" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"split": "big"}, {"split": "9KB", "io_layout": "engine"}])
def test_wrong_options_are_said(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split"):
        compile_model(real_model(VIT).path, "ane", tmp_path / "m.mlpackage", **options)


def test_a_large_package_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("--split" in w for w in build(VIT, tmp_path)[0].report.warnings)
    monkeypatch.setattr(chunks, "PRACTICAL_BYTES", 200_000)
    assert any("--split 1GB" in w for w in build(VIT, tmp_path)[0].report.warnings)
    assert not any("--split" in w for w in build(VIT, tmp_path, split="1GB")[0].report.warnings)


def test_something_else_in_the_place_of_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").touch()
    with pytest.raises(EmitError, match="is not a pipeline"):
        build(VIT, tmp_path, split="100KB")
    assert (tmp_path / "m" / "mine").exists()
