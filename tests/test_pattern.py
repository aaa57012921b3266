"""The matcher: what each pattern means, that the search is complete, and that it takes back what it bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.activation import Clip, Relu, Sigmoid
from compiler.ops.elementwise import Add, Div, Exp, Max, Mul, Neg, Sqrt, Sub, Sum
from compiler.ops.parts import Split
from compiler.ops.search import TopK
from compiler.pattern import Const, Layer, Match, Maybe, OneOf, Pattern, Wild, match
from compiler.tensor import BF16, F16, F32, I64, DType, TensorType

Bound = dict[Pattern, Value | None]

X, Y = Wild(), Wild()


class Net:
    """A graph whose values are made in one line each."""

    def __init__(self) -> None:
        self.graph = Graph()

    def input(self, *shape: int, dtype: DType = F32) -> Value:
        return self.graph.add_input(TensorType(dtype, shape or (4,)), "x")

    def const(self, *values: float, dtype: DType = F32) -> Value:
        return self.graph.const(np.array(values if len(values) > 1 else values[0]).astype(dtype.numpy))

    def __call__(self, op: Op, *operands: Value | None) -> Value:
        return self.graph.add(op, *operands)[0]

    def many(self, op: Op, *operands: Value) -> tuple[Value, ...]:
        return self.graph.add(op, *operands)

    def read(self, *values: Value) -> None:
        self.graph.set_outputs(values, [f"y{i}" for i in range(len(values))])


@pytest.fixture
def net() -> Net:
    return Net()


def meet(pattern: Layer, v: Value) -> Match | None:
    """Match the layer that computes a value."""
    assert v.node is not None
    return match(pattern, v.node)


def node(v: Value) -> Node:
    assert v.node is not None
    return v.node


def test_root_operation_and_attributes(net: Net) -> None:
    x = net.input()
    y = net(Clip(low=0, high=6), x)
    assert meet(Layer(Clip, X), y) is not None
    assert meet(Layer((Relu, Clip), X), y) is not None
    assert meet(Layer(Relu, X), y) is None
    assert meet(Layer(Clip, X, where=lambda op: op.high == 6), y) is not None
    assert meet(Layer(Clip, X, where=lambda op: op.high == 5), y) is None


def test_captures(net: Net) -> None:
    x, w = net.input(), net.const(1, 2, 3, 4)
    y = net(Mul(), net(Neg(), x), w)
    weight, inner = Const(), Layer(Neg, X)
    root = Layer(Mul, inner, weight)
    m = meet(root, y)
    assert m is not None
    assert m.value(X) is x
    assert m[weight].tolist() == [1, 2, 3, 4]
    assert m.op(inner) == Neg()
    assert m.node(root) is m.root is node(y)
    assert [n.op for n in m.layers()] == [Mul(), Neg()]
    assert X in m and Y not in m
    assert m.maybe(Y) is None


def test_the_same_pattern_twice_is_the_same_value(net: Net) -> None:
    x, y = net.input(), net.input()
    pattern = Layer(Sub, X, X)
    assert meet(pattern, net(Sub(), x, x)) is not None
    assert meet(pattern, net(Sub(), x, y)) is None
    nested = Layer(Mul, X, Layer(Sigmoid, X))
    assert meet(nested, net(Mul(), x, net(Sigmoid(), y))) is None
    assert meet(nested, net(Mul(), net(Sigmoid(), y), y)) is not None


def test_a_layer_pattern_used_twice_is_one_layer(net: Net) -> None:
    x = net.input()
    neg = Layer(Neg, X)
    pattern = Layer(Sub, Layer(Exp, neg), Layer(Sqrt, neg))
    shared = net(Neg(), x)
    assert meet(pattern, net(Sub(), net(Exp(), shared), net(Sqrt(), shared))) is not None
    assert meet(pattern, net(Sub(), net(Exp(), net(Neg(), x)), net(Sqrt(), net(Neg(), x)))) is None


def test_number_of_operands(net: Net) -> None:
    x = net.input()
    two, three = net(Sum(), x, x), net(Sum(), x, x, x)
    assert meet(Layer(Sum, X, X), two) is not None
    assert meet(Layer(Sum, X, X), three) is None
    assert meet(Layer(Sum, X, rest=True), three) is not None
    assert meet(Layer(Sum, X, X, X, X), three) is None


def test_maybe(net: Net) -> None:
    x = net.input()
    bias = Maybe(Const())
    pattern = Layer(Sum, X, bias)
    with_bias, without = meet(pattern, net(Sum(), x, net.const(1))), meet(pattern, net(Sum(), x))
    assert with_bias is not None and without is not None
    assert bias in with_bias and with_bias[bias].item() == 1
    assert bias not in without and without[bias] is None and without.maybe(bias) is None
    assert meet(pattern, net(Sum(), x, x)) is None


def test_wild_with_a_test(net: Net) -> None:
    pattern = Layer(Neg, Wild(lambda v: v.type.rank == 2))
    assert meet(pattern, net(Neg(), net.input(2, 3))) is not None
    assert meet(pattern, net(Neg(), net.input(2))) is None


@pytest.mark.parametrize(
    ("equal", "values", "dtype", "fits"),
    [
        (0.5, [0.5], F32, True),
        (0.5, [0.5, 0.5], F32, True),
        (0.5, [0.5, 0.6], F32, False),
        (0.5, [0.500001], F32, False),
        (2**0.5, [1.41421354], F32, True),
        (1.41, [1.41], F16, True),
        (1.41, [1.42], F16, False),
        (0.5, [0.5], BF16, True),
        (0, [0], I64, True),
        (0, [1], I64, False),
        (0, [1e-30], F32, False),
        (0.5, [np.nan], F32, False),
        (0.5, [np.inf], F32, False),
    ],
)
def test_constants_by_value(net: Net, equal: float, values: list[float], dtype: DType, fits: bool) -> None:
    y = net(Add(), net.input(2, dtype=dtype), net.const(*values, dtype=dtype))
    assert (meet(Layer(Add, X, Const(equal=equal)), y) is not None) == fits


def test_constants_by_test(net: Net) -> None:
    y = net(Add(), net.input(), net.const(1, 2, 3, 4))
    assert meet(Layer(Add, X, Const(where=lambda v: v.type.size == 4)), y) is not None
    assert meet(Layer(Add, X, Const(where=lambda v: v.type.size == 1)), y) is None
    assert meet(Layer(Add, Const(), Const()), y) is None


def test_a_layer_with_other_readers_does_not_match(net: Net) -> None:
    x = net.input()
    inner = net(Neg(), x)
    y = net(Exp(), inner)
    pattern, sharing = Layer(Exp, Layer(Neg, X)), Layer(Exp, Layer(Neg, X, shared=True))
    assert meet(pattern, y) is not None
    net(Sqrt(), inner)
    assert meet(pattern, y) is None
    assert meet(sharing, y) is not None


def test_an_output_of_the_graph_is_a_reader(net: Net) -> None:
    inner = net(Neg(), net.input())
    y = net(Exp(), inner)
    net.read(y, inner)
    assert meet(Layer(Exp, Layer(Neg, X)), y) is None
    assert meet(Layer(Exp, Layer(Neg, X, shared=True)), y) is not None
    assert meet(Layer(Exp, X), y) is not None


def test_readers_within_the_match_do_not_count(net: Net) -> None:
    centred = Layer(Neg, X)
    pattern = Layer(Div, centred, Layer(Sqrt, Layer(Mul, centred, centred)))
    c = net(Neg(), net.input())
    y = net(Div(), c, net(Sqrt(), net(Mul(), c, c)))
    assert meet(pattern, y) is not None
    net(Exp(), c)
    assert meet(pattern, y) is None


def test_swapped_operands(net: Net) -> None:
    x, k = net.input(), net.const(2)
    pattern = Layer(Mul, X, Const())
    assert meet(pattern, net(Mul(), x, k)) is not None
    assert meet(pattern, net(Mul(), k, x)) is not None
    assert meet(Layer(Mul, X, Const(), any_order=False), net(Mul(), k, x)) is None
    assert meet(Layer(Div, X, Const()), net(Div(), k, x)) is None
    assert meet(Layer((Mul, Div), X, Const()), net(Mul(), k, x)) is None


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flip", range(4))
def test_every_order_at_several_levels(net: Net, order: tuple[int, ...], flip: int) -> None:
    """The order of the outer layer cannot be told from the operations: only the innermost operand decides it."""
    x, y, z = net.input(), net.input(), net.input()
    operands = [net(Neg(), x), net(Neg(), y), net(Neg(), z)]
    a, b, c = (operands[i] for i in order)
    inner = net(Add(), b, c) if flip & 1 else net(Add(), c, b)
    product = net(Mul(), a, net(Neg(), inner)) if flip & 2 else net(Mul(), net(Neg(), inner), a)
    special = node(operands[1]).inputs[0]
    marked, left, right = Wild(lambda v: v is special), Wild(), Wild()
    marked_outside = Layer(Mul, Layer(Neg, marked), Layer(Neg, Layer(Add, Layer(Neg, left), Layer(Neg, right))))
    marked_inside = Layer(Mul, Layer(Neg, left), Layer(Neg, Layer(Add, Layer(Neg, right), Layer(Neg, marked))))
    assert (meet(marked_outside, product) is not None) == (order[0] == 1)
    assert (meet(marked_inside, product) is not None) == (order[0] != 1)


def test_an_early_choice_of_order_is_taken_back(net: Net) -> None:
    """(p + q) * r with r = -p: the first order of the sum fits the sum, but not what comes after it."""
    p, q = Wild(), Wild()
    pattern = Layer(Div, Layer(Add, p, q), Layer(Neg, p))
    x, y = net.input(), net.input()
    for first, second in ((x, y), (y, x)):
        m = meet(pattern, net(Div(), net(Add(), x, y), net(Neg(), first)))
        assert m is not None
        assert (m.value(p), m.value(q)) == (first, second)


def test_alternatives_in_order(net: Net) -> None:
    x = net.input()
    inner = Layer(Neg, X)
    pattern = Layer(Exp, OneOf(inner, X))
    negated, plain = meet(pattern, net(Exp(), net(Neg(), x))), meet(pattern, net(Exp(), x))
    assert negated is not None and plain is not None
    assert negated.value(X) is x and inner in negated
    assert plain.value(X) is x and inner not in plain
    assert [n.op for n in plain.layers()] == [Exp()]
    assert meet(Layer(Exp, OneOf(Layer(Neg, X), Const())), net(Exp(), x)) is None


def test_an_alternative_is_taken_back_when_the_rest_fails(net: Net) -> None:
    """The first alternative fits the first operand, but then the second operand cannot be the same X."""
    shifted = Layer(Add, X, Const())
    pattern = Layer(Div, OneOf(shifted, X), Layer(Exp, X))
    x = net.input()
    y = net(Add(), x, net.const(1))
    m = meet(pattern, net(Div(), y, net(Exp(), y)))
    assert m is not None
    assert m.value(X) is y and shifted not in m
    assert [n.op for n in m.layers()] == [Div(), Exp()]


def test_an_alternative_is_taken_back_when_a_layer_of_it_is_read_elsewhere(net: Net) -> None:
    inner = Layer(Neg, X)
    pattern = Layer(Exp, OneOf(inner, X))
    y = net(Neg(), net.input())
    z = net(Exp(), y)
    net(Sqrt(), y)
    m = meet(pattern, z)
    assert m is not None
    assert m.value(X) is y and inner not in m


def test_nested_alternatives(net: Net) -> None:
    half = OneOf(Layer(Mul, X, Const(equal=0.5)), Layer(Div, X, Const(equal=2)))
    pattern = Layer(Mul, half, OneOf(Layer(Add, Layer(Exp, half), Const(equal=1)), Layer(Exp, X)))
    x = net.input()
    h = net(Div(), x, net.const(2))
    assert meet(pattern, net(Mul(), net(Exp(), x), h)) is not None
    assert meet(pattern, net(Mul(), net(Exp(), h), h)) is None
    k = net(Mul(), net.const(0.5), x)
    assert meet(pattern, net(Mul(), net(Add(), net.const(1), net(Exp(), k)), k)) is not None


def test_results_of_one_layer(net: Net) -> None:
    parts = Layer(Split, X, where=lambda op: len(op.sizes) == 2)
    pattern = Layer(Mul, parts, Layer(Sigmoid, parts.out(1)))
    x = net.input(4)
    a, b = net.many(Split(axis=0, sizes=(2, 2)), x)
    y = net(Mul(), a, net(Sigmoid(), b))
    m = meet(pattern, y)
    assert m is not None
    assert m.value(X) is x
    assert m.node(parts) is m.node(parts.out(1)) is a.node
    assert [n.op.name for n in m.layers()] == ["mul", "split", "sigmoid"]
    assert meet(pattern, net(Mul(), b, net(Sigmoid(), a))) is None
    _, other = net.many(Split(axis=0, sizes=(2, 2)), x)
    assert meet(pattern, net(Mul(), a, net(Sigmoid(), other))) is None


def test_no_result_of_a_layer_may_be_read_elsewhere(net: Net) -> None:
    parts = Layer(Split, X)
    pattern = Layer(Neg, parts)
    a, b = net.many(Split(axis=0, sizes=(2, 2)), net.input(4))
    y = net(Neg(), a)
    assert meet(pattern, y) is not None
    net(Exp(), b)
    assert meet(pattern, y) is None


def test_a_root_with_several_results(net: Net) -> None:
    (values, indices) = net.many(TopK(k=2, axis=0), net(Neg(), net.input(4)))
    root = Layer(TopK, Layer(Neg, X))
    assert meet(root, values) is not None
    second = root.out(1)
    m = meet(second, indices)
    assert m is not None
    assert m.value(second) is indices
    assert m.node(root) is m.root is indices.node
    assert meet(Layer(Neg, X).out(1), net(Neg(), net.input())) is None


def test_variadic_layers_with_one_operand(net: Net) -> None:
    x = net.input()
    assert meet(Layer(Max, X, Y), net(Max(), x)) is None
    assert meet(Layer(Max, X, Y), net(Max(), x, x)) is not None


def test_failures_are_cheap_on_wide_fans(net: Net) -> None:
    """A value with many readers is refused without a look at all of them at every level."""
    x = net.input()
    hub = net(Neg(), x)
    readers = [net(Exp(), hub) for _ in range(1000)]
    pattern = Layer(Exp, Layer(Neg, X))
    assert all(meet(pattern, r) is None for r in readers)


def ways(p: Pattern, v: Value | None, bound: Bound) -> Iterator[Bound]:
    """Every way in which a value matches, found by trying everything; what `match` must agree with."""
    if p in bound:
        if bound[p] is v:
            yield bound
    elif isinstance(p, OneOf):
        for choice in p.choices:
            yield from ways(choice, v, {**bound, p: v})
    elif isinstance(p, Const):
        if v is not None and v.data is not None:
            yield {**bound, p: v}
    elif isinstance(p, Wild):
        if v is not None:
            yield {**bound, p: v}
    elif isinstance(p, Layer) and v is not None and v.node is not None and type(v.node.op) in p.ops:
        orders = {v.node.inputs, v.node.inputs[::-1]} if p.any_order else {v.node.inputs}
        for inputs in orders:
            found: list[Bound] = [{**bound, p: v}]
            for operand, value in zip(p.operands, inputs, strict=True):
                found = [further for one in found for further in ways(operand, value, one)]
            yield from found


def alone(bound: Bound, root: Node) -> bool:
    """Whether no layer of a match, but the root, has a reader outside."""
    met = {v.node for p, v in bound.items() if isinstance(p, Layer) and v is not None}
    return all(v is None or v.node is root or set(v.users) <= met for p, v in bound.items() if isinstance(p, Layer))


Draw = Callable[[st.SearchStrategy[Any]], Any]
OPERATIONS = (Add, Mul, Sub, Neg)


def random_graph(draw: Draw) -> tuple[Graph, list[Value]]:
    net = Net()
    values = [net.input(2), net.input(2), net.const(1, 2)]
    for op in draw(st.lists(st.sampled_from(OPERATIONS), min_size=3, max_size=9)):
        recent = st.sampled_from(values[-4:])
        values.append(net(op(), *(draw(recent) for _ in range(1 if op is Neg else 2))))
    return net.graph, values[3:]


def random_pattern(draw: Draw, wilds: list[Pattern], depth: int) -> Pattern:
    kind = draw(st.integers(0, 9)) if depth else 0
    if kind < 3:
        return draw(st.sampled_from(wilds))
    if kind == 3:
        return OneOf(*(random_pattern(draw, wilds, depth - 1) for _ in range(2)))
    op = draw(st.sampled_from(OPERATIONS))
    made = Layer(op, *(random_pattern(draw, wilds, depth - 1) for _ in range(1 if op is Neg else 2)))
    wilds.append(made)
    return made


@given(st.data())
@settings(max_examples=300)
def test_the_search_is_complete(data: st.DataObject) -> None:
    """On random graphs and patterns there is a match exactly if trying everything finds one, and it is one of those."""
    _, values = random_graph(data.draw)
    op = data.draw(st.sampled_from(OPERATIONS))
    wilds: list[Pattern] = [Wild(), Wild(), Const()]
    root = Layer(op, *(random_pattern(data.draw, wilds, 3) for _ in range(1 if op is Neg else 2)))
    for v in values:
        expected = [w for w in ways(root, v, {}) if alone(w, node(v))]
        found = meet(root, v)
        assert (found is not None) == bool(expected)
        assert found is None or found.bound in expected
