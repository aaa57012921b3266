"""Substitutions by chip: which passes a family gets, and that nothing it does not run is left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from compiler import ops
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.op import Op
from compiler.ops.pool import AveragePool, MaxPool
from compiler.pass_base import ErrorClass, Fixpoint
from compiler.pass_manager import PassManager
from targets.apple import legal
from targets.apple.engine import chip, chips, load
from targets.coreml.target import CoreMLTarget
from tests.passes.composed import Net, Term
from tests.passes.windowed import convolution, drawn, pooling
from tests.strategies import seeds

CHIPS = ("A14", "A15", "A16", "M4", "M5", "M6")
RNG = np.random.default_rng(4)


def off_engine(graph: Graph, name: str, approximate: str = "") -> list[str]:
    """The operations of the program for a chip that its engine does not run, and why."""
    target = CoreMLTarget(chip=name, approximate=approximate)
    PassManager(target.pipeline()).run(graph)
    prepared = target.prepare(graph)
    found = target.placement(prepared, None).after.placed
    return [f"{p.operation.kind}: {p.verdict.rule.says}" for p in found if not p.verdict.ane]


def named(name: str, approximate: tuple[str, ...] = ()) -> set[str]:
    """The passes that a chip gets."""
    found = legal.steps(chip(name), approximate)
    return {p.pass_name() for p in found if not isinstance(p, Fixpoint)}


def test_the_data_name_what_there_is() -> None:
    facts, operations, limits = (load(n)[n] for n in ("substitutions", "operations", "limits"))
    for entry in legal.entries():
        fields = legal.pass_of(entry).fields
        assert {entry["of"], *entry.get("also", ())} <= set(facts)
        assert set(entry.get("avoids", ())) <= set(operations)
        assert set(entry.get("limits", {}).values()) <= set(limits)
        assert {*entry.get("limits", ()), *entry.get("values", ()), *entry.get("among", ())} <= set(fields)


def test_every_chip_gets_passes_that_can_be_made() -> None:
    for name in chips():
        assert named(name) <= named(name, ("all",))


def test_approximations_run_when_they_are_asked_for() -> None:
    lossy = {n for e in legal.entries() if (n := e["pass"]) and legal.pass_of(e).error_class is ErrorClass.LOSSY}
    assert lossy and not lossy & named("A14")
    assert named("A14", ("substitute-sin",)) - named("A14") == {"substitute-sin"}
    assert lossy <= named("A14", ("all",))


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        ("A14", {"substitute-resize", "substitute-sin", "substitute-gather"}, set()),
        ("A15", {"substitute-sin"}, {"substitute-resize", "substitute-gather"}),
        ("A16", set(), {"substitute-resize", "substitute-sin"}),
        ("M4", {"substitute-logic"}, {"substitute-resize", "substitute-sin"}),
    ],
)
def test_a_family_that_runs_the_original_keeps_it(name: str, has: set[str], has_not: set[str]) -> None:
    found = named(name, ("all",))
    assert has <= found and not has_not & found


def test_limits_and_operations_come_from_the_data() -> None:
    described = {name: " ".join(map(str, legal.steps(chip(name)))) for name in ("A14", "M4")}
    assert "substitute-large-kernel(width=13, height=29)" in described["A14"]
    assert "substitute-logic(layers=('or', 'xor'))" in described["M4"]


@pytest.mark.parametrize("text", ["substitute-sinn", "substitute-conv1d", "substitute-sin,everything"])
def test_unknown_approximations_list_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        CoreMLTarget(approximate=text)
    assert "substitute-sin" in str(caught.value)


def image(*spatial: int) -> tuple[Net, Term]:
    net = Net()
    return net, net.input(1, 4, *spatial)


def layer(op: Op, *shape: int) -> Graph:
    net = Net()
    return net.returns(net(op, net.input(*shape)))


def recurrent(kind: type[ops.Recurrent], gates: int) -> Graph:
    net = Net()
    w, r = (RNG.normal(size=(2, gates * 4, n)) for n in (3, 4))
    op = kind(functions=kind.default_functions * 2, direction="bidirectional")
    return net.returns(*net.many(op, net.input(7, 1, 3), w, r))


def conv(kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], *spatial: int) -> Graph:
    net, x = image(*spatial)
    op = ops.Conv(strides=strides, pads=(0,) * 2 * len(kernel), dilations=dilations)
    return net.returns(net(op, x, RNG.normal(size=(8, 4, *kernel))))


def upward() -> Graph:
    net, x = image(3, 3)
    op = ops.ConvTranspose(strides=(20, 16), pads=(0,) * 4, dilations=(1, 1), output_padding=(0, 0))
    return net.returns(net(op, x, RNG.normal(size=(4, 8, 21, 20))))


def decided() -> Graph:
    net, x = image(5)
    a, b = net(ops.Less(), x, 0.5), net(ops.Greater(), x, -0.5)
    either = net(ops.Or(), net(ops.And(), a, b), net(ops.Xor(), a, b))
    return net.returns(net(ops.Where(), either, x, 0.0))


def scattered() -> Graph:
    net, x = image(6)
    return net.returns(net(ops.ScatterND(), x, np.array([[0, 2], [0, 0]]), net.input(2, 6)))


def product() -> Graph:
    net = Net()
    return net.returns(net(ops.MatMul(), net.input(2, 40000), net.input(40000, 3)))


def window(kind: type[MaxPool] | type[AveragePool], kernel: tuple[int, ...], *spatial: int) -> Graph:
    n = len(kernel)
    return layer(kind(kernel=kernel, strides=(1,) * n, pads=(0,) * 2 * n, dilations=(1,) * n), 1, 4, *spatial)


ILLEGAL = {
    "conv wide": lambda: conv((1, 40), (1, 1), (1, 1), 3, 60),
    "conv large": lambda: conv((17, 19), (1, 1), (1, 1), 30, 30),
    "conv strided": lambda: conv((7, 7), (7, 7), (1, 1), 35, 35),
    "patches": lambda: conv((16, 16), (16, 16), (1, 1), 64, 64),
    "conv dilated": lambda: conv((3, 3), (1, 1), (5, 32), 40, 90),
    "conv of one axis": lambda: conv((31,), (2,), (1,), 90),
    "conv of three axes": lambda: conv((3, 3, 3), (1, 2, 1), (1, 1, 1), 5, 9, 9),
    "conv_transpose": upward,
    "max_pool": lambda: window(MaxPool, (3, 11), 9, 20),
    "max_pool of one axis": lambda: window(MaxPool, (20,), 60),
    "max_pool of three axes": lambda: window(MaxPool, (2, 2, 9), 4, 6, 20),
    "average_pool": lambda: window(AveragePool, (3, 40), 9, 60),
    "average_pool of all": lambda: window(AveragePool, (33, 40), 33, 40),
    "pad": lambda: layer(ops.Pad(pads=(0, 0, 2, 2, 0, 0, 2, 7), mode="reflect"), 1, 4, 9, 9),
    "pad with a number": lambda: layer(ops.Pad(pads=(0, 0, 2, 2, 0, 0, 2, 7), value=-3.0), 1, 4, 9, 9),
    "cumsum": lambda: layer(ops.CumSum(axis=2), 1, 4, 9, 9),
    "reduce_prod": lambda: layer(ops.ReduceProd(axes=(2, 3)), 1, 4, 9, 9),
    "resize": lambda: layer(
        ops.Resize(sizes=(1, 4, 6, 9), scales=(1.0, 1.0, 2.0, 3.0), coordinates="asymmetric", nearest_mode="floor"),
        *(1, 4, 3, 3),
    ),
    "logic": decided,
    "scatter": scattered,
    "lstm": lambda: recurrent(ops.LSTM, 4),
    "gru": lambda: recurrent(ops.GRU, 3),
    "rnn": lambda: recurrent(ops.RNN, 1),
    "trilu": lambda: layer(ops.Trilu(), 1, 4, 9, 9),
    "prelu": lambda: layer(ops.LeakyRelu(alpha=0.1), 1, 4, 9, 9),
}


@pytest.mark.parametrize("make", ILLEGAL.values(), ids=ILLEGAL)
def test_nothing_is_left_that_an_engine_does_not_run(make: Callable[[], Graph]) -> None:
    for name in CHIPS:
        assert off_engine(make(), name) == []


def test_the_inner_axis_of_a_product() -> None:
    assert off_engine(product(), "M4") == []


APPROXIMATED = [ops.Sin(), ops.Cos(), ops.Tan(), ops.Asin(), ops.Acos(), ops.Sinh(), ops.Cosh(), ops.Atanh()]


@pytest.mark.parametrize("op", APPROXIMATED, ids=str)
def test_nothing_is_left_when_approximations_are_asked_for(op: Op) -> None:
    for name in CHIPS:
        assert off_engine(layer(op, 1, 4, 3, 3), name, "all") == []
    assert off_engine(layer(op, 1, 4, 3, 3), "A14")


def test_remainders_of_floats() -> None:
    net, x = image(3, 3)
    graph = net.returns(net(ops.Mod(fmod=True), x, 0.7))
    assert off_engine(graph.clone(), "M4") and off_engine(graph, "M4", "all") == []


@settings(max_examples=25)
@given(seed=seeds())
def test_random_windows_fit_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    sizes = {1: ((1, 60),), 2: ((1, 34), (1, 34)), 3: ((1, 3), (1, 4), (1, 17))}[axes]
    graph = convolution(rng, sizes, ((1, 20),) * axes, ((1, 1),) * axes)
    kind = (MaxPool, AveragePool)[seed % 2]
    other = pooling(rng, kind, sizes, ((1, 5),) * axes)
    name = CHIPS[drawn(rng, (0, len(CHIPS) - 1))[0]]
    assert [line for g in (graph, other) for line in off_engine(g, name)] == []
