"""`If` with a known condition, `Loop` and `Scan` with a known trip count: decided at compile time, and bounded."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.api import compile_model, load
from compiler.errors import OnnxError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.oracle import open_session, run_graph, run_session
from compiler.tensor import Array
from tests.command import build, f32, info, node

X, Y = info("x", [2, 3]), info("y", [2, 3])
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
COND = info("c", [], TensorProto.BOOL)


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any] | None = None,  # Any: what numpy takes
) -> onnx.GraphProto:
    """A branch or a body."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()]
    return helper.make_graph(nodes, "body", inputs, outputs, tensors)


def assert_same(model: onnx.ModelProto, feeds: dict[str, Array], **options: Any) -> Graph:  # Any: handed to load
    """The imported graph holds no control flow and computes what ONNX Runtime makes of the model."""
    graph = load(model, **options)
    graph.verify()
    expected = run_session(open_session(model.SerializeToString()), feeds)
    given = {v.name: feeds[v.name] for v in graph.inputs}
    for result in (evaluate(graph, given), run_graph(graph, given)):
        for name, array in expected.items():
            assert result[name].dtype == array.dtype and result[name].shape == array.shape
            np.testing.assert_allclose(result[name], array, rtol=1e-6)
    return graph


def refused(model: onnx.ModelProto, *words: str, **options: Any) -> OnnxError:  # Any: handed to load
    with pytest.raises(OnnxError) as caught:
        load(model, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return caught.value


# -- If --------------------------------------------------------------------------------------------------------------


def choice(condition: str, nodes: list[onnx.NodeProto] | None = None, **parts: Any) -> onnx.ModelProto:  # Any: to build
    """x doubled where the condition holds, x + w otherwise; both branches capture, one has a constant of its own."""
    then = graph_of([node("Mul", "x two", "t")], [], [info("t", [2, 3])], {"two": np.float32(2)})
    other = graph_of([node("Add", "x w", "e")], [], [info("e", [2, 3])])
    branch = helper.make_node("If", [condition], ["y"], "choice", then_branch=then, else_branch=other)
    inputs = [X, *parts.pop("inputs", [])]
    weights = {"w": f32([1, 2, 3]), **parts.pop("weights", {})}
    return build([*(nodes or []), branch], inputs, [Y], weights, **parts)


@pytest.mark.parametrize(("value", "op"), [(True, "mul"), (False, "add")])
def test_a_constant_condition(value: bool, op: str) -> None:
    graph = assert_same(choice("yes", weights={"yes": np.array(value)}), {"x": ROWS})
    assert graph.op_counts == {op: 1}


@pytest.mark.parametrize(("rate", "op"), [(16000, "mul"), (8000, "add")])
def test_a_frozen_condition(rate: int, op: str) -> None:
    """As models have it that branch on a sample rate."""
    nodes = [node("Equal", "rate wanted", "yes")]
    model = choice("yes", nodes, inputs=[info("rate", [], TensorProto.INT64)], weights={"wanted": np.int64(16000)})
    feeds = {"x": ROWS, "rate": np.array(rate)}
    assert assert_same(model, feeds, freeze={"rate": np.array(rate)}).op_counts == {op: 1}
    error = refused(model, "the condition of If is computed at run time", 'ONNX node "choice" (If)')
    assert error.hint == "it depends on input 'rate': fix it with --freeze NAME=VALUE"


def test_a_condition_that_depends_on_shapes() -> None:
    nodes = [node("Shape", "x", "s"), node("ReduceProd", "s", "n", keepdims=0), node("Greater", "n five", "yes")]
    model = choice("yes", nodes, weights={"five": np.int64(5)})
    assert assert_same(model, {"x": ROWS}).op_counts == {"mul": 1}


def test_branches_in_branches_and_shadowed_names() -> None:
    """An inner constant hides an outer one of the same name, in its branch alone."""
    inner = graph_of([node("Mul", "x w", "i")], [], [info("i", [2, 3])], {"w": np.float32(10)})
    outer = graph_of([node("Add", "x w", "i")], [], [info("i", [2, 3])])
    nested = helper.make_node("If", ["yes"], ["n"], then_branch=inner, else_branch=outer)
    then = graph_of([nested, node("Add", "n w", "t")], [], [info("t", [2, 3])])
    other = graph_of([node("Identity", "x", "e")], [], [info("e", [2, 3])])
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    model = build(nodes, [X], [Y], {"yes": np.array(True), "w": np.float32(1)})
    np.testing.assert_array_equal(evaluate(load(model), {"x": ROWS})["y"], ROWS * 10 + 1)


def test_a_branch_that_gives_an_outer_value_or_a_constant() -> None:
    then = graph_of([], [], [info("w", [3])], {"w": f32([4, 5, 6])})
    other = graph_of([node("Relu", "x", "x2")], [], [info("x2", [2, 3])])
    nodes = [helper.make_node("If", ["yes"], ["i"], then_branch=then, else_branch=other), node("Add", "x i", "y")]
    assert_same(build(nodes, [X], [Y], {"yes": np.array(True)}), {"x": ROWS})


def test_what_a_dropped_branch_holds_does_not_matter() -> None:
    strange = graph_of([helper.make_node("Frobnicate", ["x"], ["e"], "frob")], [], [info("e", [2, 3])])
    then = graph_of([node("Relu", "x", "t")], [], [info("t", [2, 3])])
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=strange)]
    assert load(build(nodes, [X], [Y], {"yes": np.array(True)})).op_counts == {"relu": 1}
    refused(
        build(nodes, [X], [Y], {"yes": np.array(False)}),
        'ONNX node "frob" (Frobnicate): this operator is not supported',
    )
    nodes.append(helper.make_node("Gronk", ["x"], ["g"], "gronk"))
    error = refused(build(nodes, [X], [Y], {"yes": np.array(True)}), "2 parts of the model cannot be imported")
    assert "frob" in error.message and "gronk" in error.message


@pytest.mark.parametrize(
    ("condition", "words"), [(np.array([True, False]), "shape [2]"), (np.float32(1), "type float32")]
)
def test_conditions_that_are_none(condition: Array, words: str) -> None:
    refused(choice("yes", weights={"yes": condition}), "the condition of If has", words, "one integer or boolean")


# -- Loop ------------------------------------------------------------------------------------------------------------


def body_of(nodes: list[onnx.NodeProto], results: str = "c v", scans: str = "", **weights: Any) -> onnx.GraphProto:
    """A loop's body on the trip `i`, the condition `c` and the carried value `v`."""
    names = results.split()
    outputs = [info(names[0], [], TensorProto.BOOL), *(info(n, None) for n in (*names[1:], *scans.split()))]
    return graph_of(nodes, [info("i", [], TensorProto.INT64), COND, info("v", [2, 3])], outputs, weights)


def loop(body: onnx.GraphProto, operands: str = "n yes x", results: str = "y", **weights: Any) -> onnx.ModelProto:
    """A model that is this loop; operands may be `_` for omitted ones."""
    names = ["" if o == "_" else o for o in operands.split()]
    nodes = [helper.make_node("Loop", names, results.split(), "loop", body=body)]
    weights = {"n": np.int64(3), "yes": np.array(True), "w": np.float32(0.5), **weights}
    return build(nodes, [X], [info(r, None) for r in results.split()], weights)


GROW = [node("Cast", "i", "f", to=TensorProto.FLOAT), node("Add", "f one", "k"), node("Mul", "v k", "u")]
GROW += [node("Add", "u w", "v2"), node("Identity", "c", "c2")]
ONE = np.float32(1)


def test_a_loop_of_known_length() -> None:
    graph = assert_same(loop(body_of(GROW, "c2 v2", one=ONE)), {"x": ROWS})
    assert graph.op_counts == {"add": 3, "mul": 3}
    assert {n.origin for n in graph.of(*{type(n.op) for n in graph.nodes})} == {
        frozenset({"u_node"}),
        frozenset({"v2_node"}),
    }


@pytest.mark.parametrize("trips", [0, 1, 2, 7])
def test_what_a_loop_collects(trips: int) -> None:
    body = body_of([*GROW, node("ReduceSum", "v2", "s", keepdims=0)], "c2 v2", "s v", one=ONE)
    graph = assert_same(loop(body, "n yes x", "y sums states", n=np.int64(trips)), {"x": ROWS})
    assert [v.type.shape for v in graph.outputs] == [(2, 3), (trips,), (trips, 2, 3)]
    assert (len(graph) == 0) is (trips == 0)


def test_a_loop_that_ends_itself() -> None:
    """while trip < 4, without a trip count."""
    nodes = [node("Add", "v w", "v2"), node("Less", "i three", "go")]
    graph = assert_same(loop(body_of(nodes, "go v2", three=np.int64(3)), "_ yes x"), {"x": ROWS})
    assert graph.op_counts == {"add": 4}
    stopped = assert_same(loop(body_of(nodes, "go v2", three=np.int64(3)), "n no x", no=np.array(False)), {"x": ROWS})
    assert len(stopped) == 0


def test_loops_in_loops_capture_the_outer_trip() -> None:
    inner = graph_of(
        [node("Add", "i j", "k"), node("Cast", "k", "f", to=TensorProto.FLOAT), node("Add", "u f", "u2")],
        [info("j", [], TensorProto.INT64), info("d", [], TensorProto.BOOL), info("u", [2, 3])],
        [info("d", [], TensorProto.BOOL), info("u2", [2, 3])],
    )
    nested = helper.make_node("Loop", ["n", "yes", "v"], ["v2"], body=inner)
    graph = assert_same(loop(body_of([nested], "c v2")), {"x": ROWS})
    assert graph.op_counts == {"add": 9}


def test_an_if_in_a_loop_takes_another_branch_each_trip() -> None:
    then = graph_of([node("Mul", "v w", "t")], [], [info("t", [2, 3])])
    other = graph_of([node("Add", "v w", "e")], [], [info("e", [2, 3])])
    branch = helper.make_node("If", ["even"], ["v2"], then_branch=then, else_branch=other)
    nodes = [node("Mod", "i two", "m"), node("Equal", "m nought", "even"), branch]
    graph = assert_same(loop(body_of(nodes, "c v2", two=np.int64(2), nought=np.int64(0))), {"x": ROWS})
    assert [n.op.name for n in graph.nodes] == ["mul", "add", "mul"]


def test_a_constant_of_the_body_exists_once() -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((3, 3)).astype(np.float32)
    graph = assert_same(loop(body_of([node("MatMul", "v big", "v2")], "c v2", big=weight), n=np.int64(20)), {"x": ROWS})
    assert graph.op_counts == {"matmul": 20} and len(graph.constants) == 1


def test_a_frozen_trip_count() -> None:
    nodes = [helper.make_node("Loop", ["n", "", "x"], ["y"], "loop", body=body_of([node("Add", "v w", "v2")], "c v2"))]
    model = build(nodes, [X, info("n", [], TensorProto.INT64)], [Y], {"w": ONE})
    graph = assert_same(model, {"x": ROWS, "n": np.array(5)}, freeze={"n": np.array(5)})
    assert graph.op_counts == {"add": 5}
    error = refused(model, "the trip count of Loop is computed at run time")
    assert "input 'n': fix it with --freeze" in str(error.hint)


def test_a_condition_of_run_time() -> None:
    nodes = [node("Add", "v w", "v2"), node("ReduceMax", "v2", "m", keepdims=0), node("Less", "m w", "go")]
    error = refused(loop(body_of(nodes, "go v2")), "the loop's condition is computed at run time")
    assert "it depends on input 'x'" in str(error.hint)


# -- Scan ------------------------------------------------------------------------------------------------------------


def scan(trips: int = 4, **attributes: Any) -> onnx.ModelProto:  # Any: of the node
    """Running sums of the slices of x, and their doubles."""
    nodes = [node("Add", "s e", "s2"), node("Mul", "e two", "d")]
    slices = [info(n, [3]) for n in ("s", "e")]
    body = graph_of(nodes, slices, [info("s2", [3]), info("d", [3])], {"two": np.float32(2)})
    scanned = helper.make_node(
        "Scan", ["start", "x"], ["last", "all"], "scan", body=body, num_scan_inputs=1, **attributes
    )
    shape: list[int | str] = [3, trips] if attributes.get("scan_input_axes") == [1] else [trips, 3]
    weights = {"start": np.zeros(3, np.float32)}
    return build([scanned], [info("x", shape)], [info("last", None), info("all", None)], weights)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"scan_input_axes": [1]},
        {"scan_input_axes": [-2]},
        {"scan_output_axes": [1]},
        {"scan_output_axes": [-1]},
        {"scan_input_directions": [1]},
        {"scan_output_directions": [1]},
        {"scan_input_directions": [1], "scan_output_directions": [1], "scan_output_axes": [1]},
    ],
    ids=str,
)
def test_scan(attributes: dict[str, list[int]]) -> None:
    model = scan(4, **attributes)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.arange(12, dtype=np.float32).reshape(shape)
    assert_same(model, {"x": x})


def test_a_scan_over_nothing() -> None:
    """ONNX Runtime refuses it; ONNX says an empty stack."""
    graph = load(scan(0))
    assert [v.type.shape for v in graph.outputs] == [(3,), (0, 3)]
    assert len(graph) == 0


def test_scans_that_do_not_fit() -> None:
    model = scan()
    model.graph.node[0].input.append("x")
    refused(model, "the body takes 2 values, 3 are given")
    model = scan()
    next(a for a in model.graph.node[0].attribute if a.name == "num_scan_inputs").i = 7
    refused(model, "num_scan_inputs is 7")
    model = scan()
    del model.graph.node[0].attribute[:]
    refused(model, "attribute 'body' is missing")


# -- bounds ----------------------------------------------------------------------------------------------------------


def deep(levels: int) -> onnx.ModelProto:
    """Loops in loops of 1000 trips each; everything in them is a constant."""
    nodes = [node("Add", "k0 k0", "unused")]
    for level in range(levels):
        body = graph_of(
            [*nodes, node("Identity", f"c{level}", f"d{level}")],
            [info(f"k{level}", [], TensorProto.INT64), info(f"c{level}", [], TensorProto.BOOL)],
            [info(f"d{level}", [], TensorProto.BOOL)],
        )
        nodes = [helper.make_node("Loop", ["n", ""], [], f"loop{level}", body=body)]
    return build([*nodes, node("Relu", "x", "y")], [X], [Y], {"n": np.int64(1000)})


@pytest.mark.parametrize(
    "model",
    [
        loop(body_of([node("Add", "v w", "v2")], "c v2"), n=np.int64(2**62)),
        loop(body_of([node("Add", "v w", "v2")], "c v2"), "_ _ x"),
        deep(4),
    ],
    ids=["trips", "for ever", "nested"],
)
def test_loops_without_measure_end_soon(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.onnx_import.MAX_UNROLLED", 20_000)
    started = time.process_time()
    refused(model, "the model comes to more than 20,000 nodes")
    assert time.process_time() - started < 5


def test_a_loop_that_is_too_long_is_refused_before_it_is_unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.onnx_import.MAX_UNROLLED", 20_000)
    made: list[str] = []
    add = Graph.add

    def counted(graph: Graph, op: Op, *operands: Value | None, **options: Any) -> Any:  # Any: handed on
        made.append(op.name)
        return add(graph, op, *operands, **options)

    monkeypatch.setattr(Graph, "add", counted)
    body = [node("Add", "v w", "v2"), node("Identity", "c", "c2")]
    refused(loop(body_of(body, "c2 v2"), n=np.int64(6668)), "the model comes to more than 20,000 nodes")
    assert len(made) == 1
    load(loop(body_of(body, "c2 v2"), n=np.int64(6000)))
    assert len(made) == 6001


def test_bodies_that_do_not_fit() -> None:
    refused(loop(body_of([node("Add", "v w", "v2")], "c v2"), "n yes x x"), "the body gives fewer values than it takes")
    refused(loop(body_of([node("Add", "v missing", "v2")], "c v2")), 'tensor "missing" is computed by no node')
    refused(loop(body_of([node("Add", "v w", "v2")], "c nothing")), 'output "nothing" is computed by no node')
    refused(loop(body_of([node("Add", "v w", "v2"), node("Relu", "v", "v2")], "c v2")), '"v2" is defined twice')
    refused(loop(body_of([node("Add", "v w", "c")], "c v2")), '"c" is defined twice')


def test_a_compiled_loop_runs(capsys: pytest.CaptureFixture[str]) -> None:
    compiled = compile_model(loop(body_of(GROW, "c2 v2", one=ONE)), "onnx")
    assert compiled.report.verification is not None and compiled.report.verification[0].psnr_db > 100
    np.testing.assert_allclose(compiled.run({"x": ROWS})["y"], ((ROWS + 0.5) * 2 + 0.5) * 3 + 0.5, rtol=1e-6)
