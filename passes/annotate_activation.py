"""Say which activation a target may compute together with the layer before it.

y = act(layer(x)) needs no memory for layer(x) if the kernel of the layer applies act to each element before it stores
it (vertical fusion). That is so where the activation is the only reader of the layer's only result. The graph is not
changed: the answer is read off it when a target asks, so it cannot be out of date.
"""

from __future__ import annotations

from compiler.graph import Graph, Node
from compiler.op import Op
from compiler.ops.activation import Activation
from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.elementwise import Add, Mul, Sub, Tanh, Unary
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.norm import BatchNorm
from passes._chains import only_reader

LAYERS: tuple[type[Op], ...] = (Conv, ConvTranspose, Dense, MatMul, BatchNorm, Add, Sub, Mul)
ACTIVATIONS: tuple[type[Unary], ...] = (Activation, Tanh)


def annotate_activation(graph: Graph, layers: tuple[type[Op], ...] = LAYERS) -> dict[Node, Node]:
    """Layers of the given operations -> the activation that alone reads each of them."""
    found = {}
    for node in graph.of(*layers):
        activation = only_reader(node)
        if activation is not None and isinstance(activation.op, ACTIVATIONS):
            found[node] = activation
    return found
