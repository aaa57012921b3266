"""PruneChannels: coupled channels leave every kind of network together, as if they were zeros for what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.api import load
from compiler.calibrate.fitting import Fitting
from compiler.calibrate.trial import Trial
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.oracle import open_session, run_session
from compiler.pass_base import parse_pipeline
from compiler.pass_manager import PassManager
from compiler.rewrite import Unobserved
from compiler.tensor import Array
from passes._compression import layer_names, work_of
from passes._fitted import data_of, set_data
from passes._prune_choice import Plan
from passes._prune_refit import fitted, within
from passes._prune_technique import PrunedChannels, remove
from passes.prune_channels import PruneChannels
from tests.passes.composed import Net, Record, inputs_of
from tests.passes.coupled import FAMILIES, Builder, coupled, shuffled
from tests.passes.repairing import annotated, distance_db, judge_of, rows_of, run

SEEDS = st.integers(0, 10**6)
FAMILY = st.sampled_from(sorted(FAMILIES))
ROOT = Path(__file__).parents[2]


def plan_of(graph: Graph) -> Plan:
    return Plan(graph, "l2", None, 0.9)


def some(plan: Plan, seed: int) -> Array:
    """A random choice of what may go."""
    rng = np.random.default_rng(seed)
    return plan.chosen({g.node: float(rng.choice([0.0, 0.3, 0.6, 0.9])) for g in plan.groups}, 1)


def unread(graph: Graph, plan: Plan, gone: Array) -> Graph:
    """A copy in which layers with weights read zeros instead of channels: their weights are zeros."""
    twin = graph.clone()
    twins = dict(zip(graph.nodes, twin.nodes, strict=True))
    for end in plan.units.takes:
        w = data_of(twins[end.node].inputs[1]).copy()
        groups = getattr(end.node.op, "groups", 1)
        marks = gone[end.ids].reshape(groups, -1)
        for g, rows in enumerate(np.split(w, groups, 0) if groups > 1 else [w]):
            np.moveaxis(rows, end.axis, 0)[marks[g]] = 0
        set_data(twin, twins[end.node], 1, w)
    return twin


def silence(graph: Graph, plan: Plan, gone: Array) -> None:
    """Set all constants that compute channels, and those in between, to zeros."""
    for node, cuts in plan.units.cuts.items():
        for c in cuts:
            data = data_of(node.inputs[c.operand]).copy()
            others = tuple(i for i in range(c.ids.ndim) if i != c.along)
            np.moveaxis(data, c.axis, 0)[gone[c.ids].all(others)] = 0
            set_data(graph, node, c.operand, data)
    for node, (_, made) in plan.units.groups.items():
        for i in range(1, len(node.inputs)):
            data = data_of(node.inputs[i]).copy()
            data[gone[made.reshape(-1)]] = 0
            set_data(graph, node, i, data)


def check_removed(graph: Graph, gone: Array, plan: Plan, expected: Graph) -> None:
    before = work_of(graph.nodes)
    types = [v.type for v in graph.outputs]
    made = remove(graph, plan, gone, None, Record())
    graph.verify()
    assert [v.type for v in graph.outputs] == types
    assert bool(made) == bool(gone.any())
    assert not made or work_of(graph.nodes).parameters < before.parameters
    assert distance_db(expected, graph) > 100


@settings(max_examples=120, deadline=None)
@given(family=FAMILY, seed=SEEDS)
def test_removed_channels_are_zeros_for_the_layers_that_read_them(family: str, seed: int) -> None:
    graph = coupled(family, seed, smooth=True)
    plan = plan_of(graph)
    gone = some(plan, seed)
    if graph.of(ops.RmsNorm):  # which read the stream too, and have no weights for it
        stream = np.concatenate([e.ids for e in plan.units.gives if e.node.output.type.dims[-1:] == (16,)])
        gone[np.isin(plan.units.classes, plan.units.classes[stream])] = False
    check_removed(graph, gone, plan, unread(graph, plan, gone))


@settings(max_examples=120, deadline=None)
@given(family=FAMILY, seed=SEEDS)
def test_channels_of_zeros_are_removed_without_loss(family: str, seed: int) -> None:
    graph = coupled(family, seed, smooth=False)
    plan = plan_of(graph)
    gone = some(plan, seed)
    silence(graph, plan, gone)
    check_removed(graph, gone, plan, graph.clone())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_gets_smaller_by_about_the_share(family: str) -> None:
    shares = []
    for seed in range(6):
        graph = coupled(family, seed, smooth=True)
        before = work_of(graph.nodes).parameters
        assert len(run(PruneChannels(amount=0.5), graph).rules) == 1
        shares.append(work_of(graph.nodes).parameters / before)
    assert min(shares) > 0.2
    assert max(shares) < 0.8


def chain(seed: int = 0, dead: tuple[int, ...] = (2, 5, 6)) -> Graph:
    """Two convolutions, of the first of which some filters are zeros."""
    b = Builder(np.random.default_rng(seed), smooth=False)
    x = b.net.input(1, 3, 6, 6)
    w = b.weights(8, 3, 3, 3)
    w[list(dead)] = 0
    op = ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    x = b.net(ops.Relu(), b.net(op, x, w))
    return b.net.returns(b.net(ops.GlobalAveragePool(), b.conv(x, 4)))


@pytest.mark.parametrize("importance", ["l1", "l2", "scale", "activation", "reconstruction", "auto"])
@pytest.mark.parametrize("scope", ["layer", "graph"])
def test_every_importance_finds_dead_channels(importance: str, scope: str) -> None:
    graph = chain()
    before = graph.clone()
    rows = Fitting(rows_of(graph, 8))
    p = PruneChannels(amount=3 / 8, importance=importance, scope=scope, rows=rows, fit=False)
    run(p, graph)
    assert [v.type.dims[1] for n in graph.nodes for v in n.outputs] == [5, 5, 4, 4]
    assert distance_db(before, graph) > 100


def test_multiples_are_kept_and_layers_without_one_stay() -> None:
    graph = chain()
    run(PruneChannels(amount=0.6, multiple=4), graph)
    assert graph.of(ops.Conv)[0].output.type.dims[1] == 4
    graph = chain()
    assert run(PruneChannels(amount=0.3, multiple=4), graph).rules == []


def test_scales_of_batch_normalisations_say_what_goes() -> None:
    rng = np.random.default_rng(0)
    b = Builder(rng, smooth=False)
    x = b.conv(b.net.input(1, 3, 4, 4), 6)
    scale = np.array([1.0, 0.01, 2.0, 0.02, 3.0, 4.0])
    x = b.net(ops.BatchNorm(), x, scale, np.zeros(6), np.zeros(6), np.ones(6))
    graph = b.net.returns(b.conv(b.net(ops.Relu(), x), 2))
    run(PruneChannels(amount=0.34, importance="scale"), graph)
    assert data_of(graph.of(ops.BatchNorm)[0].inputs[1]).tolist() == [1.0, 2.0, 3.0, 4.0]


def test_channels_of_inputs_and_outputs_stay() -> None:
    b = Builder(np.random.default_rng(0), smooth=False)
    x = b.net.input(1, 3, 4, 4)
    y = b.conv(x, 8)
    assert plan_of(b.net.returns(y)).groups == []
    b = Builder(np.random.default_rng(0), smooth=False)
    x = b.net.input(1, 8, 4, 4)
    assert plan_of(b.net.returns(b.conv(b.conv(x, 8) + x, 2))).groups == []


def test_whole_heads_go_with_all_that_belongs_to_them() -> None:
    graph = coupled("transformer", 3, smooth=False)
    plan = plan_of(graph)
    for node in graph.of(ops.MatMul, ops.Attention):
        for v in node.inputs:
            if v is not None and v in plan.units.of and v.type.rank == 4 and v.data is None:
                grid = np.broadcast_to(plan.units.classes[plan.units.of[v]], v.type.dims)
                assert (grid == grid[:, :, :1, :1]).all()


def test_a_shuffle_of_which_odd_channels_are_left_is_a_gather() -> None:
    b = Builder(np.random.default_rng(0), smooth=False)
    x = shuffled(b, b.conv(b.net.input(1, 3, 4, 4), 12), 3)
    graph = b.net.returns(b.conv(x, 2))
    plan = plan_of(graph)
    gone = plan.chosen({plan.groups[0].node: 0.25}, 1)
    check_removed(graph, gone, plan, unread(graph, plan, gone))
    assert graph.op_counts == {"conv": 2, "gather": 1}


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, rows=st.integers(4, 60), free=st.booleans(), sparse=st.booleans())
def test_a_fit_never_errs_more_on_its_rows(seed: int, rows: int, free: bool, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(1, 1, (rows, 12)), rng.normal(size=(rows, 3)), rng.normal(size=(3, 12))
    if sparse:
        w[:, ::2] = 0
    made, shift = (within if sparse else fitted)(x, y, w, free)
    bias = (y - x @ w.T).mean(0) if free else 0.0
    assert np.square(y - x @ made.T - shift).sum() <= np.square(y - x @ w.T - bias).sum() * (1 + 1e-9)
    assert not sparse or not made[:, ::2].any()
    assert free or not shift.any()


def test_with_redundant_channels_the_fit_gives_what_was_lost() -> None:
    b = Builder(np.random.default_rng(1), smooth=False)
    w = b.weights(8, 3, 1, 1)
    w[4:] = 2.0 * w[:4] + w[[1, 2, 3, 0]]
    op = ops.Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    graph = b.net.returns(b.conv(b.net(op, b.net.input(1, 3, 6, 6), w), 4))
    rows, before, plain = Fitting(rows_of(graph, 16)), graph.clone(), graph.clone()
    run(PruneChannels(amount=0.5, rows=rows, importance="l2", fit=False), plain)
    run(PruneChannels(amount=0.5, rows=rows), graph)
    assert distance_db(before, plain) < 15
    assert distance_db(before, graph) > 25


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_fits_help_every_family(family: str) -> None:
    gains = []
    for seed in range(3):
        graph = coupled(family, seed, smooth=True)
        rows, trial, plain = Fitting(rows_of(graph, 24)), Trial(rows_of(graph, 8, 9)), graph.clone()
        trial.reference(graph)
        run(PruneChannels(amount=0.4, importance="l2", rows=rows, fit=False), plain)
        run(PruneChannels(amount=0.4, rows=rows), graph)
        gains.append(trial.snr(graph) - trial.snr(plain))
    assert np.mean(gains) > 1.0


@pytest.mark.parametrize("with_rows", [False, True])
def test_candidates_say_what_applying_them_does(with_rows: bool) -> None:
    graph = coupled("resnet", 0, smooth=False)
    text = [repr(n) for n in graph.nodes]
    rows = Fitting(rows_of(graph, 8)) if with_rows else None
    technique = PrunedChannels()
    found = list(technique.candidates(graph, rows))
    assert [repr(n) for n in graph.nodes] == text
    assert len({c.layer for c in found}) >= 5
    for c in found[::3]:
        twin = graph.clone()
        assert technique.apply(twin, {c.layer: c.setting}, rows)
        twin.verify()
        saved = work_of(graph.nodes) - work_of(twin.nodes)
        assert (saved.parameters, saved.macs) == (c.saved.parameters, c.saved.macs)
        assert c.saved.parameters > 0
        assert 0 < c.error <= 1
    for layer in {c.layer for c in found}:
        errors = [c.error for c in found if c.layer == layer]
        assert errors == sorted(errors)


def test_several_layers_are_pruned_at_once_and_wrong_names_change_nothing() -> None:
    graph = coupled("resnet", 0, smooth=False)
    technique = PrunedChannels()
    chosen = {c.layer: {"amount": 0.5} for c in technique.candidates(graph, None)}
    twin = graph.clone()
    technique.apply(twin, chosen, None)
    assert work_of(twin.nodes).parameters < 0.6 * work_of(graph.nodes).parameters
    text = [repr(n) for n in graph.nodes]
    for wrong in ({"nowhere": {"amount": 0.5}}, {next(iter(layer_names(graph))): {"share": 0.5}}):
        with pytest.raises(UsageError):
            technique.apply(graph, {**chosen, **wrong}, None)
    last = list(layer_names(graph))[-1]
    with pytest.raises(UsageError, match="cannot take channels"):
        technique.apply(graph, {last: {"amount": 0.5}}, None)
    assert [repr(n) for n in graph.nodes] == text


@pytest.mark.parametrize("text", ["amount=1.0", "amount=-0.1", "multiple=0", "scope='all'", "importance='best'"])
def test_wrong_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pipeline(f"prune-channels({text})")


def test_importance_of_data_needs_rows() -> None:
    with pytest.raises(UsageError, match="needs rows"):
        PruneChannels(importance="activation")


def test_options_are_read_from_text() -> None:
    graph = chain()
    PassManager("prune-channels(amount=0.5, importance='l1')").run(graph)
    assert graph.of(ops.Conv)[0].output.type.dims[1] == 4


@pytest.mark.parametrize(
    ("model", "share"),
    [
        ("examples/mobilenetv2s_cifar10_b1.onnx", 0.6),
        ("examples/vit_fashion_b1.onnx", 0.8),
        ("examples/mlperf_tiny_kws_dscnn.onnx", 0.6),
        ("examples/mnist_cnn_opset8.onnx", 0.8),
        ("tests/models/mlperf_tiny_resnet8.onnx", 0.6),
        ("tests/models/fastestdet.onnx", 0.7),
    ],
)
def test_trained_models_run_in_onnx_runtime_with_fewer_channels(model: str, share: float) -> None:
    names = {"tests/models/mlperf_tiny_resnet8.onnx": "input_1", "examples/mlperf_tiny_kws_dscnn.onnx": "input_1"}
    shapes = {
        "tests/models/mlperf_tiny_resnet8.onnx": (1, 32, 32, 3),
        "examples/mlperf_tiny_kws_dscnn.onnx": (1, 49, 10, 1),
    }
    inputs = {names[model]: shapes[model]} if model in names else None
    graph = load(ROOT / model, inputs=inputs)
    PassManager("default").run(graph)
    before = work_of(graph.nodes).parameters
    PruneChannels(amount=0.3).run(graph, Unobserved())
    graph.verify()
    assert work_of(graph.nodes).parameters < share * before
    results = run_session(open_session(export_bytes(graph)), inputs_of(graph))
    assert [a.shape for a in results.values()] == [v.type.shape for v in graph.outputs]
    assert all(np.isfinite(a).all() for a in results.values())


def test_values_that_cannot_lose_all_keep_their_best_channel() -> None:
    net = Net()
    b = Builder(np.random.default_rng(0), smooth=False)
    b.net = net
    x = b.conv(net.input(1, 3, 4, 4), 3)
    graph = net.returns(b.conv(b.net(ops.Relu(), x), 2))
    run(PruneChannels(amount=0.99), graph)
    assert graph.of(ops.Conv)[0].output.type.dims[1] == 1


def test_layers_that_share_weights_lose_the_same() -> None:
    b = Builder(np.random.default_rng(0), smooth=False)
    x = b.net.input(1, 3, 4, 4)
    w = b.net.graph.const(b.weights(6, 3, 1, 1).astype(np.float32))
    op = ops.Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    twins = [type(x)(b.net, b.net.graph.add(op, v.value, w)[0]) for v in (x, x * 0.5)]
    graph = b.net.returns(b.conv(b.net(ops.Concat(axis=1), *(b.net(ops.Relu(), t) for t in twins)), 2))
    plan = plan_of(graph)
    gone = plan.share(0.5, 1)
    check_removed(graph, gone, plan, unread(graph, plan, gone))
    one, two = graph.of(ops.Conv)[:2]
    assert data_of(one.inputs[1]).shape == (3, 3, 1, 1)
    assert data_of(one.inputs[1]) is data_of(two.inputs[1])


def test_rows_that_are_not_finite_change_no_weight_that_stays() -> None:
    graph = chain()
    rows = rows_of(graph, 4)
    rows[2]["x0"][...] = np.inf
    run(PruneChannels(amount=0.3, importance="l2", rows=Fitting(rows)), graph)
    assert all(np.isfinite(data_of(n.inputs[1])).all() for n in graph.of(ops.Conv))


def test_annotated_graphs_stay() -> None:
    graph = chain()
    annotated(graph, judge_of(graph))
    assert run(PruneChannels(), graph).rules == []
