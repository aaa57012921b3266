"""ChooseLayout: the cut against brute force, the orders against a machine that has only memory, real networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import passes  # noqa: F401  # registers the pipelines
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.ops import Add, Concat, ConvertLayout, Identity, MatMul, Relu, Reshape, Softmax, Transpose
from compiler.ops.layout import aligned_shape, channels_last, in_order, moves, order_of, physical_axis, physical_shape
from compiler.pass_manager import PassManager
from compiler.tensor import F32, Layout, TensorType
from passes._layout_apply import write
from passes._layout_axes import reshaped
from passes._layout_cut import FIXED, Cut, Net, minimum_cut
from passes._layout_frames import CHANNELS_LAST, TRAILING, Demands
from passes._layout_problem import Problem
from passes.choose_layout import ChooseLayout, is_free, physical_perm
from tests.harness import check, run_pass
from tests.passes.layouts import conv, images, run_in_memory
from tests.real_models import real_model
from tests.strategies import random_inputs, seeds
from tests.timing import assert_linear

NHWC = channels_last(4)
IO = st.sampled_from(["keep", "nhwc", "free"])
DEMANDS = Demands(frozenset(CHANNELS_LAST), frozenset(TRAILING), frozenset())


def cost_of(nets: list[Net], labels: tuple[int, ...]) -> int:
    """What labels cost, from the definition."""
    ends = [[labels[v] if v >= 0 else FIXED.index(v) for v in net.members] for net in nets]
    return sum(net.weight for net, end in zip(nets, ends, strict=True) if len(set(end)) == 2)


@st.composite
def nets(draw: st.DrawFn) -> tuple[int, list[Net]]:
    count = draw(st.integers(1, 8))
    member = st.integers(-2, count - 1)
    net = st.builds(Net, st.integers(0, 9), st.lists(member, min_size=1, max_size=4).map(tuple))
    return count, draw(st.lists(net, max_size=14))


@settings(max_examples=400)
@given(problem=nets())
def test_the_cut_is_the_least_of_all_labellings(problem: tuple[int, list[Net]]) -> None:
    count, given_nets = problem
    cut = minimum_cut(count, given_nets)
    least = min(cost_of(given_nets, labels) for labels in product((0, 1), repeat=count))
    assert (cost_of(given_nets, tuple(cut.labels)), cut.cost, cut.bound) == (least, least, least)


@settings(max_examples=300)
@given(problem=nets(), limit=st.integers(1, 4))
def test_windows_never_claim_too_much(problem: tuple[int, list[Net]], limit: int) -> None:
    count, given_nets = problem
    cut = minimum_cut(count, given_nets, limit)
    least = min(cost_of(given_nets, labels) for labels in product((0, 1), repeat=count))
    assert cost_of(given_nets, tuple(cut.labels)) == cut.cost
    assert cut.bound <= least <= cut.cost


def test_a_large_region_is_cut_in_windows_at_its_weakest_places() -> None:
    chain = [Net(1 if i % 10 == 0 else 5, (i, i + 1)) for i in range(99)]
    ends = [Net(100, (FIXED[0], 0)), Net(100, (FIXED[1], 99))]
    whole, parts = minimum_cut(100, [*chain, *ends]), minimum_cut(100, [*chain, *ends], 30)
    assert whole.cost == whole.bound == 1
    assert parts.cost == 1 and parts.bound == 0


@settings(max_examples=150)
@given(seed=seeds(), layers=st.integers(1, 14), inputs=IO, outputs=IO)
def test_no_labelling_moves_fewer_bytes(seed: int, layers: int, inputs: str, outputs: str) -> None:
    graph = images(np.random.default_rng(seed), layers)
    problem = Problem(graph, DEMANDS, inputs, outputs)
    chosen = ChooseLayout(inputs=inputs, outputs=outputs).report(graph)
    if problem.count > 9:
        return
    moved = []
    for labels in product((0, 1), repeat=problem.count):
        twin = graph.clone()
        problem = Problem(twin, DEMANDS, inputs, outputs)
        moved.append(write(twin, problem, Cut(list(labels), 0, 0))[1].moved)
    assert chosen.moved == min(moved)
    assert chosen.least <= chosen.moved


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
    ],
)
def test_real_networks(name: str, before: int, after: int) -> None:
    graph = imported(name)
    choose = ChooseLayout(inputs="nhwc", outputs="nhwc")
    report = choose.report(graph)
    assert (report.before, report.after) == (before, after)
    assert report.moved == report.least
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
    assert entry.rule == "1 transposes became 0, moving 0 bytes (at least 0)"


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


@pytest.mark.parametrize(
    ("shape", "order", "target", "expected"),
    [
        ((2, 3, 4, 5), NHWC, (2, 3, 20), (0, 2, 1)),
        ((2, 3, 20), (0, 2, 1), (2, 3, 4, 5), NHWC),
        ((2, 6, 4, 5), NHWC, (2, 2, 3, 4, 5), (0, 3, 4, 1, 2)),
        ((2, 3, 4), (0, 2, 1), (2, 3, 1, 4), NHWC),
        ((2, 3, 4), (0, 2, 1), (2, 3, 4, 1), NHWC),
        ((1, 3, 4, 5), NHWC, (3, 4, 5), (1, 2, 0)),
        ((2, 3, 4, 5), NHWC, (2, 60), None),
        ((2, 3, 4, 5), NHWC, (6, 20), None),
        ((2, 3, 1, 1), NHWC, (2, 3), (0, 1)),
        (("n", 3, 4, 5), NHWC, ("n", 3, 20), (0, 2, 1)),
        (("n", 3, 4, 5), NHWC, (3, "n", 20), None),
    ],
)
def test_orders_through_reshapes(
    shape: tuple[int | str, ...], order: tuple[int, ...], target: tuple[int | str, ...], expected: object
) -> None:
    assert reshaped(TensorType(F32, shape), order, target) == expected


@given(seed=seeds())
def test_a_reshape_in_memory_gives_the_logical_reshape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.choice([1, 2, 3, 4, 6], int(rng.integers(1, 5))))
    target = [d for d in shape if d != 1 or rng.random() < 0.5]
    for _ in range(int(rng.integers(3))):
        at = int(rng.integers(len(target) + 1))
        target[at : at + 2] = [int(np.prod(target[at : at + 2])), *([1] if rng.random() < 0.5 else [])]
    order = tuple(int(i) for i in rng.permutation(len(shape)))
    found = reshaped(TensorType(F32, shape), order, tuple(target))
    if found is not None:
        x = np.arange(np.prod(shape)).reshape(shape)
        in_memory = x.transpose(order).reshape([target[i] for i in found])
        assert np.array_equal(in_memory, x.reshape(target).transpose(found))


def test_types_in_memory() -> None:
    x, y = in_order(TensorType(F32, (2, 3, 4, 5)), NHWC), TensorType(F32, (2, 4, 5, 3))
    assert physical_shape(x) == (2, 4, 5, 3) and physical_axis(x, 1) == 3
    assert moves(NHWC, x, y) == (0, 1, 2, 3)
    assert moves((0, 1, 2, 3), x, TensorType(F32, (2, 3, 4, 5))) == (0, 3, 1, 2)
    assert aligned_shape(TensorType(F32, (3, 1, 1)), x) == (1, 1, 1, 3)
    assert aligned_shape(in_order(TensorType(F32, (3, 4, 5)), (1, 2, 0)), x) == (1, 4, 5, 3)


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
