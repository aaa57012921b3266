"""A library of integer arithmetic, which runs as every other one; its ports may hold integers for real numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.oracle import checked_inputs, in_single_precision
from compiler.quantize import dequantized, quantized
from compiler.tensor import Array
from targets.neon.artifact import NeonArtifact
from targets.neon.report import Written
from targets.tflite.artifact import Port
from targets.tflite.reader import STORED, Tensor


class IntegerArtifact(NeonArtifact):
    """Inputs and outputs are those of the ONNX model, with how they are stored: as tensors of a .tflite file."""

    def __init__(
        self,
        path: Path,
        inputs: Sequence[tuple[Port, Tensor]],
        outputs: Sequence[tuple[Port, Tensor]],
        warnings: list[str],
        run_on: str = "auto",
        written: Written | None = None,
    ) -> None:
        super().__init__(path, None, warnings, run_on=run_on, written=written)
        self.ports = inputs, outputs

    def run_with(self, inputs: Mapping[str, Array], flags: Sequence[str] = ()) -> tuple[dict[str, Array], str]:
        given = checked_inputs(inputs, {port.name: port.type for port, _ in self.ports[0]})
        arrays = []
        for port, tensor in self.ports[0]:
            array = given[port.name]
            array = in_single_precision(port.name, array) if array.dtype == np.float64 else array
            moved = array.transpose(port.order)
            stored = moved if port.quant is None else quantized(moved, port.quant)
            arrays.append(np.ascontiguousarray(stored, STORED[tensor.dtype]))
        found, told = self.executed(arrays, [STORED[t.dtype] for _, t in self.ports[1]], flags)
        return {
            port.name: _restored(array, port) for (port, _), (array, _) in zip(self.ports[1], found, strict=True)
        }, told


def _restored(array: Array, port: Port) -> Array:
    """An output in the ONNX model's shape and element type."""
    real = array if port.quant is None else dequantized(array, port.quant)
    shaped = real[: port.type.size].reshape([port.type.dims[i] for i in port.order])
    back = [port.order.index(i) for i in range(len(port.order))]
    return shaped.transpose(back).astype(port.type.dtype.numpy, order="C")
