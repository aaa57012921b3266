"""Attention, recurrent layers and transposes as generated C, against what the operations mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.neon.attention import Attention, FewQueries
from codegen.neon.recurrent import Recurrent
from compiler import ops
from compiler.graph import Graph, Value
from compiler.tensor import BOOL, F16, F32, I32, I64, U8, DType, TensorType
from targets.neon.lower.attention import cut
from tests.targets.neon_graphs import calls, expect_same

SOME = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
Feeds = dict[str, np.ndarray]


def floats(*shape: int) -> TensorType:
    return TensorType(F32, shape)


def random_feeds(graph: Graph, rng: np.random.Generator) -> Feeds:
    made: Feeds = {}
    for v in graph.inputs:
        shape = v.type.dims
        plain = rng.standard_normal(shape).astype(np.float32)
        made[v.name] = plain > 0 if v.type.dtype is BOOL else plain
    return made


# -- attention -----------------------------------------------------------------------------------------------


def attention(
    q: tuple[int, int, int, int],
    keys: int,
    width: int,
    shared: int,
    mask: tuple[int, ...] | None = None,
    is_choice: bool = False,
    **attributes: float,
) -> Graph:
    """One layer; `causal` and `softcap` are its attributes."""
    g = Graph("attention")
    batch, _, _, depth = q
    given = [g.add_input(floats(*q), "q")]
    given.append(g.add_input(floats(batch, shared, keys, depth), "k"))
    given.append(g.add_input(floats(batch, shared, keys, width), "v"))
    if mask is not None:
        given.append(g.add_input(TensorType(BOOL if is_choice else F32, mask), "mask"))
    op = ops.Attention(scale=0.37, causal=bool(attributes.get("causal")), softcap=float(attributes.get("softcap", 0.0)))
    g.set_outputs(g.add(op, *given), ["y"])
    return g


@SOME
@given(seed=st.integers(0, 2**32))
def test_attention_of_any_shape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared, group = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    batch, queries, keys = int(rng.integers(1, 3)), int(rng.integers(1, 80)), int(rng.integers(1, 150))
    q = (batch, shared * group, queries, int(rng.integers(1, 20)))
    shapes = [(queries, keys), (batch, 1, 1, keys), (batch, shared * group, queries, keys), (queries, 1), (1, keys)]
    mask = None if rng.random() < 0.3 else shapes[int(rng.integers(len(shapes)))]
    graph = attention(
        q,
        keys,
        int(rng.integers(1, 20)),
        shared,
        mask,
        is_choice=rng.random() < 0.5,
        causal=rng.random() < 0.4,
        softcap=2.0 if rng.random() < 0.3 else 0.0,
    )
    assert isinstance(calls(graph)[0].kernel, Attention)
    expect_same(graph, random_feeds(graph, rng), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_many_keys_are_read_in_blocks(causal: bool) -> None:
    graph = attention((1, 2, 70, 8), 523, 12, 1, (70, 523), causal=causal)
    kernel = calls(graph)[0].kernel
    assert isinstance(kernel, Attention)
    assert kernel.cols.blocks == (8 if causal else 2)
    expect_same(graph, random_feeds(graph, np.random.default_rng(1)), rtol=2e-5, atol=2e-6)


@SOME
@given(seed=st.integers(0, 2**32))
def test_few_queries_go_without_packing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys, depth, width = int(rng.integers(1, 60)), 4 * int(rng.integers(1, 6)), 4 * int(rng.integers(1, 12))
    queries, batch = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    mask = None if rng.random() < 0.3 else (batch, 1, 1, keys) if rng.random() < 0.5 else (queries, keys)
    causal, softcap = rng.random() < 0.3, 2.0 if rng.random() < 0.3 else 0.0
    q = (batch, 4, queries, depth)
    graph = attention(q, keys, width, 2, mask, is_choice=rng.random() < 0.5, causal=causal, softcap=softcap)
    assert isinstance(calls(graph)[0].kernel, FewQueries)
    expect_same(graph, random_feeds(graph, rng), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("keys", [9, 600])
def test_hidden_keys_of_any_kind(keys: int) -> None:
    """A query that sees nothing gives 0; the lowest number hides, but does not when all keys have it."""
    graph = attention((1, 1, 5, 4), keys, 4, 1, (5, keys))
    feeds = random_feeds(graph, np.random.default_rng(2))
    mask = feeds["mask"]
    mask[0], mask[1], mask[2, 1:], mask[3, : keys // 2] = -np.inf, np.finfo(np.float32).min, -np.inf, -40000.0
    expect_same(graph, feeds, rtol=2e-5, atol=2e-6)


def test_blocks() -> None:
    for size in range(1, 400):
        found = cut(size, 32)
        assert (found.blocks - 1) * found.size + found.last == size
        assert 0 < found.last < 64
        assert found.largest == max(found.last, found.size)


def heads(g: Graph, x: Value, count: int) -> Value:
    batch, length, wide = x.type.dims
    split = g.add(ops.Reshape(shape=(batch, length, count, wide // count)), x)[0]
    return g.add(ops.Transpose(perm=(0, 2, 1, 3)), split)[0]


def test_heads_are_read_where_they_lie() -> None:
    """No part of what one product gives is copied, nor are results."""
    g = Graph("heads")
    x = g.add_input(floats(2, 37, 3 * 24), "x")
    q, k, v = (heads(g, part, 3) for part in g.add(ops.Split(axis=2, sizes=(24, 24, 24)), x))
    y = g.add(ops.Attention(scale=0.5), q, k, v)[0]
    joined = g.add(ops.Reshape(shape=(2, 37, 24)), g.add(ops.Transpose(perm=(0, 2, 1, 3)), y)[0])[0]
    g.set_outputs(g.add(ops.Relu(), joined), ["y"])
    assert [type(c.kernel).__name__ for c in calls(g)] == ["Attention", "Elementwise"]
    expect_same(g, random_feeds(g, np.random.default_rng(0)), rtol=2e-5, atol=2e-6)


# -- recurrent layers ----------------------------------------------------------------------------------------

LAYERS = (ops.LSTM, ops.GRU, ops.RNN)


@SOME
@given(seed=st.integers(0, 2**32), layer=st.sampled_from(LAYERS))
def test_recurrent_layers_of_any_kind(seed: int, layer: type[ops.LSTM | ops.GRU | ops.RNN]) -> None:
    rng = np.random.default_rng(seed)
    x = floats(*(int(n) for n in rng.integers(1, 7, 3)))
    sample = layer.sample(rng, x)
    assert sample is not None
    op, others = sample
    g = Graph("recurrent")
    given: list[Value | None] = [g.add_input(x, "x")]
    for i, other in enumerate(others):
        if isinstance(other, TensorType) and i < 3:
            given.append(g.const(rng.standard_normal(other.dims).astype(np.float32)))
        elif isinstance(other, TensorType):
            given.append(g.add_input(other, f"x{i}"))
        else:
            given.append(None if other is None else g.const(np.array(other)))
    results = g.add(op, *given)
    g.set_outputs(results, [f"y{i}" for i in range(len(results))])
    assert any(isinstance(c.kernel, Recurrent) for c in calls(g))
    expect_same(g, random_feeds(g, rng), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_sequences_that_end_early(layer: type[ops.LSTM | ops.GRU | ops.RNN]) -> None:
    """Lengths are known when the model runs, and may be 0."""
    rng = np.random.default_rng(5)
    g = Graph("lengths")
    x = g.add_input(floats(5, 3, 4), "x")
    lens = g.add_input(TensorType(I32, (3,)), "lens")
    wide = layer.gates * 6
    weights = [g.const(rng.standard_normal(s).astype(np.float32)) for s in ((2, wide, 4), (2, wide, 6), (2, 2 * wide))]
    functions = layer.default_functions * 2
    results = g.add(layer(functions=functions, direction="bidirectional"), x, *weights, lens)
    g.set_outputs(results, [f"y{i}" for i in range(len(results))])
    feeds = {"x": rng.standard_normal((5, 3, 4)).astype(np.float32), "lens": np.array([5, 0, 3], np.int32)}
    expect_same(g, feeds, rtol=2e-5, atol=2e-6)


# -- transposes ----------------------------------------------------------------------------------------------

DTYPES = (F32, I32, F16, U8, I64)


def transpose(dtype: DType, shape: tuple[int, ...], perm: tuple[int, ...]) -> Graph:
    g = Graph("transpose")
    x = g.add_input(TensorType(dtype, shape), "x")
    g.set_outputs(g.add(ops.Transpose(perm=perm), x), ["y"])
    return g


def filled(graph: Graph, rng: np.random.Generator) -> Feeds:
    x = graph.inputs[0].type
    return {"x": rng.integers(0, 250, x.dims).astype(x.dtype.numpy)}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(9, 8), (31, 17), (3, 53), (53, 3), (2, 40), (40, 4), (1, 9), (5, 70)])
def test_rows_become_columns(dtype: DType, shape: tuple[int, int]) -> None:
    graph = transpose(dtype, shape, (1, 0))
    expect_same(graph, filled(graph, np.random.default_rng(0)))


@SOME
@given(seed=st.integers(0, 2**32))
def test_axes_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(2, 6))
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 5, 9], rank))
    graph = transpose(DTYPES[int(rng.integers(len(DTYPES)))], shape, tuple(map(int, rng.permutation(rank))))
    expect_same(graph, filled(graph, rng))


def test_which_copies_are_transposes() -> None:
    kinds = {
        (1, 3, 32, 32): ("join_3_channels_32bit", (0, 2, 3, 1)),
        (1, 32, 32, 3): ("split_3_channels_32bit", (0, 3, 1, 2)),
        (2, 30, 50, 1): ("transpose_32bit_1d", (0, 2, 1, 3)),
        (20, 30, 50): ("copy_32bit_3d_rows", (1, 0, 2)),
    }
    for shape, (name, perm) in kinds.items():
        assert calls(transpose(F32, shape, perm))[0].kernel.name == name
