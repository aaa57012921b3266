"""A saved package and how to run it: by Core ML on macOS, by the evaluator of the saved package elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compiler.graph import Graph, Value
from compiler.oracle import checked_inputs
from compiler.probe import Loss, intermediate_values, rank_losses
from compiler.target import Artifact
from compiler.tensor import Array, TensorType

if TYPE_CHECKING:
    from targets.coreml.image import ImageInput


class Port(NamedTuple):
    """An input or output: its ONNX name, its name in the package, its ONNX type, and whether it takes an image."""

    name: str
    feature: str
    type: TensorType
    image: ImageInput | None = None


class CoreMLArtifact(Artifact):
    """`run` reads the package back from disk each time; `warnings` then also names what overflowed fp16."""

    def __init__(
        self, path: Path, inputs: list[Port], outputs: list[Port], warnings: list[str], tensors: Mapping[str, Value]
    ) -> None:
        self.path = path
        self._tensors = dict(tensors)
        self.inputs = inputs
        self.outputs = outputs
        self.warnings = list(warnings)
        self._emission_warnings = warnings

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        features = {port.feature: _feature(given[port.name], port) for port in self.inputs}
        results = self._predict(features)
        return {port.name: _model_array(results[port.feature], port.type) for port in self.outputs}

    def losses(self, graph: Graph, inputs: Mapping[str, Array]) -> list[Loss]:
        """Compares every tensor of the evaluated package with ONNX Runtime on the rewritten graph."""
        from targets.coreml.evaluate import evaluate_package  # reads the whole op set

        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        measured: dict[Value, Array] = {}

        def observe(_: str, name: str, array: Array) -> None:
            if name in self._tensors:
                measured[self._tensors[name]] = np.array(array)

        evaluate_package(self.path).run(
            {port.feature: _feature(given[port.name], port) for port in self.inputs}, observe
        )
        return rank_losses(graph, intermediate_values(graph, given), measured)

    def _predict(self, features: dict[str, Array]) -> dict[str, Array]:
        if sys.platform == "darwin":
            from targets.coreml.macos import predict  # Core ML itself

            return predict(self.path, features)
        from targets.coreml.evaluate import evaluate_package  # reads the whole op set

        evaluator = evaluate_package(self.path)
        results = evaluator.run(features)
        self.warnings = [*self._emission_warnings, *evaluator.warnings]
        return results


def _feature(array: Array, port: Port) -> Array:
    """An input as the package takes it: pixels for images, 32-bit numbers, at least one dimension."""
    if port.image is not None:
        bias = np.array(port.image.bias, np.float32).reshape(1, -1, 1, 1)
        return np.asarray((array.astype(np.float32) - bias) / port.image.scale)
    if array.dtype.kind in "iub":
        array = array.astype(np.int32)
    elif array.dtype != np.float16:
        array = array.astype(np.float32)
    return array.reshape(array.shape or (1,))


def _model_array(array: Array, t: TensorType) -> Array:
    """An output in the ONNX model's shape and element type."""
    return np.asarray(array).reshape(t.dims).astype(t.dtype.numpy)
