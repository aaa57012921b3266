"""The driver: where rules are tried, what a firing changes and reports, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.errors import PassError, ShapeError
from compiler.graph import Graph, Node, Value
from compiler.ops import Abs, Add, Clip, Exp, Identity, Mul, Neg, Relu, Split, Tanh
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Firing, Rule, Skip, apply_rules
from compiler.tensor import F16, F32, TensorType
from compiler.text import print_graph
from compiler.text_parse import parse_graph
from tests import wrong
from tests.timing import assert_linear
from tests.wrong import X, Y

CHAIN = """graph(%x: f32[4]) {
  %a = neg(%x) : f32[4]  from "a"
  %b = neg(%a) : f32[4]  from "b"
  %c = neg(%b) : f32[4]  from "c"
  %d = neg(%c) : f32[4]  from "d"
  return %d as "y"
}"""
DOUBLE = Layer(Neg, Layer(Neg, X))


class Recorder:
    """An observer that keeps all it is told, and allows a number of firings."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.firings: list[Firing] = []
        self.skips: list[tuple[str, Node, str]] = []

    def allow(self) -> bool:
        return len(self.firings) < self.limit

    def fired(self, firing: Firing) -> None:
        self.firings.append(firing)

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        self.skips.append((rule, node, reason))


def applied(text: str, *rules: Rule, limit: int = 10**9) -> tuple[Graph, Recorder]:
    graph, recorder = parse_graph(text), Recorder(limit)
    assert apply_rules(graph, rules, recorder) == len(recorder.firings)
    graph.verify()
    return graph, recorder


def test_rules_are_applied_until_none_fires() -> None:
    graph, recorder = applied(CHAIN, Rule(DOUBLE, wrong.removed))
    assert len(graph) == 0 and graph.outputs == graph.inputs and len(recorder.firings) == 2


def test_a_firing_says_what_was_consumed_and_made() -> None:
    graph, recorder = applied(CHAIN, Rule(DOUBLE, lambda m, g: g.add(Abs(), m.value(X)), "fold"), limit=1)
    (firing,) = recorder.firings
    assert firing.rule == "fold" and [n.op for n in firing.erased] == [Neg(), Neg()]
    assert [n.op for n in firing.added] == [Abs()] and firing.new[0].node is firing.added[0]
    assert [n.op for n in firing.readers] == [Neg()] and all(n.is_erased for n in firing.erased)
    assert firing.added[0].origin == {"a", "b"} and len(graph) == 3 and firing.new[0].name == "b"


def test_the_name_of_a_rule_is_that_of_its_function_unless_given() -> None:
    assert Rule(DOUBLE, wrong.removed).label == "removed" and Rule(DOUBLE, wrong.removed, "x").label == "x"


def test_what_a_declined_rewrite_added_is_taken_back() -> None:
    def declines(m: Match, g: Builder) -> Skip:
        g.add(Exp(), g.add(Abs(), m.value(X)))
        return Skip("not today")

    graph, recorder = applied(CHAIN, Rule(DOUBLE, declines))
    assert print_graph(graph) == print_graph(parse_graph(CHAIN)) and recorder.firings == []
    assert [(rule, reason) for rule, _, reason in recorder.skips] == [("declines", "not today")] * 3
    graph, recorder = applied(CHAIN, Rule(DOUBLE, lambda _, __: None))
    assert recorder.skips == [] and len(graph) == 4


def test_what_was_added_for_nothing_does_not_stay() -> None:
    def wasteful(m: Match, g: Builder) -> Value:
        g.add(Exp(), m.value(X))
        return g.add(Abs(), m.value(X))

    graph, recorder = applied(CHAIN, Rule(DOUBLE, wasteful), limit=1)
    assert graph.op_counts == {"abs": 1, "neg": 2}, "an unread layer stays"
    assert [n.op for n in recorder.firings[0].added] == [Abs()]


def test_a_layer_that_others_read_is_left_alone() -> None:
    shared = CHAIN.replace('return %d as "y"', 'return %d as "y", %c')
    graph, _ = applied(shared, Rule(DOUBLE, wrong.removed))
    assert graph.op_counts == {"neg": 2}
    graph.verify()
    _, recorder = applied(shared, Rule(Layer(Neg, Layer(Neg, X, shared=True)), wrong.removed))
    assert len(recorder.firings) == 2


def test_new_layers_and_readers_are_visited_again() -> None:
    text = """graph(%x: f32[4]) {
      %a = tanh(%x) : f32[4]
      %b = relu(%a) : f32[4]
      %c = exp(%b) : f32[4]
      return %c
    }"""
    rules = (
        Rule(Layer(Abs, X), lambda m, g: g.add(Neg(), m.value(X))),
        Rule(Layer(Exp, Layer(Neg, X)), lambda m, g: g.add(Identity(), m.value(X))),
        Rule(Layer(Relu, Layer(Tanh, X)), lambda m, g: g.add(Abs(), m.value(X))),
    )
    graph, recorder = applied(text, *rules)
    assert graph.op_counts == {"identity": 1} and len(recorder.firings) == 3


def test_a_layer_that_loses_a_reader_is_visited_again() -> None:
    text = """graph(%x: f32[4]) {
      %a = neg(%x) : f32[4]
      %b = neg(%a) : f32[4]
      %c = tanh(%a) : f32[4]
      %d = mul(%c, %b) : f32[4]
      return %d
    }"""
    constant = Rule(Layer(Tanh, X), lambda _, g: g.const(np.ones(4, np.float32)))
    graph, recorder = applied(text, Rule(DOUBLE, wrong.removed), constant)
    assert graph.op_counts == {"mul": 1} and len(recorder.firings) == 2


def test_rules_for_several_results() -> None:
    text = """graph(%x: f32[4]) {
      %a, %b = split(%x) axis=0 sizes=(2, 2) : f32[2], f32[2]
      return %b, %a
    }"""
    swap = Rule(
        Layer(Split, X, where=lambda op: op.sizes == (2, 2)),
        lambda m, g: g.add_many(Split(axis=0, sizes=(2, 2, 0)), m.value(X))[:2],
    )
    graph, recorder = applied(text, swap)
    assert [v.index for v in graph.outputs] == [1, 0] and len(recorder.firings) == 1
    with pytest.raises(PassError, match="gives 1 values for 2"):
        applied(text, Rule(Layer(Split, X), lambda m, _: m.value(X), "one"))


def test_constants_take_type_name_and_origin() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F16, (2,)), "x")
    w = graph.const(np.ones(2, np.float16), "w", frozenset(("w0",)))
    (y,) = graph.add(Mul(), x, w)
    graph.set_outputs([y], ["y"])
    assert y.node is not None
    builder = Builder(graph, y.node, frozenset())
    like = builder.const([1.5, 2.5], like=w)
    assert like.type == w.type and like.name == "w" and like.origin == {"w0"}
    assert builder.const(3, like=TensorType(F32, (7,))).type == TensorType(F32, ())
    assert builder.const(np.arange(3)).type.dtype.name == "i64"


def test_errors_of_a_rule_name_the_rule_and_the_layer() -> None:
    with pytest.raises(PassError, match="fold: a value of type") as e:
        applied(CHAIN, Rule(DOUBLE, lambda _, g: g.const(np.zeros(3, np.float32)), "fold"))
    assert e.value.where == "%b = neg(%a) : f32[4]  (from ONNX node 'b')"
    with pytest.raises(ShapeError, match="add does not take 1 operands"):
        applied(CHAIN, Rule(DOUBLE, lambda m, g: g.add(Add(), m.value(X))))


def test_a_rewrite_of_its_own_result_is_stopped() -> None:
    with pytest.raises(PassError, match="do not come to rest"):
        applied(CHAIN, Rule(Layer(Neg, X), wrong.negated))
    text = "graph(%x: f32[4]) {\n %y = add(%x, %x) : f32[4]\n return %y\n}"
    with pytest.raises(PassError, match="do not come to rest"):
        applied(text, Rule(Layer(Add, X, Y), wrong.turned))


def test_rules_do_not_see_layers_of_other_operations() -> None:
    seen: list[str] = []

    def look(m: Match, g: Builder) -> None:
        seen.append(m.root.op.name)

    text = CHAIN.replace("%b = neg", "%b = abs").replace("%d = neg", "%d = exp")
    applied(text, Rule(Layer((Abs, Exp), Wild()), look))
    assert seen == ["abs", "exp"]


def test_cost_is_linear_in_the_graph() -> None:
    rules = (
        Rule(Layer(Relu, X), lambda m, g: g.add(Clip(low=0.0), m.value(X))),
        Rule(Layer(Clip, Layer(Neg, X)), lambda m, g: g.add(Abs(), m.value(X))),
        Rule(Layer(Abs, Layer(Abs, X)), wrong.removed),
    )

    def prepare(layers: int) -> Callable[[], object]:
        graph = Graph()
        v = graph.add_input(TensorType(F32, (4,)), "x")
        for i in range(layers):
            (v,) = graph.add(Relu() if i % 2 else Neg(), v)
        graph.set_outputs([v], ["y"])
        return lambda: apply_rules(graph, rules, Recorder())

    assert_linear(prepare, 2000)
