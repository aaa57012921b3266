"""Operators that no layer exists for, but that ONNX defines by a function of other operators: that function is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder
from compiler.onnx_proto import DATA_TYPES
from compiler.op import OnnxNode

if TYPE_CHECKING:
    from onnx import FunctionProto

    from compiler.onnx_import import ModelImporter


def import_by_definition(importer: ModelImporter, node: OnnxNode, builder: LayerBuilder) -> Sequence[Value]:
    """The layers of the function's nodes; all of them come from the one node of the model."""
    body = _definition(node)
    if len(node.inputs) > len(body.input):
        raise OnnxError(f"{node.op_type} takes {len(body.input)} operands, {len(node.inputs)} are given")
    given = {name: v for name, v in zip(body.input, node.inputs, strict=False) if isinstance(v, Value)}
    results = importer.import_function(body.node, given, builder.origin)
    return [results[name] for name in body.output[: node.n_outputs]]


def _definition(node: OnnxNode) -> FunctionProto:
    """The function for the node's attributes and the types of its operands, as the onnx package states it."""
    import onnx.defs  # heavy, and so are the next; for these rare operators only
    import onnx.helper
    from onnx import FunctionProto

    numbers = {dtype: number for number, dtype in DATA_TYPES.items()}
    operands = [v if isinstance(v, Value) else None for v in node.inputs]
    types = [
        onnx.TypeProto() if v is None else onnx.helper.make_tensor_type_proto(numbers[v.type.dtype], v.type.dims)
        for v in operands
    ]
    names = ["" if v is None else f"operand_{i}" for i, v in enumerate(operands)]
    results = [f"result_{i}" for i in range(node.n_outputs)]
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, node.version, "")  # its stub lacks the method
        proto = onnx.helper.make_node(node.op_type, names, results, **node.attributes)
        given = [t.SerializeToString() for t in types]
        body = schema.get_context_dependent_function(proto.SerializeToString(), given)
    except (onnx.defs.SchemaError, RuntimeError, ValueError) as e:
        reason = " ".join(str(e).split())[:200]
        raise OnnxError(f"{node.op_type} is not defined for this node ({reason})") from None
    if not body:
        raise OnnxError(f"ONNX does not define {node.op_type} for these attributes and operands")
    return FunctionProto.FromString(body)
