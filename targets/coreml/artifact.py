"""A saved package and how to run it: by Core ML on macOS, by the evaluator of the saved package elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.oracle import checked_inputs, in_single_precision
from compiler.probe import Loss, intermediate_values, rank_losses
from compiler.target import Artifact
from compiler.tensor import Array, TensorType
from targets.coreml.dtypes import MAX_RANK

if TYPE_CHECKING:
    from targets.coreml.image import ImageInput

INT32 = np.iinfo(np.int32)
NOTHING: Array = np.zeros(0)


class Port(NamedTuple):
    """An input or output: its ONNX name, its name in the package (none: left out, as what has no elements is), its ONNX
    type, and whether it takes an image."""

    name: str
    feature: str
    type: TensorType
    image: ImageInput | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the package, which has 1 to MAX_RANK axes; further ones are joined with the last."""
        dims = self.type.dims
        return (*dims[: MAX_RANK - 1], prod(dims[MAX_RANK - 1 :])) if len(dims) > MAX_RANK else dims or (1,)


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
        results = self._predict(self._features(given))
        return {port.name: _model_array(results.get(port.feature, NOTHING), port.type) for port in self.outputs}

    def losses(self, graph: Graph, inputs: Mapping[str, Array]) -> list[Loss]:
        """Compares every tensor of the evaluated package with ONNX Runtime on the rewritten graph."""
        from targets.coreml.evaluate import evaluate_package  # reads the whole op set

        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        measured: dict[Value, Array] = {}

        def observe(_: str, name: str, array: Array) -> None:
            if name in self._tensors:
                measured[self._tensors[name]] = np.array(array)

        evaluate_package(self.path).run(self._features(given), observe)
        return rank_losses(graph, intermediate_values(graph, given), measured)

    def _features(self, given: Mapping[str, Array]) -> dict[str, Array]:
        return {port.feature: _feature(given[port.name], port) for port in self.inputs if port.feature}

    def _predict(self, features: dict[str, Array]) -> dict[str, Array]:
        if sys.platform == "darwin":
            from targets.coreml.macos import predict  # Core ML itself

            return predict(self.path, features, {port.feature: port.image for port in self.inputs if port.image})
        from targets.coreml.evaluate import evaluate_package  # reads the whole op set

        evaluator = evaluate_package(self.path)
        results = evaluator.run(features)
        self.warnings = [*self._emission_warnings, *evaluator.warnings]
        return results


def _feature(array: Array, port: Port) -> Array:
    """An input as the package takes it: pixels for images, 32-bit numbers, at least one dimension. UsageError for
    numbers that 32 bits cannot hold."""
    if port.image is not None:
        return port.image.pixels(array)
    dtype = port.type.dtype
    if dtype.is_float:
        array = array if array.dtype == np.float16 else in_single_precision(port.name, array)
    else:
        if dtype.bits >= 32 and array.size and not (INT32.min <= array.min() and array.max() <= INT32.max):
            raise UsageError(
                f"input {port.name!r} holds integers that 32 bits cannot, and Core ML has no wider ones",
                hint="make the numbers smaller before they enter the model",
            )
        array = array.astype(np.int32)
    return array.reshape(port.shape)


def _model_array(array: Array, t: TensorType) -> Array:
    """An output in the ONNX model's shape and element type."""
    return np.asarray(array).reshape(t.dims).astype(t.dtype.numpy)
