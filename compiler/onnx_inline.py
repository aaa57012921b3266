"""Replaces calls of a model's local functions by their bodies, in bounded work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compiler.errors import OnnxError
from compiler.onnx_proto import quote

if TYPE_CHECKING:
    from compiler.onnx_proto import ModelProto, NodeProto

MAX_NODES = 2_000_000
MAX_DEPTH = 100  # calls inside of each other, as many as the onnx package inlines

Key = tuple[str, str, str]


def inline_functions(model: ModelProto, subject: str) -> ModelProto:
    """A model without functions; raises OnnxError if they call themselves, are nested too deeply or grow beyond two
    million nodes."""
    try:
        Expansion(model).of_model()
    except RecursionError:
        raise OnnxError(f"{subject} cannot be read: its functions are nested too deeply") from None
    import onnx.inliner  # heavy; only models with functions pay for it

    try:
        inlined = onnx.inliner.inline_local_functions(model)
        if inlined.functions:  # those of another opset than the model
            inlined = onnx.inliner.inline_local_functions(model, convert_version=True)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OnnxError(f"{subject} cannot be read: its functions cannot be inlined ({reason})") from None
    return inlined


class Expansion:
    """How many nodes a model has once its functions are inlined."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.bodies = {(_domain(f.domain), f.name, f.overload): f for f in model.functions}
        self.sizes: dict[Key, int] = {}
        self.open: set[Key] = set()

    def of_model(self) -> int:
        return self.of_nodes(self.model.graph.node)

    def of_nodes(self, nodes: Iterable[NodeProto]) -> int:
        total = 0
        for node in nodes:
            total += 1 + self.of_call((_domain(node.domain), node.op_type, node.overload))
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    total += self.of_nodes(attribute.g.node)
                for graph in attribute.graphs:
                    total += self.of_nodes(graph.node)
            if total > MAX_NODES:
                raise OnnxError(f"the functions of the model expand to more than {MAX_NODES:,} nodes")
        return total

    def of_call(self, key: Key) -> int:
        body = self.bodies.get(key)
        if body is None:
            return 0
        if key in self.open:
            raise OnnxError(f"the function {quote(key[1])} of the model calls itself")
        if len(self.open) >= MAX_DEPTH:
            raise OnnxError(f"the functions of the model are nested too deeply, more than {MAX_DEPTH} calls")
        if key not in self.sizes:
            self.open.add(key)
            self.sizes[key] = self.of_nodes(body.node)
            self.open.remove(key)
        return self.sizes[key]


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
