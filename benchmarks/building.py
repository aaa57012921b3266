"""A small builder of ONNX graphs for the generators."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

Attribute = int | float | list[int]
OPSET = 17
IR_VERSION = 8


class Builder:
    """Collects nodes and initializers; values are known by name and numbered in the order of their making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.float32, name: str | None = None) -> str:
        """An initializer with the data in the model itself."""
        name = name or f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Attribute) -> str:
        """A node with one output."""
        output = output or f"{op.lower()}{len(self.nodes)}"
        node = helper.make_node(op, inputs, [output], name=f"n{len(self.nodes)}")
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)
        return output

    def model(
        self,
        name: str,
        inputs: dict[str, Sequence[int]],
        outputs: dict[str, Sequence[int]],
        input_type: int = TensorProto.FLOAT,
        output_type: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(n, input_type, shape) for n, shape in inputs.items()],
            [helper.make_tensor_value_info(n, output_type, shape) for n, shape in outputs.items()],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
