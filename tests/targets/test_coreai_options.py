"""The Core AI target: what it shares with the Core ML one (calibration, borders, several assets, placement), what it
says of accuracy, and how a process that ran an asset ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx.helper as h
import pytest

from compiler import ops
from compiler.api import Compiled, compile_model, dry_run
from compiler.errors import EmitError, MissingExtraError, UsageError
from compiler.graph import Graph
from compiler.op import Op
from compiler.pipeline import MANIFEST
from compiler.seeds import inputs_for
from compiler.tensor import F32, F64, U32, DType, TensorType
from targets.coreai import chunks, program
from targets.coreai.runtime import execute
from targets.coreai.target import CoreAITarget
from tests.targets.coreai_harness import compiled

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "tests" / "models" / "engine"
QUANTIZED = ROOT / "tests" / "models" / "mlperf_tiny_resnet8_int8.onnx"
PLUS = ops.Add()
EXITS = """
import sys
from pathlib import Path
import numpy as np
from targets.coreai.runtime import execute
for _ in range(3):
    print(execute(Path(sys.argv[1]), {"x": np.full(2, 3, np.float32)})["y"].tolist())
"""


def built(name: str, folder: Path, **options: Any) -> Compiled:
    return compile_model(ENGINE / f"{name}.onnx", "coreai", folder / "m.aimodel", **options)


def pair(dtype: DType = F32, op: Op = PLUS) -> Graph:
    """An operation on a vector and itself, by default their sum."""
    graph = Graph("g")
    x = graph.add_input(TensorType(dtype, (2,)), "x")
    graph.set_outputs(graph.add(op, x, x, origin=frozenset(("sum",))), ["y"])
    return graph


@pytest.mark.parametrize(("precision", "crosses"), [("fp16", "fp16"), ("fp32", "fp32")])
def test_assets_together_are_the_model(precision: str, crosses: str, tmp_path: Path) -> None:
    """Within the limit, and to the bit what one asset gives; the folder may be moved."""
    limit = 200_000 if precision == "fp16" else 400_000
    result = built("bert_encoder", tmp_path, split=f"{limit // 1000}KB", precision=precision)
    assert result.report.passed and result.path == tmp_path / "m"
    content = json.loads((result.path / MANIFEST).read_text())
    assert len(content["chunks"]) > 1
    assert max(chunk["weight_bytes"] for chunk in content["chunks"]) <= limit
    for chunk in content["chunks"]:
        size = (result.path / chunk["package"] / "main.mlirb").stat().st_size
        assert chunk["weight_bytes"] < size < chunk["weight_bytes"] + 10_000
    assert {p["dtype"] for chunk in content["chunks"][1:] for p in chunk["inputs"] if "chunk" in p["from"]} == {crosses}
    assert f"split into {len(content['chunks'])} packages" in result.report.notes[-1]
    single = built("bert_encoder", tmp_path, precision=precision, verify="off")
    data = inputs_for(single.graph, 3)
    expected = single.run(data)
    shutil.move(result.path, tmp_path / "elsewhere")
    result.artifact.path = tmp_path / "elsewhere"
    for name, array in result.artifact.run(data).items():
        assert np.array_equal(array, expected[name])


def test_one_asset_that_fits_is_not_split(tmp_path: Path) -> None:
    assert built("vit", tmp_path, split="1GB", verify="off").path == tmp_path / "m.aimodel"


def test_a_layer_that_fits_no_asset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"131,072 bytes cannot be split(.|\n)*conv"):
        built("bert_encoder", tmp_path, split="100KB", verify="off")
    with pytest.raises(UsageError, match="--split keeps the layout"):
        CoreAITarget(split="1GB", io_layout="engine")


def test_large_assets_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PRACTICAL_BYTES", 1000)
    warnings = built("vit", tmp_path, verify="off").artifact.warnings
    assert any("takes up to 2 GB" in w and "--split" in w for w in warnings)


def test_moves_at_the_borders_are_left_to_the_caller(tmp_path: Path) -> None:
    kept = built("gpt_block", tmp_path, verify="off")
    moved = compile_model(ENGINE / "gpt_block.onnx", "coreai", tmp_path / "e.aimodel", io_layout="engine")
    assert moved.report.passed
    facts = json.loads((moved.path / "metadata.json").read_text())
    assert facts["layout of past_key"].endswith("Reshape(shape=(1, 64, 1, 128))")
    ports = {port.name: port.shape for port in moved.artifact.inputs}  # type: ignore[attr-defined]  # those of Core AI
    assert ports["past_key"] == (1, 64, 1, 128)
    data = inputs_for(kept.graph, 1)
    for name, array in kept.run(data).items():
        assert moved.run(data)[name].shape == array.shape
        assert np.abs(moved.run(data)[name] - array).max() <= 2e-3 * np.abs(array).max()


def test_placement_is_that_of_the_core_ml_program() -> None:
    report = dry_run(ENGINE / "vit.onnx", "coreai", explain=True, os="macOS 27")
    assert report.placement is not None
    found = report.placement.as_json()
    assert found["system"] == "macOS 27"
    assert found["after"]["macs_eligible"] == 1.0 > found["before"]["macs_eligible"]
    assert "predicted for the Core ML program of the same layers" in report.placement.text()


def test_what_core_ml_cannot_have_is_not_predicted() -> None:
    target = CoreAITarget()
    section = target.placement(target.prepare(pair(U32, ops.Sub())), None)
    assert "no placement is predicted" in section.text() and "1 layer cannot run" in section.text()
    assert "sub" in section.as_json()["unpredicted"]


def test_data_shows_what_halves_must_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([[60000.0, 1.0]] * 4, np.float32))
    info = [h.make_tensor_value_info(name, 1, [1, 2]) for name in "xy"]
    model = h.make_model(h.make_graph([h.make_node("Add", ["x", "x"], ["y"])], "g", info[:1], info[1:]))
    target = CoreAITarget(calibrate=str(tmp_path / "rows.npz"))
    result = compile_model(model, target, tmp_path / "m.aimodel", verify="off")
    assert any("16-bit floats" in w and "seen" in w for w in result.artifact.warnings)


def test_approximations_are_on_request(tmp_path: Path) -> None:
    result = built("vit", tmp_path, approximate="substitute-erf-gelu")
    assert result.report.passed
    assert any("APPROXIMATED: substitute-erf-gelu" in w for w in result.report.warnings)


def test_losses_name_the_layers_that_lose_most(tmp_path: Path) -> None:
    single = built("conformer_block", tmp_path)
    data = inputs_for(single.graph, 0)
    found = single.artifact.losses(single.graph, data)
    assert found and all(loss.result_db < loss.operands_db for loss in found)
    assert found[0].result_db < 80.0
    several = built("conformer_block", tmp_path, split="400KB", verify="off")
    assert several.path == tmp_path / "m"
    assert [str(loss) for loss in several.artifact.losses(several.graph, data)] == [str(loss) for loss in found]


def test_a_quantized_model_may_be_rounded_the_other_way(tmp_path: Path) -> None:
    halves = compile_model(QUANTIZED, "coreai", tmp_path / "a.aimodel")
    assert halves.report.tolerance_db == 20.0 and halves.report.passed
    whole = compile_model(QUANTIZED, "coreai", tmp_path / "b.aimodel", precision="fp32")
    assert whole.report.tolerance_db == 40.0
    assert whole.report.verification and whole.report.verification[0].psnr_db > 90.0


def test_an_asset_that_is_gone_is_an_error(tmp_path: Path) -> None:
    artifact = compiled(pair(), tmp_path)
    shutil.rmtree(artifact.path)
    with pytest.raises(EmitError, match=r"is not an \.aimodel"):
        artifact.run({"x": np.zeros(2, np.float32)})


def test_a_process_ends_in_peace_after_it_ran_an_asset(tmp_path: Path) -> None:
    """The runtime's threads may still hold the interpreter when it ends, which would abort the process."""
    asset = compiled(pair(F64), tmp_path).path
    assert execute(asset, {"x": np.ones(2, np.float32)})["y"].tolist() == [2.0, 2.0]
    ended = subprocess.run(
        [sys.executable, "-c", EXITS, str(asset)], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["[6.0, 6.0]"] * 3


def test_without_its_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="coreai-core") as caught:
        program.Program()
    assert "pip install 'cincel[coreai]'" in str(caught.value)
