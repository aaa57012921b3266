"""PermuteFlatten: dense layers behind images, and which ones stay."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.ops.activation import Relu
from compiler.ops.conv import Conv
from compiler.ops.layout import ConvertLayout
from compiler.ops.matmul import Dense
from compiler.ops.shape import Reshape, Transpose
from compiler.pass_manager import PassManager
from passes.choose_layout import ChooseLayout
from passes.permute_flatten import PermuteFlatten
from tests.passes.composed import Net, Term, becomes, stays
from tests.real_models import real_model


def image(net: Net, batch: int | str = 2, channels: int = 3, size: int = 4) -> Term:
    """A convolution's result [batch, channels, size, 5]."""
    w = np.random.default_rng(0).normal(size=(channels, 2, 1, 1))
    op = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    return net(op, net.input(batch, 2, size, 5), w)


def dense(net: Net, x: Term, transposed: bool = False) -> Graph:
    """A dense layer on rows of x."""
    k = x.value.type.shape[-1]
    assert isinstance(k, int)
    w = np.random.default_rng(1).normal(size=(7, k) if transposed else (k, 7))
    return net.returns(net(Dense(transposed=transposed), x, w, np.arange(7.0)))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("batch", [2, "n"])
def test_weights_are_permuted(transposed: bool, batch: int | str) -> None:
    net = Net()
    graph = dense(net, net(Reshape(shape=(batch, 60)), image(net, batch)), transposed)
    becomes(PermuteFlatten(), graph, {"conv": 1, "dense": 1, "reshape": 1, "transpose": 1})
    assert graph.of(Transpose)[0].op == Transpose(perm=(0, 2, 3, 1))


def test_an_activation_may_stand_between() -> None:
    net = Net()
    graph = dense(net, net(Reshape(shape=(2, 60)), net(Relu(), image(net))))
    becomes(PermuteFlatten(), graph, {"conv": 1, "dense": 1, "relu": 1, "reshape": 1, "transpose": 1})


def test_other_rows_stay() -> None:
    net = Net()
    stays(PermuteFlatten(), dense(net, net(Reshape(shape=(6, 20)), image(net))))


def test_one_channel_stays() -> None:
    net = Net()
    stays(PermuteFlatten(), dense(net, net(Reshape(shape=(2, 20)), image(net, channels=1))))


def test_what_no_image_layer_made_stays() -> None:
    net = Net()
    stays(PermuteFlatten(), dense(net, net(Reshape(shape=(2, 60)), net.input(2, 3, 4, 5))))


def test_a_flattened_image_with_another_reader_stays() -> None:
    net = Net()
    flat = net(Reshape(shape=(2, 60)), image(net))
    graph = dense(net, flat)
    graph.set_outputs([*graph.outputs, flat.value], ["y0", "flat"])
    stays(PermuteFlatten(), graph)


def test_no_conversion_is_left_in_a_network() -> None:
    graph = import_model(str(real_model("mnist_cnn_opset8").path)).graph
    PassManager("default").run(graph)
    choose = ChooseLayout(inputs="nhwc", outputs="nhwc")
    assert choose.report(graph).moved == 1024
    PassManager([PermuteFlatten(), choose]).run(graph)
    assert choose.report(graph).after == 0 and not graph.of(ConvertLayout)
