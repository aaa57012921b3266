"""Compression from the command line to the file: goals, limits, recipes, fronts, and every target behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compiler.api import compile_model, load
from compiler.compression import Compression
from compiler.compression_goals import bytes_each, goal_of
from compiler.compression_latency import Seconds, chip_seconds
from compiler.errors import UsageError
from compiler.report import measure
from compiler.target import make_target
from passes._compress_walk import Goal
from targets import find_target
from tests.command import Command

ROOT = Path(__file__).parent.parent
MLP = ROOT / "examples" / "fault_mlp_ai4i.onnx"
MLP_ROWS = ROOT / "examples" / "data" / "ai4i.npz"
MOBILENET = ROOT / "examples" / "mobilenetv2s_cifar10_b1.onnx"
VIT = ROOT / "examples" / "vit_fashion_b1.onnx"
VIT_ROWS = ROOT / "examples" / "data" / "fashion_mnist.npz"
PARAMETERS = 6885
QUICK = (str(MLP), "--input", "input=10x8", "--target", "onnx", "--verify", "off")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.mark.parametrize(
    ("option", "text", "goal"),
    [
        ("compress", "2x", Goal("parameters", 0.5, is_share=True)),
        ("compress", "30%", Goal("parameters", 0.3, is_share=True)),
        ("compress", "1.5M", Goal("parameters", 1.5e6)),
        ("compress", "auto", Goal("parameters")),
        ("size", "5MB", Goal("bytes", 5e6)),
        ("size", "1 KiB", Goal("bytes", 1024.0)),
        ("macs", "100m", Goal("macs", 1e8)),
        ("latency", "A14=5ms", Goal("cost", 0.004)),
        ("latency", "M1 Max=2x", Goal("cost", 0.5, is_share=True)),
    ],
)
def test_goals(option: str, text: str, goal: Goal) -> None:
    assert goal_of({option: text}, 0.001) == goal


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("compress", "much"),
        ("compress", "0x"),
        ("compress", "0.5x"),
        ("compress", "120%"),
        ("compress", "5MB"),
        ("size", "5M"),
        ("latency", "A14=5"),
        ("latency", "A14=0.5ms"),
    ],
)
def test_no_goals(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--{option}"):
        goal_of({option: text}, 0.001)


def test_bytes_of_a_weight() -> None:
    each = {
        "nnapi": bytes_each(find_target("nnapi")()),
        "fp16": bytes_each(make_target(find_target("nnapi"), {"precision": "fp16"})),
        "int4": bytes_each(make_target(find_target("onnx"), {"weights": "int4"})),
    }
    assert each == {"nnapi": 4.0, "fp16": 2.0, "int4": 0.5}


def test_seconds_of_a_layer() -> None:
    seconds = chip_seconds("A14=5ms", find_target("onnx")())
    assert isinstance(seconds, Seconds)
    graph = load(MLP, inputs={"input": (10, 8)})
    heavy = max(graph.nodes, key=lambda n: n.macs)
    moved = 2 * sum(t.size for t in (*heavy.input_types, heavy.outputs[0].type) if t is not None)
    assert seconds.of(heavy) == pytest.approx(max(heavy.macs / seconds.macs, moved / seconds.bandwidth))
    assert chip_seconds(None, find_target("onnx")()) is None
    with pytest.raises(UsageError, match="no chip"):
        chip_seconds("A1=5ms", find_target("onnx")())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compress", "2x"), "--compress chooses by what rows of data show"),
        (("--compress", "auto", "--calibrate", str(MLP_ROWS)), "--compress auto needs a limit"),
        (("--compress", "2x", "--macs", "2x", "--calibrate", str(MLP_ROWS)), "is given --compress and --macs"),
        (("--save-recipe", "r.json", "--calibrate", str(MLP_ROWS)), "is given none"),
        (("--recipe", "none.json"), "the recipe 'none.json' cannot be read: no such file"),
        (("--recipe", "none.json", "--pareto", "p.json"), "a recipe makes none"),
        (("--compress", "2x", "--calibrate", str(MLP_ROWS), "--max-drop", "much"), "--max-drop 'much' is no share"),
        (("--compress", "2x", "--calibrate", str(MLP_ROWS), "--min-psnr", "-3"), "no number of decibels"),
        (("--compress", "2x", "--calibrate", str(MLP_ROWS), "--bisect"), "compression is to change it"),
        (("--recipe", "r.json", "--save-recipe", "none/r.json"), "the folder of --save-recipe 'none/r.json' does not"),
        (("--latency", "5ms", "--calibrate", str(MLP_ROWS)), "is not CHIP=TIME"),
        (("--compress", "2x", "--calibrate", str(MLP_ROWS), "--save-calibration", "c.npz"), "of --precision int8"),
    ],
)
def test_wrong_usage(run: Command, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run(*QUICK, "-o", str(tmp_path / "out.onnx"), *arguments)
    assert found.code == 2
    assert message in found.err
    assert list(tmp_path.iterdir()) == []


def test_a_plot_without_plotly(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.compression.find_spec", lambda _: None)
    page = str(tmp_path / "front.html")
    found = run(*QUICK, "--compress", "2x", "--calibrate", str(MLP_ROWS), "--pareto", page)
    assert found.code == 2
    assert "pip install 'cincel[plot]'" in found.err


def test_quantized_models_are_refused(tmp_path: Path) -> None:
    whole = compile_model(MLP, "onnx", tmp_path / "q.onnx", inputs={"input": (1, 8)}, weights="int8", verify="off")
    asked = Compression(data=str(MLP_ROWS), parameters="2x")
    with pytest.raises(UsageError, match="a quantized model cannot be compressed"):
        compile_model(whole.path, "onnx", tmp_path / "out.onnx", compression=asked)


def test_a_saved_calibration_holds_no_rows(run: Command, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved.npz")
    given = (str(MLP), "--input", "input=10x8", "--target", "onnx", "--precision", "int8", "-o", f"{saved}.onnx")
    assert run(*given, "--calibrate", str(MLP_ROWS), "--save-calibration", saved, "--repair", "off").code == 0
    found = run(*QUICK, "--compress", "2x", "--calibrate", saved)
    assert found.code == 2
    assert "a saved calibration holds none" in found.err


def test_the_report_says_what_was_lost_and_by_what(run: Command, tmp_path: Path) -> None:
    files = {name: str(tmp_path / name) for name in ("out.onnx", "recipe", "front.json", "measured", "again.onnx")}
    given = (*QUICK[:-2], "--calibrate", str(MLP_ROWS))
    first = run(
        *given, "-o", files["out.onnx"], "--compress", "2x", "--save-recipe", files["recipe"],
        "--pareto", files["front.json"], "--sensitivities", files["measured"], "--json",
    )  # fmt: skip
    assert first.code == 0, first.err
    report = first.report
    found = report["compression"]
    assert report["before"]["parameters"] == PARAMETERS
    assert report["after"]["parameters"] <= PARAMETERS / 2
    assert measure(load(files["out.onnx"])).parameters == report["after"]["parameters"]
    assert found["weight_bytes"] == 4 * found["stages"][-1]["parameters"]
    assert report["verification"]["passed"]
    assert report["verification"]["outputs"][0]["psnr_db"] > 100  # from the compressed graph
    assert found["stages"][-1]["loss"]["psnr_db"] < 100  # from the model
    assert {e["pass"] for e in report["ledger"]} >= {"compress"}
    recipe = json.loads(Path(files["recipe"]).read_text())
    assert recipe == found["recipe"]
    points = json.loads(Path(files["front.json"]).read_text())["points"]
    assert points == found["front"]
    assert len(points) >= 8
    assert recipe in [p["recipe"] for p in points]
    assert len(Path(files["measured"]).read_text().splitlines()) == found["sensitivities_measured"]
    again = run(*given, "-o", files["again.onnx"], "--recipe", files["recipe"], "--seed", "7")
    assert again.code == 0, again.err
    assert f"compressed: {recipe['measured']['parameters'][0]:,} to" in again.out
    assert "from the original" in again.out
    assert Path(files["again.onnx"]).read_bytes() == Path(files["out.onnx"]).read_bytes()


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    from compiler.pareto import write_front  # loads plotly

    point = {"macs": 5, "seconds": None, "drop": None, "psnr_db": 3.0, "snr_db": 2.5, "recipe": {"model": "<b>"}}
    write_front([{"parameters": 1234, **point}], "some.onnx", tmp_path / "front.html")
    page = (tmp_path / "front.html").read_text()
    assert "1,234 parameters, 5 MACs" in page
    assert "&lt;b&gt;" in page
    assert "Plotly.newPlot" in page


def test_fronts_that_cannot_be_written(tmp_path: Path) -> None:
    from compiler.pareto import write_front

    with pytest.raises(UsageError, match="the front cannot be written"):
        write_front([], "some.onnx", tmp_path / "none" / "front.json")


def test_a_dry_run_compresses_and_writes_nothing(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(*QUICK[:-2], "--compress", "2x", "--calibrate", str(MLP_ROWS), "--dry-run", "--json")
    assert found.code == 0, found.err
    assert found.report["after"]["parameters"] <= PARAMETERS / 2
    assert list(tmp_path.iterdir()) == []


def test_limits_hold_on_the_file() -> None:
    asked = Compression(data=str(MLP_ROWS), parameters="auto", max_drop="1%")
    done = compile_model(MLP, "onnx", inputs={"input": (100, 8)}, compression=asked)
    with np.load(MLP_ROWS) as rows:
        x, labels = rows["input"], rows["labels"]
    plain = compile_model(MLP, "onnx", inputs={"input": (100, 8)})

    def right(compiled: object) -> float:
        outputs = [next(iter(compiled.run({"input": x[i : i + 100]}).values())) for i in range(0, 500, 100)]  # type: ignore[attr-defined]  # Compiled
        return float((np.concatenate(outputs).argmax(1) == labels).mean())

    assert done.report.after.parameters < 0.7 * done.report.before.parameters
    assert right(done) >= right(plain) - 0.02  # half of the rows are those that were measured


def test_time_of_a_chip(run: Command, tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    found = run(*QUICK, "-o", out, "--latency", "A14=1.5x", "--calibrate", str(MLP_ROWS), "--json")
    assert found.code == 0, found.err
    assert found.report["after"]["macs"] < found.report["before"]["macs"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a convolutional net; its rows are noise, which tells layers apart well enough."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    rows = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    asked = Compression(data={"input": rows}, macs="1.4x", save_recipe=path, multiple=8)
    compile_model(MOBILENET, "onnx", compression=asked)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "options"),
    [
        pytest.param("nnapi", {"precision": "int8", "calibrate": "synthetic"}, id="nnapi int8"),
        pytest.param("nnapi", {"precision": "fp16"}, id="nnapi fp16"),
        pytest.param("onnx", {"precision": "int8", "calibrate": "synthetic"}, id="onnx int8"),
        pytest.param("onnx", {"weights": "int8"}, id="onnx int8 weights"),
        pytest.param("ane", {}, id="ane"),
        pytest.param("coreai", {}, id="coreai"),
        pytest.param("edgetpu", {"calibrate": "synthetic"}, id="edgetpu"),
    ],
)
def test_every_target_takes_what_is_left(recipe: Path, target: str, options: dict[str, str]) -> None:
    chosen = make_target(find_target(target), options)
    done = compile_model(MOBILENET, chosen, compression=Compression(recipe=recipe))
    found = done.report.compression
    assert found is not None
    assert {s["technique"] for s in found.as_json()["stages"]} == {"prune-channels", "low-rank"}
    assert done.report.verification is not None
    assert done.report.passed, done.report.verification


@pytest.mark.slow
def test_a_transformer_loses_a_third_of_its_work() -> None:
    asked = Compression(data=str(VIT_ROWS), macs="1.5x", max_drop="3%")
    done = compile_model(VIT, "onnx", compression=asked)
    assert done.report.passed
    assert done.report.after.macs <= done.report.before.macs / 1.5
