"""The command line: what it prints where, its exit codes, and the files it leaves."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compiler import __version__
from compiler.evaluate import evaluate
from compiler.text import load_constants
from compiler.text_parse import parse_graph
from tests.command import ROOT, Command, convolutional, spawn
from tests.onnx_models import run

TINY = ROOT / "examples" / "fault_mlp_ai4i.onnx"
KEYS = {"artifact", "target", "model", "size_bytes", "stages", "before", "after", "passes", "ledger"}
KEYS |= {"transposes", "regions", "verification", "losses", "explanation", "placement", "compression", "spectrum"}
KEYS |= {"details", "notes", "warnings"}


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    path = tmp_path / "cnn.onnx"
    onnx.save(convolutional(), path)
    return path


# -- what is printed -------------------------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(command: Command, cnn: Path) -> None:
    done = command(cnn, "--target", "onnx", "-o", "o.onnx", "--json", "--verify", "each")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    report = done.report
    assert report.keys() == KEYS
    assert (report["artifact"], report["target"], report["model"]) == ("o.onnx", "onnx", str(cnn))
    assert report["size_bytes"] == Path("o.onnx").stat().st_size
    assert [s["name"] for s in report["stages"]] == ["import", "reference", "passes", "lower", "emit", "verify"]
    assert all(s["seconds"] >= 0 for s in report["stages"])
    assert report["before"]["ops"] == {"batch_norm": 2, "conv": 2, "relu": 1}
    assert report["after"]["ops"] == {"conv": 2, "relu": 1}
    assert report["after"]["macs"] == 8 * 8 * 9 * (3 * 4 + 4 * 4)
    assert report["before"]["parameters"] == 9 * (3 * 4 + 4 * 4) + 2 * 4 * 4
    assert report["after"]["parameters"] == 9 * (3 * 4 + 4 * 4) + 2 * 4
    (output,) = report["verification"]["outputs"]
    assert output.keys() == {"name", "max_abs", "psnr_db", "top1_agreement"}
    assert output["name"] == "b1" and output["psnr_db"] > 100 and output["max_abs"] < 1e-4
    assert report["verification"]["passed"] is True and report["verification"]["tolerance_db"] == 100
    assert report["notes"] == ['dimension 0 ("n") of input "x" is taken as 1, the batch']
    fused = [e for e in report["ledger"] if "batch_norm" in e["before"]]
    assert [set(e["origin"]) for e in fused] == [{"a0_node", "b0_node"}, {"a1_node", "b1_node"}]
    for entry in fused:
        assert (entry["status"], entry["after"], entry["error_class"]) == ("applied", ["conv"], "rounding")
        assert entry["psnr_db"] > 100 and entry["max_abs"] < 1e-4
    for record in report["passes"]:
        assert record["outputs"][0]["psnr_db"] > 100


def test_without_verification_nothing_is_compared(command: Command) -> None:
    report = command(TINY, "--target", "onnx", "--verify", "off", "--json").report
    assert report["verification"]["outputs"] == []
    assert [s["name"] for s in report["stages"]] == ["import", "passes", "lower", "emit"]
    assert report["artifact"] == "fault_mlp_ai4i.cincel.onnx"
    assert Path(report["artifact"]).is_file()


def test_the_summary_says_what_was_done(command: Command, cnn: Path) -> None:
    done = command(cnn, "--target", "onnx", "-o", "o.onnx")
    assert (done.code, done.err) == (0, "")
    rows = {
        cells[0].strip(): cells[1:] for line in done.out.splitlines() if len(cells := re.split("[│┃]", line)[1:-1]) == 3
    }
    assert [c.strip() for c in rows["layers"]] == ["5", "3"]
    assert [c.strip() for c in rows["batch_norm"]] == ["2", "0"]
    assert [c.strip() for c in rows["parameters"]] == ["284", "260"]
    assert [c.strip() for c in rows["multiply-accumulates"]] == ["16,640", "16,128"]
    assert f"{Path('o.onnx').stat().st_size:,} bytes" in rows["artifact"][1]
    assert " dB, max-abs " in rows["b1 vs ONNX Runtime"][1] or "identical" in rows["b1 vs ONNX Runtime"][1]
    assert {"import, seconds", "passes, seconds", "emit, seconds", "verify, seconds"} <= rows.keys()
    assert 'note: dimension 0 ("n") of input "x" is taken as 1, the batch' in done.out
    assert done.out.endswith("wrote o.onnx\n")


def test_quiet_prints_nothing(command: Command) -> None:
    assert command(TINY, "--target", "onnx", "--quiet") == (0, "", "")


def test_help_and_version(command: Command) -> None:
    done = command("--help")
    assert done.code == 0 and done.err == ""
    flags = (
        "--target --output --input --freeze --precision --deployment-target --image --opset --external --passes --skip"
    )
    flags += (
        " --emit-ir --emit-onnx --verify --verify-data --strict --bisect --seed --json --quiet --debug --feature-level"
    )
    assert [flag for flag in flags.split() if flag not in done.out] == []
    assert command("--version") == (0, f"cincel {__version__}\n", "")


def test_help_and_usage_errors_load_nothing_heavy() -> None:
    program = "import sys; from compiler.cli import main; code = main(sys.argv[1:]); "
    program += "print(code, *sorted({m.partition('.')[0] for m in sys.modules}))"
    for argv, code in ((["--help"], "0"), (["--version"], "0"), (["--bogus"], "2"), ([], "2")):
        done = subprocess.run(
            [sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=False
        )
        found = done.stdout.splitlines()[-1].split()
        assert found[0] == code
        assert {"rich", "onnx", "numpy", "google", "onnxruntime", "coremltools", "json", "shutil"}.isdisjoint(found)


def test_a_quiet_compilation_loads_only_what_it_needs(tmp_path: Path) -> None:
    program = "import sys; from compiler.cli import main; code = main(sys.argv[1:]); "
    program += "print(code, *sorted(sys.modules))"
    argv = [str(TINY), "--target", "onnx", "--verify", "off", "--quiet", "-o", str(tmp_path / "o.onnx")]
    done = subprocess.run([sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    code, *found = done.stdout.split()
    assert code == "0"
    heavy = {"onnx", "onnxruntime", "coremltools", "rich", "networkx", "jinja2", "ml_dtypes", "onnx_graphsurgeon"}
    assert (heavy | {"json", "tempfile", "shutil", "hashlib", "targets.coreml"}).isdisjoint(found)


def test_all_names_of_the_program_are_the_same_program() -> None:
    assert spawn("--version").out == f"cincel {__version__}\n"
    assert spawn("--version", module="compiler.cli").out == ""  # a module to import, not to run
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"compile": "compiler.cli:run", "cincel": "compiler.cli:run"}


# -- usage errors ----------------------------------------------------------------------------------------------------

INT8 = ["--target", "nnapi", "--precision", "int8", "--calibrate", "synthetic"]
USAGE = [
    (["--target", "tpu"], "there is no target named 'tpu'"),
    (["--bogus"], "unrecognized arguments: --bogus"),
    (["--verify", "maybe"], "--verify"),
    (["--seed", "x"], "--seed 'x' is not a number from 0 on"),
    (["--seed", "-1"], "--seed '-1' is not a number from 0 on"),
    (["--seed=1e3"], "--seed '1e3' is not a number from 0 on"),
    (["--seed", "9" * 5000], "is not a number from 0 on"),
    (["--passes", "bogus"], "there is no pass or pipeline named 'bogus'"),
    (["--passes", "fold-constants("], "cannot read"),
    (["--passes", "fold-constants(x=1)"], "has no field 'x'"),
    (["--passes", "fold(x=1)"], "'fold' is a pipeline and takes no options"),
    (["--skip", "bogus"], "there is no pass named 'bogus'"),
    (["--target", "onnx", "--precision", "fp16"], "there is no precision 'fp16' for onnx"),
    (["--target", "onnx", "--opset", "7"], "opset 7 cannot be written"),
    (["--target", "ane", "--opset", "17"], "target ane does not take --opset"),
    (["--precision", "fp8"], "there is no precision 'fp8'"),
    (["--input", "input"], "--input 'input' is not NAME=SHAPE"),
    (["--input", "input=1x-8"], "is not NAME=SHAPE"),
    (["--input", "=1x8"], "is not NAME=SHAPE"),
    (["--input", "bogus=1x8"], 'the model has no input "bogus"'),
    (["--input", "input=1x8", "--input", "input=1x8"], "twice"),
    (["--input", "input=1x9"], "contradicts"),
    (["--input", "input=1x8x1"], "has 2 dimensions"),
    (["--freeze", "input"], "is not NAME=VALUE"),
    (["--freeze", "input=abc"], "is not a value"),
    (["--freeze", "bogus=1"], 'the model has no input "bogus"'),
    (["--freeze", "input=1,2"], "has 2 dimensions [batch, 8], but [2] was given"),
    (["--freeze", "input=@none.npy"], "no such file"),
    (["--verify-data", "none.npz"], "no such file"),
    (["-o", "none/o.onnx"], "the folder 'none' of the output does not exist"),
    (["--emit-ir", "none/g.ir"], "the folder 'none' does not exist"),
    (["--emit-ir", "g", "--emit-onnx", "g"], "the same file"),
    (["--bisect", "-o", "none/o.onnx"], "the folder 'none' does not exist"),
    ([*INT8, "--repair", ""], "--repair is given without a value"),
    ([*INT8, "--observer", ""], "--observer is given without a value"),
    ([*INT8, "--min-psnr", "-3"], "--min-psnr -3 is no number of decibels above 0"),
    ([*INT8, "--min-psnr", "nan"], "--min-psnr nan is no number of decibels above 0"),
    ([*INT8, "--max-drop=-0.5%"], "--max-drop '-0.5%' is no share of the rows"),
    ([*INT8, "--save-calibration", "none/c.npz"], "to 'none/c.npz': there is no folder 'none'"),
    ([*INT8, "--save-calibration", "c.txt"], "'c.txt' is no name of a calibration"),
    ([*INT8, "--calibrate-image", "scale=1"], "for a folder of images, and the calibration data 'synthetic' is none"),
    (["--check", "--target", "nnapi", "--precision", "int8", "--seed", "3"], "it has no use for --precision, --seed"),
    (["--check", "--target", "nnapi", "-o", "o.tflite", "--bisect"], "it has no use for --output, --bisect"),
    (["--target", "ane", "--weights", "palette5"], "weights cannot be stored as 'palette5'"),
]


@pytest.mark.parametrize(("argv", "words"), USAGE, ids=lambda v: "_".join(v)[:60] if isinstance(v, list) else "")
def test_usage_errors(command: Command, argv: list[str], words: str) -> None:
    target = [] if "--target" in argv or "--precision" in argv else ["--target", "onnx"]
    done = command(TINY, *target, *argv)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("compile: ") and words in done.sentence
    assert "Traceback" not in done.err
    assert list(Path().iterdir()) == []
    as_json = command(TINY, *target, *argv, "--json")
    assert as_json.code == 2
    assert as_json.report["exit_code"] == 2 and words in as_json.report["error"]
    assert as_json.report.keys() == {"error", "where", "hint", "exit_code"}


def test_no_model_is_a_usage_error(command: Command) -> None:
    done = command("--json")
    assert done.code == 2 and "MODEL.onnx" in done.report["error"] and "--help" in done.report["hint"]


def test_a_model_that_is_not_there(command: Command) -> None:
    done = command("none.onnx", "--target", "onnx")
    assert (done.code, done.out, done.err) == (1, "", 'compile: the model "none.onnx" does not exist\n')


def test_debug_shows_the_traceback(command: Command) -> None:
    done = command("none.onnx", "--target", "onnx", "--debug")
    assert done.code == 1 and "Traceback" in done.err and done.err.endswith("does not exist\n")
    assert "Traceback" in command("--debug", "--bogus").err


def test_defects_of_the_program_are_one_sentence(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("compiler.api.compile_model", broken)
    done = command(TINY, "--json")
    assert done.code == 1
    assert done.report["error"] == "internal error: ZeroDivisionError: surprise" and "--debug" in done.report["hint"]
    assert "Traceback" not in done.err


def test_interruption(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("compiler.api.compile_model", interrupted)
    done = command(TINY, "--json")
    assert done.code == 130 and done.report["error"] == "interrupted"


# -- terminals, and streams that are not there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_terminals_that_know_few_letters(tmp_path: Path, environment: dict[str, str]) -> None:
    model = tmp_path / "modèle λ.onnx"
    onnx.save(convolutional(), model)
    done = spawn(model, "--target", "onnx", "-o", tmp_path / "ö.onnx", **environment)
    assert done.code == 0 and done.err == ""
    assert done.out.isascii() or environment.get("LANG")
    assert "wrote" in done.out and (tmp_path / "ö.onnx").is_file()
    missing = spawn(tmp_path / "fehlt-ü.onnx", "--target", "onnx", **environment)
    assert missing.code == 1 and "does not exist" in missing.err and "Traceback" not in missing.err


def closed(streams: str, *argv: object) -> subprocess.CompletedProcess[str]:
    """The command in a shell that closes or redirects its streams."""
    line = f'"{sys.executable}" -m compiler "$@" {streams}'
    return subprocess.run(
        ["bash", "-c", line, "bash", *map(str, argv)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_output_that_goes_nowhere(tmp_path: Path) -> None:
    argv = (TINY, "--target", "onnx", "--verify", "off", "-o", tmp_path / "o.onnx")
    for flags in ((), ("--json",)):
        assert closed(">&-", *argv, *flags).returncode == 0
        assert closed(">&- 2>&-", *argv, *flags).returncode == 0
        gone = closed("| true; exit ${PIPESTATUS[0]}", *argv, *flags)
        assert (gone.returncode, gone.stderr) == (0, "")
        full = closed("> /dev/full", *argv, *flags)
        assert full.returncode == 1 and "no space left" in full.stderr and "Traceback" not in full.stderr
    assert closed("2>&-", "none.onnx").returncode == 1
    assert closed("--help | true; exit ${PIPESTATUS[0]}").returncode in (0, 2)


def test_a_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    argv = [sys.executable, "-m", "compiler", str(TINY), "--target", "onnx", "-o", str(tmp_path / "o.onnx")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(argv, cwd=ROOT, stderr=terminal, stdout=subprocess.PIPE, env=environment) as process:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(master, 4096):
                shown += chunk
        except OSError:  # how a terminal ends
            pass
        assert process.wait(60) == 0
    os.close(master)
    assert b"emit" in shown or b"run the artifact" in shown
    assert "━".encode() in shown


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["onnx", "ane", "nnapi"])
def test_outputs_that_cannot_be_written(command: Command, target: str) -> None:
    Path("a_folder").mkdir()
    Path("a_folder", "keep").touch()
    Path("a_file").write_text("keep")
    before = sorted(Path().rglob("*"))
    for output, code in (("a_folder", 1), ("a_file/o", 2), ("none/o", 2), ("/proc/o.onnx", 1), ("x" * 300, 1)):
        done = command(
            TINY if target == "onnx" else ROOT / "examples/mnist_cnn_opset8.onnx", "-t", target, "-o", output
        )
        assert (done.code, done.out) == (code, ""), output
        assert done.err.count("\n") <= 2 and "Traceback" not in done.err and "internal" not in done.err
        assert sorted(Path().rglob("*")) == before
    assert Path("a_file").read_text() == "keep"


@pytest.mark.parametrize("target", ["ane", "nnapi"])
def test_the_model_is_not_overwritten_by_another_format(command: Command, target: str) -> None:
    Path("m.onnx").write_bytes(TINY.read_bytes())
    Path("link.onnx").symlink_to("m.onnx")
    for output in ("m.onnx", "./link.onnx"):
        done = command("m.onnx", "-t", target, "-o", output)
        assert (done.code, done.out) == (2, "") and "is the model itself" in done.err and "-o" in done.err
        assert Path("m.onnx").read_bytes() == TINY.read_bytes()


@pytest.mark.parametrize("target", ["onnx", "nnapi"])
def test_a_read_only_folder(command: Command, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who is not root, who may write anywhere."""
    opened = os.open

    def refused(path: Any, flags: int, *rest: Any, **names: Any) -> int:  # Any: of any os.open
        if flags & os.O_CREAT and ".o.out." in str(path):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *rest, **names)

    monkeypatch.setattr(os, "open", refused)
    done = command(TINY, "--target", target, "--verify", "off", "-o", "o.out")
    assert (done.code, done.out) == (1, "")
    assert done.err == 'compile: the model cannot be written to "o.out": permission denied\n'
    assert list(Path().iterdir()) == []


def test_stages_go_to_folders(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "onnx", "-o", "o.onnx", "--emit-ir", "ir/", "--emit-onnx", "stages/", "--json")
    assert done.code == 0
    fired = [record["pass"] for record in done.report["passes"]]
    names = ["000-import", *(f"{i:03d}-{name}" for i, name in enumerate(fired, 1))]
    assert sorted(p.name for p in Path("stages").iterdir()) == [f"{n}.onnx" for n in names]
    assert sorted(p.name for p in Path("ir").iterdir() if p.suffix == ".ir") == [f"{n}.ir" for n in names]
    x = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected = run(cnn, x)
    for name in names:
        onnx.checker.check_model(f"stages/{name}.onnx", full_check=True)
        np.testing.assert_allclose(run(Path("stages", f"{name}.onnx"), x), expected, rtol=1e-4, atol=1e-4)
        graph = parse_graph(Path("ir", f"{name}.ir").read_text(), load_constants(f"ir/{name}.ir.npz"))
        graph.verify()
        np.testing.assert_allclose(evaluate(graph, {"x": x})["b1"], expected, rtol=1e-4, atol=1e-4)


def test_the_final_graph_goes_to_files(command: Command, cnn: Path) -> None:
    assert command(cnn, "-t", "ane", "-o", "o.mlpackage", "--emit-ir", "g.ir", "--emit-onnx", "g.onnx").code == 0
    assert "batch_norm" not in Path("g.ir").read_text() and "conv(" in Path("g.ir").read_text()
    assert [n.op_type for n in onnx.load("g.onnx").graph.node] == ["Conv", "Relu", "Conv"]
    assert {p.name for p in Path().iterdir()} == {"cnn.onnx", "g.ir", "g.ir.npz", "g.onnx", "o.mlpackage"}


def test_stages_that_cannot_be_written(command: Command, cnn: Path) -> None:
    Path("file").touch()
    done = command(cnn, "-t", "onnx", "--emit-ir", "file/")
    assert done.code == 1 and "the folder 'file/' cannot be made" in done.sentence
    done = command(cnn, "-t", "onnx", "--emit-ir", "y" * 300)
    assert done.code == 1 and "file name too long" in done.sentence
    assert sorted(p.name for p in Path().iterdir()) == ["cnn.onnx", "file"]
