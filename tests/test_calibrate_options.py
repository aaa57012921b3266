"""Limits, image rules, saved and continued calibrations, from the command line to the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compiler.arguments import parse_data
from compiler.calibrate.images import ImageRule
from compiler.calibrate.names import fingerprint
from compiler.calibrate.record import is_calibration, load_calibration
from compiler.calibrate.run import calibrate
from compiler.calibrate.sources import Data
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.ops.elementwise import Mul
from compiler.tensor import F32, TensorType
from targets.tflite.target import TfLiteTarget
from tests.command import Command

ROOT = Path(__file__).parent.parent
KWS = ROOT / "examples" / "mlperf_tiny_kws_dscnn.onnx"
ROWS = ROOT / "examples" / "data" / "speech_commands.npz"
COMMAND = (str(KWS), "--target", "nnapi", "--precision", "int8", "--input", "input_1=1x49x10x1", "--verify", "off")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def scaled(factor: float = 2.0) -> Graph:
    g = Graph()
    x = g.add_input(TensorType(F32, (1, 4)), "x")
    g.set_outputs(list(g.add(Mul(), x, g.const(np.full((1, 4), factor, np.float32)), names=["y"])), ["y"])
    return g


def rows(count: int) -> np.ndarray:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


@pytest.mark.parametrize(("most", "seen"), [(1, 1), (3, 3), (20, 8), (None, 8)])
def test_a_limit_takes_the_first_rows(most: int | None, seen: int) -> None:
    found = calibrate(scaled(), Data(rows(8), most), "minmax")
    assert found.rows == seen
    assert found.range("x").high == seen * 4 - 1


def test_a_limit_below_one_row_is_refused() -> None:
    with pytest.raises(UsageError, match="0 rows are too few"):
        calibrate(scaled(), Data(rows(8), 0), "minmax")


def test_a_limit_holds_for_iterables_too() -> None:
    source = iter(rows(8))
    assert calibrate(scaled(), Data(source, 3), "minmax").rows == 3
    assert len(list(source)) == 5


def test_the_image_rule_of_the_data_counts(tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "a.png")
    g = Graph()
    x = g.add_input(TensorType(F32, (1, 3, 4, 4)), "x")
    g.set_outputs(list(g.add(Mul(), x, x, names=["y"])), ["y"])
    data = parse_data(str(tmp_path), None, "scale=1,mean=7", None, None)
    assert calibrate(g, data, "minmax").range("x")[:2] == (-7.0, 40.0)


def test_options_without_data_are_refused() -> None:
    assert parse_data("a.npz", None, None, None, None) == "a.npz"
    with pytest.raises(UsageError, match="come without data"):
        parse_data(None, 3, None, None, None)


def test_a_fingerprint_tells_constants_and_layers_apart() -> None:
    assert fingerprint(scaled()) == fingerprint(scaled())
    assert fingerprint(scaled()) != fingerprint(scaled(3.0))


def test_a_calibration_of_another_graph_is_not_continued() -> None:
    first = calibrate(scaled(), rows(4), "minmax")
    first.graph = fingerprint(scaled())
    assert calibrate(scaled(), rows(4), "minmax", start=first).rows == 8
    with pytest.raises(UsageError, match="of another graph"):
        calibrate(scaled(3.0), rows(4), "minmax", start=first)


def test_a_saved_calibration_gives_the_same_file(run: Command, tmp_path: Path) -> None:
    saved, first, second = (str(tmp_path / n) for n in ("ranges.npz", "a.tflite", "b.tflite"))
    data = ("--calibrate", str(ROWS), "--calibrate-rows", "24", "--repair", "off")
    assert run(*COMMAND, *data, "--save-calibration", saved, "-o", first).code == 0
    assert is_calibration(saved) and not is_calibration(ROWS)
    assert load_calibration(saved).rows == 24
    assert run(*COMMAND, "--calibrate", saved, "-o", second).code == 0
    assert Path(first).read_bytes() == Path(second).read_bytes()


def test_a_calibration_is_continued_as_if_in_one_go(run: Command, tmp_path: Path) -> None:
    with np.load(ROWS) as file:
        array = file["input_1"][:20]
    for name, part in (("all", array), ("a", array[:12]), ("b", array[12:])):
        np.savez(tmp_path / f"{name}.npz", input_1=part)
    once, half, whole = (str(tmp_path / f"{n}.json") for n in ("once", "half", "whole"))
    common = (*COMMAND, "--repair", "off", "-o", str(tmp_path / "m.tflite"))
    assert run(*common, "--calibrate", str(tmp_path / "all.npz"), "--save-calibration", once).code == 0
    assert run(*common, "--calibrate", str(tmp_path / "a.npz"), "--save-calibration", half).code == 0
    more = ("--calibrate", str(tmp_path / "b.npz"), "--resume-calibration", half, "--save-calibration", whole)
    assert run(*common, *more).code == 0
    first, second = (json.loads(Path(p).read_text()) for p in (once, whole))
    assert first["digest"] == second["digest"]
    assert first["values"] == second["values"]


def test_a_calibration_of_another_model_is_refused(run: Command, tmp_path: Path) -> None:
    saved = calibrate(scaled(), rows(4), "minmax")
    saved.graph = fingerprint(scaled())
    path = saved.save(tmp_path / "other.json")
    done = run(*COMMAND, "--calibrate", str(path), "-o", str(tmp_path / "m.tflite"))
    assert done.code == 2
    assert "the saved calibration is of another graph" in done.err


def test_a_saved_calibration_holds_no_rows_to_judge_by(run: Command, tmp_path: Path) -> None:
    saved, out = str(tmp_path / "ranges.npz"), ("-o", str(tmp_path / "m.tflite"))
    data = ("--calibrate", str(ROWS), "--calibrate-rows", "4", "--repair", "off")
    assert run(*COMMAND, *data, "--save-calibration", saved, *out).code == 0
    explained = run(*COMMAND, "--calibrate", saved, "--explain", *out)
    assert explained.code == 0, explained.err
    assert "damage by layer, 1 row\n" in explained.out
    done = run(*COMMAND, "--calibrate", saved, "--min-psnr", "30", *out)
    assert done.code == 2 and "a saved calibration holds none" in done.err


def test_data_are_not_written_over(run: Command, tmp_path: Path) -> None:
    data = tmp_path / "d.npz"
    data.write_bytes(ROWS.read_bytes())
    out = ("-o", str(tmp_path / "m.tflite"))
    done = run(*COMMAND, "--calibrate", str(data), "--save-calibration", str(data), *out)
    assert done.code == 2 and "would be written over the data" in done.err
    assert data.read_bytes() == ROWS.read_bytes()


def test_a_rule_of_pixels_is_for_images(run: Command, tmp_path: Path) -> None:
    out = ("-o", str(tmp_path / "m.tflite"))
    done = run(*COMMAND, "--calibrate", str(ROWS), "--calibrate-image", "scale=1/255", *out)
    assert done.code == 2
    assert f"a rule of pixels is for a folder of images, and the calibration data {str(ROWS)!r} is none" in done.err
    with pytest.raises(UsageError, match="the calibration data a ndarray is none"):
        calibrate(scaled(), rows(4), "minmax", images=ImageRule())
    np.save(tmp_path / "row.npy", rows(1))
    with pytest.raises(UsageError, match=r"a rule of pixels is for images, and the folder .* holds none"):
        calibrate(scaled(), tmp_path, "minmax", images=ImageRule())


def test_a_calibration_that_cannot_be_saved_is_told_before_any_data_are_read(tmp_path: Path) -> None:
    class Unread(Iterator[np.ndarray]):
        def __next__(self) -> np.ndarray:
            raise AssertionError("the data were read")

    (tmp_path / "folder.npz").mkdir()
    for path, words in (("none/c.npz", "there is no folder"), ("folder.npz", "it is a folder"), ("c.txt", "no name")):
        with pytest.raises(UsageError, match=words):
            TfLiteTarget("int8", calibrate=Data(Unread(), save=str(tmp_path / path)))
    assert [p.name for p in tmp_path.iterdir()] == ["folder.npz"]
