"""AnnotateInt8: which values share a scale, which are fixed, and what weights and biases get."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.ops.activation import Clip, Relu, Sigmoid
from compiler.ops.attention import Attention
from compiler.ops.conv import Conv
from compiler.ops.elementwise import Add, Where
from compiler.ops.norm import LayerNorm
from compiler.ops.parts import Concat, Split
from compiler.ops.pool import MaxPool
from compiler.ops.shape import Reshape
from compiler.ops.softmax import Softmax
from compiler.quantize import asymmetric, represented
from compiler.tensor import F32, I8, I32, QuantParams, TensorType
from passes._int8_scheme import Ranges
from passes._int8_weights import kept_params
from passes.annotate_int8 import AnnotateInt8
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net, Record, Term, inputs_of, run
from tests.passes.weighted import conv

SIGMOID = QuantParams((1 / 256,), (-128,), None, I8)


def seen(graph: Graph) -> Ranges:
    """The ranges on a few seeded inputs."""
    values = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    found: dict[Value, tuple[float, float]] = {}
    twin = graph.clone()
    copies = [*twin.inputs, *(v for n in twin.nodes for v in n.outputs)]
    twin.set_outputs(copies, [str(i) for i in range(len(copies))])
    results = [evaluate(twin, inputs_of(graph, seed=s)) for s in range(3)]
    for i, v in enumerate(values):
        if v.type.dtype.is_float:
            numbers = np.concatenate([r[str(i)].reshape(-1) for r in results])
            finite = numbers[np.isfinite(numbers)]
            found[v] = float(finite.min()), float(finite.max())
    return found


def annotated(graph: Graph) -> Graph:
    """The graph after the pass, its ranges taken from seeded inputs."""
    record = Record()
    assert AnnotateInt8(scheme=scheme(), calibrate=seen).run(graph, record) == len(record.rules) == 1
    graph.verify()
    return graph


def quant(t: Term) -> QuantParams:
    found = t.value.type.quant
    assert found is not None
    return found


def test_without_calibration_nothing_happens() -> None:
    net = Net()
    graph = net.returns(net(Relu(), net.input(2, 3)))
    assert run(AnnotateInt8(), graph).rules == []
    assert graph.inputs[0].type.quant is None


def test_pools_and_reshapes_share_the_scale_of_their_operand() -> None:
    net = Net()
    x = conv(net.input(1, 3, 8, 8), 4)
    pooled = net(MaxPool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1)), x)
    flat = net(Reshape(shape=(1, 36)), pooled)
    annotated(net.returns(flat))
    assert quant(x) == quant(pooled) == quant(flat)


def test_pieces_share_the_scale_of_the_whole() -> None:
    net = Net()
    x = net.input(2, 6)
    parts = net.many(Split(axis=1, sizes=(2, 4)), x)
    annotated(net.returns(*parts))
    assert {quant(p) for p in parts} == {quant(x)}


def test_sigmoid_and_softmax_have_fixed_scales() -> None:
    net = Net()
    x = net.input(2, 6)
    a, b = net(Sigmoid(), x), net(Softmax(axis=1), x)
    both = net(Concat(axis=1), a, b)
    annotated(net.returns(both))
    assert quant(a) == quant(b) == quant(both) == SIGMOID
    assert quant(x) != SIGMOID


def test_a_concatenation_with_a_fixed_scale_that_is_too_narrow_requantizes() -> None:
    net = Net()
    x = net.input(2, 6)
    gate = net(Sigmoid(), x)
    both = net(Concat(axis=1), gate, x)
    annotated(net.returns(both))
    assert quant(gate) == SIGMOID
    assert quant(both) == quant(x) == asymmetric(*seen(net.graph)[x.value])


def test_a_concatenation_keeps_the_finer_scale_of_a_part_that_others_read() -> None:
    net = Net()
    x = net.input(2, 6)
    small, large = net(Add(), x * 0.01, 0.0), x * 10.0
    copied = net(Add(), x * 0.01, 0.0)
    read, alone = net(Concat(axis=1), small, large), net(Concat(axis=1), copied, large)
    annotated(net.returns(read, alone, small + 1.0))
    assert quant(small).scale[0] < 0.01 * quant(read).scale[0]
    assert quant(copied) == quant(alone)


def test_what_only_a_clip_reads_saturates_where_it_ends() -> None:
    net = Net()
    x = net.input(2, 6) * 100.0
    y = net(Clip(low=-0.5, high=0.5), x)
    annotated(net.returns(y))
    assert quant(x) == quant(y) == asymmetric(-0.5, 0.5)


def test_weights_have_a_scale_for_each_filter_and_biases_that_of_the_products() -> None:
    net = Net()
    x = net.input(1, 3, 5, 5)
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(4, 3, 3, 3)) * np.array([1, 10, 100, 0]).reshape(4, 1, 1, 1), rng.normal(size=4)
    y = net(Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), x, w, b)
    annotated(net.returns(y))
    node = y.value.node
    assert node is not None and node.inputs[1] is not None and node.inputs[2] is not None
    weights, bias = node.inputs[1].type.quant, node.inputs[2].type.quant
    assert weights is not None and bias is not None
    assert weights.axis == 0 and weights.zero_point == (0,) * 4 and weights.dtype is I8
    peaks = np.abs(w).max((1, 2, 3)) / 127
    assert np.allclose(weights.scale[:3], peaks[:3], rtol=1e-6) and weights.scale[3] == weights.scale[2]
    assert bias.dtype is I32 and bias.axis == 0
    assert np.allclose(bias.scale, np.array(weights.scale) * quant(x).scale[0], rtol=1e-6)


def test_a_bias_that_is_huge_beside_its_weights_fits_into_32_bits() -> None:
    net = Net()
    x = net.input(1, 3, 5, 5)
    w = np.full((1, 3, 1, 1), 1e-9)
    y = net(Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), x, w, np.array([50.0]))
    annotated(net.returns(y))
    node = y.value.node
    assert node is not None and node.inputs[2] is not None
    bias = node.inputs[2].type.quant
    assert bias is not None
    assert 2**29 < 50.0 / bias.scale[0] < 2**31


def test_one_constant_that_two_layers_read_at_different_scales() -> None:
    net = Net()
    x = net.input(1, 3, 5, 5)
    rng = np.random.default_rng(0)
    w, b = net.value(rng.normal(size=(3, 3, 1, 1))), net.value(rng.normal(size=3))
    point = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    first = net(point, x, Term(net, w), Term(net, b))
    second = net(point, first * 50.0, Term(net, w), Term(net, b))
    graph = annotated(net.returns(second))
    one, two = (n.inputs[2] for n in graph.of(Conv))
    assert one is not two and one is not None and two is not None and one.data is two.data
    assert one.type.quant is not None and two.type.quant is not None
    assert two.type.quant.scale[0] > 10 * one.type.quant.scale[0]


def test_scores_that_a_mask_hides_do_not_widen_the_range() -> None:
    net = Net()
    x = net.input(1, 1, 4, 4)
    hidden = net(Where(), np.tri(4, dtype=np.bool_), x, np.array(-np.inf))
    annotated(net.returns(net(Softmax(axis=3), hidden)))
    low, high = seen(net.graph)[x.value]
    first, last = represented(quant(hidden))
    assert abs(first - (low - 8)) < 0.2 and abs(last - high) < 0.2


def test_the_layers_stay_what_they_are() -> None:
    net = Net()
    x = net.input(1, 2, 4, 4)
    graph = net.returns(net(Attention(scale=0.5), x, x, x))
    before = evaluate(graph.clone(), inputs_of(graph))["y0"]
    annotated(graph)
    assert np.array_equal(evaluate(graph, inputs_of(graph))["y0"], before)


def test_values_between_layers_of_floats_have_none() -> None:
    net = Net()
    norm = LayerNorm(axis=1, eps=1e-5)
    x = net(norm, net.input(2, 6), np.ones(6), np.zeros(6))
    y = net(norm, x, np.ones(6), np.zeros(6))
    annotated(net.returns(net(Relu(), y)))
    assert x.value.type.quant is None
    assert y.value.type.quant is not None


def test_the_pass_can_be_refused() -> None:
    class Refusing(Record):
        def allow(self) -> bool:
            return False

    net = Net()
    graph = net.returns(net(Relu(), net.input(2, 3)))
    assert AnnotateInt8(scheme=scheme(), calibrate=seen).run(graph, Refusing()) == 0
    assert graph.inputs[0].type.quant is None


def test_given_scales_are_kept_and_the_others_follow() -> None:
    net = Net()
    x = net.input(1, 3, 8, 8)
    given = QuantParams((0.25,), (5,), None, I8)
    x.value.type = x.value.type._replace(quant=given)
    pooled = net(MaxPool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1)), x)
    annotated(net.returns(net(Relu(), conv(pooled, 4))))
    assert quant(x) == quant(pooled) == given


def test_given_scales_need_no_calibration() -> None:
    net = Net()
    x = net.input(1, 3, 8, 8)
    given = QuantParams((0.25,), (5,), None, I8)
    x.value.type = x.value.type._replace(quant=given)
    y = conv(x, 4)
    assert AnnotateInt8(scheme=scheme()).run(net.returns(y), Record()) == 1
    assert quant(x) == given and y.value.type.quant is None
    (node,) = net.graph.of(Conv)
    bias = node.inputs[2]
    assert bias is not None and bias.type.quant is not None and bias.type.quant.dtype is I32


@pytest.mark.parametrize(
    ("stored", "zero", "scales"),
    [
        ([[-127, 3], [5, 127]], 0, (0.5, 0.5)),
        ([[-128, 3], [5, 127]], -1, (0.5, 0.5 * 128 / 127)),
        ([[-128, 100], [5, 6]], 50, (0.5 * 178 / 127, 0.5)),
        ([[-128, 127], [5, 6]], 0, (0.5 * 128 / 127, 0.5)),
        ([[-128, *range(100)], [*range(101)]], 0, (0.5, 0.5)),
    ],
)
def test_weights_keep_the_scales_that_are_legal(stored: list[list[int]], zero: int, scales: tuple[float, ...]) -> None:
    """A channel of more than 127 steps gets longer ones, unless it loses less to saturate its only large number."""
    data = (np.array(stored, np.float32) - zero) * np.float32(0.5)
    found = kept_params(data, QuantParams((0.5,), (zero,), None, I8), 0)
    assert found is not None and found.axis == 0 and found.zero_point == (0, 0)
    np.testing.assert_allclose(found.scale, scales, rtol=1e-6)
    assert kept_params(data, QuantParams((0.5,) * data.shape[1], (0,) * data.shape[1], 1, I8), 0) is None


def test_the_states_of_a_recurrent_layer_have_one_scale_at_all_steps() -> None:
    """Those of the first steps are small beside the last; parts of other layers keep finer scales that others read."""
    for origin in ({"layer"}, set()):
        graph = Graph()
        x = graph.add_input(TensorType(F32, (3, 4)), "x0")
        states = [x]
        for _ in range(3):
            states += graph.add(Add(), states[-1], states[-1], origin=frozenset(origin))
        graph.set_outputs(graph.add(Concat(axis=0), *states[1:], origin=frozenset(origin)), ["y0"])
        scales = [v.type.quant.scale for v in annotated(graph).outputs + states if v.type.quant is not None]
        assert len(scales) == 5 and (scales[0] == scales[2] == scales[3] == scales[4]) == bool(origin)
        assert scales[1] < scales[0]
