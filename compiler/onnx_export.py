"""Writes a layer graph as ONNX, at any stage of compilation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler import onnx_proto
from compiler.errors import CompileError, OnnxError, UsageError
from compiler.graph import Graph, Node, Value
from compiler.onnx_proto import data_type_of
from compiler.onnx_write import model_bytes, tensor_proto, write_model
from compiler.op import expect_opset
from compiler.tensor import BF16, F16, F32, F64, I8, I16, I32, I64, Array, DType, TensorType

if TYPE_CHECKING:
    from compiler.onnx_proto import ModelProto

DEFAULT_OPSET = 24  # the newest that ONNX Runtime 1.31 runs in full; operators born later raise it
OLDEST_OPSET = 13
NEWEST_OPSET = 28
# Operations whose operator took more element types later; those of Mod are for fmod=0.
WIDENED: dict[str, tuple[int, tuple[DType, ...]]] = {
    "bitshift": (28, (I8, I16, I32, I64)),
    "celu": (28, (BF16, F16, F64)),
    "mod": (28, (BF16, F16, F32, F64)),
    "range": (27, (BF16, F16)),
}
IR_VERSIONS = {28: 14, 27: 13, 26: 13, 25: 13, 24: 11, 23: 11, 22: 10, 21: 10}
PRODUCER = "cincel"
# The first result that a node may leave without a name; of other operators, every result has one.
OPTIONAL_RESULTS = {
    "BatchNormalization": 1,
    "Dropout": 1,
    "GRU": 0,
    "LSTM": 0,
    "LayerNormalization": 1,
    "MaxPool": 1,
    "RNN": 0,
    "Unique": 1,
}

Weights = list[tuple[str, Array]]


def export_model(graph: Graph, opset: int | None = None) -> tuple[ModelProto, Weights]:
    """A ModelProto without initializers, and the initializers; names are made unique.

    Raises UsageError for an opset outside 13..28, OnnxError for a layer that has no ONNX form at that opset.
    """
    writer = ModelWriter(graph, checked_opset(opset) if opset is not None else _opset_for(graph))
    writer.write()
    return writer.model, writer.weights


def _opset_for(graph: Graph) -> int:
    """The default, or the first that has every operator of the graph for the element types that it is given."""
    present = [op for op in graph._by_op if graph.of(op)]
    widened = [_since(node) for op in present if op.name in WIDENED for node in graph.of(op)]
    return max([DEFAULT_OPSET, *(op.since for op in present), *widened])


def _since(node: Node) -> int:
    """The opset from which on the layer's operator takes the element type of its first operand."""
    opset, dtypes = WIDENED.get(node.op.name, (0, ()))
    first = node.input_types[0] if node.inputs else None
    is_widened = first is not None and first.dtype in dtypes and not getattr(node.op, "fmod", 0)
    return opset if is_widened else node.op.since


def checked_opset(opset: int) -> int:
    """The opset, if it can be written; UsageError otherwise."""
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"opset {opset} cannot be written", hint=f"choose one from {OLDEST_OPSET} to {NEWEST_OPSET}")
    return opset


def export_bytes(graph: Graph, opset: int | None = None) -> bytes:
    """The graph as the bytes of a self-contained ONNX file."""
    return model_bytes(*export_model(graph, opset))


def save_model(
    graph: Graph, path: str | os.PathLike[str], opset: int | None = None, external: bool | None = None
) -> list[Path]:
    """Write the graph to a file; `external` puts weights into `<path>.data` (None: only above 2 GiB)."""
    model, weights = export_model(graph, opset)
    return write_model(path, model, weights, external)


class ModelWriter:
    """The Emitter that operations write themselves to; see compiler.op.Emitter for its contract."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.types: tuple[TensorType | None, ...] = ()
        self.outputs: tuple[TensorType, ...] = ()
        self.model: ModelProto = onnx_proto.ModelProto()
        self.weights: Weights = []
        self._names: dict[int, str] = {}
        self._used: set[str] = set()
        self._node_names: set[str] = set()
        self._small: dict[tuple[Any, ...], str] = {}
        self._suffix: dict[str, int] = {}
        self._temporary: list[str] = []  # operator types of the results of the layer being written, by temporary name
        self._origin = ""
        self._add = self.model.graph.node.add

    def write(self) -> None:
        """Fill `model` and `weights`."""
        model, graph = self.model, self.graph
        model.ir_version = IR_VERSIONS.get(self.opset, 9)
        model.producer_name = PRODUCER
        model.opset_import.add().version = self.opset
        model.graph.name = graph.name
        self._write_metadata()
        for v in graph.inputs:
            self._names[id(v)] = v.name
            self._used.add(v.name)
            self._describe(model.graph.input.add(), v.name, v.type)
        aliases = self._reserve_outputs()
        for node in graph.nodes:
            self._write_node(node)
        self._origin = ""
        for v, name in aliases:
            self._finish(len(model.graph.node), self.node("Identity", self.name(v)), [name])
        for v, name in zip(graph.outputs, graph.output_names, strict=True):
            self._describe(model.graph.output.add(), name, v.type)

    def _write_metadata(self) -> None:
        """The metadata that came from fields of a model goes back there, the rest to its entries."""
        for key, value in sorted(self.graph.metadata.items()):
            if key in ("doc_string", "domain"):
                setattr(self.model, key, value)
            elif key == "model_version" and value.isdecimal() and len(value) < 19:
                self.model.model_version = int(value)
            else:
                self.model.metadata_props.add(key=key, value=value)

    def name(self, v: Value) -> str:
        """The unique name of a value; a constant is added to the weights when first named."""
        name = self._names.get(id(v))
        if name is None:
            name = self._names[id(v)] = self._unique(v.name or ("constant" if v.data is not None else "value"))
            if v.data is not None:
                self.weights.append((name, v.data))
        return name

    def node(
        self, op_type: str, *inputs: str | None, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node; see Emitter."""
        proto = self._add()
        proto.op_type = op_type
        if domain:
            proto.domain = domain
        names = list(inputs)
        while names and names[-1] is None:
            names.pop()
        proto.input.extend([n or "" for n in names])
        results = [f"\0{len(self._temporary) + i}" for i in range(outputs)]
        self._temporary.extend([op_type] * outputs)
        proto.output.extend(results)
        if self._origin:
            proto.name = self._unique(self._origin, self._node_names)
        for name, value in attributes.items():
            if value is not None:
                _set_attribute(proto.attribute.add(), name, value)
        return results

    def const(self, value: Any, like: TensorType | None = None) -> str:
        """A constant's name; equal ones are shared."""
        array = np.asarray(value) if like is None else np.asarray(value).astype(like.dtype.numpy)
        key = (array.dtype.str, array.dtype.name, array.shape, array.tobytes())
        name = self._small.get(key)
        if name is None:
            name = self._small[key] = self._unique("constant")
            self.weights.append((name, array))
        return name

    def _reserve_outputs(self) -> list[tuple[Value, str]]:
        """Give graph outputs their names; returns those that need an Identity: second names, and inputs by another."""
        aliases = []
        for v, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            if self._names.setdefault(id(v), name) != name:
                aliases.append((v, name))
            elif v.data is not None:
                self.weights.append((name, v.data))
            self._used.add(name)
        return aliases

    def _write_node(self, node: Node) -> None:
        self.types = node.input_types
        self.outputs = tuple(v.type for v in node.outputs)
        self._origin = min(node.origin) if node.origin else ""
        inputs = [None if v is None else self.name(v) for v in node.inputs]
        expected = [self.name(v) if v.is_read else "" for v in node.outputs]
        before = len(self.model.graph.node)
        try:
            if node.op.name in WIDENED:
                expect_opset(self, _since(node), f"{node.op.onnx} of these elements")
            results = node.op.to_onnx(self, *inputs)
        except CompileError as e:
            raise OnnxError(e.message, where=node.describe(), hint=e.hint) from e
        self._finish(before, results, expected)

    def _finish(self, first: int, results: Sequence[str], names: Sequence[str]) -> None:
        """Replace the temporary names in the nodes just written by those the graph knows, or by new ones."""
        final = {temporary: name for temporary, name in zip(results, names, strict=False) if name}
        nodes = self.model.graph.node
        alone = len(nodes) == first + 1
        base = next((n for n in names if n), "value")
        for i in range(first, len(nodes)):
            proto = nodes[i]
            optional = OPTIONAL_RESULTS.get(proto.op_type, len(proto.output)) if alone else len(proto.output)
            for k, temporary in enumerate(proto.output):
                if temporary not in final:
                    final[temporary] = (
                        "" if k >= optional else self._unique(f"{base}_{self._temporary[int(temporary[1:])].lower()}")
                    )
                proto.output[k] = final[temporary]
            if i > first:
                for k, name in enumerate(proto.input):
                    if name[:1] == "\0" and name in final:
                        proto.input[k] = final[name]
        self._temporary.clear()

    def _unique(self, name: str, used: set[str] | None = None) -> str:
        used = self._used if used is None else used
        if name not in used:
            used.add(name)
            return name
        k = self._suffix.get(name, 0)
        while True:
            k += 1
            candidate = f"{name}_{k}"
            if candidate not in used:
                self._suffix[name] = k
                used.add(candidate)
                return candidate

    def _describe(self, info: Any, name: str, t: TensorType) -> None:
        info.name = name
        tensor = info.type.tensor_type
        tensor.elem_type = data_type_of(t.dtype)
        tensor.shape.SetInParent()
        for d in t.shape:
            dim = tensor.shape.dim.add()
            if isinstance(d, int):
                dim.dim_value = d
            else:
                dim.dim_param = d


def _set_attribute(a: Any, name: str, value: Any) -> None:  # Any: an AttributeProto, whose kinds are plain numbers here
    a.name = name
    if isinstance(value, bool | int | np.integer):
        a.type, a.i = 2, int(value)
    elif isinstance(value, float | np.floating):
        a.type, a.f = 1, float(value)
    elif isinstance(value, str):
        a.type, a.s = 3, value.encode("utf-8", "surrogateescape")
    elif isinstance(value, DType):
        a.type, a.i = 2, data_type_of(value)
    elif isinstance(value, np.ndarray):
        a.type = 4
        a.t.CopyFrom(tensor_proto("", value))
    else:
        _set_sequence(a, tuple(value))


def _set_sequence(a: Any, values: Sequence[Any]) -> None:
    if values and isinstance(values[0], str):
        a.type = 8
        a.strings.extend(v.encode("utf-8", "surrogateescape") for v in values)
    elif any(isinstance(v, float) for v in values):
        a.type = 6
        a.floats.extend(values)
    else:
        a.type = 7
        a.ints.extend(int(v) for v in values)
