"""Writes layer graphs to disk as text or ONNX, after every stage or at the end (--emit-ir, --emit-onnx)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from compiler.errors import EmitError, UsageError
from compiler.graph import Graph
from compiler.onnx_export import save_model
from compiler.text import print_graph, save_constants


class StageWriter:
    """Where the stages of one compilation go.

    A path that ends with a separator, or is a folder, takes `000-import`, then a file for every pass that fired; any
    other path takes the final graph. Raises EmitError for a folder that cannot be made, UsageError for a file that
    cannot be.
    """

    def __init__(self, ir: str | None, onnx: str | None) -> None:
        self.ir, self.ir_folder = _place(ir)
        self.onnx, self.onnx_folder = _place(onnx)
        if self.ir is not None and self.ir == self.onnx:
            raise UsageError(f"--emit-ir and --emit-onnx name the same file {str(self.ir)!r}")

    def after(self, number: int, stage: str, graph: Graph) -> None:
        """Write the graph as it is after a stage to the folders."""
        name = f"{number:03d}-{stage}"
        if self.ir_folder is not None:
            write_text(graph, self.ir_folder / f"{name}.ir")
        if self.onnx_folder is not None:
            save_model(graph, self.onnx_folder / f"{name}.onnx")

    def finish(self, graph: Graph) -> None:
        """Write the final graph to the files."""
        if self.ir is not None:
            write_text(graph, self.ir)
        if self.onnx is not None:
            save_model(graph, self.onnx)


def write_text(graph: Graph, path: Path) -> None:
    """The graph as text, and its large constants as `<path>.npz`; together they parse back to the same graph.

    Neither appears before both are complete. Raises EmitError if they cannot be written.
    """
    data = path.with_name(path.name + ".npz")
    unfinished = [path.with_name(f".{p.name}.{os.urandom(6).hex()}.tmp") for p in (path, data)]
    try:
        unfinished[0].write_text(print_graph(graph), encoding="utf-8")
        save_constants(graph, unfinished[1])
        if unfinished[1].exists():
            unfinished[1].replace(data)
        unfinished[0].replace(path)
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise EmitError(f"the text of the graph cannot be written to {str(path)!r}: {reason}") from None
    finally:
        for left in unfinished:
            with suppress(OSError):
                left.unlink()


def _place(path: str | None) -> tuple[Path | None, Path | None]:
    """The path as a file, or as a folder that exists now."""
    if not path:
        return None, None
    place = Path(path)
    if not (path.endswith(("/", os.sep)) or place.is_dir()):
        if not place.parent.is_dir():
            raise UsageError(f"the folder {str(place.parent)!r} does not exist", hint="create it first")
        return place, None
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise EmitError(f"the folder {path!r} cannot be made: {reason}") from None
    return None, place
