"""What is asked for a place: operations of a program in their order, without the library that writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

BITS = {
    "fp16": 16, "fp32": 32, "fp64": 64, "bool": 8, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32,
    "uint32": 32, "int64": 64, "uint64": 64, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "int4": 4,
}  # fmt: skip
ROW = 64  # bytes to which the engine pads the last axis


class Tensor(NamedTuple):
    """A value. `form` is the operation that expands it where a constant is stored in fewer bits, `scales` the shape of
    its scales then, and `stored` the bytes of a constant in the weight file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False
    form: str = ""
    scales: tuple[int, ...] = ()
    stored: int = 0

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements, side by side."""
        return (self.elements * BITS.get(self.dtype, 8) + 7) // 8

    @property
    def padded(self) -> int:
        """Bytes with every row of the last axis on a boundary of 64."""
        if not self.shape:
            return ROW
        row = (self.shape[-1] * BITS.get(self.dtype, 8) + 7) // 8
        return prod(self.shape[:-1]) * -(-row // ROW) * ROW


class Operation:
    """One operation: its kind in MIL, the layer that it was written for and where that came from, its operands by
    parameter, its results, and the values of small constants by parameter. `read_by`: kinds of what reads the results,
    "output" for the program itself. `made_by`: kinds of what made the operands."""

    def __init__(
        self,
        number: int,
        kind: str,
        inputs: Mapping[str, Sequence[Tensor]],
        outputs: Sequence[Tensor],
        *,
        attributes: Mapping[str, Any] | None = None,  # Any: numbers, texts, and lists of them
        read_by: Sequence[str] = (),
        made_by: Sequence[str] = (),
        layer: str = "",
        onnx: str = "",
        origin: Sequence[str] = (),
    ) -> None:
        self.number, self.kind, self.inputs, self.outputs = number, kind, inputs, tuple(outputs)
        self.attributes = attributes or {}
        self.read_by, self.made_by = tuple(read_by), tuple(made_by)
        self.layer, self.onnx, self.origin = layer, onnx, tuple(origin)

    @property
    def name(self) -> str:
        return self.outputs[0].name if self.outputs else self.kind

    @cached_property
    def operands(self) -> tuple[Tensor, ...]:
        return tuple(t for tensors in self.inputs.values() for t in tensors)

    @property
    def computed(self) -> Iterator[Tensor]:
        """Operands and results that are no constants."""
        yield from (t for t in self.operands if not t.constant)
        yield from self.outputs

    def operand(self, name: str) -> Tensor | None:
        """The first operand of a parameter; None if it is absent."""
        found = self.inputs.get(name, ())
        return found[0] if found else None

    @property
    def weight_bytes(self) -> int:
        return sum(t.stored for t in self.operands if t.constant)

    @property
    def bytes_in(self) -> int:
        return sum(t.nbytes for t in self.operands if not t.constant)

    @property
    def bytes_out(self) -> int:
        return sum(t.nbytes for t in self.outputs)


class Program(NamedTuple):
    """Operations in program order; constants are operands of theirs. `system` is the oldest that loads it, as
    "iOS17"."""

    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    system: str

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants, each once."""
        held = {t.name: t.stored for op in self.operations for t in op.operands if t.constant}
        return sum(held.values())
