"""A saved asset and how to run it: by Apple's runtime, on every system that has it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compiler.errors import EmitError, UsageError
from compiler.graph import Graph, Value
from compiler.oracle import checked_inputs, in_single_precision
from compiler.probe import Loss, intermediate_values, rank_losses
from compiler.target import Artifact
from compiler.tensor import Array, TensorType
from targets.coreai.dtypes import TYPES, limits
from targets.coreai.package import is_asset

if TYPE_CHECKING:
    from targets.apple.borders import Border
    from targets.apple.sparse import Saving
    from targets.coreai.staged import Staged

NOTHING: Array = np.zeros(0)
IS_APPLE = sys.platform == "darwin"
Showing = Callable[[Graph, Path], Mapping[str, Value]]


class Port(NamedTuple):
    """An input or output: its name, the element type that it has in the asset (none: it is left out, as what has no
    elements is), its ONNX type, and how it lies in the asset if that is not as in the model."""

    name: str
    held: str
    type: TensorType
    border: Border | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the asset."""
        return self.type.dims if self.border is None else self.border.value.type.dims


class CoreAIArtifact(Artifact):
    """`run` loads the asset from disk each time.

    kernels  names of the Metal functions in it
    showing  writes an asset of a graph that also gives the values between its layers, and names these
    savings  of its sparse weights
    staged   runs it where Metal kernels cannot run, by parts; None: it cannot be run there
    """

    staged: Staged | None = None

    def __init__(
        self,
        path: Path,
        inputs: list[Port],
        outputs: list[Port],
        warnings: Sequence[str],
        kernels: Sequence[str],
        showing: Showing,
        savings: Sequence[Saving] = (),
    ) -> None:
        self.path = path
        self.kernels = kernels
        self.inputs = inputs
        self.outputs = outputs
        self.warnings = list(warnings)
        self.showing = showing
        self.savings = savings

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        feeds = self._feeds(inputs)
        if self.staged is not None and not IS_APPLE:
            return self.staged.run(self.path, checked_inputs(inputs, {port.name: port.type for port in self.inputs}))
        results = self.execute(feeds)
        return {port.name: _model_array(results.get(port.name, NOTHING), port) for port in self.outputs}

    def losses(self, graph: Graph, inputs: Mapping[str, Array]) -> list[Loss]:
        """Compares what an asset of the same layers computes between them with ONNX Runtime on the rewritten graph."""
        if self.kernels:
            return []
        with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
            path = Path(folder) / "shown.aimodel"
            shown = self.showing(graph, path)
            results = _executed(path, self._feeds(inputs))
        measured = {v: results[name] for name, v in shown.items() if name in results}
        return rank_losses(graph, intermediate_values(graph, inputs), measured)

    def _feeds(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = checked_inputs(inputs, {port.name: port.type for port in self.inputs})
        return {port.name: _held(given[port.name], port) for port in self.inputs if port.held}

    def execute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs as the asset gives them, from inputs as it takes them."""
        if self.staged is not None and not IS_APPLE:
            return self._execute_staged(self.staged, feeds)
        if self.kernels and not IS_APPLE:
            raise UsageError(
                f"{str(self.path)!r} holds Metal kernels, for Apple's systems alone: {', '.join(self.kernels)}",
                hint="compile it with --verify off, and run it there",
            )
        return _executed(self.path, feeds)

    def _execute_staged(self, staged: Staged, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Of a chunk of a split model, whose inputs and outputs lie as in the model."""
        given = {p.name: _model_array(feeds.get(p.name, NOTHING), p) for p in self.inputs}
        results = staged.run(self.path, given)
        return {p.name: results[p.name].astype(TYPES[p.held].numpy) for p in self.outputs if p.held}


def _executed(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """EmitError if there is no asset any more, which ends the process in Apple's runtime."""
    from targets.coreai.runtime import execute  # loads Apple's package

    if not is_asset(path):
        raise EmitError(f"{str(path)!r} is not an .aimodel with a program")
    return execute(path, feeds)


def _held(array: Array, port: Port) -> Array:
    """An input as the asset takes it. UsageError for numbers that its element type cannot hold."""
    to = TYPES[port.held].numpy
    if port.type.dtype.is_float:
        array = array if array.dtype == to else in_single_precision(port.name, array)
        array = array if port.border is None else port.border.apply(array)
    elif array.dtype != to and array.size:
        low, high = limits(port.held)
        if array.min() < low or array.max() > high:
            raise UsageError(
                f"input {port.name!r} holds integers that 32 bits cannot, and Core AI programs compute in no more here",
                hint="make the numbers smaller before they enter the model",
            )
    return np.ascontiguousarray(array.astype(to, copy=False)).reshape(port.shape)


def _model_array(array: Array, port: Port) -> Array:
    """An output in the ONNX model's shape and element type."""
    array = np.asarray(array).reshape(port.shape)
    array = array if port.border is None else port.border.apply(array)
    return array.reshape(port.type.dims).astype(port.type.dtype.numpy)
