"""The package on disk: deterministic, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from compiler.errors import EmitError
from targets.coreml.blob import BlobWriter
from targets.coreml.mil import Program
from targets.coreml.package import read_package
from tests.targets.coreml_harness import coremltools


def program(value: float = 1.0) -> Program:
    result = Program("iOS16")
    x = result.input("x", "fp32", (1, 20))
    (y,) = result.op("add", {"x": x, "y": result.const(np.full(20, value, np.float32))}, [("fp32", (1, 20))])
    result.output(y, "y")
    return result


def contents(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def test_same_program_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mlpackage", "b.mlpackage"):
        program().save(tmp_path / name)
    a, b = contents(tmp_path / "a.mlpackage"), contents(tmp_path / "b.mlpackage")
    assert a == b
    assert set(a) == {
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    }
    program(2.0).save(tmp_path / "c.mlpackage")
    other = contents(tmp_path / "c.mlpackage")
    assert other["Data/com.apple.CoreML/model.mlmodel"] == a["Data/com.apple.CoreML/model.mlmodel"]
    assert other["Manifest.json"] != a["Manifest.json"]


def test_apples_library_reads_the_manifest(tmp_path: Path) -> None:
    program().save(tmp_path / "m.mlpackage")
    coremltools()
    from coremltools.libmodelpackage import ModelPackage

    root = ModelPackage(str(tmp_path / "m.mlpackage")).getRootModel()
    assert Path(root.path()) == tmp_path / "m.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    manifest = json.loads((tmp_path / "m.mlpackage" / "Manifest.json").read_text())
    assert manifest["fileFormatVersion"] == "1.0.0"
    assert len(manifest["itemInfoEntries"]) == 2


def test_an_existing_package_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "m.mlpackage"
    program(1.0).save(target)
    (target / "stray").write_text("old")
    program(2.0).save(target)
    _, weights = read_package(target)
    assert weights is not None
    assert weights.read(64)[1][0] == 2.0
    assert not (target / "stray").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["m.mlpackage"]


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_nothing_else_is_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "precious"
    if kind == "file":
        target.write_text("keep")
    else:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "keep").write_text("keep")
        (target.symlink_to(tmp_path / "real")) if kind == "link" else (tmp_path / "real").rename(target)
    with pytest.raises(EmitError, match=r"exists and is not an \.mlpackage"):
        program().save(target)
    assert (target if kind == "file" else target / "keep").read_text() == "keep"


def test_a_failure_leaves_the_old_package_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "m.mlpackage"
    program(1.0).save(target)
    before = contents(target)

    def fail(self: BlobWriter, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BlobWriter, "write", fail)
    with pytest.raises(EmitError, match="No space left on device"):
        program(2.0).save(target)
    assert contents(target) == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.mlpackage"]


def test_a_failing_rename_puts_the_old_package_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "m.mlpackage"
    program(1.0).save(target)
    before, rename = contents(target), Path.rename

    def fail(self: Path, to: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(EmitError, match="Input/output error"):
        program(2.0).save(target)
    assert contents(target) == before


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EmitError, match=r"cannot write .*: No such file or directory"):
        program().save(tmp_path / "missing" / "m.mlpackage")
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(EmitError, match="Permission denied"):
            program().save(tmp_path / "m.mlpackage")


def test_broken_packages_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "m.mlpackage"
    with pytest.raises(EmitError, match=r"is not an \.mlpackage"):
        read_package(target)
    program().save(target)
    spec = target / "Data" / "com.apple.CoreML" / "model.mlmodel"
    whole = spec.read_bytes()
    spec.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EmitError, match="holds no model"):
        read_package(target)
    spec.write_bytes(b"")
    with pytest.raises(EmitError, match="holds no ML Program"):
        read_package(target)
    (target / "Manifest.json").write_text("{}")
    with pytest.raises(EmitError, match="is broken"):
        read_package(target)
