"""Bits of weights, recoveries and techniques as parts of one compression, from what is asked for to the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from compiler.api import compile_model
from compiler.compression import Compression
from compiler.compression_goals import bytes_each
from compiler.compression_setup import checked_techniques, multiple_of
from compiler.errors import UsageError
from compiler.target import make_target
from targets import find_target
from tests.command import Command

ROOT = Path(__file__).parent.parent
MLP = ROOT / "examples" / "fault_mlp_ai4i.onnx"
MLP_ROWS = ROOT / "examples" / "data" / "ai4i.npz"
VIT = ROOT / "examples" / "vit_fashion_b1.onnx"
VIT_ROWS = ROOT / "examples" / "data" / "fashion_mnist.npz"
QUICK = (str(MLP), "--input", "input=10x8", "--verify", "off", "--calibrate", str(MLP_ROWS))
SHAPE = {"input": (10, 8)}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def stored_bytes(path: Path) -> int:
    return sum(len(t.raw_data) for t in onnx.load(path).graph.initializer)


def test_the_file_has_as_many_bytes_as_were_counted(tmp_path: Path) -> None:
    asked = Compression(data=str(MLP_ROWS), size="2.5x", techniques="weight-bits", recover="none")
    done = compile_model(MLP, "onnx", tmp_path / "out.onnx", inputs=SHAPE, compression=asked)
    whole = compile_model(MLP, "onnx", tmp_path / "whole.onnx", inputs=SHAPE)
    assert done.report.compression is not None
    told = done.report.compression.as_json()
    assert told["weight_bytes"] <= stored_bytes(tmp_path / "whole.onnx") / 2.5
    assert stored_bytes(tmp_path / "out.onnx") == pytest.approx(told["weight_bytes"], rel=0.03)
    assert [s["technique"] for s in told["stages"]] == ["weight-bits"]
    assert {c["setting"]["storage"] for c in told["recipe"]["choices"]} <= set(find_target("onnx")().storages)
    assert done.report.verification is not None
    assert min(c.psnr_db for c in done.report.verification) > 100  # it stores the very numbers that were measured
    assert done.report.after.parameters == whole.report.after.parameters


@pytest.mark.parametrize("target", ["ane", "coreai", "nnapi"])
def test_weights_are_stored_as_they_were_rounded(target: str, tmp_path: Path) -> None:
    found = find_target(target)
    asked = Compression(data=str(MLP_ROWS), size="3x", techniques="weight-bits", recover="none")
    done = compile_model(MLP, target, tmp_path / f"out{found.suffix}", inputs=SHAPE, compression=asked)
    plain = compile_model(MLP, target, tmp_path / f"plain{found.suffix}", inputs=SHAPE)
    assert done.report.passed
    annotated = [v for v in done.graph.constants if v.type.quant is not None or v.type.palette is not None]
    assert done.report.compression is not None
    assert len(annotated) == len(done.report.compression.as_json()["recipe"]["choices"]) > 0
    assert done.report.size < plain.report.size


def test_a_recipe_of_bits_gives_the_same_file_and_the_same_recipe(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx")]
    recipes = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path, recipe in zip(files[:2], recipes[:2], strict=True):
        asked = Compression(data=str(MLP_ROWS), size="10x", save_recipe=recipe)
        compile_model(MLP, "onnx", path, inputs=SHAPE, compression=asked, verify="off")
    again = Compression(data=str(MLP_ROWS), recipe=recipes[0], save_recipe=recipes[2])
    compile_model(MLP, "onnx", files[2], inputs=SHAPE, compression=again, verify="off")
    assert len({path.read_bytes() for path in recipes}) == 1
    assert len({path.read_bytes() for path in files}) == 1
    told = json.loads(recipes[0].read_text())
    assert {"weight-bits"} < {c["technique"] for c in told["choices"]}
    assert told["options"] == {"multiple": 1, "seed": 0, "recover": "closed-form"}


def test_bits_are_no_candidates_where_they_are_asked_for() -> None:
    assert not find_target("ane")(weights="int8").storages  # type: ignore[call-arg]  # of that target
    asked = Compression(data=str(MLP_ROWS), size="2x", recover="none")
    done = compile_model(MLP, "onnx", inputs=SHAPE, compression=asked, weights="int8", verify="off")
    assert done.report.compression is not None
    assert "weight-bits" not in {s["technique"] for s in done.report.compression.as_json()["stages"]}


def storages() -> Iterator[tuple[str, dict[str, object], set[str], set[str]]]:
    yield "ane", {"deployment_target": "iOS15"}, set(), {"int8", "palette4"}
    yield "ane", {"deployment_target": "iOS17"}, {"int8", "palette4"}, {"int4", "palette3", "palette4/32"}
    yield "ane", {"deployment_target": "iOS18"}, {"int4", "palette3", "palette4/32"}, {"int4/32"}
    yield "nnapi", {}, {"int8", "int4"}, {"palette4", "int4/32"}
    yield "nnapi", {"precision": "fp16"}, set(), {"int8"}
    yield "onnx", {"opset": 17}, {"int8"}, {"int4"}
    yield "edgetpu", {"calibrate": "synthetic"}, set(), {"int8"}


@pytest.mark.parametrize(("name", "options", "has", "lacks"), list(storages()))
def test_what_targets_store(name: str, options: dict[str, object], has: set[str], lacks: set[str]) -> None:
    found = set(make_target(find_target(name), options).storages)
    assert has <= found
    assert not lacks & found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "2x", "--techniques", "magic"), "--techniques knows no 'magic'"),
        (("--macs", "2x", "--techniques", "low-rank,weight-bits"), "weight-bits cannot bring a model nearer to --macs"),
        (("--size", "2x", "--techniques", "prune-weights", "-t", "onnx"), "does not store weights with many zeros"),
        (("--size", "2x", "--techniques", "weight-bits", "--weights", "int8"), "does not store weights in other ways"),
        (("--size", "2x", "--multiple", "none"), "--multiple 'none' is no number"),
        (("--size", "2x", "--recover", "prayer"), "--recover 'prayer' is not known"),
        (("--size", "2x", "--epochs", "3"), "--epochs is a number from 1 on, of --recover train"),
        (("--techniques", "low-rank"), "compression has one goal or a recipe, and is given none"),
    ],
)
def test_wrong_usage(run: Command, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run(*QUICK, "-o", str(tmp_path / "out.bin"), "--target", "onnx", *arguments)
    assert found.code == 2
    assert message in found.err
    assert list(tmp_path.iterdir()) == []


def test_training_without_tensorflow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.compression_setup.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="needs TensorFlow") as e:
        Compression(data=str(MLP_ROWS), size="2x", recover="train").expect_sound()
    assert "cincel[train]" in str(e.value.hint)


def test_the_command_line_reaches_the_recipe(run: Command, tmp_path: Path) -> None:
    given = (*QUICK, "-o", str(tmp_path / "out.onnx"), "--compress", "1.5x", "--json")
    found = run(*given, "--target", "onnx", "--techniques", "low-rank", "--multiple", "4", "--recover", "none")
    assert found.code == 0, found.err
    recipe = found.report["compression"]["recipe"]
    assert {c["technique"] for c in recipe["choices"]} == {"low-rank"}
    assert all(c["setting"]["rank"] % 4 == 0 for c in recipe["choices"])
    assert recipe["options"] == {"multiple": 4, "seed": 0, "recover": "none"}


def test_names_and_multiples() -> None:
    assert checked_techniques("weight-bits, low-rank") == ("low-rank", "weight-bits")
    assert checked_techniques(None) is None
    edge = make_target(find_target("edgetpu"), {"calibrate": "synthetic"})
    assert multiple_of("auto", "latency", edge) == 64
    assert multiple_of(None, "size", edge) == 1
    assert multiple_of("8", "size", edge) == 8


@pytest.mark.slow
def test_a_mix_keeps_more_than_bits_alone() -> None:
    losses = {}
    for techniques in (None, "weight-bits"):
        asked = Compression(data=str(VIT_ROWS), size="4x", techniques=techniques, recover="none")
        done = compile_model(VIT, "ane", compression=asked)
        assert done.report.passed
        assert done.report.compression is not None
        told = done.report.compression.as_json()
        whole, left = told["recipe"]["measured"]["bytes"]
        assert 3.9 < whole / left < 4.3 and left <= whole / 4
        losses[techniques] = told["recipe"]["measured"]["snr_db"]
    assert losses[None] >= losses["weight-bits"] > 15


@pytest.mark.parametrize("target", ["ane", "coreai", "onnx", "nnapi"])
def test_the_artifact_has_the_size_that_is_asked_for(target: str, tmp_path: Path) -> None:
    asked = Compression(data=str(VIT_ROWS), size="190kB", techniques="weight-bits", recover="none")
    done = compile_model(VIT, target, tmp_path / "out", compression=asked)
    assert done.report.passed
    assert done.report.size == pytest.approx(190e3, rel=0.12)
    assert done.report.size < 190e3 * 1.02
    assert done.report.compression is not None
    told = done.report.compression.as_json()
    assert told["stored_bytes"] == pytest.approx(told["weight_bytes"], rel=0.02)  # no rewrite changed what was rounded


def test_a_size_below_that_of_a_model_without_weights(run: Command, tmp_path: Path) -> None:
    found = run(*QUICK, "-o", str(tmp_path / "out.onnx"), "--target", "onnx", "--size", "1kB")
    assert found.code == 2
    assert "is less than what the artifact takes without any weight" in found.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose weights are in tables."""
    path = tmp_path_factory.mktemp("recipe") / "model.json"
    asked = Compression(data=str(MLP_ROWS), size="3.5x", techniques="weight-bits", recover="none", save_recipe=path)
    compile_model(MLP, "ane", inputs=SHAPE, compression=asked, verify="off")
    told = json.loads(path.read_text())
    assert any(c["setting"]["storage"].startswith("palette") for c in told["choices"])
    return path


def test_tables_are_counted_as_floats_where_there_are_none(tables: Path, tmp_path: Path) -> None:
    done = compile_model(MLP, "onnx", tmp_path / "out.onnx", inputs=SHAPE, compression=Compression(recipe=tables))
    assert done.report.compression is not None
    told = done.report.compression.as_json()
    assert stored_bytes(tmp_path / "out.onnx") == pytest.approx(told["weight_bytes"], rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--techniques", "low-rank"), "a recipe says what is done, and --techniques cannot change it"),
        (("--multiple", "8", "--recover", "none"), "--multiple and --recover cannot change it"),
        (("--min-psnr", "200"), "the recipe costs too much"),
    ],
)
def test_what_does_not_go_with_a_recipe(
    run: Command, tables: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out.mlpackage"
    found = run(*QUICK, "-o", str(out), "--target", "ane", "--recipe", str(tables), *arguments)
    assert found.code == 2
    assert message in found.err
    assert not out.exists()


def test_limits_of_a_recipe_need_rows(tables: Path) -> None:
    with pytest.raises(UsageError, match="limits are measured on rows"):
        Compression(recipe=tables, max_drop="1%").expect_sound()


def test_bytes_of_weights_that_are_asked_for_in_integers() -> None:
    assert bytes_each(make_target(find_target("nnapi"), {"weights": "int8"})) == 1.0
