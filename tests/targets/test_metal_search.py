"""Layers that look for elements as Metal sources, run with every check."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.graph import Graph
from compiler.tensor import BOOL, F16, F32, I8, I32, I64, U8, Array, DType, TensorType
from tests.targets.metal_layers import beside, expect_same, layer, run

TIES = (F16, F32, I8, I32, I64, U8)
FEW = settings(max_examples=3, deadline=None)


def with_ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Small whole numbers, and among floats what is no number."""
    x = rng.integers(0, 4, shape).astype(dtype.numpy)
    if dtype.is_float:
        x = np.where(rng.random(shape) < 0.2, rng.choice([np.nan, inf, -inf], shape), x).astype(dtype.numpy)
    return x


@pytest.mark.parametrize("dtype", TIES, ids=str)
def test_the_best_elements(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    x = TensorType(dtype, (3, 41, 5))
    layers = []
    for axis in range(3):
        for largest in (True, False):
            layers.append(layer(ops.TopK(k=3, axis=axis, largest=largest), x))
            kind = ops.ArgMax if largest else ops.ArgMin
            layers += [layer(kind(axis=axis, select_last_index=last), x) for last in (True, False)]
    graph = beside(layers)
    expect_same(graph, {v.name: with_ties(rng, v.type.dims, dtype) for v in graph.inputs})


def test_the_first_of_long_lines() -> None:
    graph = beside(
        [layer(ops.ArgMax(axis=1), TensorType(F32, (2, 3000))), layer(ops.ArgMin(axis=0), TensorType(I32, (999,)))]
    )
    rng = np.random.default_rng(1)
    feeds = {v.name: rng.integers(-50, 50, v.type.dims).astype(v.type.dtype.numpy) for v in graph.inputs}
    expect_same(graph, feeds)


@pytest.mark.parametrize("dtype", [F32, F16, I32, I64], ids=str)
def test_sums_up_to_each_element(dtype: DType) -> None:
    x = TensorType(dtype, (3, 7, 4))
    layers = [
        layer(kind(axis=axis, exclusive=exclusive, reverse=reverse), x)
        for kind in (ops.CumSum, ops.CumProd)
        for axis, exclusive, reverse in ((0, True, False), (1, False, True), (2, True, True), (1, False, False))
    ]
    graph = beside(layers)
    rng = np.random.default_rng(2)
    feeds = {v.name: rng.integers(-2, 4, v.type.dims).astype(dtype.numpy) for v in graph.inputs}
    expect_same(graph, feeds, rtol=1e-5)


@FEW
@given(seed=st.integers(0, 2**32))
def test_distinct_elements(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = []
    for dtype in (F32, F16, I64, I8, BOOL):
        shape = tuple(int(n) for n in rng.integers(1, 4, 3))
        axis = (None, 0, 1, 2)[int(rng.integers(4))]
        layers.append(
            layer(ops.Unique(axis=axis, sorted=bool(rng.random() < 0.5), dim="distinct"), TensorType(dtype, shape))
        )
    graph = beside(layers)
    expect_same(graph, {v.name: rng.integers(0, 2, v.type.dims).astype(v.type.dtype.numpy) for v in graph.inputs})


def test_many_distinct_elements() -> None:
    """More than a threadgroup has threads."""
    graph = beside([layer(ops.Unique(sorted=s, dim="distinct"), TensorType(I64, (700,))) for s in (True, False)])
    rng = np.random.default_rng(4)
    expect_same(graph, {v.name: rng.integers(0, 400, v.type.dims) for v in graph.inputs})


@FEW
@given(seed=st.integers(0, 2**32))
def test_what_is_kept(seed: int) -> None:
    """Also with conditions that are too short, that never hold, of rows without elements, and of many."""
    rng = np.random.default_rng(seed)
    layers = []
    for axis, most in ((None, 40), (0, 4), (1, 4)):
        shape = tuple(int(n) for n in rng.integers(0, most, 2))
        length = shape[0] * shape[1] if axis is None else shape[axis]
        condition = TensorType(BOOL, (int(rng.integers(length + 1)),))
        layers.append(layer(ops.Compress(axis=axis, dim="kept"), TensorType(F32, shape), condition))
        layers.append(layer(ops.NonZero(dim="found"), TensorType(F32, shape)))
    graph = beside(layers)
    expect_same(graph, {v.name: np.round(rng.random(v.type.dims)).astype(v.type.dtype.numpy) for v in graph.inputs})


@FEW
@given(seed=st.integers(0, 2**32), overlap=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_boxes_that_remain(seed: int, overlap: float) -> None:
    """Corners in whole numbers, so that there are equal boxes and ones without area; scores in tenths, so that there
    are ties."""
    rng = np.random.default_rng(seed)
    layers = []
    for centres, most in ((False, 30), (True, 30), (False, 400)):
        n, c, b = (int(v) for v in rng.integers(1, (3, 4, most)))
        op = ops.NonMaxSuppression(
            limit=int(rng.integers(0, 8)),
            overlap=overlap,
            threshold=float(rng.choice([-inf, 0.3, 2.0])),
            centres=centres,
            dim="kept",
        )
        layers.append(layer(op, TensorType(F32, (n, b, 4)), TensorType(F32, (n, c, b))))
    graph = beside(layers)
    feeds = {}
    for v in graph.inputs:
        is_box = v.name.endswith("_0")
        found = rng.integers(-2, 8, v.type.dims) if is_box else np.round(rng.random(v.type.dims), 1)
        feeds[v.name] = found.astype(np.float32)
    expect_same(graph, feeds)


def test_a_result_of_unknown_size_is_given_out_twice() -> None:
    graph = Graph("twice")
    x = graph.add_input(TensorType(F32, (4,)), "x")
    (found,) = graph.add(ops.NonZero(dim="found"), x)
    graph.set_outputs([found, found], ["first", "second"])
    got = run(graph, {"x": np.array([0, 2, 0, -1], np.float32)}).got
    assert {k: v.tolist() for k, v in got.items()} == {"first": [[1, 3]], "second": [[1, 3]]}
