"""A case of the suite `neon` as a file for each tool: all of them from the same ONNX file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.neon_cases import SEED, Case, source, values
from compiler.api import Compiled, compile_model, load
from compiler.tensor import Array
from targets.neon.build import build, emulated

ROWS = 4  # of random numbers that the ranges of integers come from, the measured ones among them
PRODUCTS = ("conv", "dense", "matmul")
PNNX = "pnnx==20261020"


def library(case: Case, cache: Path, to: Path, core: str = "") -> list[str]:
    """Our library, cut for a core: the command that runs it on the measured values, results in `to`. Single layers get
    and give images in the order that the library keeps them in, as peers do in theirs."""
    tools = emulated()
    assert tools is not None
    last = case.is_layer and len(case.shape) == 4
    folder, built = to / "library", to / "built"
    built.mkdir(parents=True)
    _compiled(case, source(case, cache, last), "neon", folder, last, **({"cpu": core} if core else {}))
    program = build(folder, tools, built)
    x = values(case).transpose(0, 2, 3, 1) if last else values(case)
    return [str(program), str(_stored(case, x, to)), "--out-dir", str(to), "--weights", f"{folder}/weights.bin"]


def _stored(case: Case, x: Array, to: Path) -> Path:
    """The measured values as the library takes them; of integers any do for counting."""
    data = x if case.numbers == "float" else np.clip(np.round(x * 32), -128, 127).astype(np.int8)
    path = to / "x.bin"
    path.write_bytes(np.ascontiguousarray(data).tobytes())
    return path


def macs(given: Path) -> int:
    """Multiply-accumulates of convolutions and products in an ONNX file, those with zeros around images among them."""
    return sum(node.macs for node in load(given).nodes if node.op.name in PRODUCTS)


def peer_file(case: Case, peer: str, cache: Path, to: Path) -> Path:
    """The file that a peer reads."""
    given = source(case, cache)
    if peer == "ncnn":
        return _pnnx(given, cache, to)
    if peer == "LiteRT":
        return _compiled(case, given, "nnapi", to / "m.tflite").path
    if case.numbers == "float":
        return given
    return _compiled(case, given, "onnx", to / "m.onnx").path


def _compiled(case: Case, given: Path, target: str, to: Path, last: bool = False, **options: Any) -> Compiled:
    to.parent.mkdir(parents=True, exist_ok=True)
    if case.numbers == "int8":
        options |= {"precision": "int8", "calibrate": _rows(case, given, last)}
    return compile_model(given, target, to, verify="off", **options)


def _rows(case: Case, given: Path, last: bool) -> dict[str, Array]:
    name = onnx.load(given, load_external_data=False).graph.input[0].name
    more = np.random.default_rng(SEED + 1).standard_normal((ROWS - 1, *case.shape)).astype(np.float32)
    rows = np.concatenate([values(case)[None], more])
    rows = rows.transpose(0, 1, 3, 4, 2) if last else rows
    return {name: rows.reshape(-1, *rows.shape[2:]) if rows.ndim == 5 else rows}


def _pnnx(given: Path, cache: Path, to: Path) -> Path:
    """The .param of ncnn, in floats of 32 bits; what tells its converter apart from its Python is the program alone,
    which needs nothing of torch."""
    program = cache / "pnnx" / "pnnx" / "pnnx"
    if not program.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(cache / "pnnx"), PNNX]
        subprocess.run(pip, check=True)
        program.chmod(0o755)
    to.mkdir(parents=True, exist_ok=True)
    model = to / "m.onnx"
    model.write_bytes(given.read_bytes())
    subprocess.run([str(program), model.name, "fp16=0"], cwd=to, check=True, capture_output=True)
    found = to / "m.ncnn.param"
    if not found.exists():
        raise FileNotFoundError("pnnx wrote no file for ncnn")
    return found
