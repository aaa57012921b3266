"""fall-back stores the values that rounding damages most in more bits, and no more of them than a budget asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.calibrate.trial import Trial, mean_snr
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.rewrite import Unobserved
from compiler.simulate import simulated
from compiler.tensor import I8, I16, Array
from passes._budget import Limits, Standing, parse_share
from passes._fallback import Plan
from passes._int8_scheme import Ranges
from passes._int16 import values
from passes._search import Budget
from passes.annotate_int8 import AnnotateInt8
from passes.fall_back import FallBack
from passes.widen_activations import WidenActivations
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net

ROWS = [{"x0": np.random.default_rng(i).normal(size=(1, 6, 8, 8)).astype(np.float32)} for i in range(8)]
SPIKE = np.ones((6, 1, 1), np.float32)
SPIKE[0] = 300.0  # one channel takes all of the range
OPENED = 1 / SPIKE
WINDOW = ops.Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), groups=1)


def annotated() -> Graph:
    """Convolutions, of which the second has a result whose range one channel fills and the next layer narrows again."""
    rng, net = np.random.default_rng(7), Net()  # the same graph each time
    x = net(ops.Relu(), net(WINDOW, net.input(1, 6, 8, 8), rng.normal(size=(6, 6, 2, 2)), rng.normal(size=6)))
    spread = net(ops.Mul(), x, SPIKE)
    x = net(WINDOW, net(ops.Mul(), spread, OPENED), rng.normal(size=(6, 6, 2, 2)), rng.normal(size=6))
    flat = net(ops.Reshape(shape=(1, 6)), net(ops.GlobalAveragePool(), x))
    graph = net.returns(net(ops.Dense(), flat, rng.normal(size=(6, 4)), rng.normal(size=4)))
    AnnotateInt8(scheme=scheme(), calibrate=Trial(ROWS).ranges).run(graph, Unobserved())
    return graph


def budget(limits: Limits, labels: Array | None = None) -> Budget:
    trial = Trial(ROWS)
    ranges: Callable[[Graph], Ranges] = trial.ranges
    return Budget(limits, lambda _: trial, lambda _: trial, lambda: None, ranges, mean_snr, labels)


def lifted(limits: Limits) -> tuple[Graph, Budget]:
    graph, kept = annotated(), budget(limits)
    FallBack(scheme=scheme(), budget=kept).run(graph, Unobserved())
    return graph, kept


def psnr(graph: Graph) -> float:
    trial = Trial(ROWS)
    return Limits(None, 0.0).measure(trial.reference(graph), trial.run(simulated(graph).graph)).psnr


def test_the_most_damaging_value_gets_sixteen_bits() -> None:
    limit = psnr(annotated()) + 10
    graph, kept = lifted(Limits(None, limit))
    wide = [v for v in values(graph) if v.type.quant is not None and v.type.quant.dtype is I16]
    assert [v.node.op.name for v in wide if v.node] == ["mul"] and wide[0].type.quant is not None
    assert wide[0].type.quant.scale[0] * 32767 > 300
    assert psnr(graph) >= limit and kept.found.psnr >= limit
    (cost,) = kept.costs
    assert cost.layers[0].startswith("mul") and cost.stored == "int16"
    assert (cost.nbytes, cost.conversions) == (0, 2)  # its operand widened, its reader's result narrowed


def test_a_budget_that_int8_keeps_changes_nothing() -> None:
    graph, kept = lifted(Limits(None, 5.0))
    assert kept.costs == [] and {v.type.quant.dtype for v in values(graph) if v.type.quant} == {I8}


def test_what_sixteen_bits_cannot_keep_stays_in_floats() -> None:
    graph, kept = lifted(Limits(None, 90.0))
    assert kept.reals and all(v.type.quant is None for v in kept.reals)
    assert {c.stored for c in kept.costs} == {"int16", "float32"}
    assert psnr(graph) >= 90
    node = next(n for n in graph.of(ops.Conv) if n.output in kept.reals)
    assert node.inputs[1] is not None and node.inputs[1].type.quant is None, "weights of a float layer are floats"
    bytes_of_weights = sum(c.nbytes for c in kept.costs if c.stored == "float32")
    assert bytes_of_weights > 0


@given(st.floats(10, 120))
@settings(max_examples=8)
def test_any_budget_is_kept_with_no_unit_to_spare(limit: float) -> None:
    graph, kept = lifted(Limits(None, limit))
    assert psnr(graph) >= limit
    if kept.costs:
        plan = Plan(annotated(), scheme(), Trial(ROWS), mean_snr, None)
        fewer = annotated()
        plan.apply(fewer, kept._count - 1, {})  # the state of the search
        assert psnr(fewer) < limit


def test_weights_that_were_rounded_are_restored_in_floats() -> None:
    graph, trial = annotated(), Trial(ROWS)
    floats = graph.clone()
    (node, *_) = graph.of(ops.Conv)
    old = node.inputs[1]
    assert old is not None and old.data is not None
    rounded = graph.const(np.round(old.data, 1), old.name)
    rounded.type = old.type
    graph.set_operand(node, 1, rounded)
    plan = Plan(graph, scheme(), trial, mean_snr, floats)
    plan.apply(graph, plan.most, {})
    assert node.inputs[1] is not None and node.inputs[1].data is old.data
    assert mean_snr(trial.reference(floats), trial.run(simulated(graph).graph)) > 120


def test_tightening_goes_on_until_all_are_floats() -> None:
    graph, kept = annotated(), budget(Limits(None, 5.0))
    kept.lift(graph, scheme())
    steps = 0
    while kept.tighten(graph):
        steps += 1
    assert steps < 10 and all(v.type.quant is None for v in values(graph))


def scores(*winners: int) -> list[dict[str, Array]]:
    return [{"y": np.eye(3, dtype=np.float32)[[w]]} for w in winners]


def test_rows_are_lost_where_the_class_changes_or_with_labels_where_it_was_right() -> None:
    limits = Limits(0.25, None)
    found = limits.measure(scores(0, 1, 2, 0), scores(0, 1, 0, 1))
    assert found.drop == 0.5 and not limits.admit(found)
    found = limits.measure(scores(0, 1, 2, 0), scores(0, 1, 0, 1), np.array([0, 1, 0, 0, 9]))
    assert found.drop == 0.0 and limits.admit(found)  # one class more is right, and one less
    assert not Limits(1.0, 50.0).admit(Standing(0.0, 49.9))


def test_a_single_probability_tells_two_classes() -> None:
    before, after = (
        [{"y": np.array([[p]], np.float32)} for p in ps] for ps in ((0.9, 0.6, 0.2, 0.4), (0.7, 0.4, 0.1, 0.4))
    )
    assert Limits(0.5).measure(before, after).drop == 0.25
    assert Limits(0.5).measure(before, after, np.array([1, 0, 0, 0])).drop == -0.25  # the change was for the better
    with pytest.raises(UsageError, match="no output is"):
        Limits(0.5).measure([{"y": np.array([[1.5]], np.float32)}], after[:1])


def test_labels_of_other_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="is right on none"):
        Limits(0.25).measure(scores(0, 1, 2, 0), scores(0, 1, 0, 1), np.array([1, 2, 3, 1]))


def test_values_of_sixteen_bits_become_floats_at_once() -> None:
    graph = annotated()
    WidenActivations(scheme=scheme()).run(graph, Unobserved())
    kept = budget(Limits(None, 1000.0))
    FallBack(scheme=scheme(), budget=kept).run(graph, Unobserved())
    assert {cost.stored for cost in kept.costs} == {"float32"}
    assert all(v.type.quant is None for v in values(graph))


def test_outputs_without_classes_have_no_drop() -> None:
    one = [{"y": np.ones((1, 4, 4), np.float32)}]
    with pytest.raises(UsageError, match="no output is"):
        Limits(0.1).measure(one, one)


@pytest.mark.parametrize(("text", "share"), [("0.5%", 0.005), ("0.5 %", 0.005), ("0.005", 0.005), ("0", 0.0)])
def test_shares(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "x%", "-1%", "101%", "2", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no share"):
        parse_share(text)


def test_without_a_budget_nothing_happens() -> None:
    graph = annotated()
    assert FallBack(scheme=scheme()).run(graph, Unobserved()) == 0
    assert FallBack().run(graph, Unobserved()) == 0
