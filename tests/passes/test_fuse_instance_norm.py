"""FuseInstanceNorm: factors and terms per channel in the shapes that exporters write."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.norm import InstanceNorm, LayerNorm
from compiler.tensor import F16, F32, Array, DType
from passes.fuse_instance_norm import FuseInstanceNorm
from tests.passes.composed import Net, Term, becomes, stays

GAMMA, BETA = np.array([0.5, -1.0, 2.0]), np.array([0.25, 0.0, 1.0])


def standard(x: Term, axis: int = 2) -> Term:
    shape = [d for d in x.value.type.shape[axis:] if isinstance(d, int)]
    return x.net(LayerNorm(axis=axis, eps=1e-3), x, np.ones(shape))


def column(v: Array, rank: int) -> Array:
    return v.reshape(-1, *[1] * (rank - 2))


@pytest.mark.parametrize("shape", [(2, 3, 10), (2, 3, 4, 5), (1, 3, 2, 2, 5)])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_scale_and_bias(shape: tuple[int, ...], dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(*shape)
    y = standard(x) * column(GAMMA, len(shape))[None] + column(BETA, len(shape))
    graph = becomes(FuseInstanceNorm(), net.returns(y), {"instance_norm": 1})
    (node,) = graph.nodes
    scale, bias = node.inputs[1:]
    assert scale is not None and bias is not None and scale.data is not None and bias.data is not None
    assert (node.op, node.inputs[0]) == (InstanceNorm(eps=1e-3), x.value)
    assert (scale.data.tolist(), bias.data.tolist()) == (GAMMA.tolist(), BETA.tolist())


def test_scale_alone_and_more_of_both() -> None:
    net = Net()
    x = net.input(2, 3, 4, 5)
    scaled = standard(x) * column(GAMMA, 4)
    becomes(FuseInstanceNorm(), net.returns(scaled), {"instance_norm": 1})
    net = Net()
    x = net.input(2, 3, 4, 5)
    y = (standard(x) * column(GAMMA, 4) + 2.0) * column(BETA, 4) + 1.0
    becomes(FuseInstanceNorm(), net.returns(y), {"instance_norm": 1})


def test_after_an_instance_norm_with_unit_scale() -> None:
    net = Net()
    x = net.input(2, 3, 4, 5)
    y = net(InstanceNorm(), x, np.ones(3), np.zeros(3)) * column(GAMMA, 4) + column(BETA, 4)
    becomes(FuseInstanceNorm(), net.returns(y), {"instance_norm": 1})


def test_near_misses() -> None:
    net = Net()
    x, k = net.input(3, 3, 4, 3), net.input(3, 1, 1)
    stays(
        FuseInstanceNorm(),
        net.returns(
            standard(x, 1) * column(GAMMA, 4),
            standard(x) * k,
            standard(x) * GAMMA,
            standard(x) * GAMMA.reshape(3, 1, 1, 1),
            standard(x) * np.ones((1, 3, 3, 4, 3)),
            standard(x) + column(BETA, 4),
        ),
    )


def test_a_result_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = standard(net.input(2, 3, 4, 5))
    stays(FuseInstanceNorm(), net.returns(y * column(GAMMA, 4), y))
