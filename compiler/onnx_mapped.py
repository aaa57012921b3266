"""Large models in the form that ONNX Runtime maps: of weights inside a model's file it makes copies, one of them in the
message that holds them all; those in a file beside it stay there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from compiler import onnx_proto
from compiler.errors import OnnxError
from compiler.onnx_file import read_model
from compiler.onnx_write import write_model

LARGE = 1 << 27  # bytes of a file from which on the detour is worth its time


def is_large(source: str | os.PathLike[str]) -> bool:
    """Whether there is such a file."""
    with suppress(OSError):
        return Path(source).stat().st_size >= LARGE
    return False


def mapped(source: str | os.PathLike[str], folder: Path) -> Path | None:
    """The same model in a new file in the folder, its initializers beside it, byte for byte. None if that is not the
    same (reading it expands functions and sparse tensors), if there are large constants outside of its initializers,
    or if it cannot be written."""
    file = read_model(source)
    if file.expanded or file.model.graph.sparse_initializer:
        return None
    model = onnx_proto.ModelProto()
    model.CopyFrom(file.model)
    del model.graph.initializer[:]
    path = folder / "model.onnx"
    with suppress(OnnxError):
        write_model(path, model, file.initializers(), external=True)
        return path
    return None
