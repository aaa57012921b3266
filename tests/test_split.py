"""Cutting graphs into chunks: sizes as text, the search for places, and that chunks in a row are the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import ops
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.quantize import asymmetric
from compiler.split import Chunk, Stored, cut_costs, find_cuts, parse_size, split_graph
from compiler.tensor import F16, F32, Array, DType, TensorType
from tests.strategies import graphs, random_inputs, seeds

X = TensorType(F32, (4, 8))


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("500MB", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("50kb", 50_000), (" 2 MiB ", 2**21), (".5KB", 500)],
)
def test_sizes_are_numbers_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["1", "GB", "1TB", "-1GB", "1.2.3MB", "0GB", "1e3MB", "\u0661GB", "0.0000000001KB", ""]
)
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size") as caught:
        parse_size(text)
    assert "--split 1GB" in str(caught.value)


def size_of(layers: Sequence[Stored]) -> int:
    return sum({key: n for layer in layers for key, n in layer.items()}.values())


def cheapest(stored: Sequence[Stored], costs: list[float], limit: int) -> tuple[int, float] | None:
    """Chunks and costs of the best of all choices of places, tried one by one."""
    places, best = range(1, len(stored)), None
    for k in range(len(stored)):
        for cuts in combinations(places, k):
            ends = (0, *cuts, len(stored))
            if all(size_of(stored[a:b]) <= limit for a, b in pairwise(ends)):
                cost = sum(costs[c] for c in cuts)
                best = min(best or (k + 1, math.inf), (k + 1, cost))
        if best is not None and best[1] < math.inf:
            return best
    return None


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.none()), min_size=1, max_size=8),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0, math.inf]), min_size=9, max_size=9),
    st.integers(21, 60),
)
def test_no_other_places_are_better(layers: list[dict[str, None]], costs: list[float], limit: int) -> None:
    bytes_of = dict(zip("abcdef", (3, 5, 8, 13, 17, 20), strict=True))
    stored: list[Stored] = [{key: bytes_of[key] for key in layer} for layer in layers]
    if any(size_of([layer]) > limit for layer in stored):
        return
    found, best = find_cuts(stored, costs, limit), cheapest(stored, costs, limit)
    assert (found is None) == (best is None)
    if found is not None:
        assert found[-1] == len(stored)
        assert all(size_of(stored[a:b]) <= limit for a, b in pairwise((0, *found)))
        assert (len(found), sum(costs[c] for c in found[:-1])) == best


def test_many_layers_take_no_more_than_linear_time() -> None:
    stored: list[Stored] = [{k: 10} for k in range(50_000)]
    found = find_cuts(stored, [float(k % 7) for k in range(50_001)], 1000)
    assert found is not None and len(found) == 500


def chain(*widths: int) -> Graph:
    """Dense layers of these widths with a ReLU behind each."""
    graph = Graph("chain")
    v, rng = graph.add_input(TensorType(F32, (1, widths[0])), "x"), np.random.default_rng(0)
    for k, (rows, columns) in enumerate(pairwise(widths)):
        weight = graph.const(rng.standard_normal((rows, columns)).astype(np.float32), f"w{k}")
        (v,) = graph.add(ops.Dense(), v, weight, names=[f"dense{k}"])
        (v,) = graph.add(ops.Relu(), v, names=[f"relu{k}"])
    graph.set_outputs([v], ["y"])
    return graph


def stored_of(graph: Graph) -> list[Stored]:
    return [{v: v.type.nbytes for v in n.inputs if v is not None and v.data is not None} for n in graph.nodes]


def nbytes(v: Value) -> float:
    return v.type.nbytes


def run(chunks: list[Chunk], inputs: dict[str, Array]) -> dict[str, Array]:
    held = dict(inputs)
    for chunk in chunks:
        chunk.graph.verify()
        held.update(evaluate(chunk.graph, {v.name: held[v.name] for v in chunk.graph.inputs}))
    return held


def test_costs_are_the_bytes_of_what_is_read_behind() -> None:
    graph = Graph()
    x = graph.add_input(X, "x")
    (a,) = graph.add(ops.Relu(), x)
    (b,) = graph.add(ops.Neg(), a)
    (c,) = graph.add(ops.Add(), b, x)
    (d,) = graph.add(ops.Add(), c, a)
    graph.set_outputs([b, d], ["b", "d"])
    assert cut_costs(graph, nbytes) == [0, 128, 256, 256, 0]
    assert cut_costs(graph, lambda v: math.inf if v is a else 128)[1:4] == [math.inf] * 3


def test_the_cut_is_where_little_crosses() -> None:
    graph = chain(64, 64, 8, 64, 64)
    chunks = split_graph(graph, 18_500, stored_of(graph), nbytes)
    assert [[v.name for v in c.graph.inputs] for c in chunks] == [["x"], ["dense1"]]
    assert [(c.stored, c.crossing) for c in chunks] == [(18_432, 32), (18_432, 0)]
    assert [c.graph.output_names for c in chunks] == [["dense1"], ["y"]]
    x = {"x": np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)}
    assert np.array_equal(run(chunks, x)["y"], evaluate(graph, x)["y"])


def test_what_crosses_may_be_narrower_and_keeps_its_annotation() -> None:
    graph = chain(64, 64, 8, 64, 64)
    middle = next(v for n in graph.nodes for v in n.outputs if v.name == "dense1")
    middle.type = middle.type._replace(quant=asymmetric(-4.0, 4.0))

    def half(_: Value) -> DType:
        return F16

    first, second = split_graph(graph, 18_500, stored_of(graph), nbytes, half)
    assert first.graph.outputs[0].type == second.graph.inputs[0].type == TensorType(F16, (1, 8))
    (wide,) = second.graph.of(ops.Cast)
    assert wide.output.type == middle.type and second.originals[wide.output] is middle


def test_a_layer_too_large_for_any_chunk_is_named() -> None:
    graph = chain(64, 64, 8)
    with pytest.raises(UsageError, match="a constant of 16,384 bytes cannot be split") as caught:
        split_graph(graph, 10_000, stored_of(graph), nbytes)
    assert "dense0" in str(caught.value) and "larger size" in str(caught.value)


def test_values_that_may_not_cross_can_leave_no_place() -> None:
    graph = chain(64, 64, 64)
    with pytest.raises(UsageError, match="no place to cut"):
        split_graph(graph, 20_000, stored_of(graph), lambda _: math.inf)


@given(graphs(largest=12), seeds(), st.integers(0, 3))
def test_chunks_in_a_row_are_the_graph(graph: Graph, seed: int, part: int) -> None:
    stored = stored_of(graph)
    limit = max([sum(layer.values()) for layer in stored] + [size_of(stored) * part // 4], default=0)
    chunks = split_graph(graph, limit, stored, nbytes)
    assert sum(len(c.graph) for c in chunks) == len(graph)
    inputs = random_inputs(np.random.default_rng(seed), graph)
    whole, pieces = evaluate(graph, inputs), run(chunks, inputs)
    for name, expected in whole.items():
        assert expected.dtype == pieces[name].dtype and np.array_equal(expected, pieces[name], equal_nan=True)
