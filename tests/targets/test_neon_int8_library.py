"""The folder of a library of integers: golden files of a small CNN, builds without a warning, how much source it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.neon.assembly import HALVES, INT8, macros, packed
from codegen.neon.gemm_half import Fp16Strip
from codegen.neon.int8_product import Strip
from codegen.neon.int8_tiles import TILES
from compiler.api import compile_model
from targets.neon.artifact import NeonArtifact
from tests.targets.neon_models import CROSS, WARNINGS, needs, shell, small_cnn, texts

GOLDEN = Path(__file__).parent / "golden" / "neon_int8"
SHOWN = ("Makefile", "kernels.h", "model.c", "model.h")  # and all kernels: reviewed as golden files
COMPILERS = ("gcc", "clang", CROSS, "clang-19 --target=aarch64-linux-gnu")


def library(folder: Path, isa: str = "dotprod", threads: int = 1) -> NeonArtifact:
    """Of a small CNN."""
    rng = np.random.default_rng(0)
    rows = {"image": rng.standard_normal((4, 1, 3, 16, 16)).astype(np.float32)}
    options: dict[str, Any] = {"precision": "int8", "calibrate": [{"image": r} for r in rows["image"]], "repair": "off"}
    made = compile_model(small_cnn(), "neon", folder, isa=isa, threads=threads, verify="off", **options).artifact
    assert isinstance(made, NeonArtifact)
    return made


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> NeonArtifact:
    return library(tmp_path_factory.mktemp("cnn") / "small_cnn")


def test_golden_files(cnn: NeonArtifact, request: pytest.FixtureRequest) -> None:
    """What a small CNN becomes in integers; `pytest --update-golden` writes them anew, to be read."""
    found = {name: text for name, text in texts(cnn.path).items() if name in SHOWN or name.startswith("kernels_")}
    if request.config.getoption("--update-golden"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        GOLDEN.mkdir(parents=True)
        for name, text in found.items():
            (GOLDEN / name).write_bytes(text)
    expected = texts(GOLDEN)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_lines_fit_a_screen(cnn: NeonArtifact) -> None:
    long = [
        (name, line)
        for name, text in texts(cnn.path).items()
        if name.endswith((".c", ".h")) and not name.startswith(("simd", "neon_twin"))
        for line in text.decode().splitlines()
        if len(line) > 120 and not line.lstrip().startswith(('"', "#"))
    ]
    assert long == []


@pytest.mark.parametrize("compiler", COMPILERS)
def test_it_builds_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """With all kinds of kernels, and threads."""
    needs(compiler)
    folder = library(tmp_path / "all", "auto", 3).path
    command = f"{compiler} -O1 {' '.join(WARNINGS)} -c"
    for file in sorted(folder.glob("kernels_*.c")):
        flag = {"dotprod": "-march=armv8.2-a+dotprod", "i8mm": "-march=armv8.6-a+i8mm"}.get(
            file.stem.split("_")[-1], ""
        )
        is_arm = "aarch64" in compiler
        shell(*command.split(), *([flag] if flag and is_arm else []), "-o", "x.o", file.name, cwd=folder)


# -- assembly as macros --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", TILES)
@pytest.mark.parametrize("columns", [4, 16])
def test_macros_stand_for_the_instructions(variant: str, columns: int) -> None:
    """Written out, they are the instructions of the kernel in the same order."""
    strip = Strip(variant=variant, rows=4, columns=4 if variant == "base" else columns, rest=5, levels=1)
    lines = [*strip.tile.start(), *strip.tile.begin(), *strip.tile.turn(), *strip._narrowed()]
    source = packed(lines, INT8)
    assert sum(map(len, source)) < sum(map(len, lines))
    assert written_out(source, INT8) == lines


@pytest.mark.parametrize(("rows", "vectors"), [(4, 4), (5, 4), (8, 2), (7, 3), (3, 5)])
def test_macros_of_halves_too(rows: int, vectors: int) -> None:
    strip = Fp16Strip(rows=rows, columns=8 * vectors, rest=9, levels=1, folds=1)
    lines = [*strip.schedule.turn(), *strip.schedule.rest(9), *strip._biases(), *strip._moved(1), *strip._complete(1)]
    assert written_out(packed(lines, HALVES), HALVES) == lines


def written_out(source: list[str], header: str) -> list[str]:
    """The instructions that source stands for."""
    known = {m.name: m for listed in macros(header).values() for m in listed}
    found: list[str] = []
    for text, name, given in re.findall(r'"([^"]*)"|(\w+)\(([^)]*)\)', " ".join(source)):
        if name:
            values = [v.strip() for v in given.split(",")]
            numbers = [n if isinstance(n, str) else values[n] for n in known[name].numbers]
            whole = "\n".join(known[name].forms)
            for number in numbers:
                whole = whole.replace("@", number, 1)
            found += whole.split("\n")
        else:
            found += [line.strip() for line in text.split("\\n") if line.strip()]
    return found
