"""widen-activations stores values in 16 bits that hold every number of the 8 bits, and biases in 64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import ops
from compiler.calibrate.trial import Trial
from compiler.graph import Graph, Value
from compiler.quantize import asymmetric, dequantized, quantized, represented
from compiler.rewrite import Unobserved
from compiler.tensor import I8, I16, I32, I64, QuantParams
from passes._int16 import FINER, narrowed, tied, values, widened
from passes.annotate_int8 import AnnotateInt8
from passes.widen_activations import WidenActivations
from targets.tflite.int8_rules import scheme
from targets.tflite.target import TfLiteTarget
from tests.passes.composed import Net
from tests.passes.weighted import conv

ROWS = [{"x0": np.random.default_rng(i).normal(size=(1, 6, 8, 8)).astype(np.float32)} for i in range(4)]


def annotated(wide: bool) -> Graph:
    """A convolution, a tanh, an ELU (of which no kernel takes 16 bits) and a pool."""
    net = Net()
    x = net(ops.Tanh(), conv(net.input(1, 6, 8, 8), 6))
    pooled = net(
        ops.MaxPool(kernel=(2, 2), strides=(2, 2), dilations=(1, 1), pads=(0, 0, 0, 0)), net(ops.Elu(), x * 2.0)
    )
    graph = net.returns(pooled)
    AnnotateInt8(scheme=scheme(), calibrate=Trial(ROWS).ranges).run(graph, Unobserved())
    if wide:
        assert WidenActivations(scheme=scheme()).run(graph, Unobserved()) == 1
    return graph


def kinds(graph: Graph) -> dict[str, QuantParams]:
    found = {"input": graph.inputs[0].type.quant}
    found |= {n.op.name: n.output.type.quant for n in graph.nodes}
    return {name: q for name, q in found.items() if q is not None}


@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4))
def test_sixteen_bits_hold_every_number_of_eight(low: float, high: float) -> None:
    params = asymmetric(low, high)
    wide = widened(params)
    assert wide.dtype is I16 and wide.zero_point == (0,)
    assert wide.scale[0] == np.float32(params.scale[0]) / FINER
    numbers = dequantized(np.arange(-128, 128, dtype=np.int8), params)
    assert np.array_equal(dequantized(quantized(numbers, wide), wide), numbers)
    assert widened(wide) == wide and narrowed(params) == params
    assert represented(narrowed(wide))[1] >= represented(wide)[1] * 0.99


def test_values_beside_layers_without_such_a_kernel_keep_eight_bits() -> None:
    found = kinds(annotated(wide=True))
    assert {name: q.dtype for name, q in found.items()} == {
        "input": I16,
        "conv": I16,
        "tanh": I16,
        "mul": I8,
        "elu": I8,
        "max_pool": I16,
    }


def test_fixed_scales_are_those_of_sixteen_bits() -> None:
    assert kinds(annotated(wide=False))["tanh"].scale == (2**-7,)
    assert kinds(annotated(wide=True))["tanh"].scale == (2**-15,)


def test_biases_have_the_step_of_the_products_in_64_bits() -> None:
    def of(graph: Graph) -> tuple[Value, Value, Value]:
        (node,) = graph.of(ops.Conv)
        x, w, b = node.inputs
        assert x is not None and w is not None and b is not None
        return x, w, b

    for wide, kind in ((False, I32), (True, I64)):
        x, w, b = of(annotated(wide))
        assert x.type.quant and w.type.quant and b.type.quant
        assert w.type.quant.dtype is I8 and b.type.quant.dtype is kind
        steps = np.float32(x.type.quant.scale[0]) * np.array(w.type.quant.scale, np.float32)
        assert np.array_equal(np.array(b.type.quant.scale, np.float32), steps)


def test_groups_are_values_that_moves_connect() -> None:
    groups = tied(annotated(wide=False), scheme())
    named = sorted(sorted("input" if v.node is None else v.node.op.name for v in g) for g in groups)
    assert ["elu", "max_pool"] in named
    assert sum(map(len, groups)) == len(list(values(annotated(wide=False))))


def test_without_a_scheme_nothing_happens() -> None:
    graph = annotated(wide=False)
    before = kinds(graph)
    assert WidenActivations().run(graph, Unobserved()) == 0
    assert kinds(graph) == before


def test_sixteen_bits_are_nearer_to_the_floats() -> None:
    assert Trial(ROWS).snr(annotated(wide=True)) > Trial(ROWS).snr(annotated(wide=False)) + 1


@pytest.mark.parametrize("name", ["int8", "int16x8"])
def test_the_pass_is_part_of_int16x8_alone(name: str) -> None:
    pipeline = TfLiteTarget(name, calibrate=ROWS).pipeline()
    assert any(isinstance(p, WidenActivations) for p in pipeline) is (name == "int16x8")
