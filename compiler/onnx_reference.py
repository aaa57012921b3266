"""Models of opsets that ONNX Runtime does not load yet, or has no kernels for: told in an older opset where that says
the same, executed by ONNX's own evaluator (slow, and complete) where it does not; those of opsets before 7 are told in
opset 7."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from compiler.onnx_file import read_model
from compiler.onnx_survey import DEFAULT_DOMAINS
from compiler.tensor import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from onnx.defs import OpSchema

FIRST_OPSET = 7  # of those that ONNX Runtime supports
RUNTIME_OPSET, RUNTIME_IR = 26, 13  # the newest that ONNX Runtime 1.31 loads
COMPLETE_OPSET = 21  # the newest that it has a kernel for every operator of; 22 let many take bfloat16

Source = bytes | str | os.PathLike[str]


class OnnxReference:
    """A model in ONNX's reference evaluator."""

    def __init__(self, model: Source) -> None:
        from onnx.reference import ReferenceEvaluator  # heavy; for this rare case only

        self._evaluator = ReferenceEvaluator(model if isinstance(model, bytes) else os.fspath(model))
        self.inputs: list[str] = list(self._evaluator.input_names)
        self.outputs: list[str] = list(self._evaluator.output_names)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Arrays of the named outputs."""
        return list(self._evaluator.run(list(outputs), dict(inputs)))


def is_too_new(model: Source) -> bool:
    """Whether a model is of an opset that ONNX Runtime does not load."""
    return _opset(read_model(model).model) > RUNTIME_OPSET


def as_older(model: Source, opset: int) -> bytes | None:
    """The same model in an older opset; None if an operator has changed since in more than the types it takes."""
    import onnx  # heavy; for this rare case only

    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
    if proto.functions or not all(_says_the_same(n, _opset(proto), opset) for n in _all_nodes(proto.graph.node)):
        return None
    for entry in proto.opset_import:
        if entry.domain in DEFAULT_DOMAINS:
            entry.version = min(entry.version, opset)
    proto.ir_version = min(proto.ir_version, RUNTIME_IR)
    return proto.SerializeToString() if proto.ByteSize() < 1 << 31 else None


def retold(model: Source, opset: int) -> bytes | None:
    """The same model in this opset, if that is older, or in opset 7, if the model's is older than that; None if ONNX
    has no way to say it there."""
    return as_older(model, opset) if _opset(read_model(model).model) >= FIRST_OPSET else _as_first(model)


def _as_first(model: Source) -> bytes | None:
    import onnx  # heavy, and so is the next; for this rare case only
    from onnx.version_converter import ConvertError, convert_version

    try:
        proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
        converted = convert_version(proto, FIRST_OPSET)
    except (ConvertError, RuntimeError, ValueError):
        return None
    del converted.graph.value_info[:]  # the converter leaves types out, which the runtime does not take
    return converted.SerializeToString()


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _all_nodes(attribute.g.node)


def _says_the_same(node: NodeProto, opset: int, older: int) -> bool:
    """Whether an operator is the same in an older opset, but for the types it takes: those of this model suit it, or
    the runtime will say so."""
    from onnx import defs  # heavy; for this rare case only

    if node.domain not in DEFAULT_DOMAINS:
        return True
    new = defs.get_schema(node.op_type, opset, "")
    if new.since_version <= older:
        return True
    if not defs.has(node.op_type, older, ""):
        return False
    old = defs.get_schema(node.op_type, older, "")
    return bool(new.doc == old.doc and _signature(new) == _signature(old))


def _signature(schema: OpSchema) -> tuple[object, ...]:
    attributes = sorted((a.name, a.required, a.default_value.SerializeToString()) for a in schema.attributes.values())
    return attributes, [(v.name, v.option) for v in (*schema.inputs, *schema.outputs)]


def _opset(model: ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), default=0)
