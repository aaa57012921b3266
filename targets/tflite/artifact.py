"""A saved .tflite file and how to run it: by LiteRT's interpreter, with its default delegate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.errors import EmitError
from compiler.oracle import checked_inputs, in_single_precision
from compiler.quantize import dequantized, quantized
from compiler.target import Artifact
from compiler.tensor import Array, QuantParams, TensorType
from targets.tflite.halves import HalfWeights
from targets.tflite.model import NUMPY, Model
from targets.tflite.schema import open_interpreter
from targets.tflite.writer import SIGNATURE, write

THREADS = 2


class Port(NamedTuple):
    """An input or output: its ONNX name and type, the order of its axes in the file, and the parameters of integers
    that stand for real numbers there."""

    name: str
    type: TensorType
    order: tuple[int, ...]
    quant: QuantParams | None = None


class TfLiteArtifact(Artifact):
    """`run` reads the file back from disk each time. `operators` counts what it is made of."""

    def __init__(
        self,
        path: Path,
        inputs: list[Port],
        outputs: list[Port],
        warnings: list[str],
        model: Model,
        halves: HalfWeights,
    ) -> None:
        self.path = path
        self.inputs = inputs
        self.outputs = outputs
        self.warnings = warnings
        self.notes: list[str] = []
        self._model = model
        self._halves = halves

    @property
    def operators(self) -> dict[str, int]:
        return self._model.counts()

    @property
    def transposes(self) -> tuple[int, int]:
        moved = [o.outputs[0] for o in self._model.operators if o.code == "TRANSPOSE"]
        return len(moved), sum(prod(t.shape) * NUMPY[t.dtype].itemsize for t in moved)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the constants that operators read, each counted once."""
        read = (t for o in self._model.operators for t in o.inputs if t is not None and t.constant is not None)
        return sum({id(t): t.constant.nbytes for t in read if t.constant is not None}.values())

    def refine(self, good: Callable[[], bool]) -> bool:
        """Store more of the weights in 32 bits, as few as `good` asks for."""

        def rewritten() -> bool:
            write(self._model, self.path)
            return good()

        wide = self._halves.wide
        if self._halves.search(rewritten):
            self.warnings.append(self._halves.account())
        elif wide < len(self._halves):
            write(self._model, self.path)
        return self._halves.wide > wide

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return next(self.run_rows([inputs]))

    def run_rows(self, rows: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
        """The outputs for each of several inputs; the file is read once."""
        opened = None
        for row in rows:
            given = checked_inputs(row, {port.name: port.type for port in self.inputs})
            given |= {name: in_single_precision(name, a) for name, a in given.items() if a.dtype == np.float64}
            try:
                opened = opened or open_interpreter(os.fspath(self.path), min(THREADS, os.cpu_count() or 1))
                results = self._invoked(opened, given)
            except (RuntimeError, ValueError) as e:
                raise EmitError(f"LiteRT does not run {self.path.name!r}: {' '.join(str(e).split())[:400]}") from e
            yield {port.name: _model_array(results[port.name], port) for port in self.outputs}

    def _invoked(self, interpreter: Any, given: Mapping[str, Array]) -> dict[str, Array]:  # Any: LiteRT has no types
        read, given_back = _tensors(interpreter)
        for port in self.inputs:
            tensor = read[port.name]
            moved = given[port.name].transpose(port.order)
            stored = moved if port.quant is None else quantized(moved, port.quant)
            array = np.ascontiguousarray(stored, tensor["dtype"])
            interpreter.set_tensor(tensor["index"], array.reshape(tensor["shape"]))
        interpreter.invoke()
        return {name: interpreter.get_tensor(t["index"]) for name, t in given_back.items()}


def _tensors(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # Any: LiteRT has no types
    """What LiteRT says of the tensors of the signature, by name. While the runner of a signature lives, the
    interpreter does not run; and the runner takes the inputs as keywords, of which "self" is none."""
    runner = interpreter.get_signature_runner(SIGNATURE)
    return runner.get_input_details(), runner.get_output_details()


def _model_array(array: Array, port: Port) -> Array:
    """An output in the ONNX model's shape and element type; a size that was not known is as the runtime has it."""
    known = port.type.is_static
    array = array if port.quant is None else dequantized(array, port.quant)
    shaped = array.reshape([port.type.dims[i] for i in port.order]) if known else array
    back = [port.order.index(i) for i in range(len(port.order))]
    moved = np.ascontiguousarray(shaped.transpose(back))
    return (moved.reshape(port.type.dims) if known else moved).astype(port.type.dtype.numpy)
