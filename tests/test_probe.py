"""Bounded outputs are judged by what they can reach; losses name the layer that adds the noise."""

from __future__ import annotations

import numpy as np
import pytest

import passes  # noqa: F401  # registers the pipelines
from compiler.graph import Graph, Value
from compiler.ops.activation import Clip, Relu, Sigmoid
from compiler.ops.conv import Conv
from compiler.ops.elementwise import Add, Mul
from compiler.ops.layout import ConvertLayout
from compiler.ops.norm import BatchNorm
from compiler.ops.parts import Concat
from compiler.ops.reduce import ReduceMean
from compiler.ops.shape import Reshape
from compiler.oracle import run_graph
from compiler.pass_manager import PassManager
from compiler.probe import intermediate_values, output_peaks, rank_losses
from compiler.rewrite_check import RewriteChecker
from compiler.tensor import F32, TensorType


def tiny_scores(bias: float) -> Graph:
    """conv, batch norm and sigmoid, whose results are about exp(bias)."""
    rng = np.random.default_rng(0)
    g = Graph()
    x = g.add_input(TensorType(F32, (1, 3, 8, 8)), "x")
    w = g.const(rng.standard_normal((4, 3, 3, 3)).astype(np.float32))
    (y,) = g.add(Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), x, w)
    scale, mean, var = (g.const(rng.uniform(0.5, 1.5, 4).astype(np.float32)) for _ in range(3))
    (y,) = g.add(BatchNorm(), y, scale, g.const(np.full(4, bias, np.float32)), mean, var)
    (y,) = g.add(Sigmoid(), y)
    g.set_outputs([y], ["y"])
    return g


def test_small_scores_of_a_sigmoid_survive_verification() -> None:
    graph = tiny_scores(-40.0)
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    checker = RewriteChecker(inputs, run_graph(graph, inputs))
    outcome = PassManager("default").run(graph, checker=checker, strict=True)
    assert outcome.ledger.counts() == {"fuse-conv-batch-norm": 1}


@pytest.mark.parametrize(("bounded", "peaks"), [(True, {"y": 1.0}), (False, {})])
def test_bounds_pass_through_what_keeps_them(bounded: bool, peaks: dict[str, float]) -> None:
    g = Graph()
    x = g.add_input(TensorType(F32, (2, 6)), "x")
    parts: list[Value] = [*g.add(Sigmoid(), x), *g.add(Clip(low=-1.0, high=0.5) if bounded else Relu(), x)]
    (y,) = g.add(Concat(axis=0), *parts)
    (y,) = g.add(ReduceMean(axes=(1,)), y)
    (y,) = g.add(Reshape(shape=(2, 2)), y)
    (y,) = g.add(ConvertLayout(order=(1, 0)), y)
    g.set_outputs([y], ["y"])
    assert output_peaks(g) == peaks


def test_the_layer_that_adds_noise_is_named_first() -> None:
    graph = tiny_scores(0.0)
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    reference = intermediate_values(graph, inputs)
    norm = next(n for n in graph.nodes if isinstance(n.op, BatchNorm))
    noise = {norm.output: 0.01, graph.outputs[0]: 1e-4}
    noisy = {v: a + noise.get(v, 0.0) for v, a in reference.items()}
    loss, *_ = rank_losses(graph, reference, noisy)
    assert loss.node is norm and loss.operands_db == 400
    assert loss.result_db == pytest.approx(20 * np.log10(np.abs(reference[norm.output]).max() / 0.01), abs=0.1)


def test_noise_that_the_next_layer_does_not_show_is_no_loss() -> None:
    """A small number with one digit in a sum of large ones; where it is an output as well, it counts."""
    for outputs, named in ((["sum"], []), (["sum", "small"], ["mul"])):
        g = Graph()
        x = g.add_input(TensorType(F32, (8,)), "x")
        (small,) = g.add(Mul(), x, g.const(np.array([1e-7], np.float32)))
        (total,) = g.add(Add(), small, x)
        g.set_outputs([total, small][: len(outputs)], outputs)
        inputs = {"x": np.linspace(1, 2, 8, dtype=np.float32)}
        reference = intermediate_values(g, inputs)
        measured = {small: np.full(8, 1.8e-7, np.float32), total: reference[total]}
        assert [loss.node.op.name for loss in rank_losses(g, reference, measured)] == named
