"""Reads an ONNX model into a layer graph: typed, static, with small constant expressions already evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import compiler.importers  # registers the importers
import compiler.ops  # noqa: F401  # registers the operations
from compiler.errors import CompileError, OnnxError, UsageError
from compiler.graph import Graph, Value
from compiler.importers.registry import IMPORTERS, LayerBuilder
from compiler.onnx_attributes import attributes
from compiler.onnx_control import CONTROL
from compiler.onnx_file import OnnxFile, read_model
from compiler.onnx_inputs import Shapes, bind_inputs
from compiler.onnx_proto import element_type, quote
from compiler.op import FROM_ONNX, OnnxNode
from compiler.tensor import Array, dtype_of

if TYPE_CHECKING:
    from compiler.onnx_proto import GraphProto, NodeProto, TensorProto, ValueInfoProto

OLDEST_OPSET = 7
DEFAULT_DOMAINS = ("", "ai.onnx")
IMPURE = dict.fromkeys(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    "it draws random numbers",
)
MAX_NODES = 2_000_000  # layers a model may unroll to


class Imported(NamedTuple):
    """A layer graph, the opset it came from, and sentences on what was assumed on the way."""

    graph: Graph
    opset: int
    notes: list[str]


class Scope:
    """Names visible in one (sub)graph: values already there, and initializers not asked for yet."""

    __slots__ = ("parent", "tensors", "values")

    def __init__(self, tensors: dict[str, TensorProto], parent: Scope | None = None) -> None:
        self.values: dict[str, Value] = {}
        self.tensors = tensors
        self.parent = parent


def import_model(source: object, shapes: Shapes | None = None, freeze: Mapping[str, Array] | None = None) -> Imported:
    """Read a path, bytes, ModelProto or graphsurgeon graph.

    shapes  numbers for dynamic dimensions, by input name
    freeze  inputs that become constants, by name

    Raises OnnxError for what cannot be read or is not supported (all of it at once), ShapeError where types do not
    fit, UsageError where `shapes` or `freeze` do not fit the model.
    """
    file = read_model(source)
    importer = ModelImporter(file)
    notes = importer.run(shapes or {}, freeze or {})
    return Imported(importer.graph, importer.opset, notes)


class ModelImporter:
    """The state of one import: the graph being built and the model it is built from."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.opset = _opset(file)
        self.graph = Graph(file.model.graph.name or "graph")

    def run(self, shapes: Shapes, freeze: Mapping[str, Array]) -> list[str]:
        """Import the whole model; returns the notes."""
        model = self.file.model
        self.graph.metadata = {p.key: p.value for p in model.metadata_props}
        proto = model.graph
        self._refuse_unsupported(proto)
        scope = self.scope(proto, None)
        infos = [i for i in proto.input if i.name not in scope.tensors]
        frozen = {**freeze}
        types, notes = bind_inputs([i for i in infos if i.name not in frozen], shapes)
        declared = {i.name: i for i in infos}
        for name in frozen:
            if name not in declared:
                raise UsageError(
                    f"the model has no input {name!r} to freeze",
                    hint=f"its inputs are {', '.join(map(repr, declared))}",
                )
            scope.values[name] = self._frozen(name, frozen[name], declared[name])
        for name, t in types.items():
            scope.values[name] = self.graph.add_input(t, name)
        outputs = self.import_nodes(proto, scope)
        self.graph.set_outputs(outputs, [o.name for o in proto.output])
        return notes

    def scope(self, proto: GraphProto, parent: Scope | None) -> Scope:
        """The scope of a graph, with its initializers."""
        scope = Scope({t.name: t for t in proto.initializer}, parent)
        for sparse in proto.sparse_initializer:
            scope.values[sparse.values.name] = self.graph.const(self.file.dense(sparse), sparse.values.name)
        return scope

    def import_nodes(self, proto: GraphProto, scope: Scope) -> list[Value]:
        """Import the nodes of a (sub)graph in dependency order; returns the values of its outputs."""
        for node in _in_order(proto, scope):
            self._import_node(node, scope)
        outputs = []
        for info in proto.output:
            value = self.find(info.name, scope)
            if value is None:
                raise OnnxError(f"output {quote(info.name)} is computed by no node")
            outputs.append(value)
        return outputs

    def find(self, name: str, scope: Scope) -> Value | None:
        """The value of a name, searched outwards; initializers become constants when first asked for."""
        at: Scope | None = scope
        while at is not None:
            value = at.values.get(name)
            if value is not None:
                return value
            tensor = at.tensors.get(name)
            if tensor is not None:
                value = at.values[name] = self.graph.const(self.file.tensor(tensor), name, frozenset((name,)))
                return value
            at = at.parent
        return None

    def _import_node(self, proto: NodeProto, scope: Scope) -> None:
        inputs: list[Value | None] = []
        for name in proto.input:
            value = self.find(name, scope) if name else None
            if name and value is None:
                raise OnnxError(
                    f"tensor {quote(name)} is computed by no node and is no input or initializer", where=describe(proto)
                )
            inputs.append(value)
        try:
            results = self._layers(proto, inputs, scope)
        except CompileError as e:
            where = describe(proto) if e.where is None else f"{describe(proto)}\n     {e.where}"
            raise type(e)(e.message, where=where, hint=e.hint) from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError) as e:
            raise OnnxError(f"this node cannot be read ({type(e).__name__}: {e})", where=describe(proto)) from e
        if self.graph.count > MAX_NODES:
            raise OnnxError(f"the model unrolls to more than {MAX_NODES} layers", where=describe(proto))
        for name, value in zip(proto.output, results, strict=False):
            if name:
                scope.values[name] = value
                if not value.name:
                    value.name = name

    def _layers(self, proto: NodeProto, inputs: list[Value | None], scope: Scope) -> Sequence[Value]:
        n_outputs = len(proto.output)
        while n_outputs and not proto.output[n_outputs - 1]:
            n_outputs -= 1
        op_type = proto.op_type
        node = OnnxNode(op_type, self.opset, inputs, attributes(proto, self.file), n_outputs, proto.name)
        name = proto.name or next((o for o in proto.output if o), op_type)
        builder = LayerBuilder(self.graph, frozenset((name,)))
        if op_type in CONTROL:
            return CONTROL[op_type](self, node, builder, scope)
        read = IMPORTERS.get(op_type)
        if read is not None:
            result = read(node, builder)
            results = (result,) if isinstance(result, Value) else tuple(result)
        else:
            op = FROM_ONNX[op_type].from_onnx(node)
            results = builder.add_many(op, *node.operands())  # type: ignore[arg-type]  # operands are Values here
        if len(results) < n_outputs:
            raise OnnxError(f"{op_type} was asked for {n_outputs} results, of which only {len(results)} are supported")
        return results

    def _frozen(self, name: str, data: Array, info: ValueInfoProto) -> Value:
        wanted = element_type(info.type.tensor_type.elem_type, f"input {quote(name)}")
        if dtype_of(data) is not wanted:
            data = data.astype(wanted.numpy)
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if data.ndim == 0 and all(d == 1 for d in dims):
            data = data.reshape(dims)
        return self.graph.const(np.ascontiguousarray(data), name, frozenset((name,)))

    def _refuse_unsupported(self, proto: GraphProto) -> None:
        """Raise one OnnxError that lists every node no importer knows."""
        lines: list[str] = []
        stack = [proto]
        while stack:
            for node in stack.pop().node:
                op_type = node.op_type
                if node.domain not in DEFAULT_DOMAINS:
                    lines.append(f"{describe(node)}: the domain {quote(node.domain)} is not known")
                elif op_type in IMPURE:
                    lines.append(f"{describe(node)}: {IMPURE[op_type]}")
                elif op_type not in FROM_ONNX and op_type not in IMPORTERS and op_type not in CONTROL:
                    lines.append(f"{describe(node)}: this operator is not supported")
                if op_type in CONTROL:
                    stack.extend(a.g for a in node.attribute if a.HasField("g"))
        if lines:
            raise OnnxError(f"{len(lines)} nodes cannot be imported\n  " + "\n  ".join(lines))


def describe(node: NodeProto) -> str:
    """How messages call a node."""
    outputs = ", ".join(quote(o) for o in node.output[:3])
    return (
        f"ONNX node {quote(node.name)} ({node.op_type})"
        if node.name
        else f"the {node.op_type} node that computes {outputs}"
    )


def _opset(file: OnnxFile) -> int:
    versions = [o.version for o in file.model.opset_import if o.domain in DEFAULT_DOMAINS]
    if not versions:
        raise OnnxError("the model does not say which opset it uses")
    version = max(versions)
    if not version >= OLDEST_OPSET:
        raise OnnxError(
            f"the model uses opset {version}, older than {OLDEST_OPSET}", hint="onnx.version_converter can raise it"
        )
    return version


def _in_order(proto: GraphProto, scope: Scope) -> Sequence[NodeProto]:
    """The nodes sorted by dependency (stable; as they are if that is already so). Raises OnnxError for cycles and
    for names that two nodes define."""
    nodes = proto.node
    producer: dict[str, int] = {}
    in_order = True
    for i, node in enumerate(nodes):
        for name in node.output:
            if name and producer.setdefault(name, i) != i:
                raise OnnxError(f"tensor {quote(name)} is defined twice", where=describe(node))
    for i, node in enumerate(nodes):
        if any(producer.get(name, -1) >= i for name in node.input):
            in_order = False
            break
    return nodes if in_order else _sorted(nodes, producer)


def _sorted(nodes: Sequence[NodeProto], producer: dict[str, int]) -> list[NodeProto]:
    state = [0] * len(nodes)  # 0 unseen, 1 on the current path, 2 done
    order: list[NodeProto] = []
    for root in range(len(nodes)):
        stack = [root]
        while stack:
            i = stack[-1]
            if state[i] == 0:
                state[i] = 1
                for name in nodes[i].input:
                    j = producer.get(name, -1)
                    if j >= 0 and state[j] == 1:
                        raise OnnxError(f"the graph has a cycle through tensor {quote(name)}", where=describe(nodes[i]))
                    if j >= 0 and state[j] == 0:
                        stack.append(j)
            else:
                stack.pop()
                if state[i] == 1:
                    state[i] = 2
                    order.append(nodes[i])
    return order
