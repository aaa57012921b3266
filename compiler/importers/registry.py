"""Importers: ONNX operators that become several layers, or none, or another operation than their namesake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compiler.graph import Graph, Origin, Value, types_of
from compiler.op import OnnxNode, Op
from compiler.tensor import TensorType

FOLD_LIMIT = 4096  # elements; operations on smaller constants are evaluated at once, larger ones by a pass
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
KEPT = ("dequantize_linear",)  # says how a constant is stored; a pass evaluates small ones


class LayerBuilder:
    """Adds layers for one ONNX node, each with its provenance; operations on small constants are evaluated at once, but
    for dequantization, which says how they are stored."""

    __slots__ = ("graph", "origin")

    def __init__(self, graph: Graph, origin: Origin) -> None:
        self.graph = graph
        self.origin = origin

    def add(self, op: Op, *inputs: Value | None) -> Value:
        """Append a layer with one result."""
        (value,) = self.add_many(op, *inputs)
        return value

    def add_many(self, op: Op, *inputs: Value | None) -> tuple[Value, ...]:
        """Append a layer with several results."""
        for v in inputs:
            if v is not None and (v.data is None or v.data.size > FOLD_LIMIT):
                break
        else:
            folded = self._fold(op, inputs)
            if folded is not None:
                return folded
        return self.graph.add(op, *inputs, origin=self.origin)

    def _fold(self, op: Op, inputs: Sequence[Value | None]) -> tuple[Value, ...] | None:
        if not op.pure or op.name in KEPT:
            return None
        inferred = op.infer(*types_of(inputs))
        types = (inferred,) if isinstance(inferred, TensorType) else inferred
        if any(not t.is_static or t.size > FOLD_LIMIT for t in types):
            return None
        evaluated = op.evaluate(*[None if v is None else v.data for v in inputs])
        results = evaluated if isinstance(evaluated, tuple) else (evaluated,)
        origin = self.origin.union(*(v.origin for v in inputs if v is not None))
        return tuple(self.graph.const(np.asarray(r), origin=origin) for r in results)

    def const(self, value: Any, like: Value | TensorType | None = None) -> Value:
        """A constant; `like` gives the element type, else python ints become i64 and floats f32."""
        if like is not None:
            dtype = (like.type if isinstance(like, Value) else like).dtype.numpy
        else:
            dtype = np.asarray(value).dtype
            dtype = np.dtype(np.float32) if dtype == np.float64 and not isinstance(value, np.ndarray) else dtype
        return self.graph.const(np.array(value, dtype))


Importer = Callable[[OnnxNode, LayerBuilder], Value | Sequence[Value]]
IMPORTERS: dict[str, Importer] = {}


def importer(*op_types: str, domain: str = "") -> Callable[[Importer], Importer]:
    """Register a function that turns a node of one of these ONNX operators into layers. Those of another domain than
    the default one are known as `domain.op_type`.

    `node.inputs` are graph Values; the function returns one Value per declared output of the node (extra ones
    are ignored). It takes precedence over an operation class of the same ONNX name.
    """

    def register(function: Importer) -> Importer:
        for op_type in op_types:
            IMPORTERS[f"{domain}.{op_type}" if domain else op_type] = function
        return function

    return register
