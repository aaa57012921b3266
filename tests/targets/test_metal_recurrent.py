"""Recurrent layers as Metal sources, run with every check: a product of the inputs, and a kernel for each direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.tensor import F16, F32, I32, Array, TensorType
from tests.targets.metal_layers import Layer, Operand, agree, beside, expect_same, layer

LAYERS = (ops.LSTM, ops.GRU, ops.RNN)
Kind = type[ops.LSTM | ops.GRU | ops.RNN]


def weights(rng: np.random.Generator, kind: Kind, directions: int, features: int, hidden: int) -> list[Array]:
    """w, r and b."""
    wide = kind.gates * hidden
    shapes = ((directions, wide, features), (directions, wide, hidden), (directions, 2 * wide))
    return [(rng.standard_normal(s) / 2).astype(np.float32) for s in shapes]


def walked(kernels: Sequence[str]) -> int:
    """How many of the kernels walk the steps of a layer."""
    return sum(k.startswith(("lstm_", "gru_", "rnn_")) for k in kernels)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_layers_of_any_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for kind in LAYERS * 2:
        x = TensorType(F32, tuple(int(n) for n in rng.integers(1, 7, 3)))
        sample = kind.sample(rng, x)
        assert sample is not None
        op, others = sample
        operands: list[Operand] = [x]
        for i, other in enumerate(others):
            is_weight = isinstance(other, TensorType) and i < 3
            operands.append(rng.standard_normal(other.dims).astype(np.float32) if is_weight else other)  # type: ignore[union-attr]  # it is a type
        layers.append(Layer(op, operands))
    made = agree(layers, seed, rtol=2e-5, atol=2e-6)
    assert walked(made.kernels) >= len(layers)


@pytest.mark.parametrize("kind", LAYERS)
def test_sequences_that_end_early(kind: Kind) -> None:
    """Lengths are known when the model runs, and may be 0."""
    rng = np.random.default_rng(5)
    op = kind(functions=kind.default_functions * 2, direction="bidirectional")
    lens = TensorType(I32, (3,))
    graph = beside([layer(op, TensorType(F32, (5, 3, 4)), *weights(rng, kind, 2, 4, 6), lens)])
    feeds = {"x0_0": rng.standard_normal((5, 3, 4)).astype(np.float32), "x0_4": np.array([5, 0, 3], np.int32)}
    made = expect_same(graph, feeds, rtol=2e-5, atol=2e-6)
    assert walked(made.kernels) == 2


def test_units_by_the_simdgroup_and_more_than_threads() -> None:
    rng = np.random.default_rng(6)
    layers = []
    for hidden in (32, 70, 1030):
        op = ops.RNN(functions=("Tanh",))
        layers.append(layer(op, TensorType(F32, (3, 2, 4)), *weights(rng, ops.RNN, 1, 4, hidden)))
    gru = ops.GRU(functions=("Sigmoid", "Tanh"), linear_before_reset=True)
    layers.append(layer(gru, TensorType(F32, (4, 1, 4)), *weights(rng, ops.GRU, 1, 4, 40)))
    made = agree(layers, rtol=1e-4, atol=1e-4)
    assert walked(made.kernels) == len(layers)


@pytest.mark.parametrize("kind", LAYERS)
def test_halves(kind: Kind) -> None:
    """States are floats within a layer."""
    rng = np.random.default_rng(7)
    op = kind(functions=kind.default_functions)
    given_weights = [a.astype(np.float16) for a in weights(rng, kind, 1, 4, 6)]
    made = agree([layer(op, TensorType(F16, (5, 2, 4)), *given_weights)], rtol=4e-3, atol=2e-3)
    assert walked(made.kernels) == 1
