"""The same input gives the same bytes: whatever the hash seed, the process, the path and the time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.api import compile_model
from tests.command import ROOT
from tests.real_models import real_model

MODELS = (
    "vit_fashion_b1",
    "mnist_cnn_opset8",
    "mlperf_tiny_kws_dscnn",
    "yunet_n_320",
    "gtcrn_simple",
    "silero_vad_16k_static",
)
PROGRAM = """
import json, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from compiler.cli import main
from tests.real_models import real_model
folder = Path(sys.argv[1])
for name in {models!r}:
    model = real_model(name)
    bind = [w for k, v in model.bind.items() for w in ("--input", k + "=" + "x".join(map(str, v)))]
    for target, suffix in (("onnx", ".onnx"), ("ane", ".mlpackage"), ("nnapi", ".tflite")):
        out = str(folder / (name + suffix))
        stages = ["--emit-ir", str(folder / (name + ".stages/")) + "/"] if target == "onnx" else []
        flags = [*bind, *stages, "--verify", "off", "--quiet"]
        print(name, target, main([str(model.path), "-t", target, "-o", out, *flags]))
"""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """What two processes with different hash seeds write."""
    program = PROGRAM.format(root=str(ROOT), models=MODELS)
    found = []
    for seed in ("1", "77"):
        folder = tmp_path_factory.mktemp(f"seed{seed}")
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC{seed[0]}"}
        argv = [sys.executable, "-c", program, str(folder)]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=True)
        assert {line.split()[2] for line in done.stdout.splitlines()} == {"0"}, done
        found.append(digests(folder))
    return found[0], found[1]


def test_two_processes_write_the_same_bytes(twice: tuple[dict[str, str], dict[str, str]]) -> None:
    first, second = twice
    assert first == second
    for name in MODELS:
        assert {f"{name}.onnx", f"{name}.tflite"} <= set(first) and f"{name}.mlpackage/Manifest.json" in first
        assert f"{name}.mlpackage/Data/com.apple.CoreML/weights/weight.bin" in first
        assert len([f for f in first if f.startswith(f"{name}.stages/") and f.endswith(".ir")]) > 1


@pytest.mark.parametrize("target", ["onnx", "ane", "nnapi"])
def test_sources_and_verification_do_not_show(target: str, tmp_path: Path) -> None:
    """From a path or from bytes, verified or not, into another folder, over an older artifact: the same bytes."""
    path = real_model("mnist_cnn_opset8").path
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    compile_model(path, target, tmp_path / "a" / "m", verify="off")
    expected = digests(tmp_path / "a")
    assert expected
    for source in (path, path.read_bytes()):
        for verify in ("final", "each"):
            compile_model(source, target, tmp_path / "b" / "m", verify=verify, seed=5)
            assert digests(tmp_path / "b") == expected
