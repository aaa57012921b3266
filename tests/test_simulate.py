"""The simulation of a quantized graph rounds what is annotated, and nothing else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.calibrate.run import calibrate, ranges_of
from compiler.calibrate.trial import EXACT, SILENT, Trial, snr
from compiler.graph import Graph, Value
from compiler.ops.elementwise import Add, Mul
from compiler.oracle import run_graph
from compiler.quantize import asymmetric, dequantized, quantized, symmetric
from compiler.simulate import simulated
from compiler.tensor import F32, Array, Palette, QuantParams, TensorType

ROWS = [{"x": np.random.default_rng(i).uniform(-1, 1, (1, 8)).astype(np.float32)} for i in range(4)]


def scaled(params: QuantParams, weights: QuantParams | None = None) -> tuple[Graph, Value, Value]:
    """y = x * w + 1 with y annotated, and w too; the graph, y and w."""
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 8)), "x")
    w = graph.const(np.linspace(0.1, 0.8, 8, dtype=np.float32), "w")
    (y,) = graph.add(Mul(), x, w)
    (z,) = graph.add(Add(), y, graph.const(np.ones(8, np.float32)))
    graph.set_outputs([z], ["z"])
    y.type = y.type._replace(quant=params)
    w.type = w.type._replace(quant=weights)
    return graph, y, w


def run(graph: Graph, row: int = 0) -> Array:
    return run_graph(graph, ROWS[row])["z"]


@given(low=st.floats(-4, -0.1), high=st.floats(0.1, 4))
def test_values_are_rounded_as_the_shared_function_rounds(low: float, high: float) -> None:
    params = asymmetric(low, high)
    graph, _, w = scaled(params)
    y = ROWS[0]["x"] * np.asarray(w.data)
    expected = dequantized(quantized(y, params), params) + np.float32(1)
    assert np.abs(run(simulated(graph).graph) - expected).max() <= 1e-6


def test_constants_are_rounded_along_their_axis() -> None:
    weights = symmetric([0.1 * i for i in range(1, 9)], 0)
    graph, _, w = scaled(asymmetric(-1, 1), weights)
    found = simulated(graph, only={w})
    data = found.values[w].data
    assert data is not None
    np.testing.assert_allclose(data, np.linspace(0.1, 0.8, 8), rtol=1e-6)  # each is the peak of its own scale
    np.testing.assert_allclose(run(found.graph), run(graph), rtol=1e-5)


def test_only_the_chosen_values_are_rounded() -> None:
    graph, y, _ = scaled(asymmetric(-1, 1), symmetric([0.8], None))
    assert np.array_equal(run(simulated(graph, only=()).graph), run(graph))
    alone, both = run(simulated(graph, only={y}).graph), run(simulated(graph).graph)
    assert not np.array_equal(alone, run(graph))
    assert not np.array_equal(alone, both)


def test_the_given_graph_stays_and_values_are_found_again() -> None:
    graph, y, _ = scaled(asymmetric(-1, 1))
    found = simulated(graph)
    assert len(graph) == 2
    rounded = found.values[y]
    assert rounded.node is not None
    assert rounded.node.op.name == "dequantize_linear"
    assert rounded.type == TensorType(F32, (1, 8))


def test_snr_falls_by_six_decibels_for_each_bit() -> None:
    noise = [Trial(ROWS).snr(scaled(asymmetric(-top, top))[0]) for top in (1.0, 2.0, 4.0, 8.0)]
    steps = [a - b for a, b in pairwise(noise)]
    assert all(3.5 < s < 8.5 for s in steps), steps
    assert sum(steps) / 3 == pytest.approx(6.02, abs=1.0)


def test_snr_of_rows_together() -> None:
    ones = np.ones(4)
    assert snr([ones, ones], [ones, ones * 1.1]) == pytest.approx(10 * np.log10(8 / 0.04))
    assert snr([ones], [ones]) == EXACT
    assert snr([ones * 0], [ones]) == SILENT
    assert snr([ones], [ones * np.nan]) == SILENT
    assert snr([np.array([1, np.inf])], [np.array([1.0, 5.0])]) == EXACT


def test_ranges_are_those_of_the_rows() -> None:
    graph, y, w = scaled(asymmetric(-1, 1))
    y.type = y.type._replace(quant=None)
    products = [row["x"] * np.asarray(w.data) for row in ROWS]
    expected = (min(map(np.min, products)), max(map(np.max, products)))
    assert Trial(ROWS).ranges(graph)[y] == pytest.approx(expected)


def test_constants_become_the_entries_of_their_palette() -> None:
    graph, _, w = scaled(asymmetric(-4.0, 4.0))
    w.type = w.type._replace(palette=Palette(((0.2, 0.7),)))
    twin = simulated(graph).values[w]
    assert twin.data is not None and twin.type.palette is None
    assert twin.data.tolist() == np.array([0.2] * 4 + [0.7] * 4, np.float32).tolist()
    untouched = simulated(graph, only=()).values[w].data
    assert untouched is not None and w.data is not None and np.array_equal(untouched, w.data)


def test_calibration_of_a_graph_with_parameters_sees_what_they_saturate_at() -> None:
    graph, y, _ = scaled(asymmetric(-0.1, 0.1))
    (z,) = graph.outputs
    seen = ranges_of(calibrate(graph, ROWS, "minmax"), graph)
    assert seen[y] == pytest.approx((-0.1, 0.1), abs=1e-3)
    assert seen[z] == pytest.approx((0.9, 1.1), abs=1e-3)  # without the parameters it reaches beyond 0.5 and 1.5
