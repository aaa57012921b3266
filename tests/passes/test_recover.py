"""Refit: weights of a compressed graph that give again what the original gave, without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import passes._recover_points as points
from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.graph import Graph
from compiler.op import Op
from compiler.tensor import Array
from passes._compression import Recovery, layer_names
from passes._fitted import data_of, set_data
from passes._prune_technique import PrunedChannels
from passes._recover_points import aims_of, channels_kept, in_order
from passes._recover_refit import Distance, Refit
from passes._recover_solve import Normal
from tests.passes.composed import Net, Term
from tests.passes.coupled import FAMILIES, coupled

SEEDS = st.integers(0, 10**6)
SIDE, WIDTH = 6, 4
POINTWISE = ops.Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
SPATIAL = POINTWISE.with_(pads=(1, 1, 1, 1))


class Named(Net):
    """A graph whose layers have the names that they are given."""

    def layer(self, name: str, op: Op, *operands: Term | Array) -> Term:
        found = self(op, *operands)
        found.value.name = name
        return found


def rows_of(graph: Graph, count: int = 24, seed: int = 0) -> Fitting:
    rng = np.random.default_rng(seed)
    (x,) = graph.inputs
    return Fitting([{x.name: rng.normal(size=x.type.dims).astype(np.float32)} for _ in range(count)])


def noise(before: Graph, after: Graph, rows: Fitting) -> float:
    """Squared differences of the outputs relative to squares."""
    old, new = (np.array([r[0] for r in rows.each(g, g.outputs)], np.float64) for g in (before, after))
    return float(np.square(old - new).sum() / np.square(old).sum())


def residual(seed: int, kept: Array, gain: float = 1.0) -> Graph:
    """A block of an expansion, whose channels are those that are kept of twice as many, two copies of each, a depthwise
    convolution and a projection, beside a skip that is scaled by `gain`."""
    rng = np.random.default_rng(seed)
    net = Named()
    x = net.input(2, 3, SIDE, SIDE)
    stem = net.layer("stem", SPATIAL, x, rng.normal(size=(WIDTH, 3, 3, 3)), rng.normal(size=WIDTH))
    twice = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    w, b = rng.normal(size=(6, WIDTH, 1, 1))[twice][kept], rng.normal(size=6)[twice][kept]
    wide = net.layer("wide", POINTWISE, stem, w, b)
    deep = SPATIAL.with_(groups=len(kept))
    each = net.layer("each", deep, net.layer("on", ops.Relu(), wide), rng.normal(size=(6, 1, 3, 3))[twice][kept])
    narrow = rng.normal(size=(WIDTH, 12, 1, 1))[:, kept] / 4
    branch = net.layer("branch", POINTWISE, net.layer("on2", ops.Relu(), each), narrow, rng.normal(size=WIDTH))
    skip = net.layer("skip", ops.Mul(), stem, np.full((1, 1, 1, 1), gain))
    total = net.layer("total", ops.Add(), skip, branch)
    return net.returns(total)


def half(seed: int) -> Array:
    """One of each two copies."""
    return np.arange(0, 12, 2) + np.random.default_rng(seed).integers(0, 2, 6)


def disturb(graph: Graph, name: str, amount: float, seed: int) -> None:
    node = layer_names(graph)[name]
    w = data_of(node.inputs[1])
    set_data(graph, node, 1, w + amount * w.std() * np.random.default_rng(seed).normal(size=w.shape))


def test_refit_is_a_recovery() -> None:
    recovery: Recovery = Refit()
    assert recovery.name == "recover"


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_channels_that_others_repeat_are_not_missed(seed: int) -> None:
    before, after = residual(seed, np.arange(12)), residual(seed, half(seed))
    rows, others = rows_of(before), rows_of(before, seed=1)
    lost = noise(before, after, others)
    assert Refit().run(before, after, rows) > 0
    assert noise(before, after, others) < min(1e-6, 1e-3 * lost)


@pytest.mark.parametrize("name", ["stem", "wide", "each", "branch"])
def test_disturbed_weights_are_found_again(name: str) -> None:
    before, after = residual(3, np.arange(0, 12, 2)), residual(3, np.arange(0, 12, 2))
    disturb(after, name, 0.3, 1)
    rows, others = rows_of(before), rows_of(before, seed=1)
    lost = noise(before, after, others)
    Refit().run(before, after, rows)
    assert lost > 1e-3
    assert noise(before, after, others) < 1e-3 * lost


def linear(gain: float, seed: int = 0) -> Graph:
    """A sum of a scaled input and a projection of it."""
    rng = np.random.default_rng(seed)
    net = Named()
    x = net.input(2, WIDTH, SIDE, SIDE)
    skip = net.layer("skip", ops.Mul(), x, np.full((1, WIDTH, 1, 1), gain))
    branch = net.layer("branch", POINTWISE, x, rng.normal(size=(WIDTH, WIDTH, 1, 1)), rng.normal(size=WIDTH))
    return net.returns(net.layer("total", ops.Add(), skip, branch))


def test_a_branch_makes_good_what_the_skip_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = linear(1.0), linear(0.5)
    rows = rows_of(before)
    with monkeypatch.context() as patch:  # as if sums were not known
        patch.setattr(points, "_sum_of", lambda *_: (None, None))
        assert Refit().run(before, after, rows) == 0
    lost = noise(before, after, rows)
    Refit().run(before, after, rows)
    assert noise(before, after, rows) < 1e-6 * lost
    w = data_of(layer_names(after)["branch"].inputs[1])[:, :, 0, 0]
    assert np.allclose(w, data_of(layer_names(before)["branch"].inputs[1])[:, :, 0, 0] + 0.5 * np.eye(WIDTH), atol=1e-3)


def split(seed: int, rank: int, dense: bool) -> tuple[Graph, Graph]:
    """A layer of some rank, and one split into two that are disturbed."""
    rng = np.random.default_rng(seed)
    u, v, b = rng.normal(size=(8, rank)), rng.normal(size=(rank, 6)), rng.normal(size=8)
    graphs = []
    for parts in (1, 2):
        net = Named()
        x = net.input(2, 6) if dense else net.input(2, 6, SIDE, SIDE)
        op = ops.Dense(transposed=True) if dense else POINTWISE
        shape = (-1, 6) if dense else (-1, 6, 1, 1)
        if parts == 2:
            x = net.layer("y/part0", op, x, (v + 0.3 * rng.normal(size=v.shape)).reshape(shape))
            end = (u + 0.3 * rng.normal(size=u.shape)).reshape(shape[0], rank, *shape[2:])[:8]
        else:
            end = (u @ v).reshape(shape)
        graphs.append(net.returns(net.layer("y", op, x, end, b)))
    return graphs[0], graphs[1]


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.integers(1, 4), st.booleans())
def test_both_parts_of_a_split_are_fitted(seed: int, rank: int, dense: bool) -> None:
    before, after = split(seed, rank, dense)
    rows = rows_of(before, 96 if dense else 24)
    lost = noise(before, after, rows)
    Refit(sweeps=60).run(before, after, rows)
    assert noise(before, after, rows) < 0.02 * lost


@settings(max_examples=4, deadline=None)
@given(SEEDS, st.sampled_from(sorted(FAMILIES)), st.booleans())
def test_pruned_networks_get_no_worse_where_they_are_judged(seed: int, family: str, smooth: bool) -> None:
    before = coupled(family, seed, smooth)
    for i, node in enumerate(before.nodes):
        node.outputs[0].name = f"n{i}"
    after = before.clone()
    plan = {c.layer: c.setting for c in PrunedChannels("l2").candidates(before, None) if c.setting["amount"] == 0.25}
    PrunedChannels("l2", fit=False).apply(after, plan, None)
    rows = several(before, 6)
    judge = Distance(before, rows)
    lost = judge.noise(after)
    types = [v.type for v in after.outputs]
    work = [n.op for n in after.nodes]
    Refit(sweeps=2).run(before, after, rows)
    assert judge.noise(after) <= lost
    assert [v.type for v in after.outputs] == types
    assert [n.op for n in after.nodes] == work


def several(graph: Graph, count: int) -> Fitting:
    """Rows for all inputs; with fewer than eight all of them judge."""
    rng = np.random.default_rng(0)
    shapes: Mapping[str, tuple[int, ...]] = {v.name: v.type.dims for v in graph.inputs}
    return Fitting([{n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)])


def test_nothing_changes_where_nothing_was_lost() -> None:
    before, after = residual(0, np.arange(12)), residual(0, np.arange(12))
    constants = [c.data for c in after.constants]
    assert Refit().run(before, after, rows_of(before)) == 0
    assert all(a is c.data for a, c in zip(constants, after.constants, strict=True))


def test_nothing_changes_where_no_rows_are() -> None:
    before, after = linear(1.0), linear(0.5)
    assert Refit().run(before, after, Fitting([])) == 0


def test_the_same_seed_gives_the_same_weights() -> None:
    found = []
    for seed in (0, 0):
        before, after = residual(1, np.arange(12)), residual(1, half(1))
        disturb(after, "branch", 0.5, 2)
        Refit(sweeps=2, seed=seed).run(before, after, rows_of(before))
        found.append([c.data for c in after.constants])
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_progress_is_told() -> None:
    before, after = linear(1.0), linear(0.5)
    told: list[str] = []
    Refit(sweeps=1, tell=told.append).run(before, after, rows_of(before))
    assert len(told) == 1
    assert told[0].startswith("recover, sweep 1: noise ")


def test_numbers_that_are_none_change_nothing() -> None:
    before, after = linear(1.0), linear(0.5)
    rows = rows_of(before)
    rows.feeds[0][before.inputs[0].name][0, 0, 0, 0] = np.nan
    w = data_of(layer_names(after)["branch"].inputs[1])
    assert Refit().run(before, after, rows) == 0
    assert data_of(layer_names(after)["branch"].inputs[1]) is w


def test_weights_that_layers_share_stay() -> None:
    net = Named()
    x = net.input(2, 4)
    w = net.value(np.eye(4))
    y = net.layer("a", ops.MatMul(), x, Term(net, w))
    graph = net.returns(net.layer("b", ops.MatMul(), y, Term(net, w)))
    assert aims_of(graph, graph.clone()) == []


def test_channels_are_found_again() -> None:
    kept = half(5)
    before, after = residual(5, np.arange(12)), residual(5, kept)
    rng = np.random.default_rng(5)
    for graph, index in ((before, np.arange(12)), (after, kept)):
        node = layer_names(graph)["wide"]
        set_data(graph, node, 2, rng.permutation(12)[index] if graph is before else data_of(node.inputs[2]))
    values = data_of(layer_names(before)["wide"].inputs[2])
    set_data(after, layer_names(after)["wide"], 2, values[kept])
    found = channels_kept(aims_of(before, after), before, after, rows_of(before, 4))
    assert np.array_equal(found[layer_names(after)["wide"].outputs[0]], kept)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(0, 4))
def test_the_order_that_costs_least(seed: int, rows: int, more: int) -> None:
    costs = np.random.default_rng(seed).integers(0, 5, (rows, rows + more)).astype(float)
    found = in_order(costs)
    assert list(found) == sorted(set(found.tolist()))
    sums = [costs[np.arange(rows), list(c)].sum() for c in combinations(range(rows + more), rows)]
    assert costs[np.arange(rows), found].sum() == min(sums)


def normal(lacking: Callable[[Array, np.random.Generator], Array], count: int, inputs: int) -> Normal:
    rng = np.random.default_rng(0)
    grams, cross = [], []
    for _ in range(3):
        x = np.concatenate([rng.normal(size=(count, inputs)), np.ones((count, 1))], 1)
        grams.append((x.T @ x)[None])
        cross.append((x.T @ lacking(x, rng))[None])
    return Normal(np.stack(grams), np.stack(cross), True)


def test_what_rows_agree_on_is_solved() -> None:
    truth = np.random.default_rng(1).normal(size=(5, 3))
    found = normal(lambda x, _: x @ truth, 50, 4).solve()
    assert found is not None
    assert np.allclose(found[0], truth, atol=1e-3)


def test_what_rows_do_not_agree_on_is_left() -> None:
    assert normal(lambda x, rng: rng.normal(size=(len(x), 3)), 8, 40).solve() is None
