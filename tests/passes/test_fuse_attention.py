"""FuseAttention: scales, transposes, masks of all kinds, shared heads, and near misses."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
import pytest

from compiler.ops.attention import Attention
from compiler.ops.elementwise import Cast, IsNaN, Not, Where
from compiler.ops.index import Gather
from compiler.ops.matmul import MatMul
from compiler.ops.parts import Tile
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.ops.softmax import Softmax
from compiler.tensor import BOOL, F16, F32, Array, DType
from passes.fuse_attention import FuseAttention
from tests.passes.composed import Net, Term, becomes, run, stays

LOWEST = float(np.finfo(np.float32).min)
PAST = np.tri(5, 6, dtype=bool)


def turned(k: Term) -> Term:
    rank = k.value.type.rank
    return k.net(Transpose(perm=(*range(rank - 2), rank - 1, rank - 2)), k)


def product(x: Term, y: Term) -> Term:
    return x.net(MatMul(), x, y)


def softmax(scores: Term, axis: int | None = None) -> Term:
    return scores.net(Softmax(axis=scores.value.type.rank - 1 if axis is None else axis), scores)


def operands(net: Net, heads: int = 4, shared: int | None = None) -> tuple[Term, Term, Term]:
    few = heads if shared is None else shared
    return net.input(2, heads, 5, 8), net.input(2, few, 6, 8), net.input(2, few, 6, 3)


def only_layer(net: Net) -> Attention:
    (node,) = net.graph.of(Attention)
    assert isinstance(node.op, Attention)
    return node.op


SCALES: dict[str, Callable[[Term, Term], Term]] = {
    "none": lambda q, k: product(q, turned(k)),
    "factor": lambda q, k: product(q, turned(k)) * 0.25,
    "factor first": lambda q, k: 0.25 * product(q, turned(k)),
    "divisor": lambda q, k: product(q, turned(k)) / 4,
    "queries": lambda q, k: product(q * 0.25, turned(k)),
    "queries divided": lambda q, k: product(q / 4, turned(k)),
    "keys": lambda q, k: product(q, turned(k * 0.25)),
    "transposed keys": lambda q, k: product(q, 0.25 * turned(k)),
    "both": lambda q, k: product(q * 0.5, turned(k) * 0.5),
    "everywhere": lambda q, k: product(q / 2, turned(k * 2) * 0.5) * 0.5,
}


@pytest.mark.parametrize("scored", SCALES.values(), ids=SCALES.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_scales(scored: Callable[[Term, Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    q, k, v = operands(net)
    becomes(FuseAttention(), net.returns(product(softmax(scored(q, k)), v)), {"attention": 1}, scale=0.3)
    assert only_layer(net).scale == pytest.approx(1.0 if scored is SCALES["none"] else 0.25, 1e-3)


def test_a_scale_per_channel_stays_outside() -> None:
    net = Net()
    q, k, v = operands(net)
    y = product(softmax(product(q * np.linspace(0, 1, 8), turned(k))), v)
    becomes(FuseAttention(), net.returns(y), {"attention": 1, "mul": 1})


def test_keys_that_are_transposed_together_with_their_heads() -> None:
    net = Net()
    q, v = net.input(2, 4, 5, 8), net.input(2, 4, 6, 3)
    k = net(Transpose(perm=(0, 2, 3, 1)), net.input(2, 6, 4, 8))
    becomes(
        FuseAttention(), net.returns(product(softmax(product(q, k)), v)), {"attention": 1, "transpose": 1}, scale=0.5
    )


def test_keys_that_come_transposed() -> None:
    net = Net()
    q, k, v = net.input(2, 4, 5, 8), net.input(2, 4, 8, 6), net.input(2, 4, 6, 3)
    becomes(
        FuseAttention(), net.returns(product(softmax(product(q, k)), v)), {"attention": 1, "transpose": 1}, scale=0.5
    )


def test_keys_that_are_transposed_with_their_heads_flattened() -> None:
    net = Net()
    q, k, v = operands(net)
    flat = net(Reshape(shape=(8, 6, 8)), k)
    kt = net(Reshape(shape=(2, 4, 8, 6)), net(Transpose(perm=(0, 2, 1)), flat))
    becomes(FuseAttention(), net.returns(product(softmax(product(q, kt)), v)), {"attention": 1}, scale=0.5)


def constant(mask: Array, low: float) -> Array:
    return np.where(mask, 0.0, low)


MASKS: dict[str, tuple[Callable[[Term], Term], bool, int]] = {
    "term": (lambda s: s + np.linspace(0, -3, 6), False, 4),
    "zeros": (lambda s: s + np.zeros((5, 6)), False, 3),
    "causal term": (lambda s: constant(PAST, -inf) + s, True, 3),
    "causal term, finite": (lambda s: s + constant(PAST, -10000.0)[None, None], True, 3),
    "causal term, lowest": (lambda s: s + constant(np.broadcast_to(PAST, (2, 4, 5, 6)), LOWEST), True, 3),
    "term that is 0 where causal": (lambda s: s + constant(PAST, -1.0), False, 4),
    "other term": (lambda s: s + constant(np.tri(5, 6, 1, dtype=bool), -inf), False, 4),
    "causal choice": (lambda s: s.net(Where(), PAST, s, LOWEST), True, 3),
    "causal choice, inverted": (lambda s: s.net(Where(), ~PAST, np.full((1, 1, 5, 6), -inf), s), True, 3),
    "other choice": (lambda s: s.net(Where(), np.tri(5, 6, 1, dtype=bool), s, -1e9), False, 4),
    "other choice, inverted": (lambda s: s.net(Where(), ~np.tri(5, 6, 1, dtype=bool), -1e9, s), False, 4),
    "choice that hides all from one": (lambda s: s.net(Where(), np.tri(5, 6, -1, dtype=bool), s, -1e9), False, 4),
    "causal choice and term": (lambda s: s.net(Where(), PAST, s, LOWEST) + np.linspace(0, -3, 6), True, 4),
    "term and causal choice": (lambda s: s.net(Where(), PAST, s + np.linspace(0, -3, 6), LOWEST), True, 4),
    "two terms": (lambda s: s + np.linspace(0, -3, 6) + np.ones((5, 1)), False, 4),
}


@pytest.mark.parametrize(("mask", "causal", "count"), MASKS.values(), ids=MASKS.keys())
def test_constant_masks(mask: Callable[[Term], Term], causal: bool, count: int) -> None:
    net = Net()
    q, k, v = operands(net)
    graph = net.returns(product(softmax(mask(product(q, turned(k)) * 0.25)), v))
    run(FuseAttention(), graph)
    (node,) = graph.of(Attention)
    assert (only_layer(net).causal, len(node.inputs)) == (causal, count)
    assert set(graph.op_counts) <= {"attention", "add", "where"}


@pytest.mark.parametrize("low", [-1.0, np.triu(np.linspace(-3, -0.5, 30).reshape(5, 6), 1)], ids=["one", "many"])
def test_small_numbers_above_the_diagonal_are_added_not_hidden(low: float | Array) -> None:
    net = Net()
    q, k, v = operands(net)
    y = product(softmax(product(q, turned(k)) + np.where(PAST, 0.0, low)), v)
    graph = becomes(FuseAttention(), net.returns(y), {"attention": 1}, scale=0.5)
    assert not only_layer(net).causal and len(graph.of(Attention)[0].inputs) == 4


@pytest.mark.parametrize("shape", [(2, 1, 5, 6), (2, 4, 5, 6), (1, 1, 1, 6), (5, 6), (6,)])
def test_a_term_from_outside(shape: tuple[int, ...]) -> None:
    net = Net()
    q, k, v = operands(net)
    y = product(softmax(product(q, turned(k)) + net.input(*shape)), v)
    becomes(FuseAttention(), net.returns(y), {"attention": 1}, scale=0.5)


def test_a_choice_from_outside() -> None:
    net = Net()
    q, k, v = operands(net)
    seen = net.input(2, 1, 1, 6, dtype=BOOL)
    y = product(softmax(net(Where(), seen, product(q, turned(k)), -inf)), v)
    graph = becomes(FuseAttention(), net.returns(y), {"attention": 1}, scale=0.5)
    assert graph.of(Attention)[0].inputs[3] is seen.value


def test_an_inverted_choice_from_outside() -> None:
    net = Net()
    q, k, v = operands(net)
    hidden = net(Not(), net.input(2, 1, 1, 6, dtype=BOOL))
    y = product(softmax(net(Where(), hidden, -inf, product(q, turned(k)))), v)
    becomes(FuseAttention(), net.returns(y), {"attention": 1, "not": 2}, scale=0.5)


def test_a_finite_choice_from_outside_keeps_its_number() -> None:
    """A query that sees no key weighs all of them alike, with the layers and with the term."""
    net = Net()
    q, k, v = operands(net)
    nothing = net(Not(), net(Not(), net.input(2, 1, 5, 6, dtype=BOOL)))
    y = product(softmax(net(Where(), nothing, product(q, turned(k)), -1e9)), v)
    becomes(FuseAttention(), net.returns(y), {"attention": 1, "where": 1, "not": 2}, scale=0.5)


def test_a_guard_against_queries_that_see_nothing() -> None:
    net = Net()
    q, k, v = operands(net)
    seen = np.tri(5, 6, -1, dtype=bool)
    p = softmax(product(q, turned(k)) + constant(seen, -inf))
    y = product(net(Where(), net(IsNaN(), p), 0, p), v)
    with np.errstate(invalid="ignore"):
        becomes(FuseAttention(), net.returns(y), {"attention": 1}, scale=0.5)


def test_a_term_that_chooses_becomes_the_choice() -> None:
    net = Net()
    q, k, v = operands(net)
    seen = net.input(2, 1, 1, 6, dtype=BOOL)
    y = product(softmax(product(q, turned(k)) + net(Where(), seen, 0.0, -inf)), v)
    becomes(FuseAttention(), net.returns(y), {"attention": 1}, scale=0.5)


def test_f32_inside_f16() -> None:
    net = Net(F16)
    q, k, v = operands(net)
    p = net(Cast(to="f16"), softmax(net(Cast(to="f32"), product(q, turned(k)))))
    becomes(FuseAttention(), net.returns(product(p, v)), {"attention": 1}, scale=0.5)


def by_expand(x: Term) -> Term:
    b, h, t, d = x.value.type.dims
    wide = x.net(Expand(shape=(b, h, 2, t, d)), x.net(Reshape(shape=(b, h, 1, t, d)), x))
    return x.net(Reshape(shape=(b, h * 2, t, d)), wide)


def by_tile(x: Term) -> Term:
    b, h, t, d = x.value.type.dims
    wide = x.net(Tile(repeats=(1, 1, 2, 1, 1)), x.net(Reshape(shape=(b, h, 1, t, d)), x))
    return x.net(Reshape(shape=(b, h * 2, t, d)), wide)


def by_gather(x: Term) -> Term:
    return x.net(Gather(axis=1), x, np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("repeat", [by_expand, by_tile, by_gather])
def test_shared_heads(repeat: Callable[[Term], Term]) -> None:
    net = Net()
    q, k, v = operands(net, 4, 2)
    y = product(softmax(product(q, turned(repeat(k))) / 2), repeat(v))
    graph = becomes(FuseAttention(), net.returns(y), {"attention": 1}, scale=0.5)
    assert graph.of(Attention)[0].inputs == (q.value, k.value, v.value)


def test_one_head_for_all() -> None:
    net = Net()
    q, k, v = operands(net, 4, 1)

    def wide(x: Term) -> Term:
        b, _, t, d = x.value.type.dims
        return net(Expand(shape=(b, 4, t, d)), x)

    becomes(
        FuseAttention(),
        net.returns(product(softmax(product(q, turned(wide(k)))), wide(v))),
        {"attention": 1},
        scale=0.5,
    )
    net = Net()
    q, k, v = operands(net, 4, 1)
    becomes(FuseAttention(), net.returns(product(softmax(product(q, turned(k))), v)), {"attention": 1}, scale=0.5)


def test_heads_that_are_repeated_in_another_order_are_kept() -> None:
    net = Net()
    q, k, v = operands(net, 4, 2)

    def tiled(x: Term) -> Term:
        return net(Gather(axis=1), x, np.array([0, 1, 0, 1]))

    y = product(softmax(product(q, turned(tiled(k)))), tiled(v))
    becomes(FuseAttention(), net.returns(y), {"attention": 1, "gather": 2}, scale=0.5)


def test_rank_3_with_reshapes_that_meet_others() -> None:
    net = Net()
    q, k, v = (net(Transpose(perm=(1, 0, 2)), net(Reshape(shape=(5, 8, 4)), net.input(5, 2, 16))) for _ in range(3))
    y = product(softmax(product(q * 0.5, turned(k))), v)
    graph = becomes(FuseAttention(), net.returns(y), {"attention": 1, "reshape": 7, "transpose": 3}, scale=0.5)
    assert graph.of(Attention)[0].inputs[0] is not None


def test_symbolic_batch_and_length() -> None:
    net = Net()
    q, k, v = (net.input("n", 4, "s", 8) for _ in range(3))
    becomes(FuseAttention(), net.returns(product(softmax(product(q, turned(k))), v)), {"attention": 1}, scale=0.5)


def weights(n: Net, *batch: int) -> Term:
    return softmax(scores(n, *batch))


def scores(n: Net, *batch: int) -> Term:
    return product(n.input(*batch, 5, 8), n.input(*batch, 8, 6))


NEAR: dict[str, Callable[[Net], Term]] = {
    "other axis": lambda n: product(softmax(scores(n, 1, 2), 2), n.input(1, 2, 6, 3)),
    "rank 5": lambda n: product(weights(n, 1, 1, 2), n.input(1, 1, 2, 6, 3)),
    "other batch": lambda n: product(softmax(product(n.input(1, 2, 5, 8), n.input(3, 2, 8, 6))), n.input(3, 2, 6, 3)),
    "other batch of values": lambda n: product(weights(n, 1, 2), n.input(3, 2, 6, 3)),
    "mask that widens": lambda n: product(softmax(scores(n, 1, 2) + n.input(3, 1, 5, 6)), n.input(3, 2, 6, 3)),
    "choice of a number that counts": lambda n: product(
        softmax(n(Where(), PAST, scores(n, 1, 2), -1.0)), n.input(1, 2, 6, 3)
    ),
    "scale per query": lambda n: product(softmax(scores(n, 1, 2) * np.ones((5, 1))), n.input(1, 2, 6, 3)),
    "weights on the right": lambda n: product(n.input(1, 2, 3, 5), weights(n, 1, 2)),
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Net], Term]) -> None:
    net = Net()
    stays(FuseAttention(), net.returns(formula(net)))


def test_weights_that_are_read_elsewhere_stay() -> None:
    net = Net()
    q, k, v = operands(net)
    p = softmax(product(q, turned(k)))
    stays(FuseAttention(), net.returns(product(p, v), p))


def test_provenance_is_united() -> None:
    net = Net()
    q, k, v = operands(net, 4, 2)
    graph = net.returns(product(softmax(product(q, turned(by_expand(k)))), by_expand(v)))
    for i, node in enumerate(graph.nodes):
        node.origin = frozenset({f"n{i}"})
    everything = frozenset().union(*(n.origin for n in graph.nodes))
    becomes(FuseAttention(), graph, {"attention": 1}, scale=0.5)
    assert graph.of(Attention)[0].origin == everything
