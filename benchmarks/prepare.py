"""A copy of a model that pickier converters accept: `python -m benchmarks.prepare IN.onnx OUT.onnx`.

Constant nodes become initializers, Dropout goes, a Sum of two becomes an Add, an Unsqueeze of weights is computed.
Peers that refuse a model as exported are given this copy instead, and the time it takes is not charged to them.
"""

import sys

import numpy as np
import onnx
from onnx import numpy_helper


def prepare(model: onnx.ModelProto) -> None:
    """Rewrite `model` in place."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            tensors[node.output[0]] = attributes["value"]
        elif node.op_type == "Unsqueeze" and node.input[0] in tensors and "axes" in attributes:
            array = numpy_helper.to_array(tensors[node.input[0]])
            tensors[node.output[0]] = numpy_helper.from_array(np.expand_dims(array, tuple(attributes["axes"])))
        elif node.op_type == "Dropout":
            renamed[node.output[0]] = node.input[0]
        else:
            if node.op_type == "Sum" and len(node.input) == 2:
                node.op_type = "Add"
            kept.append(node)
    for output in graph.output:
        output.name = renamed.get(output.name, output.name)
    read = {name for node in kept for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    for name in (n for n in tensors if n in read):
        graph.initializer.add().CopyFrom(tensors[name])
        graph.initializer[-1].name = name


def main(source: str, target: str) -> None:
    model = onnx.load(source)
    prepare(model)
    onnx.save(model, target)


if __name__ == "__main__":
    main(*sys.argv[1:3])
