"""Normalisations of axes that are not the last ones."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.compare import compare_all
from compiler.errors import ShapeError
from compiler.evaluate import evaluate
from compiler.ops import LayerNorm, RmsNorm
from compiler.oracle import run_graph
from compiler.tensor import F32, TensorType
from tests.passes.composed import Net, inputs_of

SCALE, BIAS = np.random.default_rng(0).normal(size=(2, 6))
X = TensorType(F32, (2, 6, 1, 5))


@pytest.mark.parametrize("kind", [LayerNorm, RmsNorm])
def test_channels(kind: type[LayerNorm] | type[RmsNorm]) -> None:
    net = Net()
    biased = kind is LayerNorm
    parameters = (SCALE, BIAS) if biased else (SCALE,)
    graph = net.returns(net(kind(axis=1, count=1, eps=1e-3), net.input(*X.dims), *parameters))
    inputs = inputs_of(graph)
    x = inputs["x0"].astype(np.float64)
    centred = x - x.mean(1, keepdims=True) if biased else x
    y = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-3) * SCALE[:, None, None]
    found = evaluate(graph, inputs)
    np.testing.assert_allclose(found["y0"], y + BIAS[:, None, None] if biased else y, atol=1e-5)
    assert compare_all(found, run_graph(graph, inputs))[0].psnr_db > 120


@pytest.mark.parametrize("op", [LayerNorm(axis=1, count=4), LayerNorm(axis=4), RmsNorm(axis=2, count=3)])
def test_axes_that_are_not_there(op: LayerNorm | RmsNorm) -> None:
    with pytest.raises(ShapeError, match="needs a float tensor with axis 4"):
        op.infer(X, TensorType(F32, (1,)))


def test_parameters_fit_the_normalised_axes() -> None:
    with pytest.raises(ShapeError, match="does not broadcast to the axes"):
        LayerNorm(axis=1, count=1).infer(X, TensorType(F32, (5,)))
