"""What lowering functions of operators write to: the schedule of one library, and where the tensors lie.

Operators are those of the first subgraph of a .tflite file, and tensors lie as they do there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codegen.library import Port
from codegen.neon.copies import CopyBytes
from codegen.neon.int8_nest import Nest
from codegen.program import Argument, Buffer, Kernel, Place, Pointer, Split
from compiler.tensor import Array
from targets.source.schedule import Ports, Schedule
from targets.tflite.integer.kernel import Node
from targets.tflite.reader import STORED, File, Tensor

CTYPES = {
    "FLOAT32": "float",
    "INT8": "int8_t",
    "UINT8": "uint8_t",
    "INT16": "int16_t",
    "INT32": "int32_t",
    "INT64": "int64_t",
    "BOOL": "uint8_t",
}


class IntegerProgram(Schedule):
    """One library being written.

    isa              the features that may be used: base, dotprod, i8mm; auto: kernels for each, of which the processor
                     chooses
    in_order         for cores that issue in order
    threads          that share the work at most
    tensors          of the file, by number
    constants        the values of those that are known, by number
    """

    def __init__(
        self,
        file: File,
        isa: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        in_order: bool = False,
        threads: int = 1,
    ) -> None:
        super().__init__()
        self.in_order, self.threads = in_order, threads
        graph = file.subgraphs[0]
        signature = next((s for s in file.signatures if s.subgraph == 0), None)
        self.isa = isa
        self.operators = graph.operators
        self.tensors: tuple[Tensor, ...] = graph.tensors
        self.constants: dict[int, Array] = {
            t.number: t.array() for t in graph.tensors if t.data is not None and t.nbytes is not None
        }
        self._places: dict[int, Pointer] = {}
        self._results: dict[int, Buffer] = {}  # tensors that are computed right where an output is wanted
        given = {self.tensors[n].name: n for n in graph.inputs} if signature is None else signature.inputs
        wanted = {self.tensors[n].name: n for n in graph.outputs} if signature is None else signature.outputs
        self._input_tensors = [self.tensors[given[name]] for name in inputs]
        self._output_tensors = [self.tensors[wanted[name]] for name in outputs]
        self._titles = [*inputs], [*outputs]
        self._bind_ports()

    def _bind_ports(self) -> None:
        for name, t in zip(self._titles[0], self._input_tensors, strict=True):
            buffer = self._buffer(name, bytes_of(t), Place.INPUT, described(t))
            self.inputs.append(buffer)
            self._places[t.number] = Pointer(buffer)
        computed = {n for o in self.operators for n in o.outputs}
        for name, t in zip(self._titles[1], self._output_tensors, strict=True):
            buffer = self._buffer(name, bytes_of(t), Place.OUTPUT, described(t))
            self.outputs.append(buffer)
            if t.number in computed:
                self._results.setdefault(t.number, buffer)

    @property
    def ports(self) -> Ports:
        inputs, outputs = (
            [
                Port(b, CTYPES[t.dtype], t.size, name, t.shape)
                for b, t, name in zip(buffers, tensors, titles, strict=True)
            ]
            for buffers, tensors, titles in (
                (self.inputs, self._input_tensors, self._titles[0]),
                (self.outputs, self._output_tensors, self._titles[1]),
            )
        )
        return Ports(inputs, outputs)

    @property
    def port_tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors that are inputs and outputs."""
        return self._input_tensors, self._output_tensors

    # -- tensors ---------------------------------------------------------------------------------------------

    def node(self, place: int, values: Mapping[int, Array] | None = None) -> Node:
        """An operator, with the values that are known."""
        return Node(self.operators[place], self.tensors, self.constants if values is None else values, {})

    def at(self, t: Tensor) -> Pointer:
        """Where a tensor lies."""
        found = self._places.get(t.number)
        if found is None:
            found = self._places[t.number] = self.constant(self.constants[t.number], t.name or "constant")
        return found

    def result(self, t: Tensor, over: Tensor | None = None) -> Pointer:
        """Where a tensor is to be written; upon `over`, if that is read for the last time by the call that writes it,
        element by element."""
        buffer = self._results.get(t.number)
        if buffer is None:
            buffer = self._buffer(t.name or "value", bytes_of(t), Place.ARENA, described(t))
            self.buffers.append(buffer)
            under = None if over is None or over.number in self.constants else self.at(over)
            if under is not None and under.buffer.place is Place.ARENA and not under.offset:
                self.shares[buffer] = under.buffer
        self._places[t.number] = Pointer(buffer)
        return self._places[t.number]

    def view(self, t: Tensor, of: Pointer) -> None:
        """Let a tensor lie where something else does."""
        self._places[t.number] = of

    # -- calls -----------------------------------------------------------------------------------------------

    def call(self, node: Node, kernel: Kernel, *arguments: Argument, title: str, split: Split | None = None) -> None:
        """One step for an operator."""
        if isinstance(kernel, Nest) and self.is_shared and kernel.sizes[0] > 1:
            kernel, split = kernel.with_(is_shared=True), Split(kernel.sizes[0], begin="begin", end="end")
            arguments = (*arguments, 0, kernel.sizes[0])
        self.add(kernel, arguments, title, f"{node.operator.code} {node.operator.number}", split)

    @property
    def is_shared(self) -> bool:
        """Whether threads share the work."""
        return self.threads > 1

    def finish(self) -> None:
        """Copy to outputs what is not computed right there: inputs, constants, views, and tensors that are given out
        more than once."""
        for t, buffer in zip(self._output_tensors, self.outputs, strict=True):
            source = self.at(t)
            if source.buffer is not buffer and t.size:
                self.add(CopyBytes(), (Pointer(buffer), source, bytes_of(t)), f"output {buffer.name}")


def bytes_of(t: Tensor) -> int:
    """Of a tensor in memory, at least one."""
    return max(t.size * STORED[t.dtype].itemsize, 1)


def described(t: Tensor) -> str:
    """A type for readers of the source."""
    text = f"{t.dtype.lower()}[{','.join(map(str, t.shape))}]"
    if t.quantization is None or len(t.quantization.scale) != 1:
        return text
    zero = int(t.quantization.zero_point[0]) if len(t.quantization.zero_point) else 0
    element = f"(q{-zero:+d})" if zero else "q"
    return f"{text}, {t.quantization.scale[0]:.6g} * {element}"
