"""PruneWeights: as many zeros as asked for, where they are asked for, and the others fitted to what layers gave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.calibrate.trial import Trial
from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.pass_base import parse_pipeline
from compiler.tensor import Array
from passes._fitted import data_of
from passes._prune_mask import Pattern, by_magnitude, pruned
from passes._prune_sparse import PrunedWeights, matrix, pattern_of
from passes._rounding import damped, errors
from passes.prune_weights import PruneWeights
from tests.passes.composed import Net
from tests.passes.coupled import Builder, coupled
from tests.passes.repairing import rows_of, run


def net(seed: int = 0) -> Graph:
    """Convolutions of all channels, of groups and of each channel alone, and dense layers in both orders."""
    b = Builder(np.random.default_rng(seed), smooth=True)
    x = b.unit(b.net.input(1, 8, 6, 6), 16)
    x = b.unit(b.unit(x, 16, 3, groups=16), 16, 3, groups=2)
    flat = b.net(ops.Reshape(shape=(1, 16 * 36)), x)
    return b.net.returns(b.dense(b.act(b.dense(flat, 32)), 8))


def layers(graph: Graph) -> list[Node]:
    return [n for n in graph.of(ops.Conv, ops.Dense) if getattr(n.op, "groups", 1) != 16]


def lone(graph: Graph) -> Node:
    return next(n for n in graph.of(ops.Conv) if getattr(n.op, "groups", 1) == 16)


@pytest.mark.parametrize("with_rows", [False, True])
@pytest.mark.parametrize("amount", [0.25, 0.5, 0.8])
def test_each_layer_has_its_share_of_zeros(amount: float, with_rows: bool) -> None:
    graph = net()
    depthwise = data_of(lone(graph).inputs[1])
    record = run(PruneWeights(amount=amount, rows=Fitting(rows_of(graph, 8)) if with_rows else None), graph)
    assert len(layers(graph)) == 4
    for node in layers(graph):
        w = data_of(node.inputs[1])
        assert (w == 0).mean() == pytest.approx(amount, abs=0.02)
    assert data_of(lone(graph).inputs[1]) is depthwise
    assert record.rules[0].startswith("4 weights, ")
    assert float(record.rules[0].split()[2].rstrip("%")) == pytest.approx(100 * amount, abs=2)


@pytest.mark.parametrize("with_rows", [False, True])
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8"])
def test_of_neighbouring_channels_some_are_left(pattern: str, with_rows: bool) -> None:
    graph = net()
    kept, of = map(int, pattern.split(":"))
    run(PruneWeights(pattern=pattern, rows=Fitting(rows_of(graph, 8)) if with_rows else None), graph)
    for node in layers(graph):
        w = data_of(node.inputs[1])
        channels = 1 if isinstance(node.op, ops.Conv) or node.op.values()["transposed"] else 0
        by_channel = np.moveaxis(w, channels, -1)
        counts = (by_channel.reshape(-1, of) != 0).sum(-1)
        assert counts.max() <= kept
        assert counts.mean() > 0.99 * kept


def test_channels_that_the_pattern_does_not_divide_stay() -> None:
    b = Builder(np.random.default_rng(0), smooth=True)
    graph = b.net.returns(b.conv(b.net.input(1, 6, 4, 4), 4))
    assert run(PruneWeights(pattern="2:4"), graph).rules == []


def test_magnitude_takes_the_smallest() -> None:
    w = np.array([[[0.1, -3.0, 2.0, -0.2], [5.0, 0.3, 0.4, -6.0]]])
    assert by_magnitude(w, Pattern(0.5)).tolist() == [[[True, False, False, True], [False, True, True, False]]]
    assert by_magnitude(w, pattern_of("1:2")).tolist() == [[[True, False, False, True], [False, True, True, False]]]
    assert by_magnitude(w, pattern_of("1:4")).tolist() == [[[True, False, True, True], [True, True, True, False]]]


def test_a_second_time_nothing_changes_without_rows() -> None:
    graph = net()
    run(PruneWeights(amount=0.5), graph)
    assert run(PruneWeights(amount=0.5), graph).rules == []


def test_the_threshold_of_the_graph_does_not_depend_on_the_scales_of_layers() -> None:
    shares = []
    for factor in (1.0, 100.0):
        graph = net()
        node = layers(graph)[0]
        from_scaled(graph, node, factor)
        run(PruneWeights(amount=0.6, scope="graph"), graph)
        shares.append([float((data_of(n.inputs[1]) == 0).mean()) for n in layers(graph)])
        sizes = [data_of(n.inputs[1]).size for n in layers(graph)]
        assert np.average(shares[-1], weights=sizes) == pytest.approx(0.6, abs=0.01)
    assert shares[0] == pytest.approx(shares[1], abs=1e-3)
    assert max(shares[0]) - min(shares[0]) > 0.02


def from_scaled(graph: Graph, node: Node, factor: float) -> None:
    w = node.inputs[1]
    assert w is not None
    graph.set_operand(node, 1, graph.const(data_of(w) * np.float32(factor)))


def problem(seed: int, groups: int, inputs: int) -> tuple[Array, Array]:
    """Weights, and H of inputs that depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 4 * inputs, inputs)) @ rng.normal(size=(groups, inputs, inputs))
    return rng.normal(size=(groups, 5, inputs)).astype(np.float32), x.transpose(0, 2, 1) @ x


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 2),
    inputs=st.sampled_from([8, 64, 80]),
    pattern=st.sampled_from([Pattern(0.3), Pattern(0.7), pattern_of("2:4"), pattern_of("1:8")]),
)
def test_with_statistics_no_layer_errs_more(seed: int, groups: int, inputs: int, pattern: Pattern) -> None:
    w, h = problem(seed, groups, inputs)
    plain = np.where(by_magnitude(w, pattern), 0, w)
    made = pruned(w, pattern, [h], 4 * inputs)
    even = damped(h, 4 * inputs)
    assert errors(made - w, even).sum() <= errors(plain - w, even).sum() * (1 + 1e-5)
    assert (made == 0).sum() >= 0.95 * (plain == 0).sum()
    if pattern.of:
        assert ((made.reshape(groups, 5, -1, pattern.of) != 0).sum(-1) <= pattern.kept).all()


def test_statistics_help_where_inputs_depend_on_each_other() -> None:
    w, h = problem(0, 1, 64)
    even = damped(h, 256)
    plain = np.where(by_magnitude(w, Pattern(0.5)), 0, w)
    made = pruned(w, Pattern(0.5), [h], 256)
    assert errors(made - w, even).sum() < 0.9 * errors(plain - w, even).sum()


@pytest.mark.parametrize("family", ["resnet", "mobilenet", "transformer"])
def test_rows_of_data_help_on_other_rows(family: str) -> None:
    graph = coupled(family, 1, smooth=True)
    rows, trial, plain = Fitting(rows_of(graph, 24)), Trial(rows_of(graph, 8, 9)), graph.clone()
    trial.reference(graph)
    run(PruneWeights(amount=0.5), plain)
    run(PruneWeights(amount=0.5, rows=rows), graph)
    assert trial.snr(graph) > trial.snr(plain) + 2


def test_layers_that_share_weights_still_do() -> None:
    rng = np.random.default_rng(0)
    n = Net()
    x = n.input(2, 16)
    w = n.graph.const(rng.normal(size=(16, 16)).astype(np.float32))
    y = x
    for _ in range(3):
        (v,) = n.graph.add(ops.MatMul(), y.value, w)
        y = n(ops.Tanh(), type(x)(n, v))
    graph = n.returns(y)
    run(PruneWeights(amount=0.5, rows=Fitting(rows_of(graph, 8))), graph)
    data = {id(data_of(node.inputs[1])) for node in graph.of(ops.MatMul)}
    assert len(data) == 1
    assert (data_of(graph.of(ops.MatMul)[0].inputs[1]) == 0).mean() == 0.5


@pytest.mark.parametrize("with_rows", [False, True])
def test_candidates_say_what_applying_them_does(with_rows: bool) -> None:
    graph = net()
    rows = Fitting(rows_of(graph, 8)) if with_rows else None
    technique = PrunedWeights()
    found = list(technique.candidates(graph, rows))
    assert len(found) == 4 * 5
    for c in found:
        assert c.saved.parameters > 0
        assert c.saved.macs == 0
        assert 0 < c.error < 1
    pick = found[1]
    twin = graph.clone()
    (made,) = technique.apply(twin, {pick.layer: pick.setting}, rows)
    assert (matrix(made) == 0).sum() == pick.saved.parameters
    for wrong in ({"nowhere": {"amount": 0.5}}, {pick.layer: {"pattern": "4:2"}}, {pick.layer: {"share": 1}}):
        with pytest.raises(UsageError):
            technique.apply(twin, wrong, rows)


@pytest.mark.parametrize("text", ["amount=1.0", "scope='all'", "pattern='4:2'", "pattern='2:3'", "pattern='half'"])
def test_wrong_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pipeline(f"prune-weights({text})")


def test_rows_that_are_not_finite_leave_zeros_by_magnitude() -> None:
    graph, plain = net(), net()
    rows = rows_of(graph, 4)
    rows[1]["x0"][...] = np.nan
    run(PruneWeights(amount=0.5, rows=Fitting(rows)), graph)
    run(PruneWeights(amount=0.5), plain)
    for a, b in zip(layers(graph), layers(plain), strict=True):
        assert np.array_equal(data_of(a.inputs[1]), data_of(b.inputs[1]))
