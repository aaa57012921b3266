"""Evaluate layers whose operands are all constant, and those that ask for a shape that is known.

A result that would make the constants of the model larger stays a layer, unless the difference is small or a reader
needs a constant there. Reshaping and transposing make views. A large constant that is dequantized stays as it is
stored.
"""

from __future__ import annotations

from compiler.graph import NOWHERE, Graph, Node
from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.elementwise import Cast
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.norm import BatchNorm
from compiler.ops.shape import Transpose
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Observer
from passes._constants import known_operands, readers_of, results_of

KEPT, LARGE = ("DequantizeLinear",), 1 << 12  # elements
NEEDED_BY = (Conv, ConvTranspose, BatchNorm)  # their fusions and kernels want constants
WANTED_BY = (Dense, MatMul)  # theirs too, but not at the price of another copy of a weight


class FoldConstants(Pass):
    """Layers on constants as constants.

    max_growth   bytes that the results of one layer may have more than the constants that only it reads
    """

    max_growth: int = 1 << 20

    def run(self, graph: Graph, observer: Observer) -> int:
        fired = 0
        for node in graph.nodes:
            operands = known_operands(node)
            results = None if operands is None or not self._pays(node) else results_of(node, operands)
            if results is None:
                continue
            origin = NOWHERE.union(*(v.origin for v in node.inputs if v is not None))
            new = [graph.const(a, v.name, origin) for a, v in zip(results, node.outputs, strict=True)]
            if replace_layer(graph, "fold", node.outputs, new, (), observer) is None:
                break
            fired += 1
        return fired

    def _pays(self, node: Node) -> bool:
        if not node.op.pure or (node.op.onnx in KEPT and node.output.type.size > LARGE):
            return False
        freed = sum(v.type.nbytes for v in {*node.inputs} if v is not None and len(v.users) == 1 and not v.n_out)
        if sum(v.type.nbytes for v in node.outputs) <= freed + self.max_growth:
            return True
        readers = {type(user.op) for user in readers_of(node)}
        wanted = not readers.isdisjoint(WANTED_BY) and not isinstance(node.op, Cast | Transpose)
        return wanted or not readers.isdisjoint(NEEDED_BY)
