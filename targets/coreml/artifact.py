"""A saved package and how to run it: by Core ML on macOS, by the evaluator of the saved package elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
    from targets.apple.borders import Border
    from targets.apple.sparse import Saving
    from targets.coreml.image import ImageInput

INT32 = np.iinfo(np.int32)
NOTHING: Array = np.zeros(0)


class Port(NamedTuple):
    """An input or output: its ONNX name, its name in the package (none: left out, as what has no elements is), its ONNX
    type, whether it takes an image, and how it lies in the package if that is not as in the model."""

    name: str
    feature: str
    type: TensorType
    image: ImageInput | None = None
    border: Border | None = None

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of the value that stands for it."""
        return self.type.dims if self.border is None else self.border.value.type.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the package, which has 1 to MAX_RANK axes; further ones are joined with the last."""
        dims = self.inner
        return (*dims[: MAX_RANK - 1], prod(dims[MAX_RANK - 1 :])) if len(dims) > MAX_RANK else dims or (1,)


class CoreMLArtifact(Artifact):
    """`run` reads the package back from disk each time; `warnings` then also names what overflowed fp16. `savings` are
    of its sparse weights."""

    def __init__(
        self,
        path: Path,
        inputs: list[Port],
        outputs: list[Port],
        warnings: list[str],
        tensors: Mapping[str, Value],
        savings: Sequence[Saving] = (),
    ) -> None:
        self.savings = savings
        self.path = path
        self.tensors = dict(tensors)
        self.inputs = inputs
        self.outputs = outputs
        self.warnings = list(warnings)
        self.known = list(warnings)

    def warn(self, warnings: Sequence[str]) -> None:
        """Add what is known without running it."""
        self.known += warnings
        self.warnings += warnings

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        results = self.predict(self._features(given))
        return {port.name: _model_array(results.get(port.feature, NOTHING), port) for port in self.outputs}

    def losses(self, graph: Graph, inputs: Mapping[str, Array]) -> list[Loss]:
        """Compares every tensor of the evaluated package with ONNX Runtime on the rewritten graph."""
        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        measured: dict[Value, Array] = {}
        self.evaluate(self._features(given), measured)
        return rank_losses(graph, intermediate_values(graph, given), measured)

    def _features(self, given: Mapping[str, Array]) -> dict[str, Array]:
        return {port.feature: _feature(given[port.name], port) for port in self.inputs if port.feature}

    def predict(self, features: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by the package's own names, from inputs by those: of Core ML on macOS, of the evaluator elsewhere."""
        if sys.platform == "darwin":
            from targets.coreml.macos import predict  # Core ML itself

            return predict(self.path, features, {port.feature: port.image for port in self.inputs if port.image})
        return self.evaluate(features)

    def evaluate(self, features: Mapping[str, Array], measured: dict[Value, Array] | None = None) -> dict[str, Array]:
        """Outputs as the evaluator computes them; `measured` is filled with the values of the graph met on the way."""
        from targets.coreml.evaluate import evaluate_package  # reads the whole op set

        def observe(_: str, name: str, array: Array) -> None:
            if measured is not None and name in self.tensors:  # it is not called without
                measured[self.tensors[name]] = np.array(array)

        evaluator = evaluate_package(self.path)
        results = evaluator.run(features, None if measured is None else observe)
        self.warnings = [*self.known, *evaluator.warnings]
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
    return (array if port.border is None else port.border.apply(array)).reshape(port.shape)


def _model_array(array: Array, port: Port) -> Array:
    """An output in the ONNX model's shape and element type."""
    array = np.asarray(array).reshape(port.inner)
    return (array if port.border is None else port.border.apply(array)).astype(port.type.dtype.numpy)
