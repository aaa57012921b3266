"""What options of the command do to the numbers, and how it tells right rewrites from wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

import passes  # registers the pipelines
from compiler.graph import Graph, Value
from compiler.ops import Mul, Relu
from compiler.pass_base import PASSES, ErrorClass, Pass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Firing, Observer, Rule
from passes._fitted import data_of, set_data
from tests.command import ROOT, Command, convolutional
from tests.onnx_models import run


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    path = tmp_path / "cnn.onnx"
    onnx.save(convolutional(), path)
    return path


# -- options ---------------------------------------------------------------------------------------------------------


def test_passes_and_skip(command: Command, cnn: Path) -> None:
    def layers(*argv: str) -> dict[str, int]:
        found: dict[str, int] = command(cnn, "-t", "onnx", "--verify", "off", "--json", *argv).report["after"]["ops"]
        return found

    assert layers("--passes", "")["batch_norm"] == 2
    assert layers("--passes", "eliminate-common")["batch_norm"] == 2
    (fusing,) = {
        e["pass"] for e in command(cnn, "-t", "onnx", "--json").report["ledger"] if "batch_norm" in e["before"]
    }
    assert layers("--passes", fusing) == {"conv": 2, "relu": 1}
    assert layers("--skip", fusing)["batch_norm"] == 2
    assert set(PASSES) >= {fusing, "eliminate-common"} and passes is not None


def test_seed_and_data(command: Command, cnn: Path) -> None:
    def max_abs(*argv: str) -> Any:  # Any: JSON
        outputs = command(cnn, "-t", "ane", "--json", "-o", "o.mlpackage", *argv).report["verification"]["outputs"]
        return outputs[0]["max_abs"]

    assert max_abs("--seed", "1") == max_abs("--seed", "1") != max_abs("--seed", "2")
    np.savez("zeros.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    assert max_abs("--verify-data", "zeros.npz") not in (max_abs(), max_abs("--seed", "1"))
    np.savez("wrong.npz", y=np.zeros(1))
    np.save("bare.npy", np.zeros(1))
    Path("junk.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    np.savez("pickle.npz", x=np.array([None]), allow_pickle=True)
    for file in ("wrong.npz", "bare.npy", "junk.npz", "pickle.npz"):
        done = command(cnn, "-t", "onnx", "--verify-data", file)
        assert done.code == 2 and ("cannot be read" in done.err or "missing: 'x'" in done.err), file


def test_frozen_values(command: Command, cnn: Path) -> None:
    np.save("x.npy", np.ones((1, 3, 8, 8), np.float32))
    np.savez("several.npz", x=np.zeros(1))
    done = command(cnn, "-t", "onnx", "-o", "o.onnx", "--freeze", "x=@x.npy", "--json")
    assert done.code == 0 and "conv" not in done.report["after"]["ops"]
    assert onnx.load("o.onnx").graph.input == []
    ones = run(cnn, np.ones((1, 3, 8, 8), np.float32))
    assert command(cnn, "-t", "onnx", "-o", "o.onnx", "--freeze", "x=1").code == 0
    import onnxruntime

    session = onnxruntime.InferenceSession("o.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {})[0], ones, rtol=1e-4, atol=1e-5)
    assert "several arrays" in command(cnn, "--freeze", "x=@several.npz").err


# -- proof -----------------------------------------------------------------------------------------------------------

X = Wild()


class WeakenReluPass(RewritePass):
    """Turns relu into a scale, and claims that this only rounds. Its name keeps it out of the registry."""

    error_class: ClassVar[ErrorClass] = ErrorClass.ROUNDING
    adds_work: ClassVar[bool] = True

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(Layer(Relu, X), weakened),)


def weakened(m: Match, g: Builder) -> Value:
    """0.9 x: right for nothing."""
    x = m.value(X)
    return g.add(Mul(), x, g.const(0.9, like=x.type))


WRONG = "fuse-conv-batch-norm,weaken-relu-pass,default"


@pytest.fixture(autouse=True)
def wrong_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that pipelines may name while a test of this module runs."""
    monkeypatch.setitem(PASSES, WeakenReluPass.pass_name(), WeakenReluPass)


def test_a_wrong_pass_is_taken_back_and_reported(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "onnx", "-o", "o.onnx", "--passes", WRONG, "--verify", "each", "--json")
    assert done.code == 0
    (record,) = [p for p in done.report["passes"] if p["pass"] == "weaken-relu-pass"]
    assert record["status"].startswith("rolled back: rewrite weakened at r_node gives ")
    (entry,) = [e for e in done.report["ledger"] if e["pass"] == "weaken-relu-pass"]
    assert entry["status"] == "rolled back" and entry["psnr_db"] < 30 and entry["max_abs"] > 0.1
    assert done.report["after"]["ops"] == {"conv": 2, "relu": 1}
    assert done.report["verification"]["outputs"][0]["psnr_db"] > 100
    table = command(cnn, "-t", "onnx", "-o", "o.onnx", "--passes", WRONG, "--verify", "each").out
    assert "pass weaken-relu-pass was rolled back: rewrite weakened at r_node" in table


def test_a_wrong_pass_ends_a_strict_run(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "onnx", "-o", "o.onnx", "--passes", WRONG, "--verify", "each", "--strict", "--json")
    assert done.code == 1 and not Path("o.onnx").exists()
    assert "pass weaken-relu-pass is rounding, but rewrite weakened at r_node" in done.report["error"]


def test_a_wrong_pass_fails_the_final_verification(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "onnx", "-o", "o.onnx", "--passes", WRONG, "--json")
    assert done.code == 3 and done.report["verification"]["passed"] is False
    assert done.report["verification"]["outputs"][0]["psnr_db"] < 60
    assert done.err.startswith("compile: verification failed: output 'b1' is ") and "--bisect" in done.err


def test_bisection_finds_the_wrong_rewrite(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "onnx", "--passes", WRONG, "--bisect", "--json")
    assert done.code == 3
    found = done.report
    assert found.keys() == {"target", "model", "culprit", "left_out", "reproducer"} and found["left_out"] == []
    assert found["culprit"]["number"] == 3 and found["culprit"]["pass"] == "weaken-relu-pass"
    assert found["culprit"]["pattern"] == "weakened" and found["culprit"]["origin"] == ["r_node"]
    assert found["reproducer"] == ["cnn.bisect.onnx", "cnn.bisect.after.onnx"]
    before, after = (onnx.load(p) for p in found["reproducer"])
    assert [n.op_type for n in before.graph.node] == ["Relu"]
    assert [n.op_type for n in after.graph.node] == ["Mul"]
    text = command(cnn, "-t", "onnx", "--passes", WRONG, "--bisect", "-o", "small.mlpackage").out
    assert "rewrite 3, weakened of pass weaken-relu-pass, breaks the model at r_node" in text
    assert Path("small.onnx").is_file() and Path("small.after.onnx").is_file()


def test_bisection_of_a_sound_pipeline(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "onnx", "--bisect", "--json")
    assert done.code == 0 and done.report["culprit"] is None
    assert command(cnn, "-t", "onnx", "--bisect").out == "no rewrite breaks the model\n"
    assert command(cnn, "-t", "onnx", "--bisect", "--quiet").out == ""


INT8 = ("--precision", "int8", "--calibrate", "synthetic", "--bisect")


def test_bisection_of_int8_leaves_out_what_is_to_lose_something(command: Command, cnn: Path) -> None:
    done = command(cnn, "-t", "nnapi", *INT8)
    assert done.code == 0
    verdict, left = done.out.splitlines()
    assert verdict == "no rewrite breaks the model"
    assert left.startswith("left out, because losses are what to expect of them: ")
    assert {"annotate-int8", "round-weights", "correct-bias"} <= set(left.partition(": ")[2].split(", "))
    report = command(cnn, "-t", "nnapi", *INT8, "--skip", "correct-bias", "--json").report
    assert report["culprit"] is None and "round-weights" in report["left_out"]
    assert "correct-bias" not in report["left_out"]


class SilencePass(Pass):
    """Turns all weights to zero, and does not say at which layers."""

    def run(self, graph: Graph, observer: Observer) -> int:
        if not observer.allow():
            return 0
        for node in graph.nodes:
            if node.op.name == "conv":
                set_data(graph, node, 1, 0 * data_of(node.inputs[1]))
        observer.fired(Firing("silence", (), (), (), (), ()))
        return 1


def test_a_rewrite_without_a_place_is_told_without_one(
    command: Command, cnn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASSES, SilencePass.pass_name(), SilencePass)
    done = command(cnn, "-t", "onnx", "--passes", "silence-pass", "--bisect")
    assert done.code == 3
    assert done.out.splitlines() == [
        "rewrite 1, silence of pass silence-pass, breaks the model",
        "  many layers at once; no reproducer, because the rewrite names no layers",
    ]
    assert command(cnn, "-t", "onnx", "--passes", "silence-pass", "--bisect", "--json").report["reproducer"] == []
    assert list(Path().glob("*.bisect*")) == []


def test_each_rewrite_of_a_trained_model_is_measured(command: Command) -> None:
    done = command(
        ROOT / "examples/vit_fashion_b1.onnx", "-t", "onnx", "-o", "o.onnx", "--verify", "each", "--strict", "--json"
    )
    assert done.code == 0
    applied = [e for e in done.report["ledger"] if e["status"] == "applied"]
    assert len(applied) > 20
    for entry in applied:
        assert entry["psnr_db"] > 100, entry
        assert entry["origin"] or not entry["before"]
    assert json.loads(done.out) == done.report
