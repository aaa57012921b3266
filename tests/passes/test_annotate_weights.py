"""AnnotateWeights: which constants are weights, along which axes they are cut, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.ops.conv import Conv
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense, MatMul
from compiler.palette import looked_up, places
from compiler.pass_base import parse_pipeline
from compiler.quantize import dequantized, quantized
from compiler.tensor import I4, I8, Array, Block, Palette, QuantParams
from passes.annotate_weights import AnnotateWeights
from tests.passes.composed import Net, Record, Term
from tests.passes.weighted import conv_transpose

RNG = np.random.default_rng(5)


class Account(Record):
    """Notes what the pass counted and declined too."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        self.reasons: list[str] = []

    def measured(self, what: str, numbers: Mapping[str, int]) -> None:
        assert what == "weights"
        self.numbers = dict(numbers)

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        self.reasons.append(reason)


def annotated(graph: Graph, kind: str = "int8", block: int | None = None) -> Account:
    """What the pass says; the constants keep their numbers."""
    before = {v: np.array(v.data) for v in graph.constants}
    account = Account()
    assert AnnotateWeights(kind=kind, block=block).run(graph, account) == len(account.rules) == 1
    graph.verify()
    assert all(np.array_equal(data, v.data) for v, data in before.items() if v.data is not None)
    return account


def weight_of(t: Term, index: int = 1) -> Value:
    assert t.value.node is not None
    v = t.value.node.inputs[index]
    assert v is not None
    return v


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def convolved(x: Term, filters: int, groups: int = 1, window: int = 3) -> Term:
    op = Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), groups=groups)
    return x.net(op, x, numbers(filters, x.value.type.dims[1] // groups, window, window), numbers(filters))


def layers() -> tuple[Net, list[tuple[Term, int, int, int]]]:
    """A net of layers with weights, and of each the operand, the axis of results and the one that is summed over."""
    net = Net()
    x = net.input(1, 64, 9, 9)
    rows = net.input(2, 64)
    made = [
        (convolved(x, 8), 1, 0, 1),
        (conv_transpose(x, 16), 1, 1, 0),
        (net(Dense(), rows, numbers(64, 48)), 1, 1, 0),
        (net(Dense(transposed=True), rows, numbers(48, 64)), 1, 0, 1),
        (net(MatMul(), rows, numbers(3, 64, 32)), 1, 2, 1),
        (net(MatMul(), numbers(32, 64), net.input(64, 5)), 0, 0, 1),
        (net(Gather(), numbers(100, 64), net.input(2, dtype=I8)), 0, 0, 1),
    ]
    return net, made


def test_scales_lie_along_the_results() -> None:
    net, made = layers()
    account = annotated(net.returns(*(t for t, *_ in made)))
    for t, index, results, _ in made:
        v = weight_of(t, index)
        q = v.type.quant
        assert q is not None and (q.dtype, q.axis, q.block) == (I8, results, None) and v.type.palette is None
        assert len(q.scale) == v.type.dims[results] and set(q.zero_point) == {0}
    assert account.numbers["weights"] == len(made) and "skipped" not in account.numbers
    assert account.numbers["bytes_after"] < 0.28 * account.numbers["bytes_before"]


def test_blocks_lie_along_the_sum() -> None:
    net, made = layers()
    account = annotated(net.returns(*(t for t, *_ in made)), "int4")
    for t, index, results, summed in made:
        q = weight_of(t, index).type.quant
        assert q is not None and (q.dtype, q.axis, q.block) == (I4, results, Block(summed, 32))
    assert account.numbers["bytes_after"] < 0.17 * account.numbers["bytes_before"]


def test_groups_of_results_share_a_table() -> None:
    net, made = layers()
    annotated(net.returns(*(t for t, *_ in made)), "palette3", 4)
    for t, index, results, _ in made:
        v = weight_of(t, index)
        p = v.type.palette
        assert p is not None and (p.axis, p.bits, len(p.tables)) == (results, 3, v.type.dims[results] // 4)
        assert v.type.quant is None


def test_one_table_is_for_the_whole_tensor() -> None:
    net, made = layers()
    annotated(net.returns(*(t for t, *_ in made)), "palette2")
    assert all((p := weight_of(t, i).type.palette) and p.axis is None and len(p.tables) == 1 for t, i, *_ in made)


@pytest.mark.parametrize(
    ("channels", "block", "size"), [(96, 32, 32), (72, 32, 24), (67, 32, 0), (32, 32, 0), (48, 0, 0)]
)
def test_blocks_divide_the_axis(channels: int, block: int, size: int) -> None:
    """72 has no blocks of 32; those of 24 are near enough. 67 could only be cut into single numbers."""
    net = Net()
    y = convolved(net.input(1, channels, 5, 5), 8)
    annotated(net.returns(y), "int4", block)
    q = weight_of(y).type.quant
    assert q is not None and (q.block.size if q.block else 0) == size
    assert len(q.scale) == 8 * (channels // size if size else 1)


def test_what_stays_as_it_is_has_a_reason() -> None:
    net = Net()
    x = net.input(1, 64, 5, 5)
    small, tied, added = convolved(x, 64, 64, 3), numbers(64, 64), x + numbers(1, 64, 5, 5)
    table = net.value(tied)
    shared = Term(net, table)
    rows = net.input(2, 64)
    both = [net(Dense(), rows, shared), net(Dense(transposed=True), rows, shared)]
    endless = numbers(64, 64)
    endless[3, 3] = np.inf
    broken = net(Dense(), rows, endless)
    large = net(Dense(), rows, numbers(64, 64) * 1e6)
    account = annotated(net.returns(small, added, *both, broken, large))
    assert all(v.type.quant is None for v in net.graph.constants)
    assert len(account.reasons) == account.numbers["skipped"] == 5 and "weights" not in account.numbers
    for part in ("576 elements", "not only the weight", "not finite", "beyond 65504"):
        assert any(part in reason for reason in account.reasons), part


def test_tied_weights_of_one_orientation_are_stored_once() -> None:
    net = Net()
    table = Term(net, net.value(numbers(100, 64)))
    looked = net(Gather(), table, net.input(3, dtype=I8))
    annotated(net.returns(net(Dense(transposed=True), looked, table)))
    q = table.value.type.quant
    assert q is not None and q.axis == 0 and len(q.scale) == 100


@given(seed=st.integers(0, 500), kind=st.sampled_from(["int8", "int4", "palette4", "palette6"]))
def test_errors_are_bounded(seed: int, kind: str) -> None:
    """Of integers by half a step; of a palette, in the mean square, by that of equal steps over the whole range."""
    rng = np.random.default_rng(seed)
    net = Net()
    w = (rng.standard_t(4, (64, 40)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    y = net(Dense(), net.input(2, 64), w)
    annotated(net.returns(y), kind)
    t = weight_of(y).type
    if t.quant is not None:
        stored = quantized(w, t.quant, narrow=True)
        assert (np.abs(dequantized(stored, t.quant) - w) <= 0.5001 * one_step_each(t.quant, w.shape)).all()
        return
    assert t.palette is not None
    equal = Palette((tuple(np.linspace(w.min(), w.max(), 1 << t.palette.bits, dtype=np.float64).tolist()),))
    errors = [float(np.square(looked_up(places(w, p), p).astype(np.float64) - w).sum()) for p in (t.palette, equal)]
    assert errors[0] <= errors[1] * 1.00001


def one_step_each(params: QuantParams, shape: tuple[int, ...]) -> Array:
    """The step of each element: what the integer 1 stands for."""
    return dequantized(np.ones(shape, np.int8), params)


def test_without_a_kind_nothing_happens() -> None:
    net, made = layers()
    assert AnnotateWeights().run(net.returns(*(t for t, *_ in made)), Record()) == 0
    assert all(v.type.quant is None for v in net.graph.constants)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind='int5'", "cannot be stored as 'int5'"),
        ("kind='int4', block=1", "blocks of 1"),
        ("kind='int8', block=-4", "-4"),
    ],
)
def test_wrong_options_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pipeline(f"annotate-weights({text})")


@pytest.mark.parametrize("kind", ["int8", "int4", "palette2", "palette4", "palette8"])
@pytest.mark.parametrize("block", [0, 16])
def test_zeros_of_a_pruned_weight_stay_zeros(kind: str, block: int) -> None:
    """So that a mask can stand for them."""
    made, data = Net(), RNG.normal(size=(64, 64)).astype(np.float32)
    data[RNG.random(data.shape) < 0.6] = 0
    y = made(Dense(), made.input(2, 64), data)
    annotated(made.returns(y), kind, block)
    t = weight_of(y).type
    if t.palette is not None:
        back = looked_up(places(data, t.palette), t.palette)
    else:
        assert t.quant is not None
        back = dequantized(quantized(data, t.quant, narrow=True), t.quant)
    assert not back[data == 0].any() and (back != 0).mean() > 0.2
