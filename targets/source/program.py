"""What lowering functions write to: a schedule, and where the values of the graph lie.

A value lies in memory in the order of its type (`order_of`), densely, in its own element type; booleans take a byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from codegen.expression import Expression, Operand
from codegen.library import Port
from codegen.neon.copies import CopyBytes
from codegen.program import Argument, Buffer, Kernel, Place, Pointer, Split
from compiler.graph import Graph, Node, Value
from compiler.ops.layout import order_of
from compiler.tensor import DType, TensorType
from targets.source.dynamic import is_dynamic, largest
from targets.source.schedule import Ports, Schedule

if TYPE_CHECKING:
    from targets.source.chains import Chain

SIZE = 8  # bytes of a size_t
CTYPES = {"f32": "float", "f64": "double", "bool": "uint8_t", "f16": "half_t", "bf16": "bfloat_t"}


class Tail(NamedTuple):
    """What is computed of each result of a layer before it is stored: an expression in which operand 0 is the result,
    and others are the values that stand in `others`, from 1 on. `value` is what is stored."""

    expression: Expression
    others: Sequence[Value]
    value: Value

    @property
    def is_empty(self) -> bool:
        """Whether results are stored as they are."""
        return isinstance(self.expression, Operand)


class Program(Schedule):
    """A schedule being written; `threads` share the work at most. `has_doubles`: kernels can compute with floats of 64
    bits."""

    has_doubles: ClassVar[bool] = True

    def __init__(self, graph: Graph, threads: int = 1) -> None:
        super().__init__()
        self.graph, self.threads = graph, threads
        self.tails: dict[Node, Tail] = {}
        self.chains: dict[Node, Chain] = {}
        self._places: dict[Value, Pointer] = {}
        self._results: dict[Value, Buffer] = {}  # values that are computed right where an output is wanted
        self._sizes: dict[Buffer, Buffer] = {}  # results whose sizes the data decide -> where these are written
        self._bind_ports()

    def _bind_ports(self) -> None:
        for v in self.graph.inputs:
            buffer = self._buffer(v.name, nbytes(v.type), Place.INPUT, str(v.type))
            self.inputs.append(buffer)
            self._places[v] = Pointer(buffer)
        for v, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            buffer = self._buffer(name, nbytes(largest(v)), Place.OUTPUT, str(v.type))
            self.outputs.append(buffer)
            if is_dynamic(v):
                self._sizes[buffer] = self._buffer(f"{name}_dims", SIZE * v.type.rank, Place.OUTPUT, str(v.type))
            if v.node is not None:
                self._results.setdefault(v, buffer)

    # -- values ----------------------------------------------------------------------------------------------

    def at(self, v: Value) -> Pointer:
        """Where a value lies."""
        found = self._places.get(v)
        if found is None:
            assert v.data is not None, f"{v!r} is not computed yet"
            order = order_of(v.type)
            found = self._places[v] = self.constant(np.transpose(v.data, order), v.name or "constant")
        return found

    def result(self, v: Value, over: Value | None = None) -> Pointer:
        """Where a value is to be written; upon `over`, if that is read for the last time by the call that writes it,
        element by element."""
        buffer = self._results.get(v)
        if buffer is None:
            buffer = self._buffer(v.name or "value", nbytes(largest(v)), Place.ARENA, described(v.type))
            self.buffers.append(buffer)
            under = None if over is None or over.data is not None else self.at(over)
            if under is not None and under.buffer.place is Place.ARENA and not under.offset:
                self.shares[buffer] = under.buffer
        self._places[v] = Pointer(buffer)
        return self._places[v]

    def is_placed(self, v: Value) -> bool:
        """Whether a layer has already written this result of another one."""
        return v in self._places

    def extents(self, v: Value) -> Pointer:
        """Where the sizes of a result are to be written that the data decide."""
        buffer = self._results.get(v)
        return self.scratch(SIZE * v.type.rank, "dims") if buffer is None else Pointer(self._sizes[buffer])

    def view(self, v: Value, of: Pointer) -> None:
        """Let a value lie where something else does."""
        self._places[v] = of

    # -- calls -----------------------------------------------------------------------------------------------

    def call(self, kernel: Kernel, *arguments: Argument, node: Node, title: str, split: Split | None = None) -> None:
        """One step for a layer."""
        origin = dict.fromkeys(sorted(node.origin))
        place = self._goes(self.tail(node).value)
        if place is not None and any(isinstance(a, Pointer) and a.buffer is place.buffer for a in arguments):
            origin |= dict.fromkeys(name for n in self._followers(node) for name in sorted(n.origin))
        self.add(kernel, arguments, title, ", ".join(origin), split)

    def _goes(self, v: Value) -> Pointer | None:
        """Where a value is written, if that is known."""
        return self._places.get(v)

    def _followers(self, node: Node) -> Iterator[Node]:
        """The layers that are computed as the tail of another."""
        v, end = node.outputs[0], self.tail(node).value
        while v is not end:
            following = next(iter(v.users))
            yield following
            v = following.output

    def finish(self) -> None:
        """Copy to outputs what is not computed right there: inputs, constants, views, and values that are given out
        more than once."""
        for v, buffer in zip(self.graph.outputs, self.outputs, strict=True):
            source = self.at(v)
            if source.buffer is buffer:
                continue
            if largest(v).size:
                self._give_out(Pointer(buffer), source, nbytes(largest(v)))
            if is_dynamic(v):
                self._give_out(Pointer(self._sizes[buffer]), self.extents(v), SIZE * v.type.rank)

    def _give_out(self, to: Pointer, source: Pointer, size: int) -> None:
        self.add(CopyBytes(), (to, source, size), f"output {to.buffer.name}")

    def tail(self, node: Node) -> Tail:
        """What is to be done with each result of a layer before it is stored."""
        return self.tails.get(node) or Tail(Operand(0), (), node.outputs[0])

    @property
    def ports(self) -> Ports:
        inputs = [
            Port(b, port_type(v.type.dtype), v.type.size, v.name, v.type.dims)
            for b, v in zip(self.inputs, self.graph.inputs, strict=True)
        ]
        outputs = [
            Port(b, port_type(v.type.dtype), largest(v).size, name, largest(v).dims, sizes=self._sizes.get(b))
            for b, v, name in zip(self.outputs, self.graph.outputs, self.graph.output_names, strict=True)
        ]
        return Ports(inputs, outputs)


def nbytes(t: TensorType) -> int:
    """Of a value in memory, at least one."""
    return max(t.size * bytes_of(t.dtype), 1)


def bytes_of(dtype: DType) -> int:
    """Of an element; those of fewer than 8 bits take a byte."""
    return max(dtype.bits // 8, 1)


def ctype_of(dtype: DType) -> str:
    """The type of C that holds an element."""
    found = CTYPES.get(dtype.name)
    if found is not None:
        return found
    bits = 8 * bytes_of(dtype)
    return f"{'u' if dtype.kind != 'i' else ''}int{bits}_t"


def port_type(dtype: DType) -> str:
    """The type of C that holds an element of an input or output: halves as their bits."""
    ctype = ctype_of(dtype)
    return "uint16_t" if ctype in ("half_t", "bfloat_t") else ctype


def described(t: TensorType) -> str:
    """A type for readers of the source, with the order in memory if that is not the logical one."""
    order = order_of(t)
    plain = str(t._replace(layout=None, quant=None, palette=None))
    return plain if order == tuple(range(t.rank)) else f"{plain} in the order {','.join(map(str, order))}"
