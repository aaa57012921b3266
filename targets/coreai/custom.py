"""Layers that Core AI has no operations for, as kernels of the Metal target.

A layer becomes a graph of its own, in the element types that Core AI holds its values in, with casts to and from those
of the model; the Metal target lowers it to dispatches, and each dispatch becomes a `metal4_kernel`. All tensors of it
have one axis: what lies in them is dense, in the order of the shape, whatever strides and order of axes Core AI would
give tensors of more. Booleans are bytes, and 64-bit integers between two kernels are two words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from codegen.metal.handles import Address, Dispatch, Source, Step, pointed, source
from codegen.metal.kernel import MetalKernel
from codegen.metal.plan import numbers_of
from codegen.program import Buffer, Call, Pointer
from compiler import ops
from compiler.errors import CompileError
from compiler.graph import Graph, Node, Value
from compiler.rewrite import Unobserved
from compiler.subgraph import extract
from compiler.tensor import BOOL, F16, F32, I32, I64, U32, U64, Array, DType, TensorType
from compiler.text import print_graph
from passes.decompose import Decompose
from passes.merge_casts import MergeCasts
from passes.remove_identity import RemoveIdentity
from passes.store_halves import StoreHalves
from targets.coreai.dtypes import NAMES, TYPES
from targets.coreai.kernels import PARAMETER_LIMIT
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import GENERAL
from targets.coreai.program import Var
from targets.metal.emit import Form, lowered
from targets.metal.lower import TABLE
from targets.metal.program import MetalProgram
from targets.metal.singles import singles

ROUNDS = 4096  # of one threadgroup over the grid of a dispatch
LONGEST = 2**31 - 1  # tensor: its length is an int
POSITIONS = 5  # parameters that are no tensors, at most


class Element(NamedTuple):
    """How memory of a type of Metal's is held: the element type of the tensor, and how many of it one takes."""

    held: str
    words: int = 1


HELD = {
    "float": Element("fp32"), "half": Element("fp16"), "bfloat": Element("uint16"), "char": Element("int8"),
    "uchar": Element("uint8"), "bool8_t": Element("uint8"), "short": Element("int16"), "ushort": Element("uint16"),
    "int": Element("int32"), "uint": Element("uint32"), "atomic_int": Element("int32"),
    "atomic_uint": Element("uint32"), "long": Element("int32", 2), "ulong": Element("uint32", 2),
}  # fmt: skip
METAL = {
    "fp16": "half", "fp32": "float", "int8": "char", "uint8": "uchar", "int16": "short", "uint16": "ushort",
    "int32": "int", "uint32": "uint",
}  # fmt: skip


class Carried:
    """A layer as kernels.

    graph     it alone, in the types of the model
    inputs    the values of the model that are the inputs of that graph
    program   the Metal target's dispatches
    tensors   what buffers are called that the dispatches touch
    elements  the element types of the tensors that buffers are
    """

    def __init__(self, node: Node, precision: str) -> None:
        """LegalityError, or another CompileError, if the Metal target has no kernels for it."""
        self.node = node
        self.graph, self.inputs = extract(node.outputs, [node], node.op.name)
        self.held = _held(self.graph, precision)
        self.program = lowered(_prepared(self.held, precision), Form(precision=precision))
        self.groups = list(_grouped(self.program.calls))
        self.tensors = {b: f"t{i}" for i, b in enumerate(dict.fromkeys(_touched(self.program)))}
        self.elements = dict(_elements(self.program))

    @cached_property
    def dispatches(self) -> list[Dispatch]:
        """What Core AI runs, one after the other."""
        return [self._dispatch(calls) for calls in self.groups]

    @cached_property
    def source(self) -> Source:
        """Their text."""
        kernels = [k for k in self.program.kernels if isinstance(k, MetalKernel)]
        title = f"{self.node.op.name}, as kernels of a layer: {', '.join(sorted(self.node.origin))}"
        return source(title, self.dispatches, kernels)

    def objection(self) -> str | None:
        """What keeps the kernels out of a Core AI program; None if nothing does."""
        for d in self.dispatches:
            if len(d.reads) + len(d.writes) + POSITIONS > PARAMETER_LIMIT:
                return f"needs kernels of at most {PARAMETER_LIMIT} parameters"
            if d.rounds > ROUNDS or not d.is_even:
                return "needs kernels that write no tensor twice, or small ones"
        if any(self.length(b) > LONGEST for b in self.tensors):
            return f"needs tensors of at most {LONGEST} elements in its kernels"
        return None

    def element(self, buffer: Buffer) -> str:
        """The element type in which a buffer is held."""
        return self.elements.get(buffer, "uint8")

    def length(self, buffer: Buffer) -> int:
        """Of the tensor that a buffer is."""
        return buffer.nbytes * 8 // TYPES[self.element(buffer)].bits

    def parts(self, calls: Sequence[Call]) -> tuple[list[Buffer], list[Buffer]]:
        """What some steps read that others have written, and what they write."""
        made: dict[Buffer, None] = {}
        read: dict[Buffer, None] = {}
        for call in calls:
            read.update(dict.fromkeys(b for b in call.reads if b not in made))
            made.update(dict.fromkeys(call.writes))
        return list(read), list(made)

    def _dispatch(self, calls: Sequence[Call]) -> Dispatch:
        steps = []
        for call in calls:
            assert isinstance(call.kernel, MetalKernel)
            pointers = [a for a in call.arguments if isinstance(a, Pointer)]
            addresses = [Address(self.tensors[a.buffer], a.offset) for a in pointers]
            steps.append(Step(call.kernel, numbers_of(call), addresses))
        named = [{self.tensors[b]: METAL[self.element(b)] for b in part} for part in self.parts(calls)]
        return Dispatch(steps, *named)

    def constant(self, buffer: Buffer) -> Array:
        """A constant of the kernels, as elements of its tensor."""
        array = np.ascontiguousarray(self.program.weights.array(buffer))
        return array.reshape(-1).view(TYPES[self.element(buffer)].numpy)

    def record(self) -> dict[str, Any]:
        """What the kernels compute, for readers of the asset, as plain values for JSON."""
        p, names = self.program, self.program.graph.output_names
        return {
            "operation": self.node.op.name,
            "origin": sorted(self.node.origin),
            "reference": print_graph(self.graph),
            "inputs": [self._port(b, v.type, v.name) for b, v in zip(p.inputs, p.graph.inputs, strict=True)],
            "outputs": [self._port(b, v.type, n) for b, v, n in zip(p.outputs, p.graph.outputs, names, strict=True)],
            "kernels": [
                {"name": name, "reads": [*d.reads], "writes": [*d.writes]}
                for name, d in zip(self.source.names, self.dispatches, strict=True)
            ],
        }

    def _port(self, buffer: Buffer, t: TensorType, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "tensor": self.tensors.get(buffer),
            "element": self.element(buffer),
            "shape": list(t.dims),
        }


def objection(node: Node, precision: str) -> str | None:
    """Why a layer cannot be carried; None if it can."""
    missing = next((f"needs {n.text}" for n in GENERAL if not n.holds(node)), None)
    if missing:
        return missing
    types = [v.type.dtype for v in (*node.inputs, *node.outputs) if v is not None]
    if not all(map(_is_held, types)):
        return "needs element types that Core AI holds"
    if isinstance(node.op, ops.BitCast) and any(_narrow(t, precision) is not t for t in types):
        return "needs element types that Core AI holds with all their bits (--precision fp32 holds f32)"
    if any(v.type.dtype is U64 for v in node.outputs):
        return "needs results other than u64, which Core AI holds in 32 bits"
    try:
        graph, _ = extract(node.outputs, [node], node.op.name)
        objections = TABLE.objections(_prepared(_held(graph, precision), precision))
        return objections[0].rpartition(" -- ")[2] if objections else Carried(node, precision).objection()
    except CompileError as e:
        return f"fails: {e.message}"
    except KeyError as e:  # of `adapted`
        return f"needs a kernel that is not written in Metal: {e.args[0]}"


def carry(p: Lowering, node: Node) -> Carried:
    """Write a layer as its kernels."""
    made = Carried(node, p.precision)
    known: dict[Buffer, Var] = {}
    for v, buffer in zip(made.inputs, made.program.inputs, strict=True):
        known[buffer] = p.flat(p.cast(p[v], made.element(buffer)))
    for calls, d, name in zip(made.groups, made.dispatches, made.source.names, strict=True):
        reads, written = made.parts(calls)
        for b in reads:
            if b not in known:
                known[b] = p.program.const(made.constant(b), made.element(b))
        results = [(made.element(b), (made.length(b),)) for b in written]
        total = [g * t for g, t in zip(*d.launch, strict=True)]
        settings = [p.sizes(total), p.sizes(d.launch.threads), *(p.sizes(shape) for _, shape in results)]
        ys = p.program.kernel([known[b] for b in reads], settings, results, made.source.text, name)
        known.update(zip(written, ys, strict=True))
    for v, buffer in zip(node.outputs, made.program.outputs, strict=True):
        p.bind(v, p.cast(p.reshape(known[buffer], v.type.dims), p.dtype(v.type.dtype)))
    return made


class Carrier:
    """Writes layers as kernels, and remembers which."""

    def __init__(self) -> None:
        self.layers: list[Carried] = []

    def __call__(self, p: Lowering, node: Node) -> None:
        self.layers.append(carry(p, node))


def _is_held(t: DType) -> bool:
    return t.name in NAMES or t in (BOOL, I64, U64) or (t.is_float and t.bits >= 16)


def _narrow(t: DType, precision: str) -> DType:
    """The element type in which Core AI holds another one."""
    if t.is_float:
        return F16 if precision == "fp16" else F32
    return {I64: I32, U64: U32}.get(t, t)


def _held(graph: Graph, precision: str) -> Graph:
    """A graph whose inputs and outputs have the element types in which Core AI holds them."""
    made = Graph(graph.name)
    known: dict[Value, Value] = {c: made.const(c.data, c.name, c.origin) for c in graph.constants if c.data is not None}
    (node,) = graph.nodes
    for v in graph.inputs:
        held = made.add_input(v.type.with_dtype(_narrow(v.type.dtype, precision)), v.name)
        known[v] = _cast(made, held, v.type.dtype, node)
    operands = [None if v is None else known[v] for v in node.inputs]
    results = made.add(node.op, *operands, origin=node.origin)
    outputs = [_cast(made, v, _narrow(v.type.dtype, precision), node) for v in results]
    made.set_outputs(outputs, graph.output_names)
    return made


def _cast(graph: Graph, v: Value, to: DType, node: Node) -> Value:
    return v if v.type.dtype is to else graph.add(ops.Cast(to=to.name), v, origin=node.origin)[0]


def _prepared(graph: Graph, precision: str) -> Graph:
    """As the Metal target would have it."""
    narrow = singles(graph)
    narrow = narrow.clone() if narrow is graph else narrow
    Decompose(keeps=TABLE.accepts).run(narrow, Unobserved())
    if precision == "fp16":
        StoreHalves(takes=TABLE.accepts).run(narrow, Unobserved())
    for each in (MergeCasts(), RemoveIdentity()):
        each.run(narrow, Unobserved())
    return narrow


def _grouped(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Calls that have to be one dispatch: all from the first that writes a buffer to the last."""
    last = {b: i for i, call in enumerate(calls) for b in call.writes}
    group: list[Call] = []
    end = 0
    for i, call in enumerate(calls):
        group.append(call)
        end = max(end, *(last[b] for b in call.writes))
        if i >= end:
            yield group
            group = []


def _touched(p: MetalProgram) -> Iterator[Buffer]:
    yield from p.inputs
    for call in p.calls:
        yield from call.reads
        yield from call.writes


def _elements(p: MetalProgram) -> Iterator[tuple[Buffer, str]]:
    """Buffers with the element types of their tensors: what kernels see in them, ports what they hold."""
    for call in p.calls:
        assert isinstance(call.kernel, MetalKernel)
        pointers = [a.buffer for a in call.arguments if isinstance(a, Pointer)]
        for b, ctype in zip(pointers, pointed(call.kernel), strict=True):
            element, words = HELD.get(ctype, Element("uint8"))
            is_whole = b.nbytes * 8 % (words * TYPES[element].bits) == 0
            yield b, element if is_whole else "uint8"
    ports = (*p.graph.inputs, *p.graph.outputs)
    for b, v in zip((*p.inputs, *p.outputs), ports, strict=True):
        yield b, _element(v.type.dtype)


def _element(t: DType) -> str:
    """Of an input or an output: booleans are bytes."""
    return {BOOL: "uint8", F16: "fp16", F32: "fp32"}.get(t) or NAMES[t.name]
