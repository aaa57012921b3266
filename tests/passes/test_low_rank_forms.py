"""The forms of splits against the layers that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.tensor import Array
from passes._compression import work_of
from passes._low_rank import Menu, Splits
from passes._low_rank_fit import nearest
from passes._low_rank_forms import forms_of
from passes._low_rank_split import Plan
from tests.passes.composed import inputs_of
from tests.passes.splitting import composed, conv_graph, dense_graph, only

FORMS = ("matrix", "tucker", "spatial", "polyadic")


def split(graph: Graph, **setting: str | int) -> Graph:
    twin = graph.clone()
    Splits().apply(twin, {only(twin).name: setting}, None)
    twin.verify()
    return twin


def db(a: Graph, b: Graph) -> float:
    feeds = inputs_of(a)
    (x,), (y,) = evaluate(a, feeds).values(), evaluate(b, feeds).values()
    return float(10 * np.log10(np.square(x).sum() / max(np.square(x.astype(np.float64) - y).sum(), 1e-30)))


def plan_of(graph: Graph, form: str, *ranks: int) -> Plan:
    layer = only(graph)
    return Plan(layer, next(f for f in forms_of(layer) if f.name == form), ranks)


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    rank=st.integers(1, 4),
    second=st.integers(1, 6),
    kernel=st.tuples(st.integers(2, 3), st.integers(2, 5)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_split_convolution_is_the_one_with_the_weight_that_its_factors_make(
    form: str,
    rank: int,
    second: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int],
    bias: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(6, 5, *kernel))
    b = rng.normal(size=6) if bias else None
    options = {"strides": strides, "pads": pads, "dilations": dilations, "size": 12}
    graph = conv_graph(w, b, **options)  # type: ignore[arg-type]  # the options of the function
    ranks = (rank, second) if form == "tucker" else (rank,)
    made = composed(form, nearest(plan_of(graph, form, *ranks)).arrays)
    setting: dict[str, str | int] = {"form": form, "rank": rank, **({"rank1": second} if form == "tucker" else {})}
    reference = conv_graph(made, b, **options)  # type: ignore[arg-type]  # the options of the function
    assert db(reference, split(graph, **setting)) > 100


@pytest.mark.parametrize(
    ("form", "ranks"), [("matrix", (6,)), ("tucker", (5, 6)), ("tucker", (5, 4)), ("spatial", (15,))]
)
def test_full_rank_is_exact(form: str, ranks: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).normal(size=(6, 5, 3, 3))
    if ranks == (5, 4):
        w[4:] = w[:2]  # of rank 4 along the results
    graph = conv_graph(w, np.ones(6))
    keys = ("rank", "rank1")
    assert db(graph, split(graph, form=form, **dict(zip(keys, ranks, strict=False)))) > 100


@pytest.mark.parametrize("transposed", [False, True])
def test_full_rank_of_a_dense_layer_is_exact(transposed: bool) -> None:
    rng = np.random.default_rng(1)
    graph = dense_graph(rng.normal(size=(12, 9)), rng.normal(size=9), transposed=transposed)
    assert db(graph, split(graph, form="matrix", rank=9)) > 100
    assert db(graph, split(graph, form="matrix", rank=8)) < 60


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 10), seed=st.integers(0, 999))
def test_the_weight_error_of_a_dense_split_is_the_tail_of_its_spectrum(rank: int, seed: int) -> None:
    w = np.random.default_rng(seed).normal(size=(14, 10))
    graph = dense_graph(w.astype(np.float32).astype(np.float64))
    arrays = nearest(plan_of(graph, "matrix", rank)).arrays
    values = np.linalg.svd(only(graph).matrix, compute_uv=False)
    left = only(graph).matrix - composed("matrix", arrays)
    assert np.isclose(np.linalg.norm(left), np.sqrt(np.square(values[rank:]).sum()), atol=1e-9)
    assert np.isclose(np.linalg.norm(left, 2), values[rank] if rank < 10 else 0.0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 10), seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_results_stay_within_the_bound(rank: int, seed: int, scale: float) -> None:
    """Each row within the first singular value that is left out times its norm, but for the rounding of floats."""
    rng = np.random.default_rng(seed)
    graph = dense_graph(rng.normal(size=(14, 10)), rng.normal(size=10), rows=20)
    x = (rng.normal(size=(20, 14)) * scale).astype(np.float32)
    one, two = (
        evaluate(g, {"x0": x})["y0"].astype(np.float64) for g in (graph, split(graph, form="matrix", rank=rank))
    )
    values = np.linalg.svd(only(graph).matrix, compute_uv=False)
    bound = values[rank] if rank < 10 else 0.0
    assert (np.linalg.norm(one - two, axis=1) <= bound * np.linalg.norm(x, axis=1) + 1e-4 * (1 + scale)).all()


@settings(max_examples=30, deadline=None)
@given(form=st.sampled_from(FORMS), rank=st.integers(1, 5), seed=st.integers(0, 999))
def test_results_of_all_forms_stay_within_the_declared_bound(form: str, rank: int, seed: int) -> None:
    """At each place: the root of the expected error times the norms of the weight and of the window."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(6, 5, 3, 3))
    graph = conv_graph(w)
    layer = only(graph)
    ranks = (rank, rank) if form == "tucker" else (rank,)
    plan = plan_of(graph, form, *ranks)
    grid = [rank]
    (error,) = (e for r, e in plan.form.errors(layer, None, lambda n: [g for g in grid if g <= n]) if r == ranks)
    made = split(graph, form=form, **{f"rank{i or ''}": r for i, r in enumerate(ranks)})
    feeds = inputs_of(graph)
    one, two = (evaluate(g, feeds)["y0"].astype(np.float64) for g in (graph, made))
    squares = {"x0": np.square(feeds["x0"])}
    window = evaluate(conv_graph(np.ones((1, 5, 3, 3))), squares)["y0"][:, 0]
    off = np.square(one - two).sum(1)
    assert (off <= error * np.square(w).sum() * window * 1.001 + 1e-6).all()


def smooth(rng: np.random.Generator, *shape: int) -> Array:
    """A tensor with falling spectra."""
    w = rng.normal(size=shape)
    for axis, size in enumerate(shape):
        w = np.moveaxis(np.moveaxis(w, axis, -1) * np.geomspace(1, 0.05, size), -1, axis)
    return w


def menu_of(graph: Graph, splits: Splits) -> Menu:
    (menu,) = splits.menus(graph, None)
    assert isinstance(menu, Menu)
    return menu


@pytest.mark.parametrize("forms", [("matrix",), ("tucker", "spatial", "polyadic")])
def test_options_tell_work_and_error_of_what_they_make(forms: tuple[str, ...]) -> None:
    graph = conv_graph(smooth(np.random.default_rng(2), 16, 12, 3, 3), np.ones(16))
    menu = menu_of(graph, Splits(least=1, forms=forms))
    assert {o.form.name for o in menu.options} == set(forms)
    assert menu.before == work_of(graph.nodes)
    for option in menu.options[:: max(1, len(menu.options) // 12)]:
        made = split(graph, **option.setting)
        assert work_of(made.nodes) == option.after
        assert option.after.parameters < menu.before.parameters and option.after.macs <= menu.before.macs
        weight = composed(option.form.name, nearest(Plan(menu.layer, option.form, option.ranks)).arrays)
        error = np.square(weight - menu.layer.tensor).sum() / np.square(menu.layer.tensor).sum()
        assert error <= option.error + 1e-9
        if option.form.name != "tucker":
            assert np.isclose(error, option.error, atol=1e-9)


def test_polyadic_wins_where_kernels_are_separable() -> None:
    rng = np.random.default_rng(3)
    w = np.einsum("mr,cr,hwr->mchw", rng.normal(size=(16, 12)), rng.normal(size=(16, 12)), rng.normal(size=(3, 3, 12)))
    graph = conv_graph(w)
    exact = [o for o in menu_of(graph, Splits(least=1)).options if o.error < 1e-4]
    assert min(exact, key=lambda o: o.after.macs).form.name == "polyadic"


def test_no_option_is_beaten_by_another() -> None:
    options = menu_of(conv_graph(smooth(np.random.default_rng(4), 8, 8, 3, 3)), Splits(least=1)).options
    assert [o.error for o in options] == sorted(o.error for o in options)
    for a in options:
        assert not any(
            b is not a and b.error <= a.error and all(x <= y for x, y in zip(b.after, a.after, strict=True))
            for b in options
        )
