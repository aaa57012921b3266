"""ChooseLayout: choices against brute force, orders against a machine that has only memory, real networks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.ops import Add, Concat, ConvertLayout, Identity, MatMul, Relu, Reshape, Softmax, Transpose
from compiler.ops.layout import channels_last, in_order, order_of
from compiler.pass_manager import PassManager
from compiler.tensor import F32, Layout, TensorType
from passes import _layout_problem
from passes._layout_apply import Plan, movements, write
from passes._layout_cut import minimum_cut
from passes._layout_frames import CHANNELS_LAST, DENSE, TRAILING, Demands, Frames
from passes._layout_problem import Problem
from passes._layout_search import cheapest, moved
from passes.choose_layout import ChooseLayout, is_free, physical_perm
from tests.harness import check, run_pass
from tests.passes.layouts import conv, images, run_in_memory
from tests.real_models import real_model
from tests.strategies import random_inputs, seeds
from tests.timing import assert_linear

NHWC = channels_last(4)
IO = st.sampled_from(["keep", "nhwc", "free"])
DEMANDS = Demands(frozenset(CHANNELS_LAST), frozenset(TRAILING), frozenset(), frozenset(DENSE))


@settings(max_examples=150)
@given(seed=seeds(), layers=st.integers(1, 14), inputs=IO, outputs=IO)
def test_no_labelling_moves_fewer_bytes(seed: int, layers: int, inputs: str, outputs: str) -> None:
    graph = images(np.random.default_rng(seed), layers)
    problem = Problem(graph, Frames(graph, DEMANDS), inputs, outputs)
    cut = problem.solve()
    if problem.count > 9:
        return
    costs = []
    for labels in [tuple(cut.labels), *product((0, 1), repeat=problem.count)]:
        twin = graph.clone()
        own = Problem(twin, Frames(twin, DEMANDS), inputs, outputs)
        report = write(twin, Plan(twin, own, labels), cut.bound + problem.constant)[1]
        costs.append((report.moved, report.after))
        assert (report.least, report.fewest) <= costs[-1]
    assert costs[0] == min(costs)
    chosen = ChooseLayout(inputs=inputs, outputs=outputs).report(graph)
    assert (chosen.least, chosen.fewest) <= (chosen.moved, chosen.after) <= costs[0]


@settings(max_examples=150)
@given(seed=seeds(), layers=st.integers(1, 25), inputs=IO, outputs=IO)
def test_the_report_counts_what_the_graph_holds(seed: int, layers: int, inputs: str, outputs: str) -> None:
    graph = images(np.random.default_rng(seed), layers)
    plan, _ = cheapest(graph, DEMANDS, inputs, outputs)
    planned = moved(graph, plan)
    choose = ChooseLayout(inputs=inputs, outputs=outputs)
    report = choose.report(graph)
    run_pass(choose, graph)
    movers = movements(graph, DEMANDS)
    for convert in graph.of(ConvertLayout):
        assert convert.inputs[0] is not None and order_of(convert.inputs[0].type) != order_of(convert.output.type)
    assert planned == (report.moved, report.after) == (sum(n.output.type.nbytes for n in movers), len(movers))


def test_the_bound_is_met_nearly_always() -> None:
    """On random graphs; a model of the costs that says too little is a bound that says nothing."""
    met = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        r = ChooseLayout(inputs="nhwc", outputs="nhwc").report(images(rng, int(rng.integers(1, 15))))
        met += (r.moved, r.after) == (r.least, r.fewest)
    assert met >= 398


@settings(max_examples=100)
@given(seed=seeds(), layers=st.integers(5, 25), limit=st.integers(1, 4))
def test_graphs_cut_in_windows_compute_the_same(seed: int, layers: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    graph = images(rng, layers)
    arrays = {name: np.round(a * 4) for name, a in random_inputs(rng, graph).items()}
    expected = evaluate(graph, arrays)
    whole = ChooseLayout().report(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_layout_problem, "minimum_cut", partial(minimum_cut, limit=limit))
        report = ChooseLayout().report(graph)
        run_pass(ChooseLayout(), graph)
    assert report.least <= whole.moved and report.least <= report.moved
    for name, a in run_in_memory(graph, arrays).items():
        np.testing.assert_allclose(a, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@settings(max_examples=200)
@given(seed=seeds(), layers=st.integers(1, 25), inputs=IO, outputs=IO)
def test_promises_on_random_images(seed: int, layers: int, inputs: str, outputs: str) -> None:
    rng = np.random.default_rng(seed)
    check(ChooseLayout(inputs=inputs, outputs=outputs), images(rng, layers), rng)


@settings(max_examples=300)
@given(seed=seeds(), layers=st.integers(1, 25), inputs=IO, outputs=IO)
def test_a_machine_that_has_only_memory_computes_the_same(seed: int, layers: int, inputs: str, outputs: str) -> None:
    rng = np.random.default_rng(seed)
    graph = images(rng, layers)
    arrays = {name: np.round(a * 4) for name, a in random_inputs(rng, graph).items()}
    expected = evaluate(graph, arrays)
    run_pass(ChooseLayout(inputs=inputs, outputs=outputs), graph)
    for name, a in run_in_memory(graph, arrays).items():
        assert a.shape == expected[name].shape
        np.testing.assert_allclose(a, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def imported(name: str) -> Graph:
    """A trained network after the default pipeline."""
    graph = import_model(str(real_model(name).path)).graph
    PassManager("default").run(graph)
    return graph


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mobilenetv2s_cifar10_b1", 0, 0),
        ("mlperf_tiny_kws_dscnn", 0, 0),
        ("mlperf_tiny_resnet8", 1, 0),
        ("mlperf_tiny_vww", 1, 0),
        ("ultraface_rfb320_post", 8, 0),
        ("yunet_n_320", 6, 0),
        ("fastestdet", 15, 0),
        ("basic_pitch", 21, 0),
        ("vit_fashion_b1", 9, 8),
        ("gtcrn_simple", 10, 26),
    ],
)
def test_real_networks(name: str, before: int, after: int) -> None:
    graph = imported(name)
    choose = ChooseLayout(inputs="nhwc", outputs="nhwc")
    report = choose.report(graph)
    assert (report.before, report.after) == (before, after)
    assert (report.moved, report.after) == (report.least, report.fewest)
    assert run_pass(choose, graph) == 1
    movers = [n for n in graph.of(Transpose, ConvertLayout) if not is_free(n)]
    assert len(movers) == after and sum(n.output.type.nbytes for n in movers) == report.moved


def test_inputs_kept_cost_one_conversion_at_the_door() -> None:
    graph = imported("mobilenetv2s_cifar10_b1")
    run_pass(ChooseLayout(), graph)
    (convert,) = graph.of(ConvertLayout)
    assert convert.inputs[0] is graph.inputs[0] and convert.op == ConvertLayout(order=NHWC)
    assert graph.inputs[0].type.layout is None and convert.output.type.layout == Layout(NHWC)


def test_a_transpose_to_channels_last_is_absorbed() -> None:
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"), 6)
    (t,) = graph.add(Transpose(perm=NHWC), y)
    (r,) = graph.add(Reshape(shape=(2, 20, 6)), t)
    graph.set_outputs([r], ["r"])
    assert run_pass(ChooseLayout(inputs="nhwc"), graph) == 1
    assert not graph.of(ConvertLayout) and y.type.layout == Layout(NHWC)
    assert t.type.layout is None and t.node is not None and is_free(t.node)


def test_the_smaller_side_of_a_layer_is_converted() -> None:
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"), 6)
    (wide,) = graph.add(Concat(axis=1), y, y)
    (m,) = graph.add(MatMul(), wide, graph.const(np.ones((5, 2), np.float32)))
    graph.set_outputs([m], ["m"])
    run_pass(ChooseLayout(inputs="nhwc"), graph)
    (convert,) = graph.of(ConvertLayout)
    assert convert.inputs[0] is y and wide.type.layout is None


def test_a_flattened_image_is_read_as_it_lies() -> None:
    """By products with constant matrices, whose rows a target reorders; the graph says in which order they are."""
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"), 6)
    (flat,) = graph.add(Reshape(shape=(2, 120)), y)
    (m,) = graph.add(MatMul(), flat, graph.const(np.ones((120, 2), np.float32)))
    graph.set_outputs([m], ["m"])
    report = ChooseLayout(inputs="nhwc").report(graph)
    assert (report.after, report.moved, report.fewest, report.least) == (0, 0, 0, 0)
    strict = ChooseLayout(inputs="nhwc", dense=()).report(graph)
    assert (strict.after, strict.moved, strict.fewest, strict.least) == (1, 960, 1, 960)
    run_pass(ChooseLayout(inputs="nhwc"), graph)
    (convert,) = graph.of(ConvertLayout)
    assert convert.output.type.layout is None and flat.node is not None and flat.node.inputs[0] is convert.output
    graph.set_outputs([m, flat], ["m", "flat"])
    assert ChooseLayout(inputs="nhwc").report(graph).after == 1


def test_orders_that_put_the_elements_at_the_same_places_are_converted_once() -> None:
    """softmax over the batch of one wants it innermost, which is where it lies."""
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (1, 3, 4, 5)), "x"), 6)
    (m,) = graph.add(MatMul(), y, graph.const(np.ones((5, 2), np.float32)))
    (s,) = graph.add(Softmax(axis=0), y)
    graph.set_outputs([s, m], ["s", "m"])
    report = ChooseLayout(inputs="nhwc").report(graph)
    assert (report.after, report.moved, report.fewest, report.least) == (1, 480, 1, 480)
    run_pass(ChooseLayout(inputs="nhwc"), graph)
    assert sum(not is_free(convert) for convert in graph.of(ConvertLayout)) == 1


def test_an_order_of_the_layer_alone_is_in_the_bound() -> None:
    """softmax over the batch of images with one channel: there and back."""
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 1, 3, 4)), "x"), 1)
    (s,) = graph.add(Softmax(axis=0), y)
    graph.set_outputs([conv(graph, s, 2)], ["y"])
    report = ChooseLayout(inputs="nhwc", outputs="nhwc").report(graph)
    assert (report.after, report.moved) == (report.fewest, report.least) == (2, 192)


def test_an_order_of_one_reader_of_a_transpose_is_in_the_bound() -> None:
    """The product reads the transposed image as it lies; softmax wants it otherwise."""
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"), 6)
    (t,) = graph.add(Transpose(perm=NHWC), y)
    (m,) = graph.add(MatMul(), t, graph.const(np.ones((6, 2), np.float32)))
    (s,) = graph.add(Softmax(axis=1), t)
    graph.set_outputs([m, s], ["m", "s"])
    report = ChooseLayout(inputs="nhwc", outputs="free").report(graph)
    assert (report.after, report.moved) == (report.fewest, report.least) == (1, 960)


def test_a_third_order_is_found_where_it_makes_a_transpose_free() -> None:
    """Two images interleaved channel by channel: joined along a new axis that lies innermost, they are."""
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 3, 4, 5)), "x")
    parts = [graph.add(Reshape(shape=(1, 1, 6, 4, 5)), conv(graph, x, 6, seed))[0] for seed in (1, 2)]
    (both,) = graph.add(Concat(axis=1), *parts)
    (swapped,) = graph.add(Transpose(perm=(0, 2, 1, 3, 4)), both)
    (merged,) = graph.add(Reshape(shape=(1, 12, 4, 5)), swapped)
    graph.set_outputs([conv(graph, merged, 2)], ["y"])
    report = ChooseLayout(inputs="nhwc", outputs="nhwc").report(graph)
    assert (report.before, report.after, report.moved, report.least) == (1, 0, 0, 0)
    arrays = {"x": np.round(np.random.default_rng(0).normal(size=(1, 3, 4, 5)) * 4).astype(np.float32)}
    expected = evaluate(graph, arrays)["y"]
    run_pass(ChooseLayout(inputs="nhwc", outputs="nhwc"), graph)
    assert both.type.layout == Layout((0, 3, 4, 2, 1))
    np.testing.assert_allclose(run_in_memory(graph, arrays)["y"], expected, rtol=1e-4)


def test_readers_of_the_other_order_share_one_conversion() -> None:
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"), 6)
    w = graph.const(np.ones((5, 2), np.float32))
    products = [graph.add(MatMul(), y, w)[0] for _ in range(3)]
    graph.set_outputs([*products, conv(graph, y, 2)], ["a", "b", "c", "d"])
    run_pass(ChooseLayout(inputs="nhwc", outputs="nhwc"), graph)
    (convert,) = graph.of(ConvertLayout)
    assert all(p.node is not None and p.node.inputs[0] is convert.output for p in products)


def test_constants_are_permuted_for_free_and_once_for_each_order() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x")
    c = graph.const(np.arange(60, dtype=np.float32).reshape(3, 4, 5), "c")
    y = conv(graph, x, 3)
    (s,) = graph.add(Add(), y, c)
    (m,) = graph.add(MatMul(), c, graph.const(np.ones((5, 2), np.float32)))
    graph.set_outputs([s, m], ["s", "m"])
    report = ChooseLayout(inputs="nhwc", outputs="nhwc").report(graph)
    assert (report.after, report.moved) == (0, 0)
    run_pass(ChooseLayout(inputs="nhwc", outputs="nhwc"), graph)
    kinds = {v.type.layout for v in graph.constants if v.name == "c"}
    assert kinds == {None, Layout((1, 2, 0))}
    assert all(v.data is c.data for v in graph.constants if v.name == "c")


def test_a_softmax_over_channels_wants_them_innermost() -> None:
    graph = Graph()
    (y,) = graph.add(Softmax(axis=1), graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"))
    graph.set_outputs([y], ["y"])
    run_pass(ChooseLayout(inputs="free", outputs="free"), graph)
    assert y.type.layout == Layout(NHWC) and graph.inputs[0].type.layout == Layout(NHWC)
    assert not graph.of(ConvertLayout)


def test_a_reshape_between_opposite_labels_keeps_the_logical_order() -> None:
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 2, 4, 1)), "x"), 3)
    (t,) = graph.add(Transpose(perm=NHWC), y)
    (r,) = graph.add(Reshape(shape=(2, 4, 1, 3)), t)
    graph.set_outputs([conv(graph, r, 2)], ["y"])
    report = ChooseLayout(inputs="nhwc", outputs="nhwc").report(graph)
    assert (report.after, report.moved, report.least) == (1, 96, 96)


def test_operations_can_be_held_to_the_logical_order() -> None:
    graph = Graph()
    y = conv(graph, graph.add_input(TensorType(F32, (2, 3, 4, 5)), "x"), 6)
    (r,) = graph.add(Relu(), y)
    graph.set_outputs([r], ["r"])
    run_pass(ChooseLayout(inputs="nhwc", outputs="nhwc", logical=("relu",)), graph)
    assert r.node is not None and r.node.inputs[0] is not None
    assert order_of(r.node.inputs[0].type) == order_of(r.type) == (0, 1, 2, 3)


def test_another_target_may_demand_nothing() -> None:
    graph = imported("mobilenetv2s_cifar10_b1")
    assert run_pass(ChooseLayout(channels_last=(), trailing=()), graph) == 0


def test_the_ledger_says_what_moved() -> None:
    graph = imported("mlperf_tiny_resnet8")
    outcome = PassManager("choose-layout(inputs='nhwc')").run(graph)
    (entry,) = outcome.ledger.entries
    assert entry.rule == "1 transposes became 0, moving 0 bytes (at least 0, 0 bytes)"
    assert outcome.ledger.measured == {
        "transposes": {"out": 0, "lower_bound": 0, "bytes_moved": 0, "lower_bound_bytes": 0}
    }


def test_what_it_measures_is_said_without_a_change_and_not_after_a_rollback() -> None:
    graph = imported("mlperf_tiny_resnet8")
    first = PassManager("choose-layout(inputs='nhwc')").run(graph).ledger
    again = PassManager("choose-layout(inputs='nhwc')").run(graph).ledger
    assert not again.passes and again.measured == first.measured
    assert not PassManager("choose-layout", skip=["choose-layout"]).run(graph).ledger.measured


def test_stale_layouts_are_replaced() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2, 3, 4)), "x")
    (c,) = graph.add(ConvertLayout(order=(2, 0, 1)), x)
    (y,) = graph.add(Identity(), c)
    y.type = in_order(y.type, (1, 0, 2))
    graph.set_outputs([y], ["y"])
    assert run_pass(ChooseLayout(), graph) == 1
    assert [n.op for n in graph.nodes] == [Identity()] and y.type.layout is None
    assert run_pass(ChooseLayout(), graph) == 0


def test_a_choice_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="inputs='nchw'"):
        ChooseLayout(inputs="nchw")


def test_moving_dimensions_of_one_is_free() -> None:
    graph = Graph()
    (y,) = graph.add(ConvertLayout(order=NHWC), graph.add_input(TensorType(F32, (2, 3, 1, 1)), "x"))
    (z,) = graph.add(ConvertLayout(order=NHWC), graph.add_input(TensorType(F32, (2, 3, 2, 1)), "x"))
    for v in (y, z):
        v.type = in_order(v.type, NHWC)
    assert y.node is not None and is_free(y.node) and physical_perm(y.node) == NHWC
    assert z.node is not None and not is_free(z.node)


def test_the_choice_is_made_in_linear_time() -> None:
    def prepare(size: int) -> Callable[[], object]:
        graph = Graph()
        x = graph.add_input(TensorType(F32, (1, 4, 4, 4)), "x")
        for i in range(size):
            x = conv(graph, x, 4, i % 7) if i % 3 == 0 else graph.add(Relu(), x)[0]
            if i % 50 == 1:
                (x,) = graph.add(Transpose(perm=(0, 1, 3, 2)), x)
            if i % 60 == 2:
                (x,) = graph.add(MatMul(), x, graph.const(np.ones((4, 4), np.float32)))
        graph.set_outputs([x], ["y"])
        return lambda: ChooseLayout().report(graph)

    assert_linear(prepare, 300)


def test_it_is_public_and_loaded_when_it_is_named() -> None:
    program = """
import sys
import passes
from compiler.pass_base import parse_pipeline
print("passes.choose_layout" in sys.modules, *parse_pipeline("choose-layout(inputs='nhwc')"))
print(passes.ChooseLayout.__name__, "ChooseLayout" in passes.__all__, hasattr(passes, "Nothing"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False choose-layout(inputs='nhwc')", "ChooseLayout True False"]
