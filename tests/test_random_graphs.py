"""What holds for every graph, tried on random ones: text, ONNX, copies, evaluation, and the named pipelines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import passes  # noqa: F401  # registers the pipelines
from compiler.compare import compare
from compiler.errors import VerificationError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Node
from compiler.onnx_export import export_bytes
from compiler.onnx_import import import_model
from compiler.oracle import open_session, run_session
from compiler.pass_base import PIPELINES, ErrorClass
from compiler.pass_manager import PassManager
from compiler.tensor import Array, dtype_of, type_of
from compiler.text import constants_of, print_graph
from compiler.text_parse import parse_graph
from compiler.views import live_bytes, peak_bytes, to_networkx
from tests.harness import assert_equivalent, assert_text_is_exact, interface, spread, work
from tests.strategies import HOSTILE, graphs, random_inputs, seeds


def assert_same(before: dict[str, Array], after: dict[str, Array]) -> None:
    """Equal in every element, names and order of outputs included."""
    assert list(before) == list(after)
    for name, a in before.items():
        assert dtype_of(a) is dtype_of(after[name]) and compare(name, a, after[name]).max_abs == 0.0, name


@given(graph=graphs(), seed=seeds())
def test_evaluation_gives_the_declared_types(graph: Graph, seed: int) -> None:
    outputs = evaluate(graph, random_inputs(np.random.default_rng(seed), graph))
    assert [type_of(a) for a in outputs.values()] == [v.type for v in graph.outputs]


@given(graph=graphs(), seed=seeds())
def test_text_parses_back_to_the_same_graph(graph: Graph, seed: int) -> None:
    assert_text_is_exact(graph)
    inputs = random_inputs(np.random.default_rng(seed), graph)
    parsed = parse_graph(print_graph(graph), constants_of(graph))
    assert [n.op for n in parsed.nodes] == [n.op for n in graph.nodes]
    assert [n.origin for n in parsed.nodes] == [n.origin for n in graph.nodes]
    assert len(parsed.constants) == len(graph.constants)
    assert_same(evaluate(graph, inputs), evaluate(parsed, inputs))


@given(graph=graphs(), names=st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), min_size=40, max_size=40))
def test_any_name_survives_as_text(graph: Graph, names: list[str]) -> None:
    values = [v for n in graph.nodes for v in (*n.inputs, *n.outputs) if v is not None and v not in graph.inputs]
    for v, name in zip(values, names, strict=False):
        v.name = name
    for v, name in zip(graph.inputs, dict.fromkeys(reversed(names)), strict=False):
        v.name = name
    graph.name = names[0]
    graph.metadata = {names[1]: names[2], names[3]: names[4]}
    graph.set_outputs(graph.outputs, [names[i % 40] for i, _ in enumerate(graph.outputs)])
    assert_text_is_exact(graph)
    parsed = parse_graph(print_graph(graph), constants_of(graph))
    assert (parsed.name, parsed.metadata) == (graph.name, graph.metadata)


@given(graph=graphs())
def test_a_clone_is_equal_and_independent(graph: Graph) -> None:
    text = print_graph(graph)
    twin = graph.clone()
    twin.verify()
    assert print_graph(twin) == text
    assert all(a.data is b.data and a is not b for a, b in zip(twin.constants, graph.constants, strict=True))
    twin.set_outputs(twin.inputs[:1], ["only"])
    twin.erase_unread(list(twin.nodes))
    twin.verify()
    assert len(twin) == 0 and print_graph(graph) == text
    graph.verify()


@settings(max_examples=300)
@given(graph=graphs(), seed=seeds())
def test_onnx_reads_back_to_a_graph_that_computes_the_same(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = random_inputs(rng, graph)
    back = import_model(export_bytes(graph)).graph
    back.verify()
    assert interface(back) == interface(graph)
    assert_equivalent(graph, back, ErrorClass.ROUNDING, rng)
    assert list(evaluate(back, inputs)) == list(evaluate(graph, inputs))


@settings(max_examples=200)
@given(graph=graphs(6, floats_only=True), seed=seeds())
def test_onnx_runtime_agrees(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = random_inputs(rng, graph)
    try:
        session = open_session(export_bytes(graph))
        results = run_session(session, inputs)
    except VerificationError:
        return
    if not session.in_runtime:  # ONNX's own evaluator departs from its text, for example OneHot of 0.7
        return
    for name, (exact, moved) in spread(graph, inputs, rng).items():
        result = results[name].astype(np.float64)
        scale = np.abs(exact[np.isfinite(exact)]).max(initial=0.0)
        firm = np.isfinite(moved) & np.isfinite(exact) & np.isfinite(result)
        assert np.all(np.abs(exact[firm] - result[firm]) <= 100 * moved[firm] + 1e-5 * scale), name


@pytest.mark.parametrize("name", [*PIPELINES])
@settings(max_examples=200)
@given(graph=graphs(12), seed=seeds())
def test_each_pipeline_keeps_what_a_graph_computes(name: str, graph: Graph, seed: int) -> None:
    before = graph.clone()
    outcome = PassManager(name).run(graph, debug=True)
    assert interface(graph) == interface(before) and outcome.graph is graph
    assert_text_is_exact(graph)
    assert_equivalent(before, graph, ErrorClass.ROUNDING, np.random.default_rng(seed))


@given(graph=graphs())
def test_the_networkx_view_has_every_layer_and_every_use(graph: Graph) -> None:
    import networkx as nx

    view = to_networkx(graph)
    layers = [n for n in view if view.nodes[n]["op"] not in {"input", "output"}]
    assert layers == list(graph.nodes) and nx.is_directed_acyclic_graph(view)
    assert sum(view.nodes[n]["macs"] for n in view) == work(graph)
    uses = sum(v is not None and v.data is None for n in graph.nodes for v in n.inputs)
    assert view.number_of_edges() == uses + sum(v.data is None for v in graph.outputs)
    for _, reader, edge in view.edges(data=True):
        assert edge["bytes"] == edge["type"].nbytes
        assert isinstance(reader, str) or (isinstance(reader, Node) and reader.inputs[edge["operand"]] is edge["value"])


@given(graph=graphs())
def test_memory_in_use_is_what_is_yet_to_be_read(graph: Graph) -> None:
    nodes = list(graph.nodes)
    place = {n: i for i, n in enumerate(nodes)}
    values = [*graph.inputs, *(v for n in nodes for v in n.outputs)]
    for (node, alive), i in zip(live_bytes(graph), range(len(nodes)), strict=True):
        expected = 0
        for v in values:
            born = -1 if v.node is None else place[v.node]
            last = len(nodes) if v.n_out else max((place[u] for u in v.users), default=born)
            used = v.is_read or v.node is not None
            expected += v.type.nbytes if used and born <= i <= last else 0
        assert node is nodes[i] and alive == expected
    assert peak_bytes(graph) == max((alive for _, alive in live_bytes(graph)), default=0)


@settings(max_examples=200)
@given(graph=graphs())
def test_the_default_pipeline_settles_in_one_run(graph: Graph) -> None:
    PassManager("default").run(graph)
    assert PassManager("default").run(graph).ledger.counts() == {}
