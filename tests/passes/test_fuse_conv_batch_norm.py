"""FuseConvBatchNorm: both orders, every kind of layer, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.activation import Relu
from compiler.ops.conv import Conv
from compiler.ops.norm import BatchNorm
from compiler.tensor import F16, F32, DType
from passes.fuse_conv_batch_norm import FuseConvBatchNorm
from tests.passes.composed import Net, Term, becomes, run, stays
from tests.passes.weighted import KINDS, batch_norm, conv, conv_transpose, dense, linear, shape_of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_norm_after(kind: str, bias: bool, dtype: DType) -> None:
    net = Net(dtype)
    y = linear(net.input(*shape_of(kind)), kind, bias=bias)
    assert y.value.node is not None
    becomes(FuseConvBatchNorm(), net.returns(batch_norm(y)), {y.value.node.op.name: 1})


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.endswith("transpose")])
@pytest.mark.parametrize("bias", [True, False])
def test_norm_before(kind: str, bias: bool) -> None:
    net = Net()
    y = linear(batch_norm(net.input(*shape_of(kind))), kind, bias=bias)
    assert y.value.node is not None
    becomes(FuseConvBatchNorm(), net.returns(y), {y.value.node.op.name: 1})


def test_both_sides() -> None:
    net = Net()
    becomes(FuseConvBatchNorm(), net.returns(batch_norm(conv(batch_norm(net.input(1, 2, 5, 5)), 3))), {"conv": 1})


@pytest.mark.parametrize(
    "layer", [lambda x: conv(x, 3, pad=1), lambda x: conv_transpose(x, 3)], ids=["padded", "transposed"]
)
def test_a_shift_cannot_pass_padding(layer: Callable[[Term], Term]) -> None:
    net = Net()
    record = run(FuseConvBatchNorm(), net.returns(layer(batch_norm(net.input(1, 2, 5, 5)))))
    assert (record.rules, record.skips) == ([], ["the padding would not be shifted"])


def centred(x: Term) -> Term:
    """A batch normalisation that only scales."""
    zeros = np.zeros(2)
    return x.net(BatchNorm(), x, np.array([2.0, -3.0]), zeros, zeros, np.array([0.5, 2.0]))


def test_a_scale_passes_padding() -> None:
    net = Net()
    becomes(FuseConvBatchNorm(), net.returns(conv(centred(net.input(1, 2, 5, 5)), 3, pad=1)), {"conv": 1})


def test_a_scale_passes_a_transposed_convolution() -> None:
    net = Net()
    y = conv_transpose(centred(net.input(1, 2, 5, 5)), 4, groups=2)
    becomes(FuseConvBatchNorm(), net.returns(y), {"conv_transpose": 1})


def test_an_activation_in_between_stays() -> None:
    net = Net()
    stays(FuseConvBatchNorm(), net.returns(batch_norm(net(Relu(), conv(net.input(1, 2, 5, 5), 3)))))


def test_a_layer_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = conv(net.input(1, 2, 5, 5), 3)
    stays(FuseConvBatchNorm(), net.returns(batch_norm(y), y))


def test_channels_of_a_dense_layer_on_sequences_are_others() -> None:
    net = Net()
    stays(FuseConvBatchNorm(), net.returns(batch_norm(dense(net.input(2, 6, 5), 6))))
    net = Net()
    stays(FuseConvBatchNorm(), net.returns(dense(batch_norm(net.input(2, 6, 6)), 4)))


def test_weights_that_are_computed_stay() -> None:
    net = Net()
    op = Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1))
    stays(FuseConvBatchNorm(), net.returns(batch_norm(net(op, net.input(1, 2, 5, 5), net.input(3, 2, 2, 2)))))


@pytest.mark.parametrize("variance", [-1e-3, np.nan])
def test_a_bad_variance_is_declined(variance: float) -> None:
    net = Net()
    y = conv(net.input(1, 2, 5, 5), 2)
    one = np.ones(2)
    graph = net.returns(net(BatchNorm(eps=1e-3), y, one, one, one, np.array([variance, 1])))
    with np.errstate(all="ignore"):
        record = run(FuseConvBatchNorm(), graph)
    assert record.skips[:1] == ["variance + eps is not positive"]
    assert len(graph) == 2


def test_half_weights_that_would_overflow_are_declined() -> None:
    net = Net(F16)
    y = conv(net.input(1, 2, 5, 5), 2)
    zero = np.zeros(2)
    graph = net.returns(net(BatchNorm(eps=1e-7), y, np.full(2, 3e4), zero, zero, np.array([0.0, 1.0])))
    with np.errstate(all="ignore"):
        record = run(FuseConvBatchNorm(), graph, scale=1e-7)
    assert (record.rules, record.skips) == ([], ["a scaled weight overflows f16"])


def test_provenance_and_names() -> None:
    net = Net()
    x = net.input(1, 1, 3, 3)
    op = Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1))
    w = net.graph.const(np.ones((1, 1, 1, 1), np.float32), "weight", frozenset(("weight",)))
    (y,) = net.graph.add(op, x.value, w, origin=frozenset(("conv",)))
    one = net.graph.const(np.ones(1, np.float32))
    (z,) = net.graph.add(BatchNorm(), y, one, one, one, one, origin=frozenset(("norm",)), names=["z"])
    net.graph.set_outputs([z], ["z"])
    run(FuseConvBatchNorm(), net.graph)
    (node,) = net.graph.nodes
    weight = node.inputs[1]
    assert weight is not None
    assert (sorted(node.origin), weight.name, sorted(weight.origin)) == (["conv", "norm"], "weight", ["weight"])
