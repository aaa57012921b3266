"""Dispatches of the Metal target: what is read and written in place, what is computed together, and that it is so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.metal.strided import Strided
from codegen.program import Place
from compiler import ops
from compiler.graph import Graph, Value
from compiler.tensor import F16, F32, I32, U8, Array, DType, TensorType
from targets.metal.families import Family
from targets.metal.fusion import POINTERS
from targets.metal.loops import collapsed, dispatch, loops_of
from targets.metal.lower.matmul import MATRICES
from tests.strategies import random_array
from tests.targets import metal_layers
from tests.targets.metal_graphs import calls, expect_same

LENGTH, HEADS, DEPTH = 9, 2, 8
WIDTH = HEADS * DEPTH
RNG = np.random.default_rng(3)  # of constants; equal ones would be shared


def feeds(graph: Graph, seed: int = 1) -> Mapping[str, Array]:
    rng = np.random.default_rng(seed)
    return {v.name: random_array(rng, v.type) for v in graph.inputs}


def kernels(graph: Graph, rtol: float = 1e-5, atol: float = 1e-5) -> list[str]:
    """Of the whole pipeline, which computes what is right."""
    return list(metal_layers.expect_same(graph, feeds(graph), rtol, atol).kernels)


def matrix(g: Graph, *shape: int) -> Value:
    return g.const((RNG.standard_normal(shape) / 4).astype(np.float32))


def heads(g: Graph, x: Value) -> Value:
    (x,) = g.add(ops.Reshape(shape=(1, LENGTH, HEADS, DEPTH)), x)
    return g.add(ops.Transpose(perm=(0, 2, 1, 3)), x)[0]


def rotated(g: Graph, x: Value, cos: Value, sin: Value) -> Value:
    """Neighbours as real and imaginary parts, turned."""
    whole = (1, HEADS, LENGTH, DEPTH)
    even, odd = (g.add(ops.Slice(starts=(0, 0, 0, first), ends=whole, steps=(1, 1, 1, 2)), x)[0] for first in (0, 1))
    products = [[g.add(ops.Mul(), a, b)[0] for b in (cos, sin)] for a in (even, odd)]
    (real,) = g.add(ops.Sub(), products[0][0], products[1][1])
    (imaginary,) = g.add(ops.Add(), products[0][1], products[1][0])
    parts = [g.add(ops.Reshape(shape=(1, HEADS, LENGTH, DEPTH // 2, 1)), v)[0] for v in (real, imaginary)]
    (joined,) = g.add(ops.Concat(axis=4), *parts)
    return g.add(ops.Reshape(shape=whole), joined)[0]


def test_a_rotary_embedding_of_queries_and_keys_is_one_dispatch() -> None:
    g = Graph("rotary")
    x = g.add_input(TensorType(F32, (1, LENGTH, WIDTH)), "x")
    cos, sin = (g.add_input(TensorType(F32, (LENGTH, DEPTH // 2)), name) for name in ("cos", "sin"))
    q, k, v = (heads(g, g.add(ops.Dense(), x, matrix(g, WIDTH, WIDTH))[0]) for _ in range(3))
    given = rotated(g, q, cos, sin), rotated(g, k, cos, sin), v
    (y,) = g.add(ops.Attention(scale=0.3, causal=True), *given)
    (y,) = g.add(ops.Transpose(perm=(0, 2, 1, 3)), y)
    (y,) = g.add(ops.Reshape(shape=(1, LENGTH, WIDTH)), y)
    g.set_outputs([g.add(ops.Dense(), y, matrix(g, WIDTH, 5))[0]], ["y"])
    product, embedding, attention, _ = kernels(g)
    assert product.startswith("gemm") and "4_strided" in embedding and attention.startswith("attention")


@pytest.mark.parametrize("has_bias", [True, False])
def test_queries_keys_and_values_are_one_product(has_bias: bool) -> None:
    g = Graph("qkv")
    x = g.add_input(TensorType(F32, (1, LENGTH, WIDTH)), "x")
    bias = [[matrix(g, WIDTH)] * (has_bias and i != 1) for i in range(3)]
    q, k, v = (heads(g, g.add(ops.Dense(), x, matrix(g, WIDTH, WIDTH), *b)[0]) for b in bias)
    (y,) = g.add(ops.Attention(scale=0.3), q, k, v)
    g.set_outputs([y], ["y"])
    assert len(kernels(g)) == 2


def gated(rows: int, width: int, *, has_bias: bool = False, transposed: bool = False, is_first: bool = False) -> Graph:
    """A gated layer of 24 features: the activation and the product of the two are the end of one of two products."""
    g = Graph("gated")
    x = g.add_input(TensorType(F32, (rows, width)), "x")
    shape = (24, width) if transposed else (width, 24)
    given = [[matrix(g, *shape), *[matrix(g, 24)] * has_bias] for _ in range(2)]
    ys = [g.add(ops.Dense(transposed=transposed), x, *constants)[0] for constants in given]
    gate, up = ys if is_first else ys[::-1]
    (y,) = g.add(ops.Mul(), g.add(ops.Silu(), gate)[0], up)
    g.set_outputs([y], ["y"])
    return g


@pytest.mark.parametrize("family", ["apple7", "plain"])
@pytest.mark.parametrize(
    ("rows", "width", "has_bias", "transposed"), [(7, 16, False, False), (70, 33, True, True), (40, 70, True, False)]
)
def test_a_gated_layer_is_one_product(
    rows: int, width: int, has_bias: bool, transposed: bool, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "plain":
        monkeypatch.setattr(Family, "has", lambda _, what: what != MATRICES)
    found = kernels(gated(rows, width, has_bias=has_bias, transposed=transposed, is_first=has_bias))
    assert len(found) == 1 and "_gated" in found[0] and ("_plain" in found[0]) == (family == "plain")


def test_what_a_gate_has_to_share() -> None:
    """Few rows, a result that others read, or another operand: two products."""
    assert len(kernels(gated(3, 16))) == 2
    g = gated(7, 16)
    (product,) = (n for n in g.nodes if isinstance(n.op, ops.Mul))
    g.set_outputs([product.output, *product.inputs[1:2]], ["y", "up"])  # type: ignore[list-item]  # both are there
    assert len(kernels(g)) == 2
    g = Graph("two")
    xs = [g.add_input(TensorType(F32, (7, 16)), name) for name in ("x", "z")]
    up, gate = (g.add(ops.Dense(), x, matrix(g, 16, 24))[0] for x in xs)
    g.set_outputs([g.add(ops.Mul(), g.add(ops.Silu(), gate)[0], up)[0]], ["y"])
    assert len(kernels(g)) == 2


def image(g: Graph, channels: int, side: int = 6) -> Value:
    return g.add_input(TensorType(F32, (1, channels, side, side)), f"image{channels}")


def conv(g: Graph, x: Value, filters: int, kernel: int = 1, groups: int = 1) -> Value:
    w = matrix(g, filters, x.type.dims[1] // groups, kernel, kernel)
    op = ops.Conv(strides=(1, 1), pads=(kernel // 2,) * 4, dilations=(1, 1), groups=groups)
    return g.add(op, x, w, matrix(g, filters))[0]


def test_channels_are_written_where_a_concat_wants_them() -> None:
    """By products, convolutions of each kind, with residuals that lie densely."""
    g = Graph("inception")
    x = conv(g, image(g, 3), 16, 3)
    parts = [conv(g, x, 8), conv(g, x, 20, 3), conv(g, x, 16, 5, groups=16), conv(g, x, 12, 5), conv(g, x, 8, 3, 4)]
    parts[0] = g.add(ops.Relu(), g.add(ops.Add(), parts[0], conv(g, x, 8))[0])[0]
    (y,) = g.add(ops.Concat(axis=1), *parts)
    y = conv(g, y, 4)
    g.set_outputs([y], ["y"])
    found = kernels(g, atol=1e-4)
    assert sum("_spread" in name for name in found) == 5
    assert not any("copy" in name for name in found)


def test_rows_of_one_example_are_written_side_by_side() -> None:
    g = Graph("rows")
    x = g.add_input(TensorType(F32, (2, 12)), "x")
    parts = [g.add(ops.Dense(), x, matrix(g, 12, n))[0] for n in (5, 7)]
    (y,) = g.add(ops.Concat(axis=1), *parts)
    g.set_outputs([g.add(ops.Softmax(axis=1), y)[0]], ["y"])
    assert [name.startswith("gemv_2_spread") or "softmax" in name for name in kernels(g)] == [True] * 3


def test_halves_are_converted_on_the_way() -> None:
    """An image to channels-last halves in one dispatch; results are stored as floats."""
    g = Graph("halves")
    x = g.add(ops.Relu(), conv(g, image(g, 3), 8, 3))[0]
    g.set_outputs([g.add(ops.Transpose(perm=(0, 2, 3, 1)), conv(g, x, 4))[0]], ["y"])
    made = metal_layers.run(g, feeds(g), "fp16")
    assert np.abs(made.got["y"] - made.wanted["y"]).max() < 0.02
    assert [name.split("_")[0] for name in made.kernels] == ["convert", "conv", "gemm"]
    assert "_half_to_float" in made.kernels[-1]


def test_a_flattened_image_is_not_transposed() -> None:
    g = Graph("flat")
    x = conv(g, image(g, 3), 8, 3)
    (x,) = g.add(ops.Reshape(shape=(1, 288)), x)
    (y,) = g.add(ops.Dense(), x, matrix(g, 288, 10))
    g.set_outputs([y], ["y"])
    assert [name.split("_")[0] for name in kernels(g, atol=1e-4)][-2:] == ["conv", "gemv"]


def test_a_chain_before_a_flattened_image() -> None:
    """It stays channels-last, as the rows of the matrix are then."""
    g = Graph("flat")
    x = conv(g, image(g, 3), 8, 3)
    (x,) = g.add(ops.Mul(), g.add(ops.Sigmoid(), x)[0], g.add(ops.Exp(), x)[0])
    (x,) = g.add(ops.Reshape(shape=(1, 288)), x)
    (y,) = g.add(ops.Dense(), x, matrix(g, 288, 10))
    g.set_outputs([y], ["y"])
    found = kernels(g, atol=1e-3)
    assert "strided" not in found[-2] and found[-1].startswith("gemv")


def test_parts_of_a_concat_that_are_empty_or_alike() -> None:
    g = Graph("parts")
    x = g.add_input(TensorType(F32, (3, 4)), "x")
    (nothing,) = g.add(ops.Slice(starts=(0, 2), ends=(3, 2), steps=(1, 1)), x)
    (a,) = g.add(ops.Exp(), x)
    (b,) = g.add(ops.Abs(), x)
    (y,) = g.add(ops.Concat(axis=1), a, nothing, b, b, x)
    (y,) = g.add(ops.Transpose(perm=(1, 0)), y)
    g.set_outputs([y], ["y"])
    expect_same(g, feeds(g))


def test_a_channel_shuffle() -> None:
    """Both halves of what was shuffled are one copy."""
    g = Graph("shuffle")
    x = g.add_input(TensorType(F32, (1, 8, 5, 5)), "x")
    (y,) = g.add(ops.Reshape(shape=(4, 2, 25)), x)
    (y,) = g.add(ops.Transpose(perm=(1, 0, 2)), y)
    halves = [g.add(ops.Gather(axis=0), y, g.const(np.array(i)))[0] for i in (0, -1)]
    g.set_outputs(halves, ["even", "odd"])
    (call,) = calls(g)
    assert isinstance(call.kernel, Strided)
    expect_same(g, feeds(g))


# -- loops that share a dispatch ---------------------------------------------------------------------------------------


def test_loops_of_different_sizes_share_a_dispatch() -> None:
    g = Graph("sizes")
    xs = [g.add_input(TensorType(F32, shape), f"x{i}") for i, shape in enumerate([(5,), (300,), (3, 7, 11), (5,)])]
    results = [g.add(op, x)[0] for x, op in zip(xs, (ops.Relu(), ops.Abs(), ops.Exp(), ops.Neg()), strict=True)]
    g.set_outputs(results, [f"y{i}" for i in range(4)])
    (call,) = calls(g)
    assert [loop.sizes for loop in loops_of(call)] == [(5,), (300,), (231,)]
    expect_same(g, feeds(g))


def test_what_depends_on_another_loop_comes_after_it() -> None:
    g = Graph("order")
    x = g.add_input(TensorType(F32, (4, 6)), "x")
    (a,) = g.add(ops.Exp(), x)
    (b,) = g.add(ops.Softmax(axis=1), a)
    (c,) = g.add(ops.Mul(), a, b)
    (d,) = g.add(ops.Sqrt(), a)
    (e,) = g.add(ops.Add(), d, c)
    g.set_outputs([e, d], ["e", "d"])
    assert len(calls(g)) == 4
    expect_same(g, feeds(g))


def test_a_result_does_not_lie_upon_what_a_loop_beside_it_reads() -> None:
    """One loop may write over what it reads, but not if another one of the dispatch reads it elsewhere."""
    g = Graph("over")
    x = g.add_input(TensorType(F32, (8, 8)), "x")
    (a,) = g.add(ops.Softmax(axis=1), x)
    (b,) = g.add(ops.Relu(), g.add(ops.Transpose(perm=(1, 0)), a)[0])
    (c,) = g.add(ops.Exp(), a)
    (d,) = g.add(ops.MatMul(), b, c)
    g.set_outputs([d], ["d"])
    made = calls(g)
    assert len(made) == 3
    reads = {b for b in made[1].reads if b.place is Place.ARENA}
    assert reads and not reads.intersection(made[1].writes)
    expect_same(g, feeds(g))


def test_a_dispatch_has_no_more_buffers_than_a_kernel_may_have() -> None:
    g = Graph("many")
    xs = [g.add_input(TensorType(F32, (i + 1,)), f"x{i}") for i in range(40)]
    g.set_outputs([g.add(ops.Abs(), x)[0] for x in xs], [f"y{i}" for i in range(40)])
    made = calls(g)
    assert len(made) > 3 and all(len(c.reads) + len(c.writes) <= POINTERS for c in made)
    expect_same(g, feeds(g))


def test_loops_survive_being_written() -> None:
    g = Graph("same")
    x = g.add_input(TensorType(F32, (3, 5, 7)), "x")
    (y,) = g.add(ops.Relu(), g.add(ops.Transpose(perm=(2, 0, 1)), x)[0])
    g.set_outputs([y], ["y"])
    (call,) = calls(g)
    loops = loops_of(call)
    assert loops == [collapsed(loop) for loop in loops]
    assert dispatch(loops) == (call.kernel, list(call.arguments))


# -- moves of any kind before and after --------------------------------------------------------------------------------


def moved(g: Graph, x: Value, data: st.DataObject) -> Value:
    """A layer that moves elements, or takes some of them."""
    dims, rank = x.type.dims, x.type.rank
    kind = data.draw(st.sampled_from(["transpose", "slice", "split", "reshape", "gather", "none"]))
    axis = data.draw(st.integers(0, rank - 1))
    if kind == "transpose":
        return g.add(ops.Transpose(perm=tuple(data.draw(st.permutations(range(rank))))), x)[0]
    if kind == "slice":
        starts = tuple(data.draw(st.integers(0, n - 1)) for n in dims)
        steps = tuple(data.draw(st.integers(1, 3)) for _ in dims)
        return g.add(ops.Slice(starts=starts, ends=dims, steps=steps), x)[0]
    if kind == "split" and dims[axis] > 1:
        first = data.draw(st.integers(1, dims[axis] - 1))
        parts = g.add(ops.Split(axis=axis, sizes=(first, dims[axis] - first)), x)
        return data.draw(st.sampled_from(parts))
    if kind == "reshape":
        shape = data.draw(st.sampled_from([(x.type.size,), (1, *dims), (*dims[:-1], 1, dims[-1]), (dims[0], -1)]))
        return g.add(ops.Reshape(shape=tuple(x.type.size // dims[0] if n < 0 else n for n in shape)), x)[0]
    if kind == "gather":
        places = np.array(data.draw(st.sampled_from([0, -1, [0], list(range(dims[axis]))])))
        return g.add(ops.Gather(axis=axis), x, g.const(places))[0] if rank > 1 else x
    return x


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_strided_chains(shape: list[int], data: st.DataObject) -> None:
    """Moves before a chain, and moves and a Concat behind it."""
    g = Graph("chain")
    dtype: DType = data.draw(st.sampled_from([F32, F16, I32, U8]))
    x = g.add_input(TensorType(dtype, tuple(shape)), "x")
    for _ in range(data.draw(st.integers(0, 3))):
        x = moved(g, x, data)
    other = g.add_input(TensorType(dtype, x.type.dims[data.draw(st.integers(0, x.type.rank)) :]), "other")
    parts = [g.add(ops.Add(), x, other)[0], g.add(ops.Mul(), x, x)[0], x]
    parts = parts[: data.draw(st.integers(1, 3))]
    for i, part in enumerate(parts):
        if data.draw(st.booleans()) and part is not x:
            (parts[i],) = g.add(ops.Max(), part, x)
    axis = data.draw(st.integers(0, max(x.type.rank - 1, 0)))
    y = g.add(ops.Concat(axis=axis), *parts)[0] if x.type.rank else parts[0]
    for _ in range(data.draw(st.integers(0, 2))):
        y = moved(g, y, data) if y.type.rank else y
    outputs = [y, *parts[: data.draw(st.integers(0, 1))]]
    if data.draw(st.booleans()):
        outputs.append(g.add(ops.Abs(), y)[0])
    g.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    expect_same(g, feeds(g))
