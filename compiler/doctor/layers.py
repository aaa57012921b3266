"""Where a quantized graph rounds: its layers as the doctor sees them.

A layer that only moves numbers within one scale rounds nothing, and one whose result is read by a ReLU or a clip alone,
at the same scale, is one with it: targets compute the two at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.tensor import Array, QuantParams

# Every element of their results is one of their operands' or a constant's.
MOVES = frozenset((
    "clip", "concat", "convert_layout", "depth_to_space", "expand", "gather", "gather_elements",
    "gather_nd", "global_max_pool", "identity", "max", "max_pool", "min", "pad", "reduce_max", "reduce_min",
    "relu", "reshape", "reverse_sequence", "slice", "space_to_depth", "split", "tile", "topk", "transpose",
    "where",
))  # fmt: skip
ENDS = frozenset(("relu", "clip"))


class Layer(NamedTuple):
    """What rounds its results, and constants on the way.

    nodes      in order, the last one gives the results; none of an input of the graph
    results    values whose numbers are rounded, or that rounded constants make inexact
    constants  that are rounded
    """

    nodes: tuple[Node, ...]
    results: tuple[Value, ...]
    constants: tuple[Value, ...]

    @property
    def result(self) -> Value:
        return self.results[0]

    @property
    def node(self) -> Node | None:
        """What computes; an activation behind it does not count."""
        return self.nodes[0] if self.nodes else None

    @property
    def op(self) -> str:
        return self.nodes[0].op.name if self.nodes else "input"

    @property
    def params(self) -> QuantParams | None:
        return self.result.type.quant

    @property
    def operands(self) -> tuple[Value, ...]:
        """What it reads and does not compute itself, constants among it."""
        own = {v for n in self.nodes for v in n.outputs}
        found = (v for n in self.nodes for v in n.inputs if v is not None and v not in own)
        return tuple(dict.fromkeys(found))

    @property
    def origin(self) -> list[str]:
        """ONNX nodes, or the name of the input."""
        return sorted({o for n in self.nodes for o in n.origin}) or [self.result.name]


def layers_of(graph: Graph) -> list[Layer]:
    """The layers that round, in order."""
    return list(_layers(graph))


def _layers(graph: Graph) -> Iterator[Layer]:
    yield from (Layer((), (v,), ()) for v in graph.inputs if v.type.quant is not None)
    for node in graph.nodes:
        if _behind(node) is not None:
            continue
        end = next(iter(node.output.users)) if _ends_in_activation(node) else node
        constants = tuple(v for v in node.inputs if v is not None and v.data is not None and v.type.quant is not None)
        floats = tuple(v for v in end.outputs if v.type.dtype.is_float and v.is_read)
        rounded = tuple(v for v in floats if v.type.quant is not None)
        carried = is_carried(node)
        if carried:
            constants = ()
        if floats and (constants or (rounded and not carried)):
            yield Layer((node,) if end is node else (node, end), rounded or floats, constants)


def unfitted(graph: Graph, floats: Graph | None) -> dict[Value, Array]:
    """The constants of a graph as they are in another one of the same layers; a bias that has none there is 0."""
    pairs = [] if floats is None else list(zip(graph.nodes, floats.nodes, strict=False))
    if floats is None or len(graph) != len(floats) or not all(a.op == b.op for a, b in pairs):
        return {}
    found: dict[Value, Array] = {}
    for node, original in pairs:
        for v, old in zip_longest(node.inputs, original.inputs[: len(node.inputs)]):
            if v is not None and v.data is not None:
                before = np.zeros_like(v.data) if old is None else old.data
                if before is not None and before.shape == v.data.shape:
                    found[v] = before
    return found


def is_carried(node: Node) -> bool:
    """Whether all results are operands moved about, at one scale."""
    operands = {v.type.quant for v in node.inputs if v is not None and v.data is None and v.type.dtype.is_float}
    results = {v.type.quant for v in node.outputs if v.type.dtype.is_float and v.is_read}
    return node.op.name in MOVES and len(operands | results) == 1 and bool(operands)


def _ends_in_activation(node: Node) -> bool:
    users = list(node.outputs[0].users)
    return len(node.outputs) == 1 and len(users) == 1 and _behind(users[0]) is node


def _behind(node: Node) -> Node | None:
    """The layer that an activation ends."""
    x = node.inputs[0] if node.op.name in ENDS else None
    if x is None or x.node is None or len(x.users) != 1 or x.n_out or len(x.node.outputs) != 1:
        return None
    same = x.type.quant == node.outputs[0].type.quant is not None
    return x.node if same and x.node.op.name not in MOVES else None
