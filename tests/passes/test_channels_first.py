"""ChannelsFirst: what becomes of a block, what stays, random networks, real ones."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.compare import compare_all
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ledger import APPLIED, DECLINED
from compiler.onnx_import import import_model
from compiler.ops import (
    Attention,
    Cast,
    Concat,
    Conv,
    Dense,
    LayerNorm,
    Mul,
    Neg,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Transpose,
)
from compiler.pass_base import PIPELINES
from compiler.pass_manager import PassManager
from compiler.tensor import BOOL, Array
from compiler.text import print_graph
from passes._bc1s_cost import Rates
from passes._bc1s_form import arranged
from passes._bc1s_frame import HEADS, default, loose
from passes.channels_first import ChannelsFirst
from passes.decompose import Decompose
from targets.apple import regions
from targets.apple.engine import chip
from tests.harness import check
from tests.passes.blocks import block, heads, layer_norm, merged, thirds
from tests.passes.composed import Net, Record, Term, inputs_of, run, stays
from tests.passes.sequences import sequences
from tests.passes.weighted import conv, dense
from tests.strategies import seeds
from tests.timing import assert_linear

ALWAYS = ChannelsFirst(least_gain=-1e9, least_products=1)
MODELS = Path(__file__).parent.parent / "models" / "engine"
POINT = "strides=(1, 1) pads=(0, 0, 0, 0) dilations=(1, 1)"
BLOCK = f"""
  %v = reshape(%x0) shape=(1, 1, 5, 4) : f32[1,1,5,4]
  %v_1 = transpose(%v) perm=(0, 3, 1, 2) : f32[1,4,1,5]
  %v_2 = conv(%v_1, %c, %c_1) {POINT} : f32[1,12,1,5]
  %v_3, %v_4, %v_5 = split(%v_2) axis=1 sizes=(4, 4, 4) : f32[1,4,1,5], f32[1,4,1,5], f32[1,4,1,5]
  %v_6, %v_7 = split(%v_3) axis=1 sizes=(2, 2) : f32[1,2,1,5], f32[1,2,1,5]
  %v_8, %v_9 = split(%v_4) axis=1 sizes=(2, 2) : f32[1,2,1,5], f32[1,2,1,5]
  %v_10, %v_11 = split(%v_5) axis=1 sizes=(2, 2) : f32[1,2,1,5], f32[1,2,1,5]
  %v_12 = einsum(%v_8, %v_6) equation="bchk,bchq->bkhq" : f32[1,5,1,5]
  %v_13 = softmax(%v_12) axis=1 : f32[1,5,1,5]
  %v_14 = einsum(%v_10, %v_13) equation="bchk,bkhq->bchq" : f32[1,2,1,5]
  %v_15 = einsum(%v_9, %v_7) equation="bchk,bchq->bkhq" : f32[1,5,1,5]
  %v_16 = softmax(%v_15) axis=1 : f32[1,5,1,5]
  %v_17 = einsum(%v_11, %v_16) equation="bchk,bkhq->bchq" : f32[1,2,1,5]
  %v_18 = concat(%v_14, %v_17) axis=1 : f32[1,4,1,5]
  %v_19 = conv(%v_18, %c_2, %c_3) {POINT} : f32[1,4,1,5]
  %v_20 = reshape(%v_19) shape=(1, 4, 5) : f32[1,4,5]
  %v_21 = transpose(%v_20) perm=(0, 2, 1) : f32[1,5,4]
"""


@settings(max_examples=200)
@given(seed=seeds(), layers=st.integers(2, 16))
def test_random_networks_compute_the_same(seed: int, layers: int) -> None:
    run(ALWAYS, sequences(np.random.default_rng(seed), layers), scale=1.0)


@settings(max_examples=50)
@given(seed=seeds(), layers=st.integers(2, 12))
def test_promises_on_random_networks(seed: int, layers: int) -> None:
    rng = np.random.default_rng(seed)
    check(ALWAYS, sequences(rng, layers), rng, nan=False)


def self_attention(net: Net) -> Graph:
    q, k, v = thirds(net.input(1, 5, 4), 2, 2)
    return net.returns(dense(merged(net(Attention(scale=0.5), q, k, v)), 4))


def test_a_block_of_attention() -> None:
    graph = self_attention(Net())
    run(ALWAYS, graph)
    layers = [line for line in print_graph(graph).splitlines() if line.startswith("  %") and " = const " not in line]
    assert layers == BLOCK.strip("\n").splitlines()


@settings(max_examples=200)
@given(data=st.data())
def test_frames_follow_reshapes_and_transposes(data: st.DataObject) -> None:
    """The tensors of a value in a frame are those of its reshape or transpose in the new frame."""
    dims = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=4))
    array = np.arange(prod(dims)).reshape(dims)
    frame = default(loose(dims).sizes)
    tensors = arranged(array, frame)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            perm = data.draw(st.permutations(range(array.ndim)))
            array, new = array.transpose(perm), frame.transposed(perm).canonical()
        else:
            shape = data.draw(st.permutations(split_dims(array.shape)))
            found = frame.reshaped(shape)
            if found is None:
                continue
            array, new = array.reshape(shape), found
        frame = new
        assert frame.shape == array.shape
        assert frame.canonical() == frame
        for a, b in zip(arranged(array, frame), tensors, strict=True):
            np.testing.assert_array_equal(a, b)


def split_dims(dims: tuple[int, ...]) -> list[int]:
    """The dims with one taken apart, or two joined."""
    out = list(dims)
    big = [i for i, d in enumerate(out) if d in (4, 6)]
    if big and len(out) < 5:
        out[big[0] : big[0] + 1] = [2, out[big[0]] // 2]
    elif len(out) > 2:
        out[:2] = [out[0] * out[1]]
    return out


def masked(mask: Callable[[Net], Term | Array], *, causal: bool = False, length: int = 4) -> Graph:
    net = Net()
    x = net.input(1, length, 6)
    q, k, v = (heads(x, 2, 3) for _ in range(3))
    return net.returns(dense(merged(net(Attention(scale=0.5, causal=causal), q, k, v, mask(net))), 6))


SEEN = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]], bool)
BLIND = SEEN & np.array([[1], [0], [1], [1]], bool)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "mask",
    [
        lambda _: SEEN,
        lambda _: BLIND,
        lambda _: np.where(BLIND, 0.25, -np.inf),
        lambda _: np.where(SEEN, 0.0, -1e9),
        lambda _: np.stack([SEEN, BLIND]),
        lambda net: net.input(1, 1, 1, 4, dtype=BOOL),
        lambda net: net.input(4, 4, dtype=BOOL),
        lambda net: net.input(2, 4, 4, dtype=BOOL),
        lambda net: net.input(4, 4),
    ],
)
def test_masks_hide_what_they_hid(mask: Callable[[Net], Term | Array], causal: bool) -> None:
    """Also from queries that see nothing, whose result is 0."""
    graph = masked(mask, causal=causal)
    run(ALWAYS, graph)
    assert not graph.of(Attention)
    assert all(np.isfinite(c.data).all() for c in graph.constants if c.data is not None and c.data.dtype.kind == "f")


def test_rows_that_see_nothing_give_zero() -> None:
    graph = masked(lambda net: net.input(4, 4, dtype=BOOL))
    for closed in (np.zeros((4, 4), bool), BLIND):
        inputs = {**inputs_of(graph), "x1": closed}
        before, twin = evaluate(graph, inputs), graph.clone()
        assert ALWAYS.run(twin, Record()) == 1
        assert compare_all(before, evaluate(twin, inputs))[0].psnr_db > 120


@pytest.mark.parametrize("causal", [False, True])
def test_finite_masks_that_hide_all_leave_the_mean_of_what_came_before(causal: bool) -> None:
    """As with padding on the left: what comes later stays hidden from a query whose every key is padding."""
    hidden = -4e4 if causal else -1e9
    graph = masked(
        lambda net: (1.0 - net(Cast(to="f32"), net.input(4, 4, dtype=BOOL))) * (1000 * hidden), causal=causal
    )
    inputs = {**inputs_of(graph), "x1": np.tri(4, 4, -1, bool)}  # the first sees nothing
    before, twin = evaluate(graph, inputs), graph.clone()
    exact = ALWAYS.with_(mask_value=regions.LOWEST)
    assert exact.run(twin, Record()) == 1
    assert compare_all(before, evaluate(twin, inputs))[0].psnr_db > 120
    if causal:
        assert ALWAYS.run(graph, Record()) == 1
        assert compare_all(before, evaluate(graph, inputs))[0].psnr_db > 80


def test_norms_of_single_heads_are_inside() -> None:
    net = Net()
    x = net.input(1, 5, 8)
    q, k, v = (heads(x, 2, 4) for _ in range(3))
    graph = net.returns(dense(merged(net(Attention(scale=0.5), layer_norm(q), layer_norm(k, rms=True), v)), 8))
    (rule,) = run(ALWAYS, graph).rules
    assert "0 inside" in rule
    assert graph.op_counts["layer_norm"] == graph.op_counts["rms_norm"] == 2


def rotary(x: Term, rng: np.random.Generator) -> Term:
    dims = x.value.type.dims
    half = dims[3] // 2
    low, high = (x.net(Slice.of(x.value.type, [3], [a], [a + half]), x) for a in (0, half))
    turned = x.net(Concat(axis=3), x.net(Neg(), high), low)
    return x * rng.normal(size=(dims[2], dims[3])) + turned * rng.normal(size=(dims[2], dims[3]))


def test_a_decoder_with_a_cache_and_shared_heads() -> None:
    net, rng = Net(), np.random.default_rng(1)
    x, past_k, past_v = net.input(1, 3, 8), net.input(1, 2, 5, 4), net.input(1, 2, 5, 4)
    q, k, v = rotary(heads(x, 4, 4), rng), rotary(heads(x, 2, 4), rng), heads(x, 2, 4)
    k, v = net(Concat(axis=2), past_k, k), net(Concat(axis=2), past_v, v)
    mask = np.where(np.tri(3, 8, 5) > 0, 0.0, -np.inf)
    y = dense(merged(net(Attention(scale=0.5), q, k, v, mask)), 8)
    graph = net.returns(x + y, k, v)
    (rule,) = run(ALWAYS, graph).rules
    assert "0 inside" in rule
    assert not graph.of(Dense, Attention)
    assert all(c.type.size > 1 for n in graph.of(Mul) for c in n.inputs if c is not None), "the scale is in the weights"


def test_a_scale_stays_outside_of_shared_weights() -> None:
    net = Net()
    q = heads(net.input(1, 4, 6), 2, 3)
    graph = net.returns(dense(merged(net(Attention(scale=0.3), q, q, q)), 6))
    run(ALWAYS, graph)
    assert graph.op_counts["mul"] == 2


def test_probabilities_of_many_keys_are_scaled_and_queries_cut() -> None:
    few = ChannelsFirst(least_gain=-1e9, many_keys=6, query_chunk=4, working_set=64)
    net = Net()
    q, k, v = thirds(net.input(1, 10, 4), 2, 2)
    graph = net.returns(dense(merged(net(Attention(scale=0.5, causal=True, softcap=2.0), q, k, v)), 4))
    run(few, graph)
    assert graph.op_counts["softmax"] == 6
    assert graph.op_counts["mul"] == 6 * 3 + 1


@pytest.mark.parametrize("kind", ["split", "slice", "gather"])
def test_three_products_in_one(kind: str) -> None:
    net = Net()
    q, k, v = thirds(net.input(2, 4, 6), 3, 2, kind)
    graph = net.returns(dense(merged(net(Attention(scale=0.5), q, k, v)), 6))
    (rule,) = run(ALWAYS, graph).rules
    assert "0 inside and 4 at borders" in rule
    assert "mul" not in graph.op_counts


def test_tokens_of_an_image_enter_by_a_reshape() -> None:
    net = Net()
    image = conv(net.input(1, 3, 5, 5), 8)
    tokens = net(Transpose(perm=(0, 2, 1)), net(Reshape(shape=(1, 8, 16)), image))
    x = net(Concat(axis=1), np.ones((1, 1, 8)), tokens) + np.ones((1, 17, 8))
    graph = net.returns(block(block(x)))
    run(ALWAYS, graph)
    assert graph.op_counts["transpose"] == 1


def test_a_lone_product_stays() -> None:
    net = Net()
    graph = net.returns(dense(net.input(1, 64, 128), 256))
    stays(ChannelsFirst(), graph)
    ledger = PassManager([ChannelsFirst()]).run(graph).ledger
    assert [e.status for e in ledger.entries] == [DECLINED]
    assert "lone product" in str(ledger.entries[0].reason)
    assert ledger.measured["regions"] == {"regions": 0}


def test_a_network_of_convolutions_stays() -> None:
    net = Net()
    graph = net.returns(conv(net(Relu(), conv(net.input(1, 3, 8, 8), 8)), 8))
    stays(ALWAYS, graph)


def test_the_ledger_says_what_a_region_saves() -> None:
    net = Net()
    graph = net.returns(block(block(net.input(1, 64, 32))))
    ledger = PassManager([ChannelsFirst()]).run(graph).ledger
    assert [e.status for e in ledger.entries] == [APPLIED]
    numbers = ledger.measured["regions"]
    assert numbers["regions"] == 1
    assert numbers["movers_inside"] == 0
    assert numbers["ns_after"] < numbers["ns_before"]
    assert numbers["convs"] == 12


def five(name: str) -> Graph:
    graph = import_model(str(MODELS / f"{name}.onnx"), None, None).graph
    PassManager((*PIPELINES["default"], Decompose(keeps=lambda n: n.op.name not in ("lstm", "gru")))).run(graph)
    return graph


@pytest.mark.parametrize(
    ("name", "transposes"),
    [("bert_encoder", 2), ("vit", 0), ("gpt_block", 6), ("conformer_block", 2), ("lstm_classifier", 1)],
)
def test_exported_networks_are_one_region(name: str, transposes: int) -> None:
    """Transposes are left at their inputs and outputs alone."""
    graph = five(name)
    rng = np.random.default_rng(0)
    inputs = {
        v.name: np.asarray(rng.integers(0, 2, v.type.dims) if v.type.dtype.is_integer else rng.normal(size=v.type.dims))
        .astype(v.type.dtype.numpy)
        for v in graph.inputs
    }  # fmt: skip
    before = evaluate(graph, inputs)
    ledger = PassManager(regions.steps(chip())).run(graph, debug=True).ledger
    assert min(c.psnr_db for c in compare_all(before, evaluate(graph, inputs))) > 100
    assert not graph.of(Dense, Attention)
    assert len(graph.of(Transpose)) == transposes
    assert ledger.measured["regions"]["regions"] == 1
    assert ledger.measured["regions"]["movers_inside"] == 0
    assert all(n.op.values()["axis"] == 1 for n in graph.of(Softmax, LayerNorm))


def test_slower_chips_save_more() -> None:
    rates = {name: regions.rates(chip(name))["macs"] for name in ("A14", "M4")}
    assert rates["A14"][0] < rates["M4"][0]
    assert rates["A14"][0] > rates["A14"][1], "convolutions are no slower than dense layers"


def test_the_estimate_gives_the_published_times() -> None:
    """Of convolutions of 64 channels of 32 x 32: the 1x1 one is bound by bytes."""
    given = regions.rates(chip("M4"))
    rates = Rates(*(*given["macs"], *given["bytes"], 0.5, 64))
    for size, wanted in ((1, 1.17), (3, 4.67)):
        net = Net()
        op = Conv(strides=(1, 1), pads=(size // 2,) * 4, dilations=(1, 1))
        y = net(op, net.input(1, 64, 32, 32), np.ones((64, 64, size, size))).value
        assert y.node is not None
        assert rates.time(y.node) == pytest.approx(wanted, rel=0.02)


def test_channels_and_tokens_change_places_by_one_transpose() -> None:
    net = Net()
    x = dense(net.input(1, 6, 8), 8)
    mixed = dense(net(Transpose(perm=(0, 2, 1)), x), 6)
    graph = net.returns(dense(net(Transpose(perm=(0, 2, 1)), mixed), 8))
    run(ALWAYS, graph)
    assert graph.op_counts == {"conv": 3, "reshape": 2, "transpose": 4}


def test_cost_grows_with_the_number_of_layers() -> None:
    def prepare(size: int) -> Callable[[], object]:
        net = Net()
        x = net.input(1, 4, 8)
        for _ in range(size // 20):
            x = block(x)
        graph = net.returns(x)
        return lambda: ALWAYS.run(graph.clone(), Record())

    assert_linear(prepare, 100)


def test_frames_of_heads_are_lists() -> None:
    frame = default(((), (5,), (6,))).reshaped((1, 5, 2, 3))
    assert frame is not None
    work = frame.transposed((0, 2, 1, 3)).working()
    assert work.pieces == 2
    assert work.tensor == (1, 3, 1, 5)
    assert work.places[HEADS] == ((1, 0),)
    assert frame.working() == frame.transposed((0, 1, 2, 3)).working()


def test_a_convolution_along_time_is_inside() -> None:
    net = Net()
    x = dense(net.input(1, 9, 6), 4)
    y = conv(net(Transpose(perm=(0, 2, 1)), x), 4, pad=1)
    graph = net.returns(dense(net(Transpose(perm=(0, 2, 1)), y), 3))
    run(ALWAYS, graph)
    assert [n.op.strides for n in graph.of(Conv) if isinstance(n.op, Conv)] == [(1, 1)] * 3
    assert len(graph.of(Transpose)) == 2
