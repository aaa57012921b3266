"""The suite of executed instructions: cases, differences, the search for inner loops, bars, the section."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks import neon, neon_cases, neon_count, neon_mca, neon_peers, neon_report, neon_sysroot, report
from benchmarks.catalogue import NEON
from benchmarks.neon_cases import CASES, LAYERS, Case, layer, processors
from benchmarks.neon_mca import Line
from benchmarks.neon_results import Counted, Loop
from benchmarks.results import Machine, Result, Session, parse, write_line

MACHINE = Machine("2026-01-02", "Linux", "Some CPU", 2, 8_000_000_000, "3.11.0", {"qemu": "7.2"}, 0.5, 20_000_000)
GEMM = next(c for c in CASES if c.name == "gemm_256 float")
MOBILE = next(c for c in CASES if c.name == "mobilenet_v2 int8")


def counted(tool: str, case: Case, processor: str, total: float, *loops: Loop) -> Result:
    found = Counted({"fma": total * 0.75, "branch": total * 0.25}, macs=16_000_000, functions={"strip": total * 0.5})
    return Result(NEON, case.name, f"{tool} {processor}", [], 100, 0, counted=found, loops=list(loops))


def session(*results: Result) -> Session:
    return Session(MACHINE, {(r.suite, r.model, r.tool): r for r in results}, {NEON: MACHINE})


# Cases


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_the_same_in_both_orders_of_channels(name: str) -> None:
    shape = LAYERS[name][0]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    first, last = (onnxruntime.InferenceSession(layer(name, is_last).SerializeToString()) for is_last in (False, True))
    given = x.transpose(0, 2, 3, 1) if len(shape) == 4 else x
    expected, found = first.run(None, {"x": x})[0], last.run(None, {"x": given})[0]
    assert expected.shape[1] == LAYERS[name][1][0]
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2) if len(shape) == 4 else found, expected, 1e-4, 1e-4)


def test_cases_have_names_of_their_own_and_bars() -> None:
    assert len({c.name for c in CASES}) == len(CASES)
    assert {p for c in CASES for p in processors(c)} == set(neon_count.CPUS)
    assert all(set(dict(c.limits)) <= set(processors(c)) for c in CASES)


def test_agreement_is_that_of_the_values(tmp_path: Path) -> None:
    path = neon_cases.source(GEMM, tmp_path)
    runner = onnxruntime.InferenceSession(path)
    y = runner.run(None, {"x": neon_cases.values(GEMM)})[0]
    assert neon_peers.agreement(GEMM, y, tmp_path) > 100
    assert neon_peers.agreement(GEMM, y * 1.1, tmp_path) == pytest.approx(20, abs=1e-3)


# Counting


def test_difference_and_median() -> None:
    assert neon_count.difference({"fma": 10, "int": 7}, {"fma": 30, "int": 8}, 2) == {"fma": 10, "int": 0.5}
    found = neon_count.median([{"fma": 12.0}, {"fma": 9.0}, {"fma": 10.0}])
    assert (found.classes, found.spread) == ({"fma": 10.0}, 0.3)


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if "qemu" in tool else tool)
    assert neon_count.missing() == "qemu-aarch64 is not installed"
    assert neon.main(["--cases", "gemm"]) == 1


def test_wheels_are_unpacked_where_the_interpreter_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(home: Path) -> None:
        (home / "root").mkdir(parents=True)
        (home / "wheels").mkdir()
        with zipfile.ZipFile(home / "wheels" / "a.whl", "w") as file:
            file.writestr("a/__init__.py", "")

    monkeypatch.setattr(neon_sysroot, "_unpack_packages", unpack)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    home = neon_sysroot.ensure(tmp_path)
    assert (home / "site" / "a" / "__init__.py").exists()
    assert "asimddp" in (home / "root" / "proc" / "cpuinfo").read_text()
    flags, python = neon_sysroot.command(home)
    assert f"PYTHONPATH={home}/site" in flags and python[0].startswith(str(home))
    monkeypatch.setattr(neon_sysroot, "_unpack_packages", lambda _: pytest.fail("it is complete already"))
    assert neon_sysroot.ensure(tmp_path) == home


# Inner loops


def body(count: int, at: int, back_to: int | None = None) -> list[Line]:
    """So many multiply-accumulates, and a branch."""
    lines = [Line(at + 4 * i, f"fmla v{i % 16}.4s, v16.4s, v17.s[0]", None) for i in range(count)]
    return [*lines, Line(at + 4 * count, "b.ne #-64", at if back_to is None else back_to)]


def test_inner_loops_are_the_innermost_with_work() -> None:
    small, large, outer = body(8, 0x100), body(12, 0x200), [Line(0x300, "b.ne #-64", 0x100)]
    found = [[line.text for line in lines] for lines in (large, small)]
    assert neon_mca.inner_loops([*small, *large, *outer]) == found
    assert neon_mca.inner_loops([*small, *body(40, 0x200)]) == [[line.text for line in body(40, 0x200)]]
    assert neon_mca.inner_loops([*large, *body(12, 0x300)]) == found[:1], "the same again"
    assert neon_mca.inner_loops(body(4, 0x100)) == [], "too little work"
    assert neon_mca.inner_loops(body(12, 0x100, back_to=0x900)) == [], "no loop"


@pytest.mark.skipif(neon_mca.missing() is not None, reason="needs llvm-mca 19 and binutils for aarch64")
def test_peak_is_what_independent_instructions_reach() -> None:
    independent = [f"fmla v{i}.4s, v30.4s, v31.s[0]" for i in range(24)]
    assert neon_mca.measured("f", independent, "neoverse-n1").peak == pytest.approx(1, abs=0.02)
    chain = ["fmla v0.4s, v30.4s, v31.s[0]"] * 24
    waits = neon_mca.measured("f", chain, "neoverse-n1")
    assert waits.peak < 0.3 and waits.bound < 0.3 and waits.limit == "arithmetic"
    mixed = [*independent, *(f"fadd v{i}.4s, v30.4s, v31.4s" for i in range(24))]
    halves = neon_mca.measured("f", mixed, "neoverse-n1")
    assert halves.peak == pytest.approx(0.5, abs=0.05) and halves.bound > 0.9 and halves.limit == "arithmetic"
    loads = [*independent[:6], *(f"ldr q{i}, [x{i}]" for i in range(24))]
    assert neon_mca.measured("f", loads, "neoverse-v1").limit == "loads"
    assert neon_mca.measured("f", independent, neon_mca.IN_ORDER).bound > 0.95


# Bars and the section


def test_bars() -> None:
    ours, peer = counted("cincel", GEMM, "dotprod", 5.0e6), counted("ncnn", GEMM, "dotprod", 5.2e6)
    row = (GEMM, "dotprod")
    assert neon_report.floor(session(ours), row) == 4.0
    assert neon_report.misses(session(ours, peer), row) == []
    better = counted("LiteRT", GEMM, "dotprod", 4.0e6)
    assert neon_report.best(session(ours, peer, better), row) == 4.0
    assert neon_report.misses(session(ours, peer, better), row) == ["1.25 of the best peer, 1.00 is asked for"]
    assert neon_report.misses(session(peer), row) == ["it does not run"]
    heavy = counted("cincel", MOBILE, "i8mm", 34.5e6)
    assert neon_report.misses(session(heavy), (MOBILE, "i8mm")) == ["34.5 M, 34 M is asked for"]


def test_section(tmp_path: Path) -> None:
    loops = [Loop("strip", core, 140, 64.0, 0.99, 0.99) for core in neon_mca.CORES]
    in_order = Loop("strip_in_order", neon_mca.IN_ORDER, 150, 90.0, 0.7, 0.9, "issue")
    results = [
        counted("cincel", GEMM, "dotprod", 5.0e6, *loops),
        replace(counted("cincel", GEMM, "dotprod", 5.5e6, in_order), tool="cincel cortex-a55"),
        counted("ncnn", GEMM, "dotprod", 4.8e6),
        Result(NEON, GEMM.name, "LiteRT dotprod", [], 100, 0, error="it `stops`"),
        counted("cincel", MOBILE, "dotprod", 40e6),
    ]
    path = tmp_path / "r.jsonl"
    write_line(path, MACHINE)
    for result in results:
        write_line(path, result)
    read = parse(path.read_text(encoding="utf-8").splitlines())
    assert read.results == session(*results).results
    text = report.render(read)
    assert "| gemm_256 float, dotprod | 4.00 | 5.00 | 4.80 |  |  | 1.04 | **no** |" in text
    assert "A peer takes fewer instructions in: gemm_256 float, dotprod." in text
    assert "| `strip` (gemm_256 float) | 140 | 99.0 / 99.0 | 99.0 / 99.0 | 99.0 / 99.0 |  | yes |" in text
    assert "| `strip_in_order` (gemm_256 float) | 150 |  |  |  | 70.0 / 90.0 issue | bound |" in text
    assert "- mobilenet_v2 int8, dotprod: `strip` 50 %; by class fma 75 %, branch 25 %" in text
    assert "- gemm_256 float, LiteRT dotprod: `it stops`" in text
    assert "Counted 2026-01-02 with qemu 7.2." in text


def test_stored_counts_name_their_compiler() -> None:
    stored = json.loads((Path(__file__).parent / "targets" / "neon_counts.json").read_text(encoding="utf-8"))
    assert stored and all(compiler.startswith("gcc ") for compiler in stored)
    assert all(counts for cases in stored.values() for case in cases.values() for counts in case.values())


def test_models_are_well_formed() -> None:
    for name in LAYERS:
        onnx.checker.check_model(layer(name, last=True), full_check=True)
