"""SubstituteEmbedding: rows by a product with ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.evaluate import evaluate
from compiler.ops.index import Gather
from compiler.rewrite import Unobserved
from compiler.tensor import F32, I32, I64, DType
from passes.substitute_embedding import SubstituteEmbedding
from tests.passes.composed import Net, run, stays
from tests.strategies import seeds


@settings(max_examples=25)
@given(seed=seeds())
def test_rows(seed: int) -> None:
    """Indices from either end."""
    rng, net = np.random.default_rng(seed), Net()
    rows, dtype = int(rng.integers(1, 40)), (I32, I64)[seed % 2]
    table, shape = rng.normal(size=(rows, *rng.integers(1, 4, int(rng.integers(3))))), tuple(rng.integers(1, 5, 2))
    graph = net.returns(net(Gather(axis=0), table, net.input(*map(int, shape), dtype=dtype)))
    feeds = {"x0": rng.integers(-rows, rows, shape).astype(dtype.numpy)}
    (before,) = evaluate(graph, feeds).values()
    assert SubstituteEmbedding().run(graph, Unobserved()) == 1
    graph.verify()
    (after,) = evaluate(graph, feeds).values()
    assert np.array_equal(before, after)


def test_large_tables_are_named() -> None:
    net = Net()
    graph = net.returns(net(Gather(axis=0), np.ones((2049, 2)), net.input(3, dtype=I64)))
    assert run(SubstituteEmbedding(), graph).skips == ["a table of 2049 rows is looked up faster than it is multiplied"]


def test_infinite_numbers_are_not_multiplied() -> None:
    net = Net()
    table = np.where(np.arange(5)[:, None] == 2, -np.inf, np.ones((5, 2)))
    graph = net.returns(net(Gather(axis=0), table, net.input(3, dtype=I64)))
    assert "not finite" in run(SubstituteEmbedding(), graph).skips[0]


@pytest.mark.parametrize("dtype", [F32])
def test_computed_tables_and_constant_places_stay(dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(3, 2)
    stays(SubstituteEmbedding(), net.returns(net(Gather(axis=0), x, np.array([2, 0]))))
