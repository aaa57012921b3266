"""What a model decides by, in place of the probabilities that it gives.

Of a probability near 0 or 1 no rounding error is left, and rows on which a model hesitates outweigh all others; scores
before the last softmax or sigmoid show the error of every row. Those of a sigmoid count up to where its result is 0 or
1 in 8 bits: beyond, they saturate (`_int8_tails`).
"""

from __future__ import annotations

from compiler.graph import Graph, Value
from compiler.ops.activation import Clip, Sigmoid
from compiler.ops.layout import ConvertLayout
from compiler.ops.shape import Reshape, Transpose
from compiler.ops.softmax import LogSoftmax, Softmax

MOVES = (ConvertLayout, Reshape, Transpose)
LAST = (Sigmoid, Softmax, LogSoftmax)
CERTAIN = 6.9  # beyond which a sigmoid is less than a quarter of 1/256 from 0 or 1


def with_logits(graph: Graph) -> Graph:
    """A copy that gives scores where the graph gives their probabilities."""
    twin = graph.clone()
    twin.set_outputs([_score(twin, v) for v in twin.outputs], twin.output_names)
    return twin


def _score(graph: Graph, v: Value) -> Value:
    """What the last softmax or sigmoid before an output reads; the output if there is none."""
    found = v
    while found.node is not None and isinstance(found.node.op, MOVES):
        found = _operand(found)
    if found.node is None or not isinstance(found.node.op, LAST):
        return v
    scores = _operand(found)
    return graph.add(Clip(low=-CERTAIN, high=CERTAIN), scores)[0] if isinstance(found.node.op, Sigmoid) else scores


def _operand(v: Value) -> Value:
    assert v.node is not None
    x = v.node.inputs[0]
    assert x is not None
    return x
