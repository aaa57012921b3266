"""What lowering functions of the Metal target write to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from codegen.metal.adapted import Adapted, adapted
from codegen.metal.launch import Gpu
from codegen.neon.copies import Fill
from codegen.program import Argument, Buffer, Kernel, Place, Pointer, Split
from compiler.graph import Graph, Node, Value
from compiler.tensor import Array
from targets.metal.families import Family
from targets.metal.homes import Home
from targets.source.dynamic import is_dynamic, largest
from targets.source.program import Program, ctype_of, nbytes
from targets.source.schedule import Ports


class MetalProgram(Program):
    """Kernels of one model and their dispatches.

    precision  fp16 or fp32
    family     the GPUs that are to run it
    gpu        that of them whose figures decide how launches are cut
    """

    has_doubles = False

    def __init__(self, graph: Graph, precision: str, family: Family, gpu: Gpu) -> None:
        super().__init__(graph)
        self.precision, self.family, self.gpu = precision, family, gpu
        self.macs: dict[int, int] = {}  # the id of a call -> multiply-adds of its layer, if it is the first of these
        self._counted: set[Node] = set()
        self.beside: dict[Node, Node] = {}  # layers whose kernel computes another one too
        self.shared: set[Buffer] = set()  # those of which several dispatches write a part each
        self._written: dict[Value, Pointer] = {}

    def written(self, v: Value, home: Home) -> Pointer:
        """Where a value is to be written that then lies nowhere else."""
        place = home.at(self)
        self.shared.add(place.buffer)
        self._written.update(dict.fromkeys((v, *home.inner), place))
        return place

    def _goes(self, v: Value) -> Pointer | None:
        return super()._goes(v) or self._written.get(v)

    def is_written(self, v: Value) -> bool:
        """Whether a value is already where it is wanted."""
        return v in self._written or self.is_placed(v)

    def _buffer(self, name: str, size: int, place: Place, note: str) -> Buffer:
        """Of a name that no other buffer has, wherever it lies."""
        made = super()._buffer(name, size, place, note)
        for names in self._names.values():
            names.add(made.name)
        return made

    def constant(self, array: Array, name: str) -> Pointer:
        """As the base class; doubles become the floats that kernels read in their place."""
        with np.errstate(over="ignore"):
            return super().constant(array.astype(np.float32) if array.dtype == np.float64 else array, name)

    def add(
        self, kernel: Kernel, arguments: Sequence[Argument], title: str, origin: str = "", split: Split | None = None
    ) -> None:
        """One dispatch; a kernel that all generators know is written in Metal's language."""
        made = adapted(kernel)
        super().add(made, made.taken(arguments) if isinstance(made, Adapted) else arguments, title, origin)

    def call(self, kernel: Kernel, *arguments: Argument, node: Node, title: str, split: Split | None = None) -> None:
        """One step for a layer."""
        super().call(kernel, *arguments, node=node, title=title, split=split)
        if node not in self._counted:
            self._counted.add(node)
            other = self.beside.get(node)
            self.macs[id(self.calls[-1])] = node.macs + (other.macs if other is not None else 0)

    def _followers(self, node: Node) -> Iterator[Node]:
        other = self.beside.get(node)
        if other is not None:
            yield from (other, *super()._followers(other))
        yield from super()._followers(node)

    def result(self, v: Value, over: Value | None = None) -> Pointer:
        """As the base class; one whose size the data decide is copied as a whole if it is given out more than once, so
        its room is filled before."""
        place = super().result(v, over)
        if is_dynamic(v) and v.n_out > 1:
            zero = self.constant(np.zeros(1, np.uint8), "zero")
            self.add(Fill(size=1), (zero, place, nbytes(largest(v))), f"room of {place.buffer.name}")
        return place

    @property
    def ports(self) -> Ports:
        """With halves as such, which the language has."""
        made = super().ports
        inputs = [p._replace(ctype=ctype_of(v.type.dtype)) for p, v in zip(made.inputs, self.graph.inputs, strict=True)]
        outputs = [
            p._replace(ctype=ctype_of(v.type.dtype)) for p, v in zip(made.outputs, self.graph.outputs, strict=True)
        ]
        return Ports(inputs, outputs)

    @property
    def sizes(self) -> list[Buffer]:
        """Where the sizes of results are written that the data decide."""
        return list(self._sizes.values())
