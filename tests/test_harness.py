"""The checks of the harness catch what they are for, and let pass what is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from compiler.errors import CompileError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops import Clip, Conv, Mul
from compiler.pass_base import ErrorClass, Pass, absent
from compiler.pattern import Const, Layer, Maybe, OneOf, Wild, match
from compiler.rewrite import Observer, apply_rules
from compiler.tensor import F32, TensorType
from compiler.text_parse import parse_graph
from tests import harness, wrong
from tests.harness import assert_equivalent, assert_text_is_exact, check, spread
from tests.strategies import graphs, grown, random_graph, random_inputs
from tests.wrong import GivenExactPass, GivenLossyPass, GivenPass, HastyPass, SilentPass

TEXT = """graph(%x: f32[4,5], %y: f32[4,5]) {
  %c = const normal(1) : f32[5]
  %a = sub(%x, %y) : f32[4,5]  from "a"
  %b = add(%a, %c) : f32[4,5]  from "b"
  %e = identity(%b) : f32[4,5]  from "e"
  %f = tanh(%e) : f32[4,5]  from "f"
  %g = identity(%y) : f32[4,5]  from "g"
  %h = relu(%x) : f32[4,5]  from "h"
  return %f, %g, %h
}"""

FAULTS: dict[str, tuple[Pass, str]] = {
    "wrong numbers": (GivenPass(find=wrong.TANH, replace=wrong.negated), "f is off by"),
    "numbers a thousandth off": (GivenPass(find=wrong.IDENTITY, replace=wrong.stretched), "is off by"),
    "rounding in an exact pass": (GivenExactPass(find=wrong.IDENTITY, replace=wrong.thirds), "is not the same"),
    "infinities in an exact pass": (GivenExactPass(find=wrong.IDENTITY, replace=wrong.cancelled), "is not the same"),
    "infinities that were numbers": (GivenPass(find=wrong.IDENTITY, replace=wrong.overflowing), "special values"),
    "NaN that were lost": (GivenPass(find=wrong.IDENTITY, replace=wrong.cleaned), "special values"),
    "no end": (GivenPass(find=wrong.SUM, replace=wrong.turned), "do not come to rest"),
    "work": (GivenPass(find=wrong.IDENTITY, replace=wrong.multiplied), "raises the work from 0 to 100 MACs"),
    "another type": (GivenPass(find=wrong.TANH, replace=wrong.halved), "cannot be replaced by one of type f16"),
    "no provenance": (GivenPass(find=wrong.RELU, replace=wrong.anonymous), "layers without provenance"),
    "a constant changed": (GivenLossyPass(find=wrong.BIASED, replace=wrong.scribbled), "shared constant was changed"),
    "silence": (SilentPass(), "changed the graph without saying so"),
    "no fixed point": (HastyPass(find=wrong.IDENTITY, replace=wrong.removed), "a second run fired 1 times"),
}


@pytest.mark.parametrize(("p", "message"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_caught(p: Pass, message: str, rng: np.random.Generator) -> None:
    with pytest.raises((AssertionError, CompileError), match=message):
        check(p, parse_graph(TEXT), rng)


def test_what_is_right_passes(rng: np.random.Generator) -> None:
    exact = check(GivenExactPass(find=wrong.IDENTITY, replace=wrong.removed), parse_graph(TEXT), rng)
    assert exact.fired == 2 and "identity" not in exact.after.op_counts and "identity" in exact.before.op_counts
    assert check(GivenPass(find=wrong.IDENTITY, replace=wrong.thirds), parse_graph(TEXT), rng).fired == 2
    assert check(GivenLossyPass(find=wrong.TANH, replace=wrong.negated), parse_graph(TEXT), rng).fired == 1


def test_conditions_are_checked(rng: np.random.Generator) -> None:
    class ConditionedPass(GivenExactPass):
        requires = (absent(Conv),)
        ensures = (absent(Clip),)

    p = ConditionedPass(find=wrong.IDENTITY, replace=wrong.removed)
    text = "graph(%x: f32[5]) {\n %y = clip(%x) low=0.0 : f32[5]\n return %y\n}"
    with pytest.raises(CompileError, match="ensures that no clip layer is left, which does not hold"):
        check(p, parse_graph(text), rng)
    conv = "graph(%x: f32[1,1,5]) {\n %w = const splat(1) : f32[1,1,1]\n %y = conv(%x, %w) strides=(1,) pads=(0, 0)"
    with pytest.raises(CompileError, match="requires that no conv layer is left, which does not hold"):
        check(p, parse_graph(conv + " dilations=(1,) : f32[1,1,5]\n return %y\n}"), rng)


def test_growing_work_is_caught_even_where_the_driver_does_not_look(rng: np.random.Generator) -> None:
    class ProfligatePass(GivenPass):
        """Writes its layers itself."""

        def run(self, graph: Graph, observer: Observer) -> int:
            return apply_rules(graph, self.rules(), observer, adds_work=True)

    with pytest.raises(AssertionError, match="the work has grown"):
        check(ProfligatePass(find=wrong.IDENTITY, replace=wrong.multiplied), parse_graph(TEXT), rng)


def test_an_interface_that_changed_is_caught(rng: np.random.Generator) -> None:
    class RenamingPass(SilentPass):
        def run(self, graph: Graph, observer: Observer) -> int:
            graph.set_outputs(graph.outputs, ["p", "q", "r"])
            return 0

    with pytest.raises(AssertionError, match="inputs or outputs have changed"):
        check(RenamingPass(), parse_graph(TEXT), rng)


def test_a_text_that_loses_something_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse_graph(TEXT)
    assert_text_is_exact(graph)
    monkeypatch.setattr(harness, "print_graph", lambda g: TEXT.replace("tanh", "sin") if g is graph else TEXT)
    with pytest.raises(AssertionError):
        assert_text_is_exact(graph)


def test_spread_follows_the_conditioning_of_the_graph(rng: np.random.Generator) -> None:
    text = """graph(%x: f32[100]) {
      %k = const splat(1000.0) : f32[100]
      %far = add(%x, %k) : f32[100]
      %back = sub(%far, %k) : f32[100]
      %step = floor(%x) : f32[100]
      return %x as "plain", %back, %step
    }"""
    graph = parse_graph(text)
    moved = spread(graph, {"x": np.linspace(0.1, 0.9, 100, dtype=np.float32)}, rng, nudge=1e-6)
    assert moved["plain"][1].max() < 2e-6 and moved["step"][1].max() == 0
    assert 1e-3 < moved["back"][1].max() < 1e-2
    jumps = spread(graph, {"x": np.full(100, 3.0, np.float32)}, rng, nudge=1e-6)
    assert jumps["step"][1].max() == pytest.approx(1.0, abs=1e-5)


def test_a_rewrite_may_move_what_rounding_moves(rng: np.random.Generator) -> None:
    graph = 'graph(%x: f32[9]) {{\n %y = floor(%x) : f32[9]\n {} return %z as "y"\n}}'
    before, after = (parse_graph(graph.format(f"%z = {op}(%y) : f32[9]\n")) for op in ("identity", "neg"))
    with pytest.raises(AssertionError, match="y is off by"):
        assert_equivalent(before, after, ErrorClass.ROUNDING, rng)
    assert_equivalent(before, before.clone(), ErrorClass.EXACT, rng)


@given(graph=graphs(10))
def test_random_graphs_are_sound(graph: Graph) -> None:
    graph.verify()
    assert graph.outputs and all(v.type.is_static for n in graph.nodes for v in n.outputs)


def test_random_graphs_are_diverse() -> None:
    seen: dict[str, int] = {}
    kinds: set[str] = set()
    shared = middle = several = 0
    for seed in range(300):
        graph = random_graph(np.random.default_rng(seed), 10)
        for name, count in graph.op_counts.items():
            seen[name] = seen.get(name, 0) + count
        values = [v for n in graph.nodes for v in n.outputs]
        kinds |= {v.type.dtype.name for v in values}
        shared += any(len(v.users) > 1 for v in values)
        middle += any(v.n_out and v.users for v in values)
        several += any(len(n.outputs) > 1 for n in graph.nodes)
    assert len(seen) > 110 and kinds >= {"f16", "f32", "f64", "i32", "i64", "u8", "bool"}
    assert min(shared, middle, several) > 30


def test_a_pattern_grows_into_graphs_that_it_matches() -> None:
    x, c, bias = Wild(), Const(equal=2), Maybe(Const())
    clipped = Layer(Clip, x, where=lambda op: op.low == 0)
    find = Layer(Mul, OneOf(Layer(Conv, clipped, Const(), bias), clipped), c)
    forms: set[tuple[str, ...]] = set()
    tapped = 0
    for seed in range(200):
        graph = grown(np.random.default_rng(seed), find)
        assert graph is not None
        (root,) = graph.of(Mul)
        taps = len(graph.outputs) > 1
        tapped += taps
        if not root.output.type.size:
            continue
        found = match(find, root)
        assert (found is not None) != (taps and any(v.n_out for n in graph.nodes for v in n.outputs if n is not root))
        if found is not None:
            assert found[c].item(0) == 2 and found.op(clipped).low == 0
            forms.add((*graph.op_counts, str(bias in found.bound and found.maybe(bias) is not None)))
        evaluate(graph, random_inputs(np.random.default_rng(seed), graph))
    assert len(forms) == 3 and 20 < tapped < 100


def test_a_pattern_that_contradicts_itself_does_not_grow() -> None:
    never = Layer(Clip, Wild(where=lambda v: v.type == TensorType(F32, (77, 77))))
    assert grown(np.random.default_rng(0), never, attempts=20) is None
