"""A saved .tflite file and how to run it: by LiteRT's interpreter, with its default delegate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compiler.errors import EmitError
from compiler.oracle import checked_inputs
from compiler.target import Artifact
from compiler.tensor import Array, TensorType
from targets.tflite.schema import open_interpreter
from targets.tflite.writer import SIGNATURE

THREADS = 2


class Port(NamedTuple):
    """An input or output: its ONNX name and type, and the order of its axes in the file."""

    name: str
    type: TensorType
    order: tuple[int, ...]


class TfLiteArtifact(Artifact):
    """`run` reads the file back from disk each time. `operators` counts what it is made of."""

    def __init__(
        self, path: Path, inputs: list[Port], outputs: list[Port], warnings: list[str], operators: dict[str, int]
    ) -> None:
        self.path = path
        self.inputs = inputs
        self.outputs = outputs
        self.warnings = warnings
        self.operators = operators

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        try:
            interpreter = open_interpreter(os.fspath(self.path), min(THREADS, os.cpu_count() or 1))
            runner = interpreter.get_signature_runner(SIGNATURE)
            details = runner.get_input_details()
            feeds = {
                port.name: np.ascontiguousarray(
                    given[port.name].transpose(port.order), details[port.name]["dtype"]
                ).reshape(details[port.name]["shape"])
                for port in self.inputs
            }
            results = runner(**feeds)
        except (RuntimeError, ValueError) as e:
            raise EmitError(f"LiteRT does not run {self.path.name!r}: {' '.join(str(e).split())[:400]}") from e
        return {port.name: _model_array(results[port.name], port) for port in self.outputs}


def _model_array(array: Array, port: Port) -> Array:
    """An output in the ONNX model's shape and element type."""
    shaped = array.reshape([port.type.dims[i] for i in port.order])
    back = [port.order.index(i) for i in range(len(port.order))]
    return np.ascontiguousarray(shaped.transpose(back)).reshape(port.type.dims).astype(port.type.dtype.numpy)
