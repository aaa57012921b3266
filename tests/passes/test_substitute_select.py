"""SubstituteSelect: sums of products with 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.evaluate import evaluate
from compiler.ops.elementwise import Less, Where
from compiler.rewrite import Unobserved
from compiler.tensor import BOOL
from passes.substitute_select import SubstituteSelect
from tests.passes.composed import Net, becomes, inputs_of, stays
from tests.strategies import seeds


@settings(max_examples=30)
@given(seed=seeds())
def test_finite_numbers_are_the_same(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    shapes = [((1, 4), (3, 1), (3, 4))[int(i)] for i in rng.integers(3, size=3)]
    mask = net.input(*shapes[0], dtype=BOOL) if seed % 2 else np.asarray(rng.random(shapes[0]) < 0.5)
    sides = [net.input(*s) if rng.random() < 0.6 else rng.normal(size=s) for s in shapes[1:]]
    graph = net.returns(net(Where(), mask, *sides))
    feeds = inputs_of(graph, seed=seed % 100)
    (before,) = evaluate(graph, feeds).values()
    SubstituteSelect().run(graph, Unobserved())
    graph.verify()
    assert not graph.of(Where)
    (after,) = evaluate(graph, feeds).values()
    assert np.array_equal(before, after)


def test_a_constant_side_is_chosen_before_and_may_be_infinite() -> None:
    net = Net()
    other = np.array([0.0, -np.inf, 3.0])
    graph = net.returns(net(Where(), np.array([True, False, True]), net.input(2, 3), other))
    becomes(SubstituteSelect(), graph, {"add": 1, "mul": 1})


@pytest.mark.parametrize("infinite", [False, True])
def test_comparisons_and_infinite_sides_stay(infinite: bool) -> None:
    net = Net()
    x = net.input(3)
    mask = net.input(3, dtype=BOOL) if infinite else net(Less(), x, 0.0)
    stays(SubstituteSelect(), net.returns(net(Where(), mask, x, -np.inf if infinite else 1.0)))
