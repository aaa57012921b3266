"""ScaleProbabilities: exact, and what it is for: sums of small products in fixed point."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.tensor import Array
from passes.scale_probabilities import ScaleProbabilities
from tests.passes.composed import Net, becomes, run, stays

COUNTS = {"matmul": 1, "mul": 2, "softmax": 1}


def attention(keys: int, first: bool = True) -> Graph:
    net = Net()
    if first:
        return net.returns(net(ops.MatMul(), net(ops.Softmax(axis=1), net.input(4, keys)), net.input(keys, 8)))
    return net.returns(net(ops.MatMul(), net.input(8, keys), net(ops.Softmax(axis=0), net.input(keys, 4))))


@pytest.mark.parametrize("first", [True, False])
def test_many_keys_get_the_factor(first: bool) -> None:
    graph = attention(2048, first)
    feeds = {v.name: np.random.default_rng(0).standard_normal(v.type.dims).astype(np.float32) for v in graph.inputs}
    before = evaluate(graph, feeds)["y0"]
    becomes(ScaleProbabilities(), graph, COUNTS)
    assert np.array_equal(evaluate(graph, feeds)["y0"], before)  # powers of two


def test_few_keys_and_other_axes_stay() -> None:
    stays(ScaleProbabilities(), attention(1023))
    net = Net()
    graph = net.returns(net(ops.MatMul(), net(ops.Softmax(axis=0), net.input(2048, 16)), net.input(16, 8)))
    stays(ScaleProbabilities(), graph)
    run(ScaleProbabilities(keys=4), attention(4))


def fixed_point(p: Array, v: Array) -> Array:
    """Sums of products as they were observed on the engine (targets/apple/rules.json): a product whose exponents add
    up to -17 or less is dropped, others are rounded to 2^-16."""
    halves = p.astype(np.float16).astype(np.float64), v.astype(np.float16).astype(np.float64)
    exponents = [np.maximum(np.frexp(a)[1] - 1, -14) for a in halves]
    total = np.zeros((p.shape[0], v.shape[1]))
    for k in range(p.shape[1]):
        products = np.outer(halves[0][:, k], halves[1][k])
        kept = exponents[0][:, k, None] + exponents[1][k] > -17
        total += np.where(kept, np.sign(products) * np.floor(np.abs(products) * 65536 + 0.5) / 65536, 0)
    return total


def test_the_rule_of_the_engine_loses_percents_without_it() -> None:
    rng = np.random.default_rng(0)
    s = rng.standard_normal((4, 4096)) * 0.1
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    v = rng.standard_normal((4096, 8))

    def error(y: Array) -> float:
        return float(np.linalg.norm(y - p @ v) / np.linalg.norm(p @ v))

    assert error(fixed_point(p, v)) > 0.02
    assert error(fixed_point(64 * p, v) / 64) < 0.004
