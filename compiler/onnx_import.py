"""Reads an ONNX model into a layer graph: typed, static, with small constant expressions already evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import compiler.importers  # registers the importers
import compiler.ops  # noqa: F401  # registers the operations
from compiler.errors import CompileError, OnnxError
from compiler.graph import Graph, Origin, Value
from compiler.importers.registry import IMPORTERS, LayerBuilder
from compiler.onnx_attributes import attributes
from compiler.onnx_control import CONTROL
from compiler.onnx_file import OnnxFile, read_model
from compiler.onnx_function import import_by_definition
from compiler.onnx_inputs import InputBinder, Shapes
from compiler.onnx_legacy import MODERN, modernise
from compiler.onnx_proto import quote
from compiler.onnx_survey import (
    DEFAULT_DOMAINS,
    DEFINED,
    Unsupported,
    check_names,
    describe,
    in_order,
    operator_of,
    problem,
)
from compiler.op import FROM_ONNX, OnnxNode
from compiler.tensor import Array, TensorType

if TYPE_CHECKING:
    from compiler.onnx_proto import GraphProto, ModelProto, NodeProto, TensorProto

OLDEST_OPSET = 1
NEWEST_OPSET = 28
MAX_NODES = 2_000_000  # nodes of a model
MAX_RANK = 64  # of a tensor; numpy holds no more
MAX_UNROLLED = 500_000  # nodes that loops may come to, nodes that vanish included
FIELDS = ("doc_string", "domain")  # of a model, kept as metadata under these names


class Imported(NamedTuple):
    """A layer graph, the opset it came from, the inputs that became constants, and sentences on what was assumed."""

    graph: Graph
    opset: int
    frozen: dict[str, Array]
    notes: list[str]


class Scope:
    """Names visible in one (sub)graph: values already there, and initializers not asked for yet."""

    __slots__ = ("parent", "tensors", "values")

    def __init__(self, tensors: dict[str, TensorProto], parent: Scope | None = None) -> None:
        self.values: dict[str, Value] = {}
        self.tensors = tensors
        self.parent = parent

    def inner(self) -> Scope:
        """An empty scope inside of this one."""
        return Scope({}, self)


def import_model(source: object, shapes: Shapes | None = None, freeze: Mapping[str, Array] | None = None) -> Imported:
    """Read a path, bytes, ModelProto or graphsurgeon graph.

    shapes  numbers for dynamic dimensions, by input name
    freeze  inputs that become constants, by name

    Raises OnnxError for what cannot be read or is not supported (all of it at once), ShapeError where types do not
    fit, UsageError where `shapes` or `freeze` do not fit the model.
    """
    importer = ModelImporter(read_model(source))
    frozen, notes = importer.run(shapes or {}, freeze or {})
    return Imported(importer.graph, importer.opset, frozen, notes)


class ModelImporter:
    """The state of one import: the graph being built and the model it is built from."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.opset = _opset(file.model)
        self.graph = Graph(_utf8(file.model.graph.name, "the graph") or "graph")
        self.unsupported = Unsupported(file.model.graph)
        self.left = MAX_NODES
        self._in_loop = False
        self._origin: Origin = frozenset()  # of a function's layers: the node that calls it

    def run(self, shapes: Shapes, freeze: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
        """Import the whole model; returns the values of frozen inputs, and the notes."""
        proto = self.file.model.graph
        if self.unsupported.certain:
            self.unsupported.refuse()
        check_names(proto)
        if not proto.output:
            raise OnnxError("the model has no outputs: there is nothing to compile")
        self.graph.metadata = _metadata(self.file.model)
        scope = self.scope(proto, None)
        bound = InputBinder([i for i in proto.input if not self._is_default(i.name, scope)], shapes, freeze)
        for name, t in bound.types.items():
            check_rank(name, t)
            data = bound.frozen.get(name)
            if data is None:
                scope.values[name] = self.graph.add_input(t, name)
            else:
                scope.values[name] = self.graph.const(data, name, frozenset((name,)))
        self.import_nodes(in_order(proto), scope)
        names = list(dict.fromkeys(o.name for o in proto.output))
        self.graph.set_outputs([self._output(name, scope) for name in names], names)
        twice = f"{len(proto.output) - len(names)} outputs are listed twice and kept once"
        return bound.frozen, [*bound.notes, *([twice] if len(names) < len(proto.output) else [])]

    def scope(self, proto: GraphProto, parent: Scope | None) -> Scope:
        """The scope of a graph, with its initializers."""
        scope = Scope({t.name: t for t in proto.initializer}, parent)
        for sparse in proto.sparse_initializer:
            scope.values[sparse.values.name] = self.graph.const(self.file.dense(sparse), sparse.values.name)
        return scope

    def import_subgraph(self, proto: GraphProto, nodes: Sequence[NodeProto], scope: Scope) -> list[Value]:
        """Import the nodes of a branch or body, which are in order; returns the values of its outputs."""
        self.import_nodes(nodes, scope)
        return [self._output(info.name, scope) for info in proto.output]

    def import_function(self, nodes: Sequence[NodeProto], inputs: dict[str, Value], origin: Origin) -> dict[str, Value]:
        """Import the body of a function, which sees its inputs alone; returns the values of all its names."""
        scope = Scope({})
        scope.values.update(inputs)
        outer, self._origin = self._origin, self._origin or origin
        self.import_nodes(nodes, scope)
        self._origin = outer
        return scope.values

    def limit_unrolling(self) -> None:
        """From here on, count how far loops unroll."""
        if not self._in_loop:
            self._in_loop = True
            self.left = min(self.left, MAX_UNROLLED)

    def expect_nodes(self, count: int) -> None:
        """Refuse what would come to too many nodes, before the work of importing them."""
        if count > self.left:
            raise OnnxError(f"the model comes to more than {MAX_UNROLLED if self._in_loop else MAX_NODES:,} nodes")

    def import_nodes(self, nodes: Sequence[NodeProto], scope: Scope) -> None:
        """Import nodes that are in order."""
        self.expect_nodes(len(nodes) + 1)
        self.left -= len(nodes) + 1
        for node in nodes:
            self._import_node(node, scope)

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

    def _is_default(self, name: str, scope: Scope) -> bool:
        """Whether an input has a value in the file, which it keeps."""
        return name in scope.tensors or name in scope.values

    def _output(self, name: str, scope: Scope) -> Value:
        value = self.find(name, scope)
        if value is None:
            raise OnnxError(f"output {quote(name)} is computed by no node")
        return value

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
            e.where = describe(proto) if e.where is None else f"{describe(proto)}\n     {e.where}"
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError) as e:
            reason = " ".join(f"{type(e).__name__}: {e}".split())[:300]
            if isinstance(e, TypeError) and ".infer()" in reason:
                given = sum(map(bool, proto.input))
                raise OnnxError(f"{proto.op_type} does not take {given} operands", where=describe(proto)) from e
            raise OnnxError(f"this node cannot be read ({reason})", where=describe(proto)) from e
        for name, value in zip(proto.output, results, strict=False):
            if name:
                if value.type.rank > MAX_RANK:
                    check_rank(name, value.type)
                scope.values[name] = value
                if not value.name:
                    value.name = name

    def _layers(self, proto: NodeProto, inputs: list[Value | None], scope: Scope) -> Sequence[Value]:
        outputs = proto.output
        n_outputs = len(outputs)
        while n_outputs and not outputs[n_outputs - 1]:
            n_outputs -= 1
        op_type = operator_of(proto)
        if self.unsupported.branches and problem(proto) is not None:
            self.unsupported.refuse()
        node = OnnxNode(op_type, self.opset, inputs, attributes(proto, self.file), n_outputs, proto.name)
        name = proto.name or next((o for o in outputs if o), op_type)
        builder = LayerBuilder(self.graph, self._origin or frozenset((name,)))
        if self.opset < MODERN:
            modernise(node, builder)
        if op_type in CONTROL:
            return CONTROL[op_type](self, node, builder, scope)
        if op_type in DEFINED:
            return import_by_definition(self, node, builder)
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


def check_rank(name: str, t: TensorType) -> None:
    """OnnxError for a tensor of more dimensions than an array can have."""
    if t.rank > MAX_RANK:
        raise OnnxError(f"tensor {quote(name)} has {t.rank} dimensions; at most {MAX_RANK} are supported")


def _opset(model: ModelProto) -> int:
    versions = [o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS]
    if not versions:
        raise OnnxError("the model does not say which opset it uses")
    version = max(versions)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        what = f"older than {OLDEST_OPSET}" if version < OLDEST_OPSET else f"newer than {NEWEST_OPSET}"
        raise OnnxError(f"the model uses opset {version}, {what}", hint="onnx.version_converter can change it")
    return version


def _metadata(model: ModelProto) -> dict[str, str]:
    """The entries of a model, and those of its fields that describe it."""
    found = {name: text for name in FIELDS if (text := getattr(model, name))}
    if model.model_version:
        found["model_version"] = str(model.model_version)
    found.update((p.key, p.value) for p in model.metadata_props)
    return {_utf8(k, "the metadata"): _utf8(v, "the metadata") for k, v in found.items()}


def _utf8(text: str, what: str) -> str:
    if isinstance(text, str):
        return text
    raise OnnxError(f"{what} holds {quote(text)}, which is not UTF-8")
