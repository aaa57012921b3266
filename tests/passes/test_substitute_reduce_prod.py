"""SubstituteReduceProd: halves times halves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ops.reduce import ReduceProd
from compiler.tensor import I64
from passes.substitute_reduce_prod import SubstituteReduceProd
from tests.passes.composed import Net, run, stays
from tests.passes.windowed import fires


@settings(max_examples=30)
@given(dims=st.tuples(*[st.integers(1, 9)] * 3), axes=st.sets(st.integers(0, 2), min_size=1), keepdims=st.booleans())
def test_products(dims: tuple[int, ...], axes: set[int], keepdims: bool) -> None:
    net = Net()
    y = net(ReduceProd(axes=tuple(sorted(axes)), keepdims=keepdims), net.input(*dims))
    assert not fires(SubstituteReduceProd(), net.returns(y), np.random.default_rng(0)).after.of(ReduceProd)


@pytest.mark.parametrize(("length", "products"), [(2, 1), (16, 4), (13, 5), (1000, 14)])
def test_as_many_as_digits(length: int, products: int) -> None:
    net = Net()
    graph = net.returns(net(ReduceProd(axes=(0,)), net.input(length)))
    run(SubstituteReduceProd(), graph, scale=0.1)
    assert graph.op_counts["mul"] == products


def test_integers_stay() -> None:
    net = Net()
    stays(SubstituteReduceProd(), net.returns(net(ReduceProd(axes=(0,)), net.input(3, dtype=I64))))
