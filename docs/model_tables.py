"""Compiles every model of the project, and the light models of the onnx package, and writes docs/models.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import NamedTuple

import yaml

from compiler.api import compile_model
from compiler.arguments import parse_shapes
from compiler.compare import IDENTICAL_DB
from compiler.errors import CompileError
from compiler.report import Report

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("examples", "tests/models")


class Case(NamedTuple):
    """A model to compile, and shapes for its dynamic inputs."""

    name: str
    path: Path
    inputs: Mapping[str, tuple[int, ...]]


def own_models() -> Iterator[Case]:
    """The models that the project carries."""
    for folder in FOLDERS:
        listed = yaml.safe_load((ROOT / folder / "MODELS.yaml").read_text(encoding="utf-8"))
        for entry in listed["models"]:
            yield Case(entry["name"], ROOT / folder / entry["file"], parse_shapes(entry.get("bind", ())))


def light_models() -> Iterator[Case]:
    """The light models of the onnx package: whole architectures whose weights are computed in the graph."""
    import onnx  # its folder holds them

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        yield Case(path.stem, path, {})


def row(case: Case) -> str:
    """One line: layers before and after, and the distance from ONNX Runtime of three artifacts."""
    cells: list[str] = []
    layers = ""
    for target, options in (("onnx", {}), ("ane", {"precision": "fp32"}), ("ane", {"precision": "fp16"})):
        try:
            report = compile_model(case.path, target, inputs=case.inputs, **options).report
            layers = f"{report.before.layers} | {report.after.layers}"
            cells.append(_worst(report))
        except CompileError as e:
            cells.append(f"refused: {e.message.splitlines()[-1].strip()[:160]}")
    return f"| {case.name} | {layers} | {' | '.join(cells)} |"


def _worst(report: Report) -> str:
    """The worst output's distance; below the tolerance, with the layer that costs the most."""
    worst = min(report.verification or (), key=lambda c: c.psnr_db)
    if worst.max_abs == 0:
        return "identical"
    distance = "infinities" if worst.max_abs == inf else f"{worst.psnr_db:.1f} dB"
    if report.passed:
        return distance
    loss = report.losses[0]
    origin = min(loss.node.origin, default=loss.node.output.name)[:60]
    return f"{distance}: {loss.node.op.name} `{origin}` costs {_db(loss.operands_db)} to {_db(loss.result_db)}"


def _db(db: float) -> str:
    return "exact" if db == IDENTICAL_DB else "infinite" if db == -IDENTICAL_DB else f"{db:.0f} dB"


def write_models(path: Path) -> None:
    """Compile all models and write the page."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "coremltools", "numpy"))
    lines = [
        "<!-- Written by docs/build.py --models. -->",
        "# Models",
        "",
        f"Measured {dt.datetime.now(tz=dt.UTC).date()} with {packages}.",
        "Distances are PSNR of the executed artifact against ONNX Runtime on seeded random inputs, worst output; the",
        "ANE columns are the saved package run by the evaluator. Where an artifact misses its tolerance (60 dB in",
        "fp32, 45 dB in fp16) the layer that costs the most is named: 8-bit quantized models round to a neighbouring",
        "step where fp16 is not exact, and the `light_` models have constant weights whose sums leave the range of",
        "fp16 in the model itself, so `--precision fp32` is what compiles them. The scores of `light_squeezenet` are",
        "one number of 9.5e9, where float32 has steps of 1,024: the order of sums, which depends on the processor,",
        "decides whether its output is equal to the last bit.",
        "",
        "| model | layers before | after | onnx | ane fp32 | ane fp16 |",
        "| --- | ---: | ---: | --- | --- | --- |",
    ]
    for case in (*own_models(), *light_models()):
        lines.append(row(case))
        print(lines[-1], flush=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
