"""Models of opsets that ONNX Runtime does not load yet: told in an older opset where that says the same, executed by
ONNX's own evaluator (slow, and complete) where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from compiler.onnx_file import read_model
from compiler.onnx_survey import DEFAULT_DOMAINS
from compiler.tensor import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

RUNTIME_OPSET, RUNTIME_IR = 26, 13  # the newest that ONNX Runtime 1.31 loads

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


def as_older(model: Source) -> bytes | None:
    """The same model in the newest opset that ONNX Runtime loads; None if an operator has changed since."""
    import onnx  # heavy; for this rare case only

    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
    if proto.functions or _newest_operator(proto.graph.node, _opset(proto)) > RUNTIME_OPSET:
        return None
    for opset in proto.opset_import:
        if opset.domain in DEFAULT_DOMAINS:
            opset.version = min(opset.version, RUNTIME_OPSET)
    proto.ir_version = min(proto.ir_version, RUNTIME_IR)
    return proto.SerializeToString() if proto.ByteSize() < 1 << 31 else None


def _newest_operator(nodes: Iterable[NodeProto], opset: int) -> int:
    """The opset in which the youngest of the operators got its present meaning."""
    from onnx import defs  # heavy; for this rare case only

    newest = 0
    for node in nodes:
        newest = max(newest, defs.get_schema(node.op_type, opset, "").since_version)
        for attribute in node.attribute:
            newest = max(newest, _newest_operator(attribute.g.node, opset))
    return newest


def _opset(model: ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), default=0)
