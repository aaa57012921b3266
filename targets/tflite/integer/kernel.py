"""What a kernel sees: one operator with the values of its operands, and the parameters that its integers stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from compiler.errors import CompileError
from compiler.onnx_proto import quote
from compiler.tensor import Array
from targets.tflite.integer.fixed import round_away
from targets.tflite.reader import Operator, Tensor

INT8 = frozenset(("INT8",))
INT8_16 = frozenset(("INT8", "INT16"))
ANY = frozenset(("INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL", "FLOAT32"))  # what is moved, never computed with
BOUNDS: dict[int, tuple[float | None, float | None]] = {  # what fused activations limit a result to
    0: (None, None),
    1: (0.0, None),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}


class NoReferenceError(CompileError):
    """The operator, or the way it is used, has no integer reference."""


class Kernel(NamedTuple):
    """What evaluates an operator, and the types of the first operand that it takes."""

    evaluate: Callable[[Node], Array | tuple[Array, ...]]
    types: frozenset[str] = INT8


class Node:
    """An operator being evaluated. `states` holds variable tensors by number; a kernel replaces them."""

    def __init__(
        self, operator: Operator, tensors: tuple[Tensor, ...], values: Mapping[int, Array], states: dict[int, Array]
    ) -> None:
        self.operator = operator
        self.states = states
        self._tensors = tensors
        self._values = values

    def has(self, number: int) -> bool:
        """Whether an operand is there: optional ones are left out or -1."""
        return number < len(self.operator.inputs) and self.operator.inputs[number] >= 0

    def tensor(self, number: int) -> Tensor:
        if not self.has(number):
            raise self.refused(f"has no operand {number}")
        return self._tensors[self.operator.inputs[number]]

    def value(self, number: int = 0) -> Array:
        tensor = self.tensor(number)
        return self.states[tensor.number] if tensor.is_variable else self._values[tensor.number]

    def result(self, number: int = 0) -> Tensor:
        return self._tensors[self.operator.outputs[number]]

    def intermediate(self, number: int) -> Tensor:
        return self._tensors[self.operator.intermediates[number]]

    def option(self, name: str, default: Any = 0) -> Any:  # Any: numbers, strings and vectors, as the schema has them
        return self.operator.options.get(name, default)

    def ints(self, number: int) -> list[int]:
        """An operand that holds numbers: axes, sizes, ..."""
        return [int(v) for v in self.value(number).reshape(-1)]

    def scale(self, number: int = 0) -> np.float32:
        return self.scale_of(self.tensor(number))

    def zero_point(self, number: int = 0) -> int:
        return self.zero_point_of(self.tensor(number))

    def result_scale(self, number: int = 0) -> np.float32:
        return self.scale_of(self.result(number))

    def result_zero_point(self, number: int = 0) -> int:
        return self.zero_point_of(self.result(number))

    def scales_of(self, tensor: Tensor) -> Array:
        """All scales of a tensor, float32."""
        if tensor.quantization is None or not len(tensor.quantization.scale):
            raise self.refused(f"has no quantization of tensor {quote(tensor.name)}")
        return np.asarray(tensor.quantization.scale, np.float32)

    def scale_of(self, tensor: Tensor) -> np.float32:
        scales = self.scales_of(tensor)
        if len(scales) != 1:
            raise self.refused(f"has {len(scales)} scales of tensor {quote(tensor.name)} where one is due")
        return np.float32(scales[0])

    def zero_point_of(self, tensor: Tensor) -> int:
        self.scale_of(tensor)
        return first_zero_point(tensor)

    def shifted(self, number: int = 0) -> Array:
        """The operand minus its zero point, int64."""
        return self.value(number).astype(np.int64) - self.zero_point(number)

    def same_parameters(self, tensor: Tensor) -> bool:
        """Whether the result has the scale and the zero point of a tensor."""
        same_scale = self.scale_of(tensor) == self.result_scale()
        return bool(same_scale) and self.zero_point_of(tensor) == self.result_zero_point()

    def clamped(self, values: Array) -> Array:
        """Values that include the result's zero point, limited by the fused activation, in the result's type."""
        low, high = self.limits()
        return np.clip(values, low, high).astype(_NUMPY[self.result().dtype])

    def limits(self) -> tuple[int, int]:
        """The least and the greatest result under the fused activation."""
        activation = self.option("FusedActivationFunction")
        if activation not in BOUNDS:
            raise self.refused(f"has the fused activation {activation}")
        return self.limits_between(*BOUNDS[activation])

    def limits_between(self, low: float | None, high: float | None) -> tuple[int, int]:
        """The integers that stand for two real numbers, or the ends of the result's type."""
        info = np.iinfo(_NUMPY[self.result().dtype])
        least = int(info.min) if low is None else max(int(info.min), self._quantized(low))
        return least, int(info.max) if high is None else min(int(info.max), self._quantized(high))

    def _quantized(self, real: float) -> int:
        return self.result_zero_point() + int(round_away(np.asarray(np.float32(real) / self.result_scale())))

    @property
    def is_wide(self) -> bool:
        """Whether the result has 16 bits."""
        return self.result().dtype == "INT16"

    def refused(self, reason: str) -> NoReferenceError:
        return refused(self.operator, reason)


def radius(integer_bits: int, shift: int) -> int:
    """The greatest integer that, multiplied by 2**shift, stays within Q(integer_bits) of 32 bits."""
    return math.floor(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**shift)


_NUMPY: dict[str, type[np.signedinteger[Any] | np.unsignedinteger[Any]]] = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
}


def first_zero_point(tensor: Tensor) -> int:
    """Of a tensor that may have none: 0."""
    points = None if tensor.quantization is None else tensor.quantization.zero_point
    return 0 if points is None or not len(points) else int(points[0])


def refused(operator: Operator, reason: str) -> NoReferenceError:
    """The error that says which operator it is."""
    code = f"CUSTOM {operator.custom}" if operator.code == "CUSTOM" else operator.code
    return NoReferenceError(f"operator {operator.number} ({code}) has no integer reference: it {reason}")
