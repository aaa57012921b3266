"""ONNX optional values where they are plain tensors."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode


@importer("OptionalGetElement")
def optional_get_element(node: OnnxNode, _: LayerBuilder) -> Value:
    """The tensor itself."""
    return operand(node)


@importer("OptionalHasElement")
def optional_has_element(node: OnnxNode, b: LayerBuilder) -> Value:
    """Whether there is a tensor, a constant."""
    return b.const(np.array(node.has(0)))
