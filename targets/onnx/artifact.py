"""A saved ONNX model and how to run it: by ONNX Runtime, as it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler.graph import Graph
from compiler.oracle import checked_inputs, input_types, open_session, run_session
from compiler.quantize import dequantized, quantized
from compiler.target import Artifact
from compiler.tensor import Array, QuantParams


class OnnxArtifact(Artifact):
    """`quants` has the parameters of inputs and outputs that are integers in the file and floats in the model."""

    def __init__(
        self, files: Sequence[Path], graph: Graph, warnings: list[str], quants: Mapping[str, QuantParams]
    ) -> None:
        self.path = files[0]
        self.warnings = warnings
        self.quants = quants
        self._files = files  # the model, then its data
        self._types = input_types(graph)

    @property
    def size(self) -> int:
        return sum(f.stat().st_size for f in self._files)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = checked_inputs(inputs, self._types)
        stored = {name: self._in(name, array) for name, array in given.items()}
        results = run_session(open_session(self.path), stored)
        return {name: self._out(name, array) for name, array in results.items()}

    def _in(self, name: str, array: Array) -> Array:
        return quantized(array, self.quants[name]) if name in self.quants else array

    def _out(self, name: str, array: Array) -> Array:
        return dequantized(array, self.quants[name]) if name in self.quants else array
