"""Element-by-element layers, reductions and normalisations as Metal sources, run with every check."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.graph import Graph
from compiler.op import Op
from compiler.tensor import BOOL, DTYPES, F16, F32, I64, DType, TensorType
from targets.metal.execute.executor import Executor
from tests.strategies import random_array
from tests.targets import metal_graphs
from tests.targets.metal_graphs import calls, expect_same
from tests.targets.test_neon_elements import REDUCTIONS, WIDE, chain, samples


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_every_operation_on_every_type(dtype: DType) -> None:
    rng = np.random.default_rng(7)
    graph = samples(dtype, (3, 7), rng)
    feeds = {v.name: random_array(rng, v.type) for v in graph.inputs}
    if dtype.is_float:
        feeds["x"].reshape(-1)[:6] = [np.inf, -np.inf, np.nan, -0.0, 0.0, 1.0]
    expect_same(graph, feeds, rtol=5e-5, atol=1e-5)


def test_a_chain_is_one_dispatch() -> None:
    graph = chain()
    assert len(calls(graph)) == 1
    rng = np.random.default_rng(1)
    expect_same(graph, {v.name: random_array(rng, v.type) for v in graph.inputs})


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=3), st.data())
def test_reductions_along_any_axes(shape: list[int], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    graph = Graph("reductions")
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    dtype = data.draw(st.sampled_from([F32, F32, F16, DTYPES["i32"], DTYPES["u8"], I64, BOOL]))
    x = graph.add_input(TensorType(dtype, tuple(shape)), "x")
    takes = [r for r in REDUCTIONS if dtype.kind in r.kinds]  # type: ignore[attr-defined]  # of reductions
    takes = [r for r in takes if dtype.is_float or r not in (ops.ReduceMean, ops.ReduceL2)]  # by way of doubles
    outputs = [graph.add(r(axes=axes, keepdims=data.draw(st.booleans())), x)[0] for r in takes]
    graph.set_outputs(outputs, [r.name for r in takes])
    feed = np.abs(random_array(rng, x.type)) if dtype.is_float else random_array(rng, x.type)
    expect_same(graph, {"x": feed}, rtol=5e-5)


def test_reductions_pass_on_what_is_no_number() -> None:
    graph = Graph("special")
    x = graph.add_input(TensorType(F32, (4, 67)), "x")
    outputs = [graph.add(r(axes=(1,)), x)[0] for r in REDUCTIONS]
    graph.set_outputs(outputs, [r.name for r in REDUCTIONS])
    feed = np.ones((4, 67), np.float32)
    feed[0, 3], feed[1, 66], feed[2, 0], feed[3] = np.nan, np.inf, -np.inf, -np.inf
    expect_same(graph, {"x": feed})


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=3), st.data())
def test_normalisations_along_any_axis(shape: list[int], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from([F32, F16]))
    axis = data.draw(st.integers(0, len(shape) - 1))
    graph = Graph("norms")
    x = graph.add_input(TensorType(dtype, tuple(shape)), "x")
    made: list[Op] = [ops.Softmax(axis=axis), ops.LogSoftmax(axis=axis), ops.LpNormalize(axis=axis, p=2, eps=0.5)]
    outputs = [graph.add(op, x)[0] for op in made]
    scale = graph.add_input(TensorType(dtype, tuple(shape[axis:])), "scale")
    outputs += graph.add(ops.LayerNorm(axis=axis), x, scale)
    outputs += graph.add(ops.LayerNorm(axis=axis, eps=1e-2), x, scale, scale)
    outputs += graph.add(ops.RmsNorm(axis=axis), x, scale)
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    expect_same(graph, {v.name: random_array(rng, v.type) for v in graph.inputs}, rtol=2e-4, atol=2e-5)


def test_softmax_of_masked_rows() -> None:
    graph = Graph("masked")
    x = graph.add_input(TensorType(F32, (5, 43)), "x")
    graph.set_outputs([*graph.add(ops.Softmax(axis=1), x), *graph.add(ops.LogSoftmax(axis=1), x)], ["y", "z"])
    feed = np.random.default_rng(5).standard_normal((5, 43)).astype(np.float32) * 10
    feed[0, 5:], feed[1, ::2], feed[2], feed[3, 42], feed[4] = -np.inf, -1e4, 300, np.nan, -np.inf
    expect_same(graph, {"x": feed})


def test_doubles_are_computed_as_floats() -> None:
    graph = Graph("doubles")
    x = graph.add_input(TensorType(DTYPES["f64"], (3, 5)), "x")
    (y,) = graph.add(ops.Mul(), x, graph.const(np.array(1 / 3)))
    (z,) = graph.add(ops.Cast(to="f32"), y)
    graph.set_outputs([y, z], ["y", "z"])
    feed = np.random.default_rng(0).standard_normal((3, 5))
    got = metal_graphs.results(graph, {"x": feed})
    assert got["y"].dtype == np.float64 and got["z"].dtype == np.float32
    assert np.array_equal(got["y"].astype(np.float32), feed.astype(np.float32) * np.float32(1 / 3))


def test_the_checks_are_on() -> None:
    assert Executor.__init__.__defaults__ == (True, None), "tests here rely on accesses being checked"
