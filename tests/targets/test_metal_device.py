"""Running a folder on a Mac's GPU: what is built and called, with programs in the place of Apple's compiler."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.errors import EmitError
from compiler.graph import Graph
from compiler.tensor import F32, I64, TensorType
from targets.metal import device
from targets.metal.artifact import MetalArtifact
from targets.metal.emit import lowered, write_model
from targets.metal.execute.build import cxx
from tests.targets.metal_graphs import FORM

ROOT = Path(__file__).parents[2]
PROGRAM = """#!{python}
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import numpy as np
from targets.metal.execute import Executor
from targets.metal.execute.executor import DTYPES
folder, *words = sys.argv[1:]
files, save = words[: words.index("--repeats")], Path(words[words.index("--save") + 1])
plan = json.loads((Path(folder) / "plan.json").read_text())
given = [np.fromfile(f, DTYPES[x["type"]]).reshape(x["shape"]) for f, x in zip(files, plan["inputs"], strict=True)]
results = Executor(Path(folder), checks=False).run(given)
save.mkdir()
lengths = len(results)
for i, (array, output) in enumerate(zip(results, plan["outputs"], strict=True)):
    room = np.zeros(int(np.prod(output["shape"])), array.dtype)
    room[: array.size] = array.reshape(-1)
    room.tofile(save / f"{{i}}.bin")
    if output.get("sizes"):
        np.array(array.shape, np.int64).tofile(save / f"{{lengths}}.bin")
        lengths += 1
"""
COMPILER = """#!{python}
import sys
from pathlib import Path
flag, model, main, o, to = sys.argv[1:]
assert (flag, o) == ("-O", "-o") and Path(model).name == "Model.swift" and Path(main).is_file()
Path(to).write_text({program!r})
Path(to).chmod(0o755)
"""


def graph() -> Graph:
    made = Graph("device")
    x = made.add_input(TensorType(F32, (3, 4)), "x")
    (y,) = made.add(ops.Relu(), x)
    (at,) = made.add(ops.NonZero(dim="count"), y)
    made.set_outputs([at, y], ["at", "y"])
    return made


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    """A Mac with such a compiler."""
    folder.mkdir()
    program = PROGRAM.format(python=sys.executable, root=str(ROOT))
    (folder / "swiftc").write_text(compiler.format(python=sys.executable, program=program))
    (folder / "swiftc").chmod(0o755)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def written(path: Path) -> MetalArtifact:
    model = graph()
    return MetalArtifact(path, model, write_model(lowered(model, FORM), "t", path, FORM))


def test_results_come_from_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cxx()
    artifact = written(tmp_path / "m")
    pretend(tmp_path / "bin", monkeypatch, COMPILER)
    feed = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    found = artifact.run({"x": feed})
    assert artifact.notes == ["run on this machine's GPU"]
    assert np.array_equal(found["y"], np.maximum(feed, 0))
    assert found["at"].dtype == I64.numpy and np.array_equal(found["at"], np.nonzero(found["y"]))


def test_a_program_that_is_not_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = written(tmp_path / "m")
    pretend(tmp_path / "bin", monkeypatch, "#!{python}\nimport sys\n_ = {program!r}\nsys.exit('main.swift:1: no')\n")
    with pytest.raises(EmitError, match=r"on this machine's GPU: main\.swift:1: no"):
        artifact.run({"x": np.zeros((3, 4), np.float32)})


def test_here_it_is_the_processor(tmp_path: Path) -> None:
    assert not device.has_gpu() or sys.platform == "darwin"
    artifact = written(tmp_path / "m")
    artifact.run({"x": np.ones((3, 4), np.float32)})
    assert device.has_gpu() or artifact.notes == ["run on this machine's processor, every access checked"]
