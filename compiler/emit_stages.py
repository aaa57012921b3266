"""Writes layer graphs to disk as text or ONNX, after every pass or at the end (--emit-ir, --emit-onnx)."""

from __future__ import annotations

import os
from pathlib import Path

from compiler.errors import EmitError
from compiler.graph import Graph
from compiler.onnx_export import save_model
from compiler.pass_base import Pass
from compiler.pass_manager import Dump
from compiler.text import print_graph, save_constants


def stage_writer(ir: str | None, onnx: str | None) -> Dump | None:
    """A function that writes the graph after each pass, if one of the paths is a folder (ends with a separator)."""
    ir_folder, onnx_folder = _folder(ir), _folder(onnx)
    if ir_folder is None and onnx_folder is None:
        return None

    def write(number: int, p: Pass, graph: Graph) -> None:
        name = f"{number:03d}-{p.pass_name()}"
        if ir_folder is not None:
            write_text(graph, ir_folder / f"{name}.ir")
        if onnx_folder is not None:
            save_model(graph, onnx_folder / f"{name}.onnx")

    return write


def write_final(graph: Graph, ir: str | None, onnx: str | None) -> None:
    """Write the final graph to the paths that are files."""
    if ir and _folder(ir) is None:
        write_text(graph, Path(ir))
    if onnx and _folder(onnx) is None:
        save_model(graph, onnx)


def write_text(graph: Graph, path: Path) -> None:
    """The graph as text, and its large constants as `<path>.npz`; together they parse back to the same graph."""
    try:
        path.write_text(print_graph(graph), encoding="utf-8")
        save_constants(graph, path.with_name(path.name + ".npz"))
    except OSError as e:
        raise EmitError(f"the text of the graph cannot be written to {str(path)!r}: {e.strerror}") from None


def _folder(path: str | None) -> Path | None:
    if not path or not (path.endswith(("/", os.sep)) or Path(path).is_dir()):
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise EmitError(f"the folder {path!r} cannot be made: {e.strerror}") from None
    return folder
