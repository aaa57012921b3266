"""Losses of training, which stay in some exported models, as the arithmetic that defines them."""

from __future__ import annotations

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode, expect
from compiler.ops.elementwise import Div, Equal, Mul, Neg, Where
from compiler.ops.index import Gather, GatherElements
from compiler.ops.reduce import ReduceMean, ReduceSum
from compiler.ops.shape import Reshape
from compiler.ops.softmax import LogSoftmax


@importer("NegativeLogLikelihoodLoss")
def negative_log_likelihood(node: OnnxNode, b: LayerBuilder) -> Value:
    """The negative of the score of each target class, weighted and reduced."""
    return _loss(node, b, operand(node))


@importer("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(node: OnnxNode, b: LayerBuilder) -> tuple[Value, Value]:
    """The same loss of the logarithm of the softmax of the scores, which is the second result."""
    scores = b.add(LogSoftmax(axis=1), operand(node))
    return _loss(node, b, scores), scores


def _loss(node: OnnxNode, b: LayerBuilder, scores: Value) -> Value:
    """loss = -weight[target] * scores[target]; its mean divides by the sum of weights. Where the target is
    `ignore_index`, the weight is 0."""
    target, x = operand(node, 1), scores.type
    expect(x.rank >= 2 and target.type.shape == (x.shape[0], *x.shape[2:]), f"target {target.type} does not fit {x}")
    weight = operand(node, 2) if node.has(2) else None
    ignored = node.attr("ignore_index", None)
    skip = None
    if ignored is not None:
        skip = b.add(Equal(), target, b.const(np.array(ignored), like=target))
        target = b.add(Where(), skip, b.const(np.array(0), like=target), target)
    column = b.add(Reshape(shape=(x.shape[0], 1, *x.shape[2:])), target)
    picked = b.add(GatherElements(axis=1), scores, column)
    loss = b.add(Neg(), b.add(Reshape(shape=target.type.shape), picked))
    weights = b.add(Gather(axis=0), weight, target) if weight is not None else None
    if skip is not None:
        every = weights if weights is not None else b.const(np.array(1), like=scores)
        weights = b.add(Where(), skip, b.const(np.array(0), like=scores), every)
    if weights is not None:
        loss = b.add(Mul(), loss, weights)
    return _reduced(node.attr("reduction", "mean"), b, loss, weights)


def _reduced(reduction: str, b: LayerBuilder, loss: Value, weights: Value | None) -> Value:
    axes = tuple(range(loss.type.rank))
    if reduction == "none":
        return loss
    if reduction == "mean" and weights is None:
        return b.add(ReduceMean(axes=axes, keepdims=False), loss)
    if reduction not in ("mean", "sum"):
        raise OnnxError(f"reduction {reduction!r} is not known")
    total = b.add(ReduceSum(axes=axes, keepdims=False), loss)
    if reduction == "sum" or weights is None:
        return total
    return b.add(Div(), total, b.add(ReduceSum(axes=axes, keepdims=False), weights))
