"""Where a library is run to compare it with ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compiler.api import compile_model
from compiler.errors import UsageError
from targets.neon import build
from targets.neon.build import CROSS, EMULATED_MACS, EMULATOR, Toolchain, toolchain
from tests.targets.neon_models import mlp, needs

if TYPE_CHECKING:
    from pathlib import Path

HERE, ARM, THERE = Toolchain(["cc"], [], "here"), Toolchain(["arm-cc"], [], "arm"), Toolchain(["x"], ["qemu"], "there")


@pytest.mark.parametrize(
    ("has", "run_on", "macs", "label"),
    [
        ((HERE, THERE), "auto", 0, "there"),
        ((HERE, THERE), "auto", EMULATED_MACS, "there"),
        ((HERE, THERE), "auto", EMULATED_MACS + 1, "here (--run-on qemu"),
        ((HERE, THERE), "native", 0, "here"),
        ((HERE, THERE), "qemu", EMULATED_MACS + 1, "there"),
        ((HERE, None), "auto", 0, "here"),
        ((None, THERE), "auto", EMULATED_MACS + 1, "there"),
        ((ARM, THERE), "auto", 0, "arm"),
        ((ARM, THERE), "auto", EMULATED_MACS + 1, "arm"),
    ],
)
def test_what_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    has: tuple[Toolchain | None, Toolchain | None],
    run_on: str,
    macs: int,
    label: str,
) -> None:
    monkeypatch.setattr(build, "native", lambda: has[0])
    monkeypatch.setattr(build, "emulated", lambda: has[1])
    monkeypatch.setattr(build, "is_arm", lambda compiler: compiler[0] == "arm-cc")
    assert toolchain(run_on, macs).label.startswith(label)


@pytest.mark.parametrize("run_on", ["auto", "native", "qemu"])
def test_nothing_is_there(monkeypatch: pytest.MonkeyPatch, run_on: str) -> None:
    monkeypatch.setattr(build, "native", lambda: None)
    monkeypatch.setattr(build, "emulated", lambda: None)
    with pytest.raises(UsageError, match="there is no"):
        toolchain(run_on)


def test_a_note_says_where_it_ran(tmp_path: Path) -> None:
    needs(CROSS, EMULATOR)
    report = compile_model(mlp(), "neon", tmp_path / "mlp").report
    assert report.passed and f"run on aarch64 under {EMULATOR}" in report.notes
