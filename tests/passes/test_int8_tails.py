"""Where functions are flat for a step of their results, and what becomes of ranges around them."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.api import compile_model
from compiler.calibrate.trial import snr
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.op import Op
from compiler.quantize import represented
from compiler.simulate import simulated
from compiler.target import make_target
from passes._int8_scheme import Ranges
from passes._int8_tails import FLAT, PLACES, TOLERANCE, largest_root, reach
from passes._logits import CERTAIN, with_logits
from passes.annotate_int8 import AnnotateInt8
from targets import find_target
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net, Record, Term

STEP = 1 / 256
ACTIVATIONS: tuple[Op, ...] = (
    ops.Elu(), ops.Exp(), ops.Gelu(), ops.HardSigmoid(), ops.HardSwish(), ops.Mish(), ops.Sigmoid(), ops.Silu(),
    ops.Softplus(), ops.Tanh(),
)  # fmt: skip


def test_every_activation_is_tried() -> None:
    assert {type(op) for op in ACTIVATIONS} == set(FLAT)


def test_hard_functions_saturate_at_their_corners() -> None:
    low, high = reach(ops.HardSwish(), (-40.0, 6.0), STEP)
    assert low == pytest.approx(-3, abs=0.02) and high == 6.0
    assert reach(ops.HardSigmoid(alpha=0.2, beta=0.5), (-40.0, 30.0), STEP) == pytest.approx((-2.5, 2.5), abs=0.03)


def test_a_sigmoid_saturates_where_its_results_round_to_its_ends() -> None:
    end = log(4 / STEP)  # e^-end is a quarter of a step
    assert reach(ops.Sigmoid(), (-40.0, 30.0), STEP) == pytest.approx((-end, end), abs=0.05)
    assert reach(ops.Sigmoid(), (-3.0, 4.0), STEP) == pytest.approx((-3.0, 4.0), abs=0.06)


@pytest.mark.parametrize("op", ACTIVATIONS, ids=lambda op: op.name)
@given(low=st.floats(-60, 0), high=st.floats(0, 12), step=st.floats(1e-4, 0.1))
@settings(max_examples=40, deadline=None)
def test_what_saturates_gives_the_same_within_the_tolerance(op: Op, low: float, high: float, step: float) -> None:
    first, last = reach(op, (low, high), step)
    assert low <= first <= last <= high
    places = np.linspace(low, high, PLACES)
    error = np.abs(np.asarray(op.evaluate(places)) - np.asarray(op.evaluate(np.clip(places, first, last))))
    assert error.max() <= TOLERANCE * step * (1 + 1e-6)


def annotated(graph: Graph, ranges: Ranges, saturate: bool = True) -> None:
    AnnotateInt8(scheme=scheme(), calibrate=lambda _: ranges, saturate=saturate).run(graph, Record())


def span(term: Term) -> tuple[float, float]:
    assert term.value.type.quant is not None
    return represented(term.value.type.quant)


def test_what_others_read_too_keeps_its_range() -> None:
    net = Net()
    x = net.input(1, 8)
    alone, shared = x + 1.0, x + 2.0
    graph = net.returns(net(ops.HardSwish(), alone), net(ops.HardSwish(), shared), shared * 2.0)
    annotated(graph, dict.fromkeys([*graph.inputs, *(n.output for n in graph.nodes)], (-20.0, 5.0)))
    assert span(alone)[0] == pytest.approx(-3, abs=0.05)
    assert span(shared)[0] == pytest.approx(-20, abs=0.1)


def test_what_is_to_be_widened_keeps_its_range() -> None:
    net = Net()
    x = net.input(1, 8) + 1.0
    graph = net.returns(net(ops.HardSwish(), x))
    annotated(graph, dict.fromkeys([*graph.inputs, *(n.output for n in graph.nodes)], (-20.0, 5.0)), saturate=False)
    assert span(x)[0] == pytest.approx(-20, abs=0.1)


def test_an_inverse_root_does_not_reach_beyond_the_first_step() -> None:
    net = Net()
    total = net.input(1, 8) + 1e-6
    graph = net.returns(total**-0.5)
    annotated(graph, {graph.inputs[0]: (0.0, 2.55), total.value: (1e-6, 2.55), graph.outputs[0]: (0.6, 1000.0)})
    assert largest_root(0.01) == 20.0
    assert represented(graph.outputs[0].type.quant or pytest.fail("not annotated"))[1] == pytest.approx(20.0, rel=0.01)
    (found,) = evaluate(
        simulated(graph).graph, {"x0": np.array([[0.0, 1e-4, 0.004, 0.01, 0.04, 1.0, 2.0, 2.5]], np.float32)}
    ).values()
    assert np.abs(found[0] - [20, 20, 20, 10, 5, 1, 0.7, 0.63]).max() < 0.06


def test_scores_count_as_far_as_a_sigmoid_has_codes_for_them() -> None:
    net = Net()
    graph = with_logits(net.returns(net(ops.Sigmoid(), net.input(1, 3) * 2.0)))
    assert graph.op_counts["clip"] == 1
    assert reach(ops.Sigmoid(), (-30.0, 30.0), STEP) == pytest.approx((-CERTAIN, CERTAIN), abs=0.05)
    (found,) = evaluate(graph, {"x0": np.array([[-30, 1, 30]], np.float32)}).values()
    assert found.tolist() == [[pytest.approx(-CERTAIN), 2.0, pytest.approx(CERTAIN)]]


def test_a_row_of_tiny_variance_costs_the_others_nothing() -> None:
    rng = np.random.default_rng(0)
    net = Net()
    scale, bias = rng.normal(1, 0.2, 64), rng.normal(0, 0.2, 64)
    source = export_bytes(net.returns(net(ops.LayerNorm(axis=2, eps=1e-6), net.input(1, 8, 64), scale, bias)))
    rows = rng.normal(0, 1, (32, 1, 8, 64)).astype(np.float32)
    rows[:, :, 0] *= 0.001
    given = {"precision": "int8", "calibrate": {"x0": rows[:24, 0]}, "observer": "minmax", "repair": "off"}
    compiled = compile_model(source, make_target(find_target("nnapi"), given), verify="off")
    x = rows[24:, 0].astype(np.float64)
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    expected = (x - x.mean(-1, keepdims=True)) / deviation * scale + bias
    found = np.concatenate([next(iter(compiled.run({"x0": row}).values())) for row in rows[24:]])
    assert snr([expected[:, 1:]], [found[:, 1:]]) > 28  # 0.2 where the inverse root reaches over all that was seen
    assert np.abs(found[:, 0]).max() < 3
