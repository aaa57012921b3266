"""AbsorbQdq: which Q and DQ layers become annotations, and which stay."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import Op
from compiler.simulate import simulated
from compiler.tensor import I8, I16, U8, QuantParams
from compiler.text import print_graph
from passes.absorb_qdq import AbsorbQdq
from tests.passes.composed import Net, Record, Term, inputs_of, stays
from tests.passes.weighted import conv

PARAMS = QuantParams((0.25,), (-128,), None, I8)


def rounded(x: Term, scale: float, zero: int, dtype: str = "u8") -> Term:
    """x, quantized and dequantized."""
    parameters = np.array(scale), np.array(zero, {"u8": "uint8", "i8": "int8", "i16": "int16", "u16": "uint16"}[dtype])
    return x.net(ops.DequantizeLinear(), x.net(ops.QuantizeLinear(dtype=dtype), x, *parameters), *parameters)


def absorbed(graph: Graph) -> Graph:
    """The graph after the pass; its simulation must compute what the layers did."""
    feeds = inputs_of(graph)
    before = evaluate(graph, feeds)
    record = Record()
    assert AbsorbQdq().run(graph, record) == len(record.rules) > 0
    graph.verify()
    after = evaluate(simulated(graph).graph, feeds)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    assert AbsorbQdq().run(graph, Record()) == 0
    return graph


def test_the_text_shows_the_annotations() -> None:
    net = Net()
    y = rounded(net(ops.Relu(), rounded(net.input(2, 3), 0.25, 128)), 0.125, 0)
    graph = absorbed(net.returns(net(ops.Tanh(), y)))
    assert print_graph(graph) == (
        'graph "graph"(%x0: f32[2,3]@quant((0.25,), (0,), None, "i8")) {\n'
        '  %v = relu(%x0) : f32[2,3]@quant((0.125,), (-128,), None, "i8")\n'
        "  %v_1 = tanh(%v) : f32[2,3]\n"
        '  return %v_1 as "y0"\n'
        "}\n"
    )


@pytest.mark.parametrize(
    ("dtype", "zero", "expected"),
    [
        ("u8", 131, QuantParams((0.25,), (3,), None, I8)),
        ("i8", 3, QuantParams((0.25,), (3,), None, I8)),
        ("i16", 0, QuantParams((0.25,), (0,), None, I16)),
        ("u16", 32768, QuantParams((0.25,), (0,), None, I16)),
    ],
)
def test_unsigned_integers_become_signed_ones(dtype: str, zero: int, expected: QuantParams) -> None:
    net = Net()
    graph = absorbed(net.returns(net(ops.Tanh(), rounded(net.input(2, 3), 0.25, zero, dtype))))
    assert graph.inputs[0].type.quant == expected


@pytest.mark.parametrize(
    ("clip", "scale", "zero", "goes"),
    [
        (ops.Relu(), 0.25, 0, True),
        (ops.Relu(), 0.25, 1, False),
        (ops.Clip(low=0.0, high=6.0), 6 / 255, 0, True),
        (ops.Clip(low=0.0, high=6.0), 6.1 / 255, 0, False),
        (ops.Clip(low=0.0, high=9.0), 6 / 255, 0, True),
        (ops.Clip(low=-1.0, high=inf), 1 / 127, 127, True),
    ],
)
def test_a_clip_goes_where_the_integers_saturate(clip: Op, scale: float, zero: int, goes: bool) -> None:
    net = Net()
    y = rounded(net(clip, conv(net.input(1, 2, 4, 4), 3)), scale, zero)
    graph = absorbed(net.returns(net(ops.Tanh(), y)))
    assert graph.op_counts == {"conv": 1, "tanh": 1, **({} if goes else {clip.name: 1})}


def test_a_number_that_is_read_unrounded_stays() -> None:
    net = Net()
    x = net(ops.Tanh(), net.input(2, 3))
    stays(AbsorbQdq(), net.returns(net(ops.Relu(), rounded(x, 0.25, 0)), x * 2.0))


def test_readers_with_unlike_scales_stay() -> None:
    net = Net()
    x = net(ops.Tanh(), net.input(2, 3))
    stays(AbsorbQdq(), net.returns(rounded(x, 0.25, 0) * rounded(x, 0.5, 0)))


def test_a_second_rounding_is_a_copy() -> None:
    net = Net()
    x = rounded(net.input(2, 3), 0.25, 128)
    graph = absorbed(net.returns(net(ops.Tanh(), rounded(x, 0.5, 128)), net(ops.Relu(), x)))
    assert graph.op_counts == {"identity": 1, "tanh": 1, "relu": 1}
    assert graph.of(ops.Identity)[0].output.type.quant == QuantParams((0.5,), (0,), None, I8)


def test_what_one_scale_cannot_say_stays() -> None:
    net = Net()
    scales, zeros = np.array([0.5, 0.25, 1.0]), np.zeros(3, np.uint8)
    x = net.input(2, 3)
    y = net(ops.DequantizeLinear(axis=1), net(ops.QuantizeLinear(axis=1), x, scales, zeros), scales, zeros)
    stays(AbsorbQdq(), net.returns(y * rounded(net(ops.Tanh(), x), 0.1, 9, "i16")))


def test_the_ports_of_integers_keep_their_layers() -> None:
    net = Net()
    scale, zero = np.array(0.25), np.array(0, np.uint8)
    x = net(ops.DequantizeLinear(), net.input(2, 3, dtype=U8), scale, zero)
    graph = absorbed(net.returns(net(ops.QuantizeLinear(), net(ops.Tanh(), x), scale, zero)))
    assert graph.op_counts == {"dequantize_linear": 1, "tanh": 1, "quantize_linear": 1}
    (tanh,) = graph.of(ops.Tanh)
    assert tanh.inputs[0] is not None and tanh.inputs[0].type.quant == tanh.output.type.quant == PARAMS


def test_nothing_happens_without_such_layers() -> None:
    net = Net()
    stays(AbsorbQdq(), net.returns(net(ops.Tanh(), net.input(2, 3))))
