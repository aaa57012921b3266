"""SubstituteRecurrent: the steps of a layer, after one product of all inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.graph import Graph
from compiler.ops.recurrent import Recurrent
from passes.substitute_recurrent import SubstituteRecurrent
from tests.passes.composed import Net, run
from tests.passes.windowed import fires
from tests.strategies import seeds

KINDS: dict[type[Recurrent], int] = {ops.LSTM: 4, ops.GRU: 3, ops.RNN: 1}


def layer(
    kind: type[Recurrent], steps: int, direction: str, seed: int, batch: int = 2, reset_last: bool = False
) -> Graph:
    """A layer of 3 features and 4 hidden numbers."""
    rng, net = np.random.default_rng(seed), Net()
    sides, gates = 1 + (direction == "bidirectional"), KINDS[kind]
    w, r = (rng.normal(size=(sides, gates * 4, n)) for n in (3, 4))
    functions = kind.default_functions * sides
    op = kind(functions=functions, direction=direction)
    if kind is ops.GRU:
        op = ops.GRU(functions=functions, direction=direction, linear_before_reset=reset_last)
    return net.returns(*net.many(op, net.input(steps, batch, 3), w, r, rng.normal(size=(sides, 2 * gates * 4))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@settings(max_examples=6)
@given(seed=seeds(), steps=st.integers(1, 5))
def test_steps_compute_the_layer(kind: type[Recurrent], direction: str, seed: int, steps: int) -> None:
    graph = layer(kind, steps, direction, seed)
    after = fires(SubstituteRecurrent(), graph, np.random.default_rng(seed)).after
    assert not after.of(*KINDS)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@settings(max_examples=6)
@given(seed=seeds())
def test_the_candidate_of_a_gru_resets_its_own_bias(direction: str, seed: int) -> None:
    for last in (False, True):
        graph = layer(ops.GRU, 4, direction, seed, reset_last=last)
        fires(SubstituteRecurrent(), graph, np.random.default_rng(seed))


def test_one_dense_layer_has_the_rows_of_all_steps() -> None:
    graph = layer(ops.LSTM, 5, "forward", 0)
    run(SubstituteRecurrent(), graph)
    rows = [n.output.type.dims[0] for n in graph.of(ops.Dense)]
    assert rows == [10, 2, 2, 2, 2]  # the product with the zeros before the first step is known


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "reset_last", "biased"),
    [(ops.LSTM, False, 0), (ops.RNN, False, 0), (ops.GRU, False, 0), (ops.GRU, True, 3)],
)
def test_steps_have_no_bias_that_the_inputs_can_have(
    kind: type[Recurrent], reset_last: bool, biased: int, direction: str
) -> None:
    graph = layer(kind, 4, direction, 0, reset_last=reset_last)
    run(SubstituteRecurrent(), graph)
    rows = [n.output.type.dims[0] for n in graph.of(ops.Dense) if len(n.inputs) == 3]
    inputs = {"forward": 1, "bidirectional": 2}[direction]
    assert rows.count(2) == biased
    assert rows.count(8) >= inputs


def test_long_sequences_are_named() -> None:
    graph = layer(ops.LSTM, 65, "forward", 0)
    record = run(SubstituteRecurrent(), graph)
    assert record.skips == ["65 steps are more than 64, which would make a chain of layers too long"]
    assert graph.op_counts == {"lstm": 1}
