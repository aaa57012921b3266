"""Constant nodes become constants of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.op import OnnxNode
from compiler.tensor import Array

SCALARS: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


@importer("Constant")
def constant(node: OnnxNode, g: LayerBuilder) -> Value:
    """The tensor, number or list that the node holds."""
    for name, held in node.attributes.items():
        if name in ("value", "sparse_value"):
            data: Array = held
        elif name in SCALARS:
            data = np.array(held, SCALARS[name])
        else:
            continue
        return g.graph.const(data, origin=g.origin)
    raise OnnxError("the node holds no value")
