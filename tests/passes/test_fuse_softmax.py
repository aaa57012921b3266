"""FuseSoftmax: with and without the maximum, as quotient and as product."""

from __future__ import annotations

import pytest

from compiler.ops.elementwise import Exp, Reciprocal
from compiler.ops.reduce import ReduceMax, ReduceSum
from compiler.ops.shape import Expand, Reshape
from compiler.ops.softmax import Softmax
from compiler.tensor import F16, F32, DType
from passes.fuse_softmax import FuseSoftmax
from tests.passes.composed import Net, Term, becomes, stays


def exp(x: Term) -> Term:
    return x.net(Exp(), x)


def total(x: Term, *axes: int, keepdims: bool = True) -> Term:
    return x.net(ReduceSum(axes=axes, keepdims=keepdims), x)


def top(x: Term, *axes: int) -> Term:
    return x.net(ReduceMax(axes=axes), x)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_quotient(axis: int, dtype: DType) -> None:
    net = Net(dtype)
    e = exp(net.input(3, 4, 5))
    graph = becomes(FuseSoftmax(), net.returns(e / total(e, axis)), {"softmax": 1})
    assert [n.op for n in graph.nodes] == [Softmax(axis=axis)]


@pytest.mark.parametrize("axis", [0, 2])
def test_with_the_maximum(axis: int) -> None:
    net = Net()
    x = net.input(3, 4, 5)
    e = exp(x - top(x, axis))
    graph = becomes(FuseSoftmax(), net.returns(e / total(e, axis)), {"softmax": 1})
    assert [n.op for n in graph.nodes] == [Softmax(axis=axis)]
    assert [n.inputs for n in graph.nodes] == [(x.value,)]


def test_product_with_the_reciprocal() -> None:
    net = Net()
    e = exp(net.input(3, 4))
    becomes(FuseSoftmax(), net.returns(net(Reciprocal(), total(e, 1)) * e), {"softmax": 1})


def test_a_maximum_that_is_read_elsewhere_is_kept() -> None:
    net = Net()
    x = net.input(3, 4)
    m = top(x, 1)
    e = exp(x - m)
    becomes(FuseSoftmax(), net.returns(e / total(e, 1), m), {"softmax": 1, "reduce_max": 1})


def test_symbolic_batch() -> None:
    net = Net()
    e = exp(net.input("n", 4))
    becomes(FuseSoftmax(), net.returns(e / total(e, 1)), {"softmax": 1})


def test_axes_that_are_put_back_by_layers_of_their_own() -> None:
    """As JAX has it."""
    net = Net()
    x = net.input(3, 4)

    def back(y: Term) -> Term:
        return net(Expand(shape=(3, 4)), net(Reshape(shape=(3, 1)), y))

    e = exp(x - back(net(ReduceMax(axes=(1,), keepdims=False), x)))
    becomes(FuseSoftmax(), net.returns(e / back(total(e, 1, keepdims=False))), {"softmax": 1})


def test_sums_that_are_put_back_elsewhere_stay() -> None:
    net = Net()
    e, f = exp(net.input(4, 4)), exp(net.input(4, 4))
    across = net(Reshape(shape=(1, 4)), total(e, 1, keepdims=False))
    spread = net(Expand(shape=(4, 4)), net(Reshape(shape=(1, 4)), total(f, 1, keepdims=False)))
    stays(FuseSoftmax(), net.returns(e / across, f / spread))


def test_near_misses() -> None:
    net = Net()
    x = net.input(4, 4, 4)
    e, f, g, h, k = (exp(x) for _ in range(5))
    shifted = exp(x - top(x, 1))
    stays(
        FuseSoftmax(),
        net.returns(
            e / total(e, 1, 2),
            f / total(f, 1, keepdims=False),
            g / total(exp(x), 1),
            total(h, 1) / h,
            k / (total(k, 1) + 1),
            shifted / total(shifted, 2),
        ),
    )


def test_exponentials_that_are_read_elsewhere_stay() -> None:
    net = Net()
    e = exp(net.input(4, 4))
    stays(FuseSoftmax(), net.returns(e / total(e, 1), e))
    net = Net()
    e = exp(net.input(4, 4))
    s = total(e, 1)
    stays(FuseSoftmax(), net.returns(e / s, s))
