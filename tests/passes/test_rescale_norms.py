"""RescaleNorms: what is squared is made small first, and the normalisation stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import Op
from compiler.tensor import Array
from passes.rescale_norms import RescaleNorms
from tests.passes.composed import Net, Record, run, stays

ONES = np.linspace(0.5, 1.5, 16).astype(np.float32)


def norm(op: Op, parameters: int, *shape: int) -> Graph:
    net = Net()
    return net.returns(net(op, net.input(*(shape or (4, 16))), *[ONES] * parameters))


def known(size: float) -> RescaleNorms:
    """The pass with data in which inputs reach a size."""
    return RescaleNorms(peaks=lambda graph: dict.fromkeys(graph.inputs, size))


def in_halves(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """Every result rounded to 16 bits."""
    with np.errstate(all="ignore"):
        return evaluate(graph, feeds, each=lambda a: a.astype(np.float16).astype(a.dtype) if a.dtype.kind == "f" else a)


def formula(eps: float) -> Graph:
    net = Net()
    x = net.input(4, 16)
    mean = net(ops.ReduceMean(axes=(1,), keepdims=True), x * x)
    return net.returns(x / net(ops.Sqrt(), mean + eps))


@pytest.mark.parametrize(
    ("op", "parameters"),
    [(ops.RmsNorm(axis=1), 1), (ops.LayerNorm(axis=1), 2), (ops.LpNormalize(axis=1), 0)],
    ids=lambda v: getattr(v, "name", v),
)
def test_known_sizes_cost_one_product(op: Op, parameters: int) -> None:
    graph = norm(op, parameters)
    assert run(known(1000.0), graph, scale=300.0).rules == ["layer"]
    assert graph.op_counts == {"mul": 1, op.name: 1}
    (factor,) = [float(v.data.item()) for v in graph.constants if v.data is not None and v.data.size == 1]
    assert factor == 1 / 16  # 1000 with a margin of 4 is below 256 * 2^4


@pytest.mark.parametrize("op", [ops.RmsNorm(axis=1), ops.LpNormalize(axis=1)], ids=lambda op: op.name)
def test_unknown_sizes_are_divided_by_the_largest(op: Op) -> None:
    graph = norm(op, int(op.name == "rms_norm"))
    run(RescaleNorms(), graph, scale=1000.0)
    assert graph.op_counts["reduce_max"] == 1


def test_formulas_along_any_axis() -> None:
    graph = formula(1e-5)
    assert run(RescaleNorms(), graph, scale=1000.0).rules == ["formula"]
    assert graph.op_counts["reduce_max"] == 1
    graph = formula(1e-5)
    run(known(1000.0), graph, scale=300.0)
    assert "reduce_max" not in graph.op_counts


def test_small_operands_are_left() -> None:
    net = Net()
    stays(RescaleNorms(), net.returns(net(ops.RmsNorm(axis=1), net(ops.Tanh(), net.input(4, 16)), ONES)))
    stays(known(60.0), norm(ops.RmsNorm(axis=1), 1))
    stays(RescaleNorms(), norm(ops.LayerNorm(axis=1), 2))


@settings(deadline=None, max_examples=60)
@given(scale=st.floats(-3, 3.6), eps=st.sampled_from([1e-6, 1e-5]), seed=st.integers(0, 999), by=st.booleans())
def test_in_halves_no_row_overflows(scale: float, eps: float, seed: int, by: bool) -> None:
    size = 10.0**scale
    feeds = {"x0": (np.random.default_rng(seed).standard_normal((4, 16)) * size).astype(np.float16).astype(np.float32)}
    graph = formula(eps) if by else norm(ops.RmsNorm(axis=1, eps=eps), 1)
    expected = evaluate(graph, feeds)["y0"].astype(np.float64)
    RescaleNorms().run(graph, Record())
    error = np.abs(in_halves(graph, feeds)["y0"] - expected).max()
    assert error < 0.004 * np.abs(expected).max()


def test_without_the_pass_a_row_is_lost() -> None:
    feeds = {"x0": np.full((4, 16), 300.0, np.float32)}
    graph = formula(1e-5)
    assert not in_halves(graph, feeds)["y0"].any()  # divided by infinity
    RescaleNorms().run(graph, Record())
    assert np.allclose(in_halves(graph, feeds)["y0"], 1, atol=1e-3)


def test_rows_of_zeros_stay_zero() -> None:
    feeds = {"x0": np.zeros((4, 16), np.float32)}
    for graph in (formula(1e-5), norm(ops.RmsNorm(axis=1), 1), norm(ops.LpNormalize(axis=1), 0)):
        RescaleNorms().run(graph, Record())
        assert not in_halves(graph, feeds)["y0"].any()
