"""The manager keeps the ledger and holds passes to their word; bisection names the rewrite that broke a model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

import passes
from compiler.compare import compare, compare_all
from compiler.errors import ParseError, PassError, UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.ledger import APPLIED, DECLINED, ROLLED_BACK
from compiler.ops import Clip, Exp, Identity, Mul, Neg, Tanh
from compiler.oracle import run_graph
from compiler.pass_base import PASSES, PIPELINES, ErrorClass, Fixpoint, Pass, absent, parse_pipeline
from compiler.pass_manager import Outcome, PassManager
from compiler.pattern import Layer, Match
from compiler.rewrite import Builder, Replace, Skip
from compiler.rewrite_check import RewriteChecker
from compiler.tensor import Array
from compiler.text import print_graph
from compiler.text_parse import parse_graph
from tests import wrong
from tests.wrong import GivenExactPass, GivenLossyPass, GivenPass

X = wrong.X
TEXT = """graph(%x: f32[2,8]) {
  %w = const normal(1) : f32[8,8]
  %a = identity(%x) : f32[2,8]  from "a"
  %b = matmul(%a, %w) : f32[2,8]  from "b"
  %c = identity(%b) : f32[2,8]  from "c"
  %d = tanh(%c) : f32[2,8]  from "d"
  %e = relu(%c) : f32[2,8]  from "e"
  %f = add(%d, %e) : f32[2,8]  from "f"
  return %f as "out"
}"""
RIGHT = GivenExactPass(find=wrong.IDENTITY, replace=wrong.removed)
OFF = GivenPass(find=wrong.TANH, replace=wrong.stretched)
ROUNDING = GivenPass(find=wrong.IDENTITY, replace=wrong.thirds)


@pytest.fixture
def inputs(rng: np.random.Generator) -> dict[str, Array]:
    return {"x": rng.standard_normal((2, 8), np.float32)}


def checked(steps: list[Pass], inputs: dict[str, Array], strict: bool = False, text: str = TEXT) -> Outcome:
    """A run under `--verify each`."""
    graph = parse_graph(text)
    checker = RewriteChecker(inputs, run_graph(graph, inputs))
    return PassManager(steps).run(graph, checker=checker, strict=strict, debug=True)


# -- the ledger ----------------------------------------------------------------------------------------------


def test_each_rewrite_is_a_line_of_the_ledger() -> None:
    graph = parse_graph(TEXT)
    outcome = PassManager([RIGHT]).run(graph)
    assert outcome.graph is graph and outcome.ledger.applied == 2 and outcome.ledger.counts() == {"given-exact-pass": 2}
    assert outcome.ledger.as_json()[0] == {
        "pass": "given-exact-pass",
        "pattern": "given",
        "status": APPLIED,
        "error_class": "exact",
        "before": ["identity"],
        "after": [],
        "origin": ["a"],
    }
    (record,) = outcome.ledger.passes
    assert record.as_json() == {"pass": "given-exact-pass", "fired": 2, "layers": 4, "status": APPLIED}


def test_rewrites_are_measured_where_they_happen_and_at_the_outputs(inputs: dict[str, Array]) -> None:
    outcome = checked([RIGHT, ROUNDING], inputs)
    assert [e.damage.max_abs for e in outcome.ledger.entries if e.damage] == [0.0, 0.0]
    (record,) = outcome.ledger.passes
    assert record.outputs[0].name == "out" and record.outputs[0].max_abs == 0.0

    outcome = checked([ROUNDING], inputs)
    for entry in outcome.ledger.entries:
        assert entry.damage is not None and 120 < entry.damage.psnr_db < 200 and 0 < entry.damage.max_abs < 1e-5
        assert entry.as_json()["psnr_db"] == round(entry.damage.psnr_db, 2)
    assert 100 < outcome.ledger.passes[0].outputs[0].psnr_db < 200


def test_damage_is_measured_on_the_subgraph_that_a_rewrite_touched(inputs: dict[str, Array]) -> None:
    outcome = checked([GivenLossyPass(find=wrong.TANH, replace=wrong.stretched)], inputs)
    (entry,) = outcome.ledger.entries
    before = parse_graph(TEXT.replace('return %f as "out"', "return %c, %d"))
    values = evaluate(before, inputs)
    expected = compare("", values["d"], values["c"] * np.float32(1.001))
    assert entry.damage is not None and entry.damage.psnr_db == pytest.approx(expected.psnr_db, abs=0.1)


def test_a_declined_rewrite_is_entered_once_with_its_reason() -> None:
    p = GivenPass(find=wrong.TANH, replace=lambda _, __: Skip("the weather"))
    outcome = PassManager([Fixpoint(passes=(p, RIGHT))]).run(parse_graph(TEXT))
    (entry,) = [e for e in outcome.ledger.entries if e.status == DECLINED]
    assert entry.as_json()["reason"] == "the weather" and entry.before == ("tanh",) and entry.origin == {"d"}
    assert outcome.ledger.applied == 2


def test_provenance_of_all_that_was_matched_is_united() -> None:
    find = Layer(Tanh, Layer(Identity, X, shared=True))
    outcome = PassManager([GivenPass(find=find, replace=wrong.negated)]).run(parse_graph(TEXT))
    (node,) = outcome.graph.of(Neg)
    assert node.origin == {"c", "d"} and outcome.ledger.entries[0].origin == {"d"}


# -- promises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "why"),
    [
        (OFF, "rewrite given at d gives"),
        (GivenExactPass(find=wrong.IDENTITY, replace=wrong.thirds), "rewrite given at a gives"),
        (GivenPass(find=wrong.IDENTITY, replace=wrong.overflowing), "-400.0 dB (max-abs inf)"),
    ],
    ids=["rounding", "exact", "infinities"],
)
def test_a_wrong_rewrite_is_rolled_back(p: Pass, why: str, inputs: dict[str, Array]) -> None:
    after = GivenPass(find=wrong.RELU, replace=lambda m, g: g.add(Clip(low=0.0), m.value(X)))
    outcome = checked([p, after], inputs)
    first, second = outcome.ledger.passes
    assert first.status.startswith(ROLLED_BACK) and why in first.status
    assert {e.status for e in outcome.ledger.entries if e.before != ("relu",)} == {ROLLED_BACK}
    assert second.status == APPLIED and outcome.ledger.applied == 1
    outcome.graph.verify()
    assert print_graph(outcome.graph) == print_graph(parse_graph(TEXT)).replace("relu(%c)", "clip(%c) low=0.0")
    assert compare_all(evaluate(parse_graph(TEXT), inputs), evaluate(outcome.graph, inputs))[0].max_abs == 0.0


def test_rewrites_after_a_rolled_back_pass_are_measured_in_the_graph_that_is_left(inputs: dict[str, Array]) -> None:
    """The snapshot holds other values than the graph that was followed; none of them would be known."""
    outcome = checked([OFF, GivenExactPass(find=wrong.RELU, replace=wrong.stretched)], inputs)
    wrong_after = outcome.ledger.entries[-1]
    assert wrong_after.damage is not None and wrong_after.damage.max_abs > 0
    assert [r.status.startswith(ROLLED_BACK) for r in outcome.ledger.passes] == [True, True]
    assert "rewrite given at e gives" in outcome.ledger.passes[1].status
    (kept,) = checked([OFF, RIGHT], inputs).ledger.entries[-1:]
    assert kept.damage is not None and kept.damage.max_abs == 0.0


def test_what_rounding_passes_left_behind_does_not_spoil_exact_ones(inputs: dict[str, Array]) -> None:
    """%b was measured when %a was a copy of %x; the exact rewrite reads the new %a where the old layer read %b."""
    text = """graph(%x: f32[2,8]) {
      %a = identity(%x) : f32[2,8]
      %b = neg(%a) : f32[2,8]
      %c = neg(%b) : f32[2,8]
      %d = relu(%b) : f32[2,8]
      return %c as "c", %d as "d"
    }"""
    twice = GivenExactPass(find=Layer(Neg, Layer(Neg, X, shared=True)), replace=wrong.removed)
    drift = GivenPass(find=wrong.IDENTITY, replace=lambda m, g: g.add(Mul(), m.value(X), g.const(np.float32(1 + 1e-6))))
    outcome = checked([drift, twice], inputs, text=text)
    assert [r.status for r in outcome.ledger.passes] == [APPLIED, APPLIED]
    assert outcome.graph.op_counts == {"mul": 1, "neg": 1, "relu": 1}


def test_a_pass_that_was_rolled_back_is_not_tried_again(inputs: dict[str, Array]) -> None:
    graph = parse_graph(TEXT)
    checker = RewriteChecker(inputs, run_graph(graph, inputs))
    steps = [Fixpoint(passes=(OFF, RIGHT))]
    outcome = PassManager(steps).run(graph, checker=checker, debug=True)
    assert [r.pass_name for r in outcome.ledger.passes] == ["given-pass", "given-exact-pass"]
    assert outcome.graph.op_counts == {"add": 1, "matmul": 1, "relu": 1, "tanh": 1}


def test_a_wrong_rewrite_ends_a_strict_run(inputs: dict[str, Array]) -> None:
    with pytest.raises(PassError, match=r"pass given-pass is rounding, but rewrite given at d gives .* dB") as e:
        checked([RIGHT, OFF], inputs, strict=True)
    assert e.value.exit_code == 1 and "--bisect" in str(e.value)


def test_without_a_checker_nothing_is_measured() -> None:
    outcome = PassManager([OFF]).run(parse_graph(TEXT), strict=True)
    assert outcome.ledger.applied == 1 and outcome.ledger.entries[0].damage is None


def test_a_lossy_pass_does_not_spoil_those_after_it(inputs: dict[str, Array]) -> None:
    lossy = GivenLossyPass(find=wrong.TANH, replace=wrong.stretched)
    outcome = checked([lossy, ROUNDING], inputs, strict=True)
    assert [r.status for r in outcome.ledger.passes] == [APPLIED, APPLIED]
    assert outcome.ledger.passes[1].outputs[0].psnr_db < 100


def test_a_model_that_is_away_from_its_reference_does_not_spoil_the_passes(inputs: dict[str, Array]) -> None:
    graph = parse_graph(TEXT)
    reference = {"out": run_graph(graph, inputs)["out"] * np.float32(1.001)}
    outcome = PassManager([ROUNDING]).run(graph, checker=RewriteChecker(inputs, reference), strict=True)
    (record,) = outcome.ledger.passes
    assert record.status == APPLIED and 50 < record.outputs[0].psnr_db < 80


def test_damage_spread_over_many_rewrites_is_caught_at_the_outputs(inputs: dict[str, Array]) -> None:
    chain = "".join(f"  %i{k + 1} = identity(%i{k}) : f32[2,8]\n" for k in range(200))
    text = f'graph(%i0: f32[2,8]) {{\n{chain}  return %i200 as "out"\n}}'

    def drift(m: Match, g: Builder) -> Value:
        return g.add(Mul(), m.value(X), g.const(np.float32(1 + 5e-6)))

    outcome = checked([GivenPass(find=wrong.IDENTITY, replace=drift)], {"i0": inputs["x"]}, text=text)
    assert all(e.damage is not None and e.damage.psnr_db > 100 for e in outcome.ledger.entries)
    assert "output 'out' is" in outcome.ledger.passes[0].status and outcome.graph.op_counts == {"identity": 200}


def test_values_that_no_layer_reads_any_more_are_let_go(inputs: dict[str, Array]) -> None:
    graph = parse_graph(TEXT)
    checker = RewriteChecker(inputs, run_graph(graph, inputs))
    PassManager([RIGHT]).run(graph, checker=checker)
    assert set(checker._known) == {v for n in graph.nodes for v in n.outputs} | set(graph.inputs)


@pytest.mark.parametrize(
    ("find", "replace", "message"),
    [
        (wrong.SUM, wrong.turned, "the rewrites do not come to rest"),
        (wrong.IDENTITY, wrong.multiplied, "given raises the work from 0 to 128 MACs"),
        (wrong.TANH, wrong.halved, r"given: a value of type f32\[2,8\] cannot be replaced by one of type f16\[2,8\]"),
        (wrong.TANH, lambda m, _: [m.value(X)] * 2, "given gives 2 values for 1"),
    ],
    ids=["endless", "work", "type", "number of results"],
)
def test_rewrites_that_break_the_rules_are_refused(find: Layer, replace: Replace, message: str) -> None:
    with pytest.raises(PassError, match=message) as e:
        PassManager([GivenPass(find=find, replace=replace)]).run(parse_graph(TEXT))
    assert e.value.where is not None and "from ONNX node" in e.value.where


def test_work_may_grow_where_the_pass_says_so() -> None:
    class LaboriousPass(GivenPass):
        adds_work = True

    graph = PassManager([LaboriousPass(find=wrong.IDENTITY, replace=wrong.multiplied)]).run(parse_graph(TEXT)).graph
    assert graph.op_counts == {"add": 1, "matmul": 3, "relu": 1, "tanh": 1}


def test_a_broken_graph_is_caught_in_debug() -> None:
    class BreakingPass(Pass):
        def run(self, graph: Graph, observer: object) -> int:
            graph.inputs.clear()
            return 1

    with pytest.raises(Exception, match="read before it is computed"):
        PassManager([BreakingPass()]).run(parse_graph(TEXT), debug=True)


# -- conditions and pipelines --------------------------------------------------------------------------------


def test_requires_and_ensures_are_checked() -> None:
    class NeedsPass(GivenExactPass):
        requires = (absent(Tanh, Exp),)

    class GivesPass(GivenExactPass):
        ensures = (absent(Identity),)

    with pytest.raises(PassError, match="needs-pass requires that no tanh, exp layer is left, which does not hold"):
        PassManager([NeedsPass(find=wrong.IDENTITY, replace=wrong.removed)]).run(parse_graph(TEXT))
    declines = GivesPass(find=wrong.IDENTITY, replace=lambda _, __: None)
    with pytest.raises(PassError, match="gives-pass ensures that no identity layer is left"):
        PassManager([declines]).run(parse_graph(TEXT))
    PassManager([GivesPass(find=wrong.IDENTITY, replace=wrong.removed)]).run(parse_graph(TEXT))
    assert PassManager([declines]).run(parse_graph(TEXT), limit=0).ledger.applied == 0


def test_a_fixpoint_repeats_until_nothing_fires() -> None:
    calls: list[str] = []

    class Step(GivenExactPass):
        def run(self, graph: Graph, observer: object) -> int:
            calls.append(self.name)
            nodes = graph.of(Identity)[:1]
            return super().run(graph, wrong.Once(observer)) if nodes else 0  # type: ignore[arg-type]  # an Observer

        name: str = "step"

    del PASSES["step"]
    step = Step(find=wrong.IDENTITY, replace=wrong.removed)
    outcome = PassManager([Fixpoint(passes=(step,))]).run(parse_graph(TEXT))
    assert len(calls) == 3 and outcome.ledger.applied == 2
    calls.clear()
    assert PassManager([Fixpoint(passes=(step,), rounds=1)]).run(parse_graph(TEXT)).ledger.applied == 1
    assert len(calls) == 1


def test_skip_leaves_passes_out_and_knows_their_names() -> None:
    name = next(iter(PASSES))
    manager = PassManager([PASSES[name]()], skip=[name])
    told: list[str] = []
    assert manager.run(parse_graph(TEXT), progress=told.append).ledger.passes == [] and told == []
    with pytest.raises(UsageError, match="there is no pass named 'fold-everything'") as e:
        PassManager([], skip=["fold-everything"])
    assert name in str(e.value)


def test_dump_and_progress_are_told_of_each_pass() -> None:
    told: list[str] = []
    dumps: list[tuple[int, str, int]] = []
    steps = [
        RIGHT,
        GivenPass(find=Layer(Exp, X), replace=wrong.negated),
        GivenPass(find=wrong.TANH, replace=wrong.negated),
    ]
    PassManager(steps).run(
        parse_graph(TEXT), progress=told.append, dump=lambda n, p, g: dumps.append((n, p.pass_name(), len(g)))
    )
    assert told == ["given-exact-pass", "given-pass", "given-pass"]
    assert dumps == [(1, "given-exact-pass", 4), (2, "given-pass", 4)]


def test_limit_replays_a_prefix() -> None:
    sizes = [len(PassManager([RIGHT, OFF]).run(parse_graph(TEXT), limit=n).graph) for n in range(4)]
    assert sizes == [6, 5, 4, 4]
    last = PassManager([RIGHT, OFF]).run(parse_graph(TEXT), limit=3)
    assert [e.firing is not None for e in last.ledger.entries] == [True] * 3


class OptionsForTest(Pass):
    """A pass with options, to be written in a pipeline."""

    error_class: ClassVar[ErrorClass] = ErrorClass.LOSSY
    energy: float = 0.9
    layers: tuple[str, ...] = ()
    always: bool = False


def test_pipelines_are_read_and_written() -> None:
    text = 'options-for-test(energy=0.99, layers=("a,b", "c)"), always=True), options-for-test'
    steps = parse_pipeline(text)
    assert steps == (OptionsForTest(energy=0.99, layers=("a,b", "c)"), always=True), OptionsForTest())
    assert parse_pipeline(",".join(map(str, steps))) == steps
    assert parse_pipeline("") == () and parse_pipeline("options-for-test()") == (OptionsForTest(),)
    assert (
        str(PassManager("options-for-test(energy=1.0),options-for-test"))
        == "options-for-test(energy=1.0),options-for-test"
    )
    for name, pipeline in PIPELINES.items():
        assert parse_pipeline(name) == pipeline and pipeline


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold-everything", "no pass or pipeline named 'fold-everything'"),
        ("options-for-test(energy)", "cannot read the options of options-for-test"),
        ("options-for-test(energy=)", "cannot read the options of options-for-test"),
        ("options-for-test(energy=__import__('os'))", "cannot read the options"),
        ("options-for-test(0.9)", "cannot read the options"),
        ("options-for-test(**{'energy': 1})", "cannot read the options"),
        ("options-for-test(power=2)", "has no field 'power'; it has energy, layers, always"),
        ("options-for-test(energy=0.9", "cannot read"),
        ("options-for-test options-for-test", "cannot read the pipeline from"),
        (",", "cannot read the pipeline from ','"),
        ("options-for-test,,", "cannot read the pipeline"),
        ("Options", "cannot read the pipeline"),
    ],
)
def test_pipelines_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message.replace("(", r"\(")) as e:
        parse_pipeline(text)
    assert e.value.hint


def test_every_pipeline_passes_a_strict_checked_run(inputs: dict[str, Array]) -> None:
    assert passes is not None
    for pipeline in PIPELINES.values():
        graph = parse_graph(TEXT)
        checker = RewriteChecker(inputs, run_graph(graph, inputs))
        outcome = PassManager(pipeline).run(graph, checker=checker, strict=True, debug=True)
        assert all(e.status in (APPLIED, DECLINED) for e in outcome.ledger.entries)
