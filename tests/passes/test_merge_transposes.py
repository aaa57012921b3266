"""MergeTransposes: permutations one after the other, and those of dimensions of 1."""

from __future__ import annotations

from itertools import permutations

import pytest

from compiler.ops.activation import Relu
from compiler.ops.shape import Reshape, Transpose
from passes.merge_transposes import MergeTransposes
from tests.passes.composed import Net, Term, becomes, run, stays


def transpose(x: Term, *perm: int) -> Term:
    return x.net(Transpose(perm=perm), x)


@pytest.mark.parametrize("first", list(permutations(range(3))))
@pytest.mark.parametrize("second", list(permutations(range(3))))
def test_two_are_one_or_none(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    net = Net()
    graph = net.returns(transpose(transpose(net.input(2, 3, 4), *first), *second))
    run(MergeTransposes(), graph)
    perm = tuple(first[i] for i in second)
    assert [n.op for n in graph.nodes] == ([] if perm == (0, 1, 2) else [Transpose(perm=perm)])


def test_a_transpose_with_other_readers_is_bypassed() -> None:
    net = Net()
    x = net.input(2, 3, 4)
    y = transpose(x, 1, 2, 0)
    graph = becomes(MergeTransposes(), net.returns(y, transpose(y, 2, 0, 1)), {"transpose": 1})
    assert graph.outputs[1] is x.value


def test_moving_ones_is_a_reshape() -> None:
    net = Net()
    graph = becomes(MergeTransposes(), net.returns(transpose(net.input(1, 3, 1, 4), 1, 3, 0, 2)), {"reshape": 1})
    assert [n.op for n in graph.nodes] == [Reshape(shape=(3, 4, 1, 1))]


def test_moving_ones_past_an_unbound_dimension() -> None:
    net = Net()
    becomes(MergeTransposes(), net.returns(transpose(net.input("n", 1, 4), 1, 0, 2)), {"reshape": 1})


def test_ones_that_the_next_transpose_moves_back() -> None:
    net = Net()
    y = transpose(transpose(net.input(1, 3, 4), 1, 0, 2), 1, 2, 0)
    graph = becomes(MergeTransposes(), net.returns(y), {"transpose": 1})
    assert [n.op for n in graph.nodes] == [Transpose(perm=(0, 2, 1))]


def test_two_unbound_dimensions_stay() -> None:
    net = Net()
    stays(MergeTransposes(), net.returns(transpose(net.input("n", 1, "m"), 1, 0, 2)))


def test_moving_others_stays() -> None:
    net = Net()
    stays(MergeTransposes(), net.returns(net(Relu(), transpose(net(Relu(), net.input(1, 3, 4)), 0, 2, 1))))


@pytest.mark.parametrize(("second", "ops"), [((1, 2, 0), {"relu": 2}), ((0, 2, 1), {"relu": 2, "transpose": 1})])
def test_functions_in_between(second: tuple[int, ...], ops: dict[str, int]) -> None:
    net = Net()
    y = net(Relu(), net(Relu(), transpose(net.input(2, 3, 4), 2, 0, 1)))
    becomes(MergeTransposes(), net.returns(transpose(y, *second)), ops)


def test_functions_that_are_read_elsewhere_stay() -> None:
    net = Net()
    y = net(Relu(), transpose(net.input(2, 3, 4), 2, 0, 1))
    stays(MergeTransposes(), net.returns(transpose(y, 1, 2, 0), y))
