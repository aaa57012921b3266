"""SubstituteScatter: constant places between what stays, or selected by a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler import ops
from compiler.evaluate import evaluate
from passes.substitute_scatter import SubstituteScatter
from tests.passes.composed import Net, Record, becomes, inputs_of, run, stays
from tests.passes.windowed import fires
from tests.strategies import seeds


@settings(max_examples=40)
@given(seed=seeds())
def test_positions(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    dims, depth = tuple(int(d) for d in rng.integers(1, 5, 3)), int(rng.integers(1, 4))
    count = int(rng.integers(1, 8))
    places = np.stack([rng.integers(-d, d, count) for d in dims[:depth]], -1)
    wrapped = np.where(places < 0, places + dims[:depth], places)
    places = places[np.sort(np.unique(wrapped, axis=0, return_index=True)[1])]
    y = net(ops.ScatterND(), net.input(*dims), places, net.input(len(places), *dims[depth:]))
    after = fires(SubstituteScatter(), net.returns(y), rng).after
    assert not after.of(ops.ScatterND)


@settings(max_examples=25)
@given(seed=seeds())
def test_places_along_an_axis(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    axis, dims = int(rng.integers(0, 3)), [3, 3, 3]
    dims[axis] = int(rng.integers(1, 40))
    places = rng.permutation(dims[axis])[: int(rng.integers(1, dims[axis] + 1))]
    shape = [len(places) if i == axis else d for i, d in enumerate(dims)]
    indices = np.broadcast_to(places.reshape([-1 if i == axis else 1 for i in range(3)]), shape).copy()
    y = net(ops.ScatterElements(axis=axis), net.input(*dims), indices, net.input(*shape))
    fires(SubstituteScatter(), net.returns(y), rng)


def test_a_region_becomes_slices() -> None:
    net = Net()
    grid = np.stack(np.meshgrid([0], [0, 1, 2], [2, 3], indexing="ij"), -1)
    y = net(ops.ScatterND(), net.input(1, 3, 6, 4), grid, net.input(1, 3, 2, 4))
    becomes(SubstituteScatter(), net.returns(y), {"concat": 1, "slice": 2})


@pytest.mark.parametrize("constant", ["around", "updates"])
def test_infinite_constants_stay_where_they_are(constant: str) -> None:
    """Of a mask that is open in places, say; no zero is multiplied with them."""
    net = Net()
    places = np.repeat(np.arange(0, 40, 2)[:, None], 3, 1)
    x, updates = (
        np.full(shape, -np.inf) if name == constant else net.input(*shape)
        for name, shape in (("around", (40, 3)), ("updates", (20, 3)))
    )
    graph = net.returns(net(ops.ScatterElements(axis=0), x, places, updates))
    feeds = inputs_of(graph)
    (before,) = evaluate(graph, feeds).values()
    assert SubstituteScatter().run(graph, Record()) == 1
    assert not graph.of(ops.MatMul) or constant == "around"
    np.testing.assert_array_equal(evaluate(graph, feeds)["y0"], before)


def test_places_that_differ_between_rows_are_named() -> None:
    net = Net()
    y = net(ops.ScatterElements(axis=1), net.input(2, 3), np.array([[0], [1]]), net.input(2, 1))
    assert run(SubstituteScatter(), net.returns(y)).skips == ["the places differ between rows"]


@pytest.mark.parametrize("reduction", ["add", "mul", "max"])
def test_reductions_stay(reduction: str) -> None:
    net = Net()
    y = net(ops.ScatterND(reduction=reduction), net.input(4), np.array([[1]]), net.input(1))
    stays(SubstituteScatter(), net.returns(y))
