"""The manifest of several packages that are one model: what it says, what is refused, and the folder around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.errors import EmitError
from compiler.pipeline import MANIFEST, Part, Pipeline, Port, link, new_pipeline, read_pipeline, write_manifest
from compiler.tensor import Array


def port(name: str) -> Port:
    return Port(name, (2,), "fp32")


def two() -> Pipeline:
    """y = (x + 1) * s and z = x + 1, in two chunks, which call tensors as they like."""
    first = Part("m_0.p", {"x": port("x_")}, {"sum": port("sum"), "z": port("z")}, 100, 8)
    second = Part("m_1.p", {"sum": port("a"), "s": port("s")}, {"y": port("y_")}, 50, 0)
    return link([first, second], ["x", "s", "unread"], ["y", "z"])


def execute(k: int, given: Mapping[str, Array]) -> Mapping[str, Array]:
    if k == 0:
        return {"sum": given["x_"] + 1, "z": given["x_"] + 1}
    return {"y_": given["a"] * given["s"]}


def test_tensors_find_their_way() -> None:
    x, s = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    results = two().run({"x": x, "s": s}, execute)
    assert {name: a.tolist() for name, a in results.items()} == {"y": [6, 12], "z": [2, 3]}


def test_the_manifest_says_what_feeds_what(tmp_path: Path) -> None:
    write_manifest(tmp_path, two())
    content = json.loads((tmp_path / MANIFEST).read_text())
    assert [p["name"] for p in content["inputs"]] == ["x", "s"]
    assert content["outputs"][1] == {"name": "z", "shape": [2], "dtype": "fp32", "from": {"chunk": 0, "output": "z"}}
    first, second = content["chunks"]
    assert (first["package"], first["weight_bytes"], first["crossing_bytes"]) == ("m_0.p", 100, 8)
    assert [p["from"] for p in second["inputs"]] == [{"chunk": 0, "output": "sum"}, {"model": "s"}]
    assert read_pipeline(tmp_path) == two()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "not a manifest of version 1"),
        (lambda c: c["chunks"].reverse(), "feeds chunk 0"),
        (lambda c: c["chunks"][0].update(package="../m_0.p"), "not in its folder"),
        (lambda c: c["outputs"][0]["from"].update(output="q"), "takes output 'y'"),
        (lambda c: c["chunks"][0].pop("outputs"), "cannot be read"),
        (lambda c: c["inputs"].append("x"), "cannot be read"),
        (lambda c: c["chunks"][1]["inputs"][0].update({"from": {"chunk": "one", "output": "sum"}}), "cannot be read"),
    ],
)
def test_manifests_that_make_no_sense_are_refused(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    content = two().as_json()
    change(content)
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(EmitError, match=message):
        read_pipeline(tmp_path)


def test_no_manifest_and_no_json_are_told(tmp_path: Path) -> None:
    with pytest.raises(EmitError, match="cannot be read"):
        read_pipeline(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(EmitError, match="cannot be read"):
        read_pipeline(tmp_path)


def _write_half(folder: Path) -> None:
    with new_pipeline(folder) as new:
        write_manifest(new, two())
        raise RuntimeError("half way")


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(RuntimeError, match="half way"):
        _write_half(folder)
    assert list(tmp_path.iterdir()) == []
    with new_pipeline(folder) as new:
        assert new.name == "m" and not folder.exists()
        write_manifest(new, two())
        (new / "old").touch()
    with new_pipeline(folder) as new:
        write_manifest(new, two())
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST] and list(tmp_path.iterdir()) == [folder]


def test_what_is_no_pipeline_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "mine").touch()
    with pytest.raises(EmitError, match="is not a pipeline"), new_pipeline(folder):
        pass
    with pytest.raises(EmitError, match="cannot write"), new_pipeline(tmp_path / "nowhere" / "m"):
        pass
    assert (folder / "mine").exists()
