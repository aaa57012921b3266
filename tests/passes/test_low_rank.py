"""LowRank: which layers are split, by which rule, and what the ledger says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler import ops
from compiler.errors import ParseError, UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Node
from compiler.ledger import APPLIED, DECLINED
from compiler.pass_manager import PassManager
from compiler.tensor import Array
from passes._compression import layer_names, work_of
from passes._low_rank import Splits
from passes._low_rank_spectrum import spectra
from passes.low_rank import LowRank
from passes.substitute_recurrent import SubstituteRecurrent
from tests.passes.composed import Net, Record, run, stays
from tests.passes.splitting import chain_graph, conv_graph, dense_graph, fitting, linear_names, narrow_rows


def falling(rng: np.random.Generator, rows: int, columns: int, last: float = 0.01) -> Array:
    """A matrix whose singular values fall in equal ratios from 1."""
    size = min(rows, columns)
    u, v = (np.linalg.qr(rng.normal(size=(n, size)))[0] for n in (rows, columns))
    return np.asarray((u * np.geomspace(1, last, size)) @ v.T)


def dense(last: float = 0.01) -> Graph:
    return dense_graph(falling(np.random.default_rng(0), 64, 48, last), np.ones(48))


def once(p: LowRank, graph: Graph) -> None:
    """Run a pass whose rule is relative to the model that it finds, so that a second run may go on."""
    record = Record()
    assert p.run(graph, record) == len(record.rules) > 0
    graph.verify()


def ranks(graph: Graph) -> list[int]:
    """The results of the dense layers and convolutions, in order."""
    return [n.outputs[0].type.dims[1] for n in graph.nodes if n.op.name in ("dense", "conv")]


def test_energy_keeps_as_much_of_the_squared_singular_values() -> None:
    graph = dense()
    values = np.linalg.svd(falling(np.random.default_rng(0), 64, 48), compute_uv=False)
    record = run(LowRank(energy=0.95), graph)
    kept = np.cumsum(np.square(values)) / np.square(values).sum()
    rank = int(np.argmax(kept >= 0.95)) + 1
    assert ranks(graph) == [rank, 48]
    assert record.rules == [
        f"matrix {rank}: 3120 to {64 * rank + 48 * rank + 48} parameters, error {1 - kept[rank - 1]:.2%} expected"
    ]


def test_without_a_rule_99_percent_of_the_energy_stay() -> None:
    a, b = dense(), dense()
    run(LowRank(), a)
    run(LowRank(energy=0.99), b)
    assert ranks(a) == ranks(b) != [48]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rank": 7}, [7, 48]),
        ({"ratio": 0.5}, [13, 48]),  # 3120 / 2 = 48 + 112 r
        ({"error": 0.3}, None),
        ({"ratio": 0.5, "multiple": 8}, [8, 48]),
        ({"parameters": 1000}, [8, 48]),
        ({"parameters": 0.5}, [13, 48]),
        ({"macs": 0.25}, [6, 48]),  # 64 * 48 / 4 = 112 r
    ],
)
def test_rules(options: dict[str, Any], expected: list[int] | None) -> None:
    graph = dense()
    whole = work_of(graph.nodes)
    once(LowRank(**options), graph)
    if expected is None:
        values = np.square(np.geomspace(1, 0.01, 48))
        off = np.sqrt(1 - np.cumsum(values) / values.sum())
        expected = [int(np.argmax(off <= options["error"])) + 1, 48]
    assert ranks(graph) == expected
    after = work_of(graph.nodes)
    for name, limit in (("parameters", whole.parameters), ("macs", whole.macs)):
        budget = options.get(name, 1.0)
        assert getattr(after, name) <= (budget * limit if budget <= 1 else budget)


def test_a_budget_goes_where_it_costs_least() -> None:
    rng = np.random.default_rng(1)
    net = Net()
    x = net.input(1, 64)
    easy = net(ops.Relu(), net(ops.Dense(), x, falling(rng, 64, 64, 1e-3)))
    graph = net.returns(net(ops.Dense(), easy, falling(rng, 64, 64, 0.5)))
    once(LowRank(parameters=0.7), graph)
    assert len(ranks(graph)) == 3
    assert ranks(graph)[0] < 20
    assert work_of(graph.nodes).parameters <= 0.7 * 2 * 64 * 64


def test_a_budget_that_no_ranks_meet_is_refused_before_anything_changes() -> None:
    graph = dense()
    with pytest.raises(UsageError, match="low rank alone leaves parameters of 160 at least"):
        LowRank(parameters=0.01).run(graph, Record())
    assert ranks(graph) == [48]


def test_convolutions_take_the_form_that_is_cheapest() -> None:
    rng = np.random.default_rng(2)
    w = np.einsum("mrb,rca->mcab", rng.normal(size=(24, 6, 3)), rng.normal(size=(6, 16, 3)))  # spatial, of rank 6
    graph = conv_graph(w, rng.normal(size=24))
    run(LowRank(energy=0.9999), graph)
    assert [n.inputs[1].type.dims for n in graph.nodes if n.inputs[1]] == [(6, 16, 3, 1), (24, 6, 1, 3)]
    graph = conv_graph(w)
    run(LowRank(energy=0.9999, forms="matrix,tucker,polyadic"), graph)
    assert [n.inputs[1].type.dims for n in graph.nodes if n.inputs[1]] != [(6, 16, 3, 1), (24, 6, 1, 3)]


def reason(graph: Graph, **options: Any) -> str:
    record = Record()
    assert LowRank(**options).run(graph, record) == 0
    return record.skips[0]


def convolution(groups: int, channels: int = 32) -> Graph:
    net = Net()
    x = net.input(1, channels, 6, 6)
    w = np.ones((channels, channels // groups, 3, 3))
    return net.returns(net(ops.Conv(strides=(1, 1), pads=(1,) * 4, dilations=(1, 1), groups=groups), x, w))


def test_layers_that_are_not_split_and_why() -> None:
    net = Net()
    x = net.input(1, 48)
    w = net.value(falling(np.random.default_rng(0), 48, 48))
    (first,) = net.graph.add(ops.Dense(), x.value, w)
    (relu,) = net.graph.add(ops.Relu(), first)
    (second,) = net.graph.add(ops.Dense(), relu, w)
    net.graph.set_outputs([second], ["y0"])
    assert reason(convolution(32), least=1) == "a grouped convolution is not split: its filters have one channel each"
    assert (
        reason(convolution(4), least=1) == "a grouped convolution is not split: each group has few channels of its own"
    )
    assert "too few to save" in reason(dense(), least=10**6)
    assert reason(dense_graph(np.ones((400, 10)))) == "10 directions are too few to leave any out"
    assert reason(net.graph) == "its weights are shared with other layers, which keep them"
    assert reason(dense_graph(np.full((64, 48), np.inf))) == "it holds numbers that are not finite"
    assert reason(dense(1.0), energy=0.99) == "no rank that makes it cheaper keeps 99.000% of the energy"
    assert reason(dense(1.0), error=0.01) == "no rank that makes it cheaper is off by 1.00% or less"
    assert reason(dense(), multiple=64, ratio=0.5) == "no rank makes it cheaper"
    assert reason(dense(), parameters=1.0) == "the budget leaves it as it is"


def test_what_is_split_is_not_split_again() -> None:
    graph = dense()
    run(LowRank(rank=20), graph)
    record = Record()
    assert LowRank(rank=2, least=1).run(graph, record) == 0
    assert record.skips == ["it is one factor of a product already"] * 2


def test_a_device_that_gains_nothing_declines() -> None:
    """Where each layer takes as long to start as many products take, two are no faster than one."""

    def seconds(node: Node) -> float:
        return 1e-3 + 1e-9 * node.macs

    graph = dense()
    told = reason(graph, energy=0.9, cost=seconds)
    assert told.startswith("its cheapest split, matrix ")
    assert 1 < float(told.split("costs ")[1].split()[0]) < 2.5

    def throughput(node: Node) -> float:
        return 1e-9 * node.macs

    run(LowRank(energy=0.9, cost=throughput), graph)
    assert len(ranks(graph)) == 2
    graph = dense()
    once(LowRank(seconds=0.5, cost=throughput), graph)
    assert work_of(graph.nodes, throughput).cost <= 0.5 * 3 * 64 * 48 * 1e-9


def test_tables_of_rows_become_smaller_though_lookups_get_work() -> None:
    net = Net()
    tokens = net.graph.add_input(net.value(np.zeros((1, 5), np.int64)).type, "x0")
    (rows,) = net.graph.add(ops.Gather(axis=0), net.value(falling(np.random.default_rng(0), 500, 32)), tokens)
    net.graph.set_outputs([rows], ["y0"])
    before = work_of(net.graph.nodes)
    assert LowRank(energy=0.99).run(net.graph, Record()) == 1
    net.graph.verify()
    after = work_of(net.graph.nodes)
    assert [n.op.name for n in net.graph.nodes] == ["gather", "dense"]
    assert after.parameters < 0.6 * before.parameters
    assert before.macs == 0 < after.macs


@pytest.mark.parametrize("kind", ["two-nn", "participation"])
def test_dimension_keeps_twice_as_many_numbers_as_the_results_have_dimensions(kind: str) -> None:
    rng = np.random.default_rng(3)
    graph = dense_graph(rng.normal(size=(64, 48)), rows=1)
    rows = fitting(narrow_rows(rng, 64, 300, 3))
    run(LowRank(dimension=kind, rows=rows), graph)
    assert 4 <= ranks(graph)[0] <= 10
    with pytest.raises(UsageError, match="measured on rows of data"):
        LowRank(dimension=kind).run(dense(), Record())


def test_rows_reach_the_weights_of_the_pass() -> None:
    rng = np.random.default_rng(4)
    graph = chain_graph(rng, 64, 48, 32)
    feeds = narrow_rows(rng, 64, 120, 4)
    plain, data = graph.clone(), graph.clone()
    run(LowRank(rank=6), plain)
    assert len(PassManager([LowRank(rank=6, rows=fitting(feeds[:80]))]).run(data).ledger.entries) == 2
    values = fitting(feeds[80:])
    a, b, c = (np.concatenate([y for (y,) in values.each(g, g.outputs)]) for g in (graph, plain, data))
    assert np.square(a - c).sum() < 0.2 * np.square(a - b).sum()


def test_a_budget_holds_with_the_biases_that_rows_add() -> None:
    rng = np.random.default_rng(4)
    net = Net()
    x = net.input(1, 64)
    graph = net.returns(net(ops.Dense(), x, falling(rng, 64, 48)))
    once(LowRank(parameters=1000, rows=fitting(narrow_rows(rng, 64, 40, 4))), graph)
    assert ranks(graph) == [8, 48]
    assert work_of(graph.nodes).parameters == 8 * 64 + 8 * 48 + 48


def test_the_ledger_has_what_was_split_and_what_was_declined() -> None:
    net = Net()
    x = net.input(1, 64)
    hidden = net(ops.Relu(), net(ops.Dense(), x, falling(np.random.default_rng(0), 64, 48)))
    graph = net.returns(net(ops.Dense(), hidden, np.ones((48, 10))))
    ledger = PassManager("low-rank(energy=0.9, least=64)").run(graph, debug=True).ledger
    assert [e.status for e in ledger.entries] == [DECLINED, APPLIED]
    assert ledger.counts() == {"low-rank": 1}
    assert ledger.entries[1].error_class == "lossy"


def test_a_limit_of_rewrites_is_kept() -> None:
    graph = chain_graph(np.random.default_rng(5), 64, 64, 64, 64)
    PassManager([LowRank(rank=4)]).run(graph, limit=2, debug=True)
    assert len([n for n in graph.nodes if n.op.name == "dense"]) == 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("low-rank(rank=3, energy=0.9)", "rank and energy are given"),
        ("low-rank(energy=1.5)", "out of range"),
        ("low-rank(rank=-1)", "out of range"),
        ("low-rank(seconds=0.5)", "needs a cost function"),
        ("low-rank(dimension='fractal')", "known: two-nn, participation"),
        ("low-rank(forms='matrix,qr')", "no low-rank form named 'qr'"),
        ("low-rank(multiple=0)", "multiples of 0"),
        ("low-rank(size=3)", "do not fit"),
    ],
)
def test_options_that_make_no_sense_are_refused(text: str, told: str) -> None:
    with pytest.raises((UsageError, ParseError)) as e:
        PassManager(text)
    assert told in f"{e.value} {e.value.hint}"


@pytest.mark.parametrize(
    "setting", [{"form": "spatial", "rank": 2}, {"form": "matrix"}, {"form": "matrix", "rank": 2, "rank1": 3}, {}]
)
def test_recipes_that_do_not_fit_are_refused(setting: dict[str, str | int]) -> None:
    graph = dense()
    (name,) = linear_names(graph)
    with pytest.raises(UsageError, match="cannot be split by"):
        Splits().apply(graph, {name: setting}, None)
    with pytest.raises(UsageError, match="no layer named 'nobody'"):
        Splits().apply(graph, {"nobody": {"form": "matrix", "rank": 2}}, None)
    assert ranks(graph) == [48]


def test_names_of_layers_hold_while_others_are_split() -> None:
    graph = chain_graph(np.random.default_rng(6), 32, 32, 32, 32)
    names = linear_names(graph)
    weights = [layer_names(graph)[n].inputs[1] for n in names]
    Splits().apply(graph, {names[1]: {"form": "matrix", "rank": 3}}, None)
    assert layer_names(graph)[names[0]].inputs[1] is weights[0]
    assert layer_names(graph)[names[2]].inputs[1] is weights[2]
    assert len(layer_names(graph)) == len(graph)


def test_candidates_can_be_applied_one_by_one() -> None:
    graph = chain_graph(np.random.default_rng(7), 48, 40, 32)
    found = list(Splits(multiple=8).candidates(graph, None))
    assert {c.layer for c in found} == set(linear_names(graph))
    for c in found:
        twin = graph.clone()
        made = Splits().apply(twin, {c.layer: c.setting}, None)
        twin.verify()
        assert work_of(made) == c.after
        assert c.saved == c.before - c.after
        assert c.saved.parameters > 0
        assert 0 < c.error < 1


def test_spectra_tell_what_ranks_cost() -> None:
    rng = np.random.default_rng(8)
    graph = chain_graph(rng, 64, 48, 32)
    plain, seen = spectra(graph), spectra(graph, fitting(narrow_rows(rng, 64, 200, 3)))
    assert [s.layer for s in plain] == linear_names(graph)
    first = plain[0]
    assert first.shape == (48, 64)
    assert first.values.shape == (48,)
    assert (np.diff(first.values) <= 0).all()
    assert 1 < first.effective <= 48
    assert list(first.ranks) == sorted((r for r in first.ranks if r is not None), reverse=True)
    assert first.participation is None and first.dimension is None
    assert seen[0].participation is not None and seen[0].participation < 5
    assert seen[0].dimension is not None and seen[0].dimension < 6
    assert first.options and first.options[0].after.parameters < first.before.parameters


def test_models_without_linear_layers_stay() -> None:
    net = Net()
    stays(LowRank(rank=2), net.returns(net(ops.Relu(), net.input(2, 3))))


def test_products_of_recurrent_layers_with_their_inputs_are_split_once_these_are_layers() -> None:
    """Those with what they remember are shared by all steps, and stay."""
    rng = np.random.default_rng(14)
    net = Net()
    x = net.input(6, 1, 48)
    narrow = rng.normal(size=(96, 5)) @ rng.normal(size=(5, 48)) * 0.1
    op = ops.GRU(functions=ops.GRU.default_functions)
    weights = [narrow[None], rng.normal(size=(1, 96, 32)) * 0.1, rng.normal(size=(1, 192))]
    graph = net.returns(*net.many(op, x, *weights))
    feeds = {"x0": rng.normal(size=(6, 1, 48)).astype(np.float32)}
    before = evaluate(graph, feeds)["y0"]
    result = PassManager([SubstituteRecurrent(), LowRank(rank=5)]).run(graph)
    split = [e for e in result.ledger.entries if e.status == APPLIED and e.rule.startswith("matrix 5")]
    assert len(split) == 2  # of both gates and of the candidate
    assert np.abs(evaluate(result.graph, feeds)["y0"] - before).max() < 1e-5
