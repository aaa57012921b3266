"""Decodes the attributes of ONNX nodes into plain Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compiler.errors import OnnxError
from compiler.onnx_proto import element_type

if TYPE_CHECKING:
    from compiler.onnx_file import OnnxFile
    from compiler.onnx_proto import AttributeProto, NodeProto

FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, TENSORS, GRAPHS, SPARSE = range(1, 12)
ELEMENT_TYPES = frozenset(
    ("to", "dtype", "output_dtype", "output_datatype", "precision")
)  # integer attributes that name one


def attributes(node: NodeProto, file: OnnxFile) -> dict[str, Any]:
    """Attributes by name: numbers, str, tuples of those, arrays, GraphProtos, and DTypes where one is named."""
    return {a.name: _decode(a, file) for a in node.attribute}


def _decode(a: AttributeProto, file: OnnxFile) -> Any:
    kind = a.type
    if kind == INT:
        if a.name in ELEMENT_TYPES:
            return element_type(a.i) if a.i else None
        return a.i
    if kind == INTS:
        return tuple(a.ints)
    if kind == FLOAT:
        return a.f
    if kind == STRING:
        return a.s.decode("utf-8", "surrogateescape")
    if kind == TENSOR:
        return file.tensor(a.t)
    if kind == GRAPH:
        return a.g
    if kind == FLOATS:
        return tuple(a.floats)
    if kind == STRINGS:
        return tuple(s.decode("utf-8", "surrogateescape") for s in a.strings)
    if kind == SPARSE:
        return file.dense(a.sparse_tensor)
    if kind == TENSORS:
        return tuple(file.tensor(t) for t in a.tensors)
    if kind == 0 and a.ref_attr_name:
        raise OnnxError(f"attribute {a.name!r} refers to a function's attribute, outside of a function")
    raise OnnxError(f"attribute {a.name!r} is of kind {kind}, which is not supported")
