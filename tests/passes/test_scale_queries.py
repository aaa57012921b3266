"""ScaleQueries: the scale of an attention goes into the weights of its queries."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from passes.scale_queries import ScaleQueries
from tests.passes.composed import Net, inputs_of, run, stays

WEIGHT = np.random.default_rng(1).standard_normal((16, 48)).astype(np.float32)


def attention(scale: float, biased: bool = True, elsewhere: bool = False) -> Graph:
    net = Net()
    x = net.input(2, 5, 16)
    made = net(ops.Dense(), x, WEIGHT, np.arange(48, dtype=np.float32) / 48 if biased else None)
    heads = net(ops.Transpose(perm=(0, 2, 1, 3)), net(ops.Reshape(shape=(2, 5, 12, 4)), made))
    q, k, v = (net(ops.Slice(starts=(0, i, 0, 0), ends=(2, i + 4, 5, 4), steps=(1, 1, 1, 1)), heads) for i in (0, 4, 8))
    y = net(ops.Attention(scale=scale), q, k, v)
    return net.returns(y + q if elsewhere else y)


def weight(graph: Graph) -> Value:
    found = next(iter(graph.of(ops.Dense))).inputs[1]
    assert found is not None
    return found


@pytest.mark.parametrize("biased", [False, True])
def test_the_rows_of_queries_are_scaled(biased: bool) -> None:
    graph = attention(0.25, biased)
    inputs = inputs_of(graph)
    before = evaluate(graph, inputs)
    assert len(run(ScaleQueries(), graph).rules) == 1
    (node,) = graph.of(ops.Attention)
    assert isinstance(node.op, ops.Attention)
    assert node.op.scale == 1.0
    data = weight(graph).data
    assert data is not None
    assert np.array_equal(data, WEIGHT * np.repeat([0.25, 1, 1], 16).astype(np.float32))
    for name, y in evaluate(graph, inputs).items():
        np.testing.assert_allclose(y, before[name], rtol=1e-5, atol=1e-6)


def test_others_stay() -> None:
    stays(ScaleQueries(), attention(1.0))
    stays(ScaleQueries(), attention(0.25, elsewhere=True))
