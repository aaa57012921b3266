"""annotate_activation: which activation a layer may compute on the way."""

from __future__ import annotations

from compiler.ops.activation import Clip, Relu
from compiler.ops.conv import Conv
from compiler.ops.elementwise import Exp, Tanh
from passes.annotate_activation import annotate_activation
from tests.passes.composed import Net
from tests.passes.weighted import conv, dense


def test_the_only_reader() -> None:
    net = Net()
    x = net.input(1, 2, 5, 5)
    a, b = conv(x, 3), conv(x, 3)
    y, z = net(Clip(low=0.0, high=6.0), a), net(Tanh(), b)
    net.returns(y, z)
    found = annotate_activation(net.graph)
    assert found == {a.value.node: y.value.node, b.value.node: z.value.node}


def test_other_readers_outputs_and_operations() -> None:
    net = Net()
    x = net.input(1, 2, 5, 5)
    read, returned, other = conv(x, 3), conv(x, 3), conv(x, 3)
    net.returns(net(Relu(), read) + read, net(Relu(), returned), returned, net(Exp(), other))
    assert annotate_activation(net.graph) == {}


def test_a_target_names_the_layers() -> None:
    net = Net()
    y = dense(net.input(1, 4), 3)
    net.returns(net(Relu(), y))
    assert annotate_activation(net.graph, (Conv,)) == {}
    assert len(annotate_activation(net.graph)) == 1
