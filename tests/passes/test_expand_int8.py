"""ExpandInt8: attention and normalisations by layers that kernels of integers compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.activation import Clip
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Abs, Add, Cast, Greater, Mul, Reciprocal, Sqrt
from compiler.ops.matmul import Dense
from compiler.ops.norm import LayerNorm, LocalResponseNorm, RmsNorm
from compiler.ops.recurrent import LSTM, RNN
from compiler.tensor import BOOL
from passes.expand_int8 import ExpandInt8
from tests.passes.composed import Net, Term, becomes, stays

Make = Callable[[Net, Term], Term]
RNG = np.random.default_rng(1)
SOFTMAX = {"matmul": 2, "mul": 1, "softmax": 1, "transpose": 1}


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_attention(heads: tuple[int, int]) -> None:
    net = Net()
    q, k = net.input(2, heads[0], 3, 5), net.input(2, heads[1], 6, 5)
    shapes = {} if heads[0] == heads[1] else {"reshape": 4}
    becomes(ExpandInt8(), net.returns(net(Attention(scale=0.4), q, k, k)), {**SOFTMAX, **shapes})


def test_causal_attention_chooses_what_is_seen() -> None:
    net = Net()
    x = net.input(1, 2, 4, 3)
    graph = net.returns(net(Attention(scale=0.4, causal=True), x, x, x))
    becomes(ExpandInt8(), graph, {**SOFTMAX, "where": 1})


@pytest.mark.parametrize("hides", [True, False])
def test_a_constant_mask(hides: bool) -> None:
    net = Net()
    x = net.input(1, 2, 4, 3)
    mask = RNG.normal(size=(4, 4))
    mask[0, 2] = -np.inf if hides else 1.0
    graph = net.returns(net(Attention(scale=0.4), x, x, x, mask))
    becomes(ExpandInt8(), graph, {**SOFTMAX, "add": 1, **({"where": 1} if hides else {})})


def test_a_computed_term_is_added() -> None:
    net = Net()
    x, seen = net.input(1, 2, 4, 3), net.input(1, 1, 1, 4)
    graph = net.returns(net(Attention(scale=0.4), x, x, x, (1.0 - seen) * -10.0))
    becomes(ExpandInt8(), graph, {**SOFTMAX, "add": 1, "sub": 1, "mul": 2})


def test_a_mask_that_may_hide_everything_stays() -> None:
    for kind in (BOOL, None):
        net = Net()
        x, mask = net.input(1, 2, 4, 3), net.input(4, 4, dtype=kind)
        stays(ExpandInt8(), net.returns(net(Attention(scale=0.4), x, x, x, mask)))
    net = Net()
    x = net.input(1, 2, 4, 3)
    stays(ExpandInt8(), net.returns(net(Attention(scale=0.4), x, x, x, np.full((4, 4), -np.inf))))
    stays(ExpandInt8(), net.returns(net(Attention(scale=0.4, softcap=2.0), x, x, x)))


def test_norms() -> None:
    norm = {"matmul": 1, "reshape": 3, "add": 1, "pow": 1, "mul": 2}
    net = Net()
    graph = net.returns(net(RmsNorm(axis=2, eps=1e-5), net.input(2, 3, 8), RNG.normal(size=8)))
    becomes(ExpandInt8(), graph, norm)
    net = Net()
    graph = net.returns(net(RmsNorm(axis=1, eps=1e-5), net.input(2, 3, 8), np.ones((3, 8))))
    becomes(ExpandInt8(), graph, {**norm, "reshape": 2})
    net = Net()
    layer = net(LayerNorm(axis=2, eps=1e-5), net.input(2, 3, 8), RNG.normal(size=8), RNG.normal(size=8))
    becomes(ExpandInt8(), net.returns(layer), {**norm, "add": 2, "sub": 1, "reduce_mean": 1})


@pytest.mark.parametrize(
    ("beta", "layers"), [(0.5, {"mul": 2, "conv": 1, "pow": 1}), (0.75, {"mul": 4, "conv": 1, "pow": 2})]
)
def test_local_response(beta: float, layers: dict[str, int]) -> None:
    net = Net()
    norm = LocalResponseNorm(size=4, alpha=0.5, beta=beta, bias=1.5)
    becomes(ExpandInt8(), net.returns(net(norm, net.input(1, 6, 3, 2))), layers)


def test_other_exponents_stay() -> None:
    net = Net()
    stays(ExpandInt8(), net.returns(net(LocalResponseNorm(size=3, beta=0.6), net.input(1, 6, 3, 2))))


def test_a_division_by_a_root() -> None:
    net = Net()
    x = net.input(2, 3)
    root = net(Sqrt(), x * x + 1.0)
    becomes(ExpandInt8(), net.returns(x / root), {"mul": 2, "add": 1, "pow": 1})
    net = Net()
    x = net.input(2, 3)
    becomes(ExpandInt8(), net.returns(net(Reciprocal(), net(Sqrt(), x * x + 1.0))), {"mul": 1, "add": 1, "pow": 1})


def test_divisions_by_constants_and_by_what_is_positive_are_products() -> None:
    net = Net()
    becomes(ExpandInt8(), net.returns(net.input(2, 3) / np.array([2.0, -3.0, 0.5])), {"mul": 1})
    positive: tuple[Make, ...] = (
        lambda n, x: n(Abs(), x) + 1.0,
        lambda n, x: n(Clip(low=0.25), x),
        lambda _, x: 0.5 + x * x,
    )
    for make in positive:
        net = Net()
        x = net.input(2, 3)
        graph = net.returns(x / make(net, x))
        kinds = {node.op.name: 0 for node in graph.nodes if node.op.name != "div"}
        found = {**kinds, **{name: len(graph.of(op)) for name, op in (("add", Add), ("abs", Abs), ("clip", Clip))}}
        squares = len(graph.of(Mul))
        becomes(ExpandInt8(), graph, {**{k: n for k, n in found.items() if n}, "mul": 2 + squares, "pow": 1})


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_divisors_that_may_be_zero_or_negative_stay(low: float) -> None:
    others: tuple[Make, ...] = (lambda n, x: n(Clip(low=low), x), lambda _, x: x + 1.0, lambda n, x: n(Abs(), x) + low)
    for make in others:
        net = Net()
        x = net.input(2, 3)
        stays(ExpandInt8(), net.returns(x / make(net, x)))
    net = Net()
    stays(ExpandInt8(), net.returns(net.input(2, 3) / np.array([1.0, 0.0, 2.0])))


def test_truth_values_are_chosen_numbers() -> None:
    net = Net()
    x = net.input(2, 3)
    becomes(ExpandInt8(), net.returns(net(Cast(to="f32"), net(Greater(), x, 0.0))), {"greater": 1, "where": 1})


def test_recurrent_layers_take_their_steps() -> None:
    """The state of the first step is 0, so that its product is a constant."""
    net = Net()
    constants = [RNG.normal(size=(1, 4 * 3, n)) for n in (2, 3)]
    y, *_ = net.many(LSTM(functions=LSTM.default_functions), net.input(4, 1, 2), *constants, RNG.normal(size=(1, 24)))
    each = {"add": 8, "mul": 12, "sigmoid": 12, "tanh": 8}
    becomes(ExpandInt8(), net.returns(y), {**each, "dense": 4, "split": 5, "concat": 1, "reshape": 3})
    net = Net()
    y, *_ = net.many(RNN(functions=("Tanh",)), net.input(4, 1, 2), *(c[:, :3] for c in constants))
    graph = net.returns(y)
    stays(ExpandInt8(keep=("rnn",)), graph)
    becomes(ExpandInt8(), graph, {"add": 4, "tanh": 4, "dense": 4, "split": 1, "concat": 1, "reshape": 3})
    shared = {id(v) for node in graph.of(Dense) for v in node.inputs[1:] if v is not None and v.data is not None}
    assert len(shared) == 2


def test_operations_can_be_kept() -> None:
    net = Net()
    graph = net.returns(net(RmsNorm(axis=1, eps=1e-5), net.input(2, 8), np.ones(8)))
    stays(ExpandInt8(keep=("rms_norm",)), graph)
