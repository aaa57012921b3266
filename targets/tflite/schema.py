"""The one door to the TensorFlow Lite schema and runtime, which come with the LiteRT package."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from compiler.errors import MissingExtraError


@cache
def schema() -> ModuleType:
    """The generated FlatBuffer classes; MissingExtraError without the LiteRT package."""
    return _load("ai_edge_litert.schema_py_generated")


@cache
def flatbuffers() -> ModuleType:
    """The FlatBuffers runtime."""
    return _load("flatbuffers")


def open_interpreter(path: str, threads: int) -> Any:  # Any: LiteRT has no types
    """LiteRT's interpreter of a file, with memory for its tensors."""
    interpreter = _load("ai_edge_litert.interpreter").Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _load(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as e:
        raise MissingExtraError("tflite", "ai-edge-litert") from e
