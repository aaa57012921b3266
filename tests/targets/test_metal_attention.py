"""Attention as Metal sources: blocks of queries, ragged in every way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.metal.attention import ROOM, Attention, attention
from compiler import ops
from compiler.graph import Graph
from compiler.tensor import BOOL, F16, F32, DType, TensorType
from tests.strategies import random_array
from tests.targets.metal_graphs import calls, expect_same


def attending(
    dtype: DType,
    shape: tuple[int, int, int, int, int, int],
    width: int,
    mask: str = "",
    *,
    causal: bool,
    softcap: float,
) -> Graph:
    """A layer of shape (batch, heads, shared, queries, keys, depth)."""
    batch, heads, shared, queries, keys, depth = shape
    graph = Graph("attending")
    q = graph.add_input(TensorType(dtype, (batch, heads, queries, depth)), "q")
    k = graph.add_input(TensorType(dtype, (batch, shared, keys, depth)), "k")
    v = graph.add_input(TensorType(dtype, (batch, shared, keys, width)), "v")
    masks = (
        [graph.add_input(TensorType(BOOL if mask == "bool" else dtype, (heads, queries, keys)), "mask")] if mask else []
    )
    op = ops.Attention(scale=depth**-0.5, causal=causal, softcap=softcap)
    graph.set_outputs(graph.add(op, q, k, v, *masks), ["y"])
    return graph


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_attention_of_any_size(data: st.DataObject) -> None:
    shared = data.draw(st.integers(1, 2))
    shape = (
        data.draw(st.integers(1, 2)),
        shared * data.draw(st.integers(1, 2)),
        shared,
        data.draw(st.sampled_from([1, 7, 8, 9, 31, 33, 65])),
        data.draw(st.sampled_from([1, 8, 31, 32, 33, 70])),
        data.draw(st.sampled_from([1, 8, 20, 64])),
    )
    dtype, mask = data.draw(st.sampled_from([F32, F16])), data.draw(st.sampled_from(["", "bool", "float"]))
    causal, softcap = data.draw(st.booleans()), data.draw(st.sampled_from([0.0, 2.0]))
    graph = attending(dtype, shape, data.draw(st.sampled_from([1, 16, 24])), mask, causal=causal, softcap=softcap)
    (call,) = calls(graph)
    assert isinstance(call.kernel, Attention)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    expect_same(
        graph, {v.name: random_array(rng, v.type) for v in graph.inputs}, rtol=1e-4, atol=2e-3 if dtype is F16 else 1e-5
    )


def test_queries_that_see_nothing_give_0() -> None:
    graph = attending(F32, (1, 1, 1, 9, 40, 8), 8, "bool", causal=False, softcap=0.0)
    rng = np.random.default_rng(0)
    feeds = {v.name: random_array(rng, v.type) for v in graph.inputs}
    feeds["mask"][:, 3] = False
    feeds["mask"][:, 4, :33] = False  # all of the first block
    feeds["mask"][:, 4, 35] = True
    expect_same(graph, feeds)


@pytest.mark.parametrize("ctype", ["float", "half_t"])
@pytest.mark.parametrize("depth", [8, 64, 80, 128, 256])
def test_tiles_fit_the_memory_of_a_threadgroup(depth: int, ctype: str) -> None:
    made = attention(Attention(depth=depth, width=depth, ctype=ctype))
    if made is None:
        assert (depth, ctype) == (256, "float")
        return
    assert sum(t.nbytes for t in made.tiles) <= ROOM
    more = made.with_(simdgroups=2 * made.simdgroups)
    assert made.simdgroups == 4 or not more.fits
