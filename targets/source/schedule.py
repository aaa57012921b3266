"""What every library is written with: its calls in order, the buffers that they touch, its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codegen.library import Port
from codegen.names import identifier, unrepeated
from codegen.program import Argument, Buffer, Call, Kernel, Place, Pointer, Split
from compiler.tensor import Array
from targets.source.weights import Weights

TITLE = 100  # letters of a layer's description


class Ports(NamedTuple):
    """Of a library, in the order of the model's."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]


class Schedule:
    """One library being written; what its values are is known by those who write it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.weights = Weights()
        self.buffers: list[Buffer] = []  # of the arena
        self.inputs: list[Buffer] = []
        self.outputs: list[Buffer] = []
        self.shares: dict[Buffer, Buffer] = {}  # a buffer -> one that it may lie upon if nobody reads that any more
        self._names: dict[Place, set[str]] = {place: set() for place in Place}

    @property
    def ports(self) -> Ports:
        """Inputs and outputs."""
        raise NotImplementedError

    def _buffer(self, name: str, size: int, place: Place, note: str) -> Buffer:
        taken = self._names[place]
        unique = identifier(unrepeated(name), taken)
        taken.add(unique)
        return Buffer(unique, size, place, note)

    def scratch(self, size: int, name: str) -> Pointer:
        """Bytes for the calls that follow."""
        buffer = self._buffer(name, size, Place.ARENA, "scratch")
        self.buffers.append(buffer)
        return Pointer(buffer)

    def constant(self, array: Array, name: str) -> Pointer:
        """An array among the weights, as it lies in memory; equal ones are stored once."""
        known = self.weights.find(array)
        if known is None:
            known = self._buffer(name, array.nbytes, Place.WEIGHT, f"{array.dtype}{list(array.shape)}")
            self.weights.add(known, array)
        return Pointer(known)

    def add(
        self, kernel: Kernel, arguments: Sequence[Argument], title: str, origin: str = "", split: Split | None = None
    ) -> None:
        """One step; which buffers it reads and writes is told by the types of the kernel's parameters."""
        reads: list[Buffer] = []
        writes: list[Buffer] = []
        for parameter, argument in zip(kernel.parameters, arguments, strict=True):
            if isinstance(argument, Pointer):
                (reads if parameter.ctype.startswith("const") else writes).append(argument.buffer)
        self.calls.append(Call(kernel, arguments, reads, writes, title[:TITLE], origin, split))

    @property
    def kernels(self) -> list[Kernel]:
        """All that are called, from here or by others, those that are called first."""
        found: dict[Kernel, None] = {}

        def visit(kernel: Kernel) -> None:
            if kernel not in found:
                for needed in kernel.needs:
                    visit(needed)
                found[kernel] = None

        for call in self.calls:
            visit(call.kernel)
        return list(found)
