"""Splits fitted to rows of data: what they reach, and that they are the plain ones where data tells nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.api import load
from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.pass_manager import PassManager
from compiler.tensor import I64, Array
from compiler.text import print_graph
from passes._compression import Setting, layer_names
from passes._fitted import data_of
from passes._low_rank import Menu, Splits
from passes._low_rank_fit import Sample, best, fit_all, fitted, jointly, nearest
from passes._low_rank_forms import forms_of
from passes._low_rank_joint import Goal, Product, product_of
from passes._low_rank_layers import Seen, layer_of
from passes._low_rank_metric import metrics_of, root_for
from passes._low_rank_policy import Policy
from passes._low_rank_split import Plan, Split, Weights
from tests.passes.composed import Net
from tests.passes.splitting import (
    chain_graph,
    composed,
    conv_graph,
    dense_graph,
    distance,
    fitting,
    linear_names,
    matrix,
    narrow_rows,
    only,
)

ROOT = Path(__file__).parent.parent.parent


def white(rng: np.random.Generator, count: int, size: int) -> Array:
    """Rows of mean 0 whose covariance is the identity, exactly."""
    x = rng.normal(size=(count, size))
    q, _ = np.linalg.qr(x - x.mean(0))
    return np.asarray(q * np.sqrt(count))


def sample_of(x: Array, now: Array | None = None) -> Sample:
    return Sample(x, x if now is None else now, np.arange(len(x)))


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_white_inputs_give_the_plain_decomposition(rank: int) -> None:
    rng = np.random.default_rng(0)
    graph = dense_graph(rng.normal(size=(12, 8)), rng.normal(size=8))
    layer = only(graph)
    plan = Plan(layer, forms_of(layer)[0], (rank,))
    plain, data = nearest(plan), fitted(plan, sample_of(white(rng, 400, 12)))
    assert np.allclose(composed("matrix", plain.arrays), composed("matrix", data.arrays), atol=1e-9)
    assert data.bias is not None and layer.bias is not None
    assert np.allclose(data.bias, layer.bias, atol=1e-9)


def test_white_inputs_expect_the_errors_of_the_plain_decomposition() -> None:
    rng = np.random.default_rng(1)
    layer = only(dense_graph(rng.normal(size=(12, 8))))
    seen = Seen(layer)
    seen.add(white(rng, 500, 12))
    form = forms_of(layer)[0]
    plain, data = (dict(form.errors(layer, s, lambda n: range(1, n + 1))) for s in (None, seen))
    assert list(plain) == [(r,) for r in range(1, 9)]
    assert all(np.isclose(plain[r], data[r], atol=1e-9) for r in plain)


def test_the_expected_error_is_that_of_the_results() -> None:
    """On the rows themselves, but for what the covariance is damped by."""
    rng = np.random.default_rng(2)
    layer = only(dense_graph(rng.normal(size=(20, 10))))
    x = rng.normal(size=(3000, 20)) @ (rng.normal(size=(20, 20)) * np.geomspace(1, 0.02, 20)[:, None]) + 3
    seen = Seen(layer)
    seen.add(x)
    form = forms_of(layer)[0]
    y = x @ layer.matrix.T
    for rank in (2, 4, 6):
        made = fitted(Plan(layer, form, (rank,)), sample_of(x))
        assert made.bias is not None
        given = x @ composed("matrix", made.arrays).T + made.bias
        error = np.square(given - y).sum() / np.square(y - y.mean(0)).sum()
        (expected,) = (e for r, e in form.errors(layer, seen, lambda n: range(1, n + 1)) if r == (rank,))
        assert abs(error - expected) < 0.02
        assert np.allclose(given.mean(0), y.mean(0))


@pytest.mark.parametrize(
    ("form", "ranks"),
    [("matrix", (4,)), ("tucker", (4, 6)), ("tucker", (4, 12)), ("spatial", (6,)), ("polyadic", (10,))],
)
def test_results_of_all_forms_err_less_than_with_the_nearest_weights(form: str, ranks: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    graph = conv_graph(rng.normal(size=(12, 8, 3, 3)), rng.normal(size=12), size=8)
    mix = rng.normal(size=(8, 8)) * np.geomspace(1, 0.05, 8)
    feeds = [
        {"x0": np.einsum("ncxy,cd->ndxy", rng.normal(size=(2, 8, 8, 9)), mix).astype(np.float32) + 1} for _ in range(24)
    ]
    keys = ("rank", "rank1")
    setting: Setting = {"form": form, **dict(zip(keys, ranks, strict=False))}
    plain, data = graph.clone(), graph.clone()
    Splits().apply(plain, {only(plain).name: setting}, None)
    Splits().apply(data, {only(data).name: setting}, fitting(feeds[:12]))
    assert distance(graph, data, feeds[12:]) < 0.7 * distance(graph, plain, feeds[12:])


def test_later_layers_are_fitted_to_what_the_splits_before_them_give() -> None:
    rng = np.random.default_rng(4)
    graph = chain_graph(rng, 40, 32, 32, 24)
    feeds = narrow_rows(rng, 40, 300, 6)
    chosen = {name: matrix(6) for name in linear_names(graph)}
    rows, held = fitting(feeds[:200]), feeds[200:]
    together, one_by_one, plain = graph.clone(), graph.clone(), graph.clone()
    Splits().apply(together, chosen, rows)
    Splits().apply(plain, chosen, None)
    for name, node in layer_names(graph).items():
        if name in chosen:
            layer = layer_of(name, node)
            plan = Plan(layer, forms_of(layer)[0], (6,))
            copy = plan._replace(layer=layer._replace(node=layer_names(one_by_one)[name]))
            Split(one_by_one, copy, fit_all(graph, [plan], rows)[name]).settle()
    refreshed = distance(graph, together, held)
    assert refreshed < 0.97 * distance(graph, one_by_one, held)
    assert refreshed < 0.3 * distance(graph, plain, held)


def test_full_rank_is_exact_with_rows() -> None:
    rng = np.random.default_rng(5)
    graph = chain_graph(rng, 20, 16, 12)
    feeds = narrow_rows(rng, 20, 40, 3)
    made = graph.clone()
    Splits().apply(
        made,
        {n: matrix(r) for n, r in zip(linear_names(graph), (16, 12), strict=True)},
        fitting(feeds),
    )
    a, b = evaluate(graph, feeds[0]), evaluate(made, feeds[0])
    assert compare("y0", a["y0"], b["y0"]).psnr_db > 100


def test_a_table_is_split_by_what_is_looked_up() -> None:
    rng = np.random.default_rng(6)
    net = Net()
    x = net.input(1, 16, dtype=I64)
    table = rng.normal(size=(300, 24))
    graph = net.returns(net(ops.Gather(axis=0), table, x))
    feeds = [{"x0": rng.integers(0, 30, (1, 16))} for _ in range(40)]
    setting: dict[str, Setting] = {linear_names(graph)[0]: {"form": "table", "rank": 10}}
    plain, data = graph.clone(), graph.clone()
    nodes = Splits().apply(plain, setting, None)
    assert [n.op.name for n in nodes] == ["gather", "dense"]
    Splits().apply(data, setting, fitting(feeds[:20]))
    data.verify()
    assert distance(graph, data, feeds[20:]) < 0.75 * distance(graph, plain, feeds[20:])
    values = np.linalg.svd(table, compute_uv=False)
    made = data_of(nodes[0].inputs[0]) @ data_of(nodes[1].inputs[1])
    assert np.isclose(np.linalg.norm(made - table), np.sqrt(np.square(values[10:]).sum()), rtol=1e-4)


def test_metrics_go_back_through_layers_to_what_the_outputs_feel() -> None:
    """Of two dense layers with nothing between them the metric is W W^T; a channel that nobody reads does not count."""
    rng = np.random.default_rng(7)
    net = Net()
    x = net.input(1, 5)
    w = rng.normal(size=(6, 4))
    w[2] = 0
    hidden = net(ops.Dense(), x, rng.normal(size=(5, 6)))
    graph = net.returns(net(ops.Dense(), hidden, w))
    found = metrics_of(graph, fitting([{"x0": np.ones((1, 5), np.float32)}]))[hidden.value]
    assert np.allclose(found, np.asarray(w.astype(np.float32) @ w.astype(np.float32).T, np.float64), atol=1e-5)
    root = root_for(found)
    assert root is not None
    assert root.root[2, 2] < 0.5 * root.root.diagonal().max()


def test_what_a_rectifier_hides_does_not_count() -> None:
    rng = np.random.default_rng(8)
    net = Net()
    x = net.input(1, 4)
    hidden = net(ops.Dense(), x, np.eye(4), np.array([0.0, 0.0, -99.0, 99.0]))
    graph = net.returns(net(ops.Dense(), net(ops.Relu(), hidden), np.ones((4, 3))))
    feeds = [{"x0": rng.normal(size=(1, 4)).astype(np.float32)} for _ in range(400)]
    found = metrics_of(graph, fitting(feeds))[hidden.value].diagonal()
    assert np.allclose(found, [1.5, 1.5, 0, 3], atol=0.3)


def test_the_same_rows_give_the_same_bytes() -> None:
    rng = np.random.default_rng(9)
    graph = chain_graph(rng, 40, 32, 24)
    feeds = narrow_rows(rng, 40, 60, 4)
    texts = []
    for _ in range(2):
        made = graph.clone()
        Splits().apply(made, {n: matrix(5) for n in linear_names(graph)}, fitting(feeds))
        texts.append(print_graph(made))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(4))
def test_few_rows_do_no_harm(count: int, seed: int) -> None:
    """On rows that were not fitted, on which the nearest weights are what a fit has to beat."""
    rng = np.random.default_rng(seed)
    graph = chain_graph(rng, 40, 32, 24)
    feeds = [{"x0": row[None].astype(np.float32)} for row in rng.normal(size=(200 + count, 40))]
    chosen = {name: matrix(12) for name in linear_names(graph)}
    plain, data = graph.clone(), graph.clone()
    Splits().apply(plain, chosen, None)
    Splits().apply(data, chosen, fitting(feeds[200:]))
    assert distance(graph, data, feeds[:200]) < 1.05 * distance(graph, plain, feeds[:200])


def test_three_rows_give_the_nearest_weights() -> None:
    rng = np.random.default_rng(10)
    graph = dense_graph(rng.normal(size=(20, 18)), rng.normal(size=18))
    plan = Plan(only(graph), forms_of(only(graph))[0], (4,))
    near = nearest(plan)
    assert best(plan, sample_of(rng.normal(size=(3, 20))), None, near) is near


FACTORED = [("tucker", (4, 6)), ("tucker", (4, 12)), ("spatial", (6,)), ("polyadic", (10,)), ("matrix", (4,))]


def factored(rng: np.random.Generator, form: str, ranks: tuple[int, ...]) -> tuple[Plan, Sample]:
    """A convolution that is to be split, and rows whose numbers depend on each other across taps too."""
    layer = only(conv_graph(rng.normal(size=(12, 8, 3, 3)), rng.normal(size=12), size=8))
    mix = rng.normal(size=(72, 72)) * np.geomspace(1, 0.02, 72)
    x = rng.normal(size=(600, 72)) @ mix.T
    return Plan(layer, next(f for f in forms_of(layer) if f.name == form), ranks), sample_of(x)


def lost(plan: Plan, sample: Sample, weights: Weights) -> float:
    """The squared error of the results, relative to their variance."""
    made = product_of(plan.form.name, weights.arrays, plan.layer.tensor.shape)
    y = sample.was @ plan.layer.matrix.T
    given = sample.now @ made.T
    return float(np.square(given - given.mean(0) - y + y.mean(0)).sum() / np.square(y - y.mean(0)).sum())


@pytest.mark.parametrize(("form", "ranks"), FACTORED)
def test_all_factors_together_err_no_more_than_the_closed_form(form: str, ranks: tuple[int, ...]) -> None:
    plan, sample = factored(np.random.default_rng(11), form, ranks)
    closed = fitted(plan, sample)
    joint = jointly(plan, sample, closed, None)
    factor = 1.01 if form == "matrix" else 0.99  # the closed form of two factors is the best already
    assert lost(plan, sample, joint) < factor * lost(plan, sample, closed)
    assert [a.shape for a in joint.arrays] == [a.shape for a in closed.arrays]


@pytest.mark.parametrize(("form", "ranks"), FACTORED)
def test_the_gradient_of_the_joint_fit_is_that_of_its_error(form: str, ranks: tuple[int, ...]) -> None:
    """By differences: the error is quadratic in one factor, so that central ones are exact."""
    rng = np.random.default_rng(12)
    plan, sample = factored(rng, form, ranks)
    shape = plan.layer.tensor.shape
    arrays = [rng.normal(size=a.shape) for a in nearest(plan).arrays]
    metric = root_for(np.diag(rng.uniform(1, 2, 12)))
    goal = Goal(sample.now.T @ sample.now, plan.layer.matrix @ sample.was.T @ sample.now, metric)
    for i, array in enumerate(arrays):
        step = rng.normal(size=array.shape)
        ends = [[*arrays[:i], array + sign * step, *arrays[i + 1 :]] for sign in (1, -1)]
        above, below = (goal.error(product_of(plan.form.name, end, shape)) for end in ends)
        product = Product(form, arrays, shape)
        slope = product.part(i, goal.pull(product.weight(i, product.factors[i])))
        assert np.isclose((above - below) / 4, float((slope.reshape(-1) * step.reshape(-1)).sum()), rtol=1e-6)


TRAINED = [
    ("vit_fashion_b1", "fashion_mnist", "input", 0.6),
    ("mlperf_tiny_kws_dscnn", "speech_commands", "input_1", 0.75),
]


@pytest.mark.parametrize(("model", "data", "name", "ratio"), TRAINED, ids=[t[0] for t in TRAINED])
def test_trained_classifiers_lose_less_than_with_the_nearest_weights(
    model: str, data: str, name: str, ratio: float
) -> None:
    """At the same ranks, on rows that the splits were not fitted to."""
    graph = PassManager("default").run(load(str(ROOT / "examples" / f"{model}.onnx"))).graph
    with np.load(ROOT / "examples" / "data" / f"{data}.npz") as file:
        inputs, labels = file[name], file["labels"]
    menus = list(Splits().menus(graph, None))
    whole = next(m for m in menus if isinstance(m, Menu)).before
    chosen = {
        m.node.outputs[0].name: o.setting for m, o in Policy(ratio=ratio).choose(menus, whole) if not isinstance(o, str)
    }
    rows = fitting([{name: row[None]} for row in inputs[::2]])
    right = []
    for given in (None, rows):
        made = graph.clone()
        Splits().apply(made, chosen, given)
        right.append(_right(made, name, inputs[1::2], labels[1::2]))
    assert right[1] > right[0] + 0.05


def _right(graph: Graph, name: str, inputs: Array, labels: Sequence[int] | Array) -> float:
    (output,) = graph.outputs
    found = [scores for row in inputs for (scores,) in fitting([{name: row[None]}]).each(graph, [output])]
    return float(np.mean([s.reshape(-1).argmax() == label for s, label in zip(found, labels, strict=True)]))
