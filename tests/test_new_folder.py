"""Folders that appear complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.errors import EmitError
from compiler.new_folder import new_folder


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", False, "ours") as folder:
        (folder / "a").write_text("new")
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "a"]


def test_what_is_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis").write_text("mine")
    with pytest.raises(EmitError, match="exists and is not ours"), new_folder(tmp_path / "out", False, "ours"):
        pytest.fail("it is not to be written")
    assert (tmp_path / "out" / "thesis").read_text() == "mine"


def failing(path: Path) -> None:
    """Write half of a folder."""
    with new_folder(path, True, "ours") as folder:
        (folder / "half").write_text("half")
        raise ZeroDivisionError


def test_what_was_there_comes_back_if_it_fails(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(ZeroDivisionError):
        failing(tmp_path / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "old"]
