"""The spectrum view: singular values, dimensions, and what ranks cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.ops.activation import Relu
from compiler.ops.matmul import Dense
from compiler.spectrum import Asked, look
from compiler.tensor import F32, TensorType
from targets import find_target
from tests.command import ROOT, Command

MLP = ROOT / "examples" / "fault_mlp_ai4i.onnx"
ROWS = ROOT / "examples" / "data" / "ai4i.npz"
GIVEN = (str(MLP), "--input", "input=1x8", "--target", "onnx", "--dry-run", "--explain")
WIDTH, RANK = 96, 6


def low() -> Graph:
    """One dense layer with RANK singular values of 1 and tiny other ones."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] for _ in range(2))
    s = np.where(np.arange(WIDTH) < RANK, 1.0, 1e-4)
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, (1, WIDTH)), "x")
    (y,) = graph.add(Dense(transposed=True), x, graph.const(((u * s) @ v).astype(np.float32)), names=["layer"])
    (y,) = graph.add(Relu(), y)
    graph.set_outputs([y], ["y"])
    return graph


def test_what_is_known_of_a_layer() -> None:
    (line,) = look(low(), find_target("onnx")(), Asked(device="Cortex-A78")).lines
    assert line.found.values[:RANK] == pytest.approx(np.ones(RANK), rel=1e-5)
    assert line.found.effective == pytest.approx(RANK, rel=0.02)
    assert line.found.dimension is None
    assert line.bars[0] == "█" and set(line.bars[1:]) == {"▁"}
    assert [cut.share for cut in line.cuts] == [0.999, 0.99, 0.95, 0.9]
    assert [cut.rank for cut in line.cuts] == [RANK] * 4
    cut = line.cuts[0]
    assert str(cut.option) == f"matrix {RANK}"
    assert cut.work is not None
    assert (cut.work.parameters, cut.work.macs) == (2 * WIDTH * RANK, 2 * WIDTH * RANK)
    assert line.before.macs == WIDTH**2
    moved = 4 * (2 * WIDTH * RANK + 2 * WIDTH + 2 * RANK)
    assert cut.work.cost == pytest.approx(max(2 * WIDTH * RANK / 18.8e9, moved / 51.2e9), rel=0.05)


def test_dimensions_are_those_of_the_rows(tmp_path: Path) -> None:
    """Rows on a plane through the first layer's inputs have two dimensions."""
    rng = np.random.default_rng(1)
    plane = rng.standard_normal((2, WIDTH))
    np.savez(tmp_path / "rows.npz", x=(rng.random((300, 2)) @ plane).astype(np.float32))
    found = look(low(), find_target("onnx")(), Asked(data=str(tmp_path / "rows.npz")))
    (line,) = found.lines
    assert found.rows == 256
    assert line.found.dimension == pytest.approx(2, abs=0.4)
    assert line.found.participation is not None and 1 <= line.found.participation <= 2.05


def test_a_white_matrix_has_no_cheaper_rank() -> None:
    graph = low()
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))[0]
    x = graph.add_input(TensorType(F32, (1, WIDTH)), "z")
    (y,) = graph.add(Dense(transposed=True), x, graph.const(q.astype(np.float32)), names=["white"])
    graph.set_outputs([y], ["y"])
    found = look(graph, find_target("onnx")(), Asked())
    white = found.lines[-1]
    assert (white.found.layer, white.bars) == ("white", "█" * 16)
    assert white.cuts[0][2:] == (None, None)
    assert "white" in found.text() and "no split saves work" in found.text()


def test_the_command_prints_and_tells(command: Command) -> None:
    done = command(*GIVEN, "--spectrum", "--latency", "Cortex-A55", "--calibrate", str(ROWS))
    assert done.code == 0, done.err
    assert "times of Cortex-A55" in done.out.replace("\n", " ")
    assert "effective rank" in done.out and "TwoNN" in done.out
    report = command(*GIVEN, "--spectrum", "--json").report["spectrum"]
    assert (report["rows"], report["device"]) == (0, None)
    assert [p["shape"] for p in report["layers"]] == [[64, 64], [32, 64]]
    first = report["layers"][0]
    assert first["before"] == {"parameters": 64 * 64 + 64, "macs": 64 * 64, "seconds": None}
    assert len(first["values"]) == 64 and first["values"] == sorted(first["values"], reverse=True)
    assert command(*GIVEN, "--json").report["spectrum"] is None


def test_the_files(command: Command, tmp_path: Path) -> None:
    page, numbers = tmp_path / "s.html", tmp_path / "s.json"
    assert command(*GIVEN, "--spectrum", str(numbers), "--json").code == 0
    content = json.loads(numbers.read_text())
    assert content["model"] == str(MLP)
    assert len(content["layers"]) == 2
    pytest.importorskip("plotly")
    assert command(*GIVEN, "--spectrum", str(page)).code == 0
    text = page.read_text()
    assert text.count("<table>") == 2
    assert text.count("Plotly.newPlot") >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*GIVEN[:-1], "--spectrum"), "what --explain tells is not asked for"),
        ((*GIVEN, "--spectrum", "plot.png"), "neither FILE.html nor FILE.json"),
        ((*GIVEN, "--spectrum", "none/plot.json"), "the folder of --spectrum 'none/plot.json' does not exist"),
        ((*GIVEN, "--spectrum", "--latency", "Pentium"), "no chip or device named 'Pentium'"),
    ],
)
def test_wrong_usage(command: Command, arguments: tuple[str, ...], message: str) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert message in done.err


def test_a_plot_without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.spectrum.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="plotly"):
        Asked(file="plot.html").expect_sound()
