"""The layer graph: what changes it keeps it sound, and `verify` finds what is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.compare import compare
from compiler.errors import CompileError, GraphError, ShapeError, UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Node, Value
from compiler.ops import Abs, Add, BitCast, Cast, Clip, Identity, MatMul, Mul, Neg, Relu, Split, Sqrt
from compiler.subgraph import extract
from compiler.tensor import F16, F32, F64, I32, TensorType
from compiler.text import print_graph
from compiler.text_parse import parse_graph
from compiler.views import live_bytes, peak_bytes, to_networkx
from tests.strategies import graphs, random_inputs, seeds
from tests.timing import assert_linear

VECTOR = TensorType(F32, (4,))
TEXT = """graph(%x: f32[4], %y: f32[4]) {
  %c = const [1, 2, 3, 4] : f32[4]
  %a = add(%x, %c) : f32[4]  from "a"
  %b = relu(%a) : f32[4]  from "b"
  %p, %q = split(%b) axis=0 sizes=(1, 3) : f32[1], f32[3]  from "split"
  %d = mul(%b, %b) : f32[4]  from "d"
  return %d, %q, %b
}"""


@pytest.fixture
def graph() -> Graph:
    return parse_graph(TEXT)


def layer(graph: Graph, name: str) -> Node:
    return next(n for n in graph.nodes if n.op.name == name)


# -- reading and changing ------------------------------------------------------------------------------------


def test_layers_operations_and_users(graph: Graph) -> None:
    add, relu, split, mul = graph.nodes
    assert [n.op.name for n in graph.nodes] == ["add", "relu", "split", "mul"] and len(graph) == 4
    assert graph.of(Relu, Mul) == [relu, mul] and graph.of(MatMul) == []
    assert graph.op_counts == {"add": 1, "mul": 1, "relu": 1, "split": 1}
    assert relu.output.users == {split: 1, mul: 2} and relu.output.n_out == 1
    assert [c.type for c in graph.constants] == [VECTOR] and graph.constants[0].is_const
    assert split.outputs[0].is_read is False and split.outputs[1].is_read and add.input_types == (VECTOR, VECTOR)
    assert repr(relu) == "%b = relu(%a) : f32[4]"
    assert relu.describe() == "%b = relu(%a) : f32[4]  (from ONNX node 'b')"


def test_layers_may_be_added_before_others(graph: Graph) -> None:
    mul = layer(graph, "mul")
    (value,) = graph.add(Neg(), graph.inputs[0], before=mul)
    assert [n.op.name for n in graph.nodes] == ["add", "relu", "split", "neg", "mul"]
    graph.set_operand(mul, 0, value)
    graph.verify()
    assert mul.inputs[0] is value and layer(graph, "relu").output.users[mul] == 1


def test_operands_that_do_not_fit_are_refused_with_the_layer(graph: Graph) -> None:
    x = graph.inputs[0]
    wide = graph.add_input(TensorType(F32, (5,)), "wide")
    with pytest.raises(ShapeError, match=r"add: .* do not broadcast") as e:
        graph.add(Add(), x, wide)
    assert e.value.where == "add(%x : f32[4], %wide : f32[5])"
    with pytest.raises(ShapeError, match="add does not take 1 operands"):
        graph.add(Add(), x)
    graph.verify()
    assert len(graph) == 4 and not wide.users


def test_replace_moves_all_readers_and_outputs(graph: Graph) -> None:
    relu, mul = layer(graph, "relu"), layer(graph, "mul")
    old, (new,) = relu.output, graph.add(Clip(low=0.0), relu.inputs[0], before=relu)
    graph.replace(old, new)
    assert mul.inputs == (new, new) and graph.outputs[2] is new and new.n_out == 1 and new.users[mul] == 2
    assert not old.is_read and new.name == "b"
    assert graph.erase_unread([relu]) == [relu] and relu.is_erased
    graph.verify()


def test_replace_refuses_another_type(graph: Graph) -> None:
    with pytest.raises(GraphError, match=r"type f32\[4\] cannot be replaced by one of type f32\[3\]"):
        graph.replace(layer(graph, "relu").output, layer(graph, "split").outputs[1])
    half = graph.add(Cast(to="f16"), graph.inputs[0])[0]
    with pytest.raises(GraphError, match="cannot be replaced"):
        graph.replace(graph.inputs[0], half)


def test_only_what_nobody_reads_is_erased(graph: Graph) -> None:
    with pytest.raises(GraphError, match="still read"):
        graph.erase(layer(graph, "relu"))
    assert graph.erase_unread([layer(graph, "split")]) == []
    graph.set_outputs(graph.outputs[:1], ["d"])
    assert [n.op.name for n in graph.erase_unread(list(graph.nodes))] == ["split"]
    graph.set_outputs([graph.inputs[0]], ["x"])
    assert len(graph.erase_unread([layer(graph, "mul")])) == 3 and len(graph) == 0
    graph.verify()


def test_erasing_while_iterating() -> None:
    graph = Graph()
    x = graph.add_input(VECTOR, "x")
    for _ in range(5):
        graph.add(Relu(), x)
    graph.set_outputs([x], ["x"])
    for node in graph.nodes:
        graph.erase(node)
    assert len(graph) == 0 and x.users == {}
    graph.verify()


def test_constants_are_read_only_and_not_copied() -> None:
    graph = Graph()
    data = np.arange(4, dtype=np.float32)
    value = graph.const(data)
    assert value.data is not None and np.shares_memory(value.data, data) and data.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        value.data[0] = 1


def test_set_outputs_counts_each_place(graph: Graph) -> None:
    value = layer(graph, "relu").output
    graph.set_outputs([value, value], ["one", "two"])
    assert value.n_out == 2 and layer(graph, "mul").output.n_out == 0
    graph.verify()


def test_changes_to_a_long_graph_are_cheap() -> None:
    def prepare(layers: int) -> Callable[[], None]:
        def work() -> None:
            graph = Graph()
            x = v = graph.add_input(VECTOR, "x")
            for _ in range(layers):
                (v,) = graph.add(Identity(), v)
            graph.set_outputs([v], ["y"])
            for node in graph.nodes:
                assert node.inputs[0] is not None
                graph.replace(node.output, node.inputs[0])
                graph.erase(node)
            assert graph.outputs == [x]

        return work

    assert_linear(prepare, 2000)


# -- verification: each invariant broken once ----------------------------------------------------------------


def read_early(graph: Graph) -> None:
    graph.set_operand(layer(graph, "add"), 0, layer(graph, "mul").output)


def foreign_value(graph: Graph) -> None:
    graph.set_operand(layer(graph, "mul"), 0, Value(VECTOR, "stray"))


def declared_otherwise(graph: Graph) -> None:
    layer(graph, "relu").output.type = TensorType(F16, (4,))


def two_owners(graph: Graph) -> None:
    layer(graph, "mul").outputs = layer(graph, "relu").outputs


def wrong_owner(graph: Graph) -> None:
    layer(graph, "split").outputs[1].index = 0


def lost_user(graph: Graph) -> None:
    del layer(graph, "relu").output.users[layer(graph, "split")]


def false_user(graph: Graph) -> None:
    graph.inputs[1].users[layer(graph, "mul")] = 1
    graph.set_operand(layer(graph, "mul"), 1, graph.inputs[1])


def writeable_constant(graph: Graph) -> None:
    graph.constants[0].data = np.zeros(4, np.float32)


def misshapen_constant(graph: Graph) -> None:
    data = np.zeros(3, np.float32)
    data.flags.writeable = False
    graph.constants[0].data = data


def retyped_constant(graph: Graph) -> None:
    data = np.zeros(4, np.float64)
    data.flags.writeable = False
    graph.constants[0].data = data


def dangling_output(graph: Graph) -> None:
    graph.set_outputs([Value(VECTOR, "gone")], ["y"])


def uncounted_output(graph: Graph) -> None:
    graph.outputs.append(graph.outputs[0])
    graph.output_names.append("again")


def unnamed_output(graph: Graph) -> None:
    graph.output_names.pop()


def miscounted(graph: Graph) -> None:
    graph.count += 1


def not_indexed(graph: Graph) -> None:
    graph._by_op[Relu].clear()


def other_operation(graph: Graph) -> None:
    layer(graph, "relu").op = Abs()


BROKEN: dict[Callable[[Graph], None], str] = {
    read_early: "is read before it is computed",
    foreign_value: "is read before it is computed",
    declared_otherwise: "inference gives|operands do not fit",
    two_owners: "two owners or a wrong one",
    wrong_owner: "two owners or a wrong one",
    lost_user: "user list",
    false_user: "user list",
    writeable_constant: "is writeable",
    misshapen_constant: "has data of type",
    retyped_constant: "has data of type",
    dangling_output: "is not computed",
    uncounted_output: "output count",
    unnamed_output: "differ in number",
    miscounted: "counts 5 layers but links 4",
    not_indexed: "index by operation",
    other_operation: "index by operation",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda f: f.__name__)
def test_verify_finds_what_is_broken(damage: Callable[[Graph], None], graph: Graph) -> None:
    graph.verify()
    damage(graph)
    with pytest.raises(GraphError, match=BROKEN[damage]):
        graph.verify()


# -- evaluation, parts and views -----------------------------------------------------------------------------


def test_evaluation_frees_and_names_what_it_computes(graph: Graph) -> None:
    outputs = evaluate(graph, {"x": np.array([-9, 0, 1, 2], np.float32), "y": np.zeros(4, np.float32)})
    assert list(outputs) == ["d", "q", "b"]
    assert outputs["b"].tolist() == [0, 2, 4, 6] and outputs["d"].tolist() == [0, 4, 16, 36]
    with pytest.raises(UsageError, match="no array is given for 'x', 'y'"):
        evaluate(graph, {})


def test_wide_evaluation_keeps_float64_but_for_bits() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F16, (2,)), "x")
    (third,) = graph.add(Mul(), x, graph.const(np.array([1 / 3], np.float16)))
    (bits,) = graph.add(BitCast(to="i16"), x)
    (whole,) = graph.add(Cast(to="i32"), third)
    graph.set_outputs([third, bits, whole], ["third", "bits", "whole"])
    x16 = np.array([1, 1000], np.float16)
    wide = evaluate(graph, {"x": x16}, wide=True)
    assert wide["third"].dtype == np.float64 and wide["third"][1] == 1000 * float(np.float16(1 / 3))
    assert wide["bits"].tolist() == x16.view(np.int16).tolist() and wide["whole"].dtype == I32.numpy
    assert evaluate(graph, {"x": x16})["third"].dtype == np.float16


def test_a_layer_that_cannot_be_evaluated_is_named(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    def fail(self: Relu, x: object) -> None:
        raise IndexError("axis 7")

    monkeypatch.setattr(Relu, "evaluate", fail)
    with pytest.raises(CompileError, match=r"cannot be evaluated \(IndexError: axis 7\)") as e:
        evaluate(graph, {"x": np.zeros(4, np.float32), "y": np.zeros(4, np.float32)})
    assert e.value.where == "%b = relu(%a) : f32[4]  (from ONNX node 'b')"


def test_special_values_do_not_warn() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F64, (2,)), "x")
    graph.set_outputs(graph.add(Sqrt(), x), ["y"])
    assert np.isnan(evaluate(graph, {"x": np.array([-1.0, np.nan])})["y"]).all()


@given(graph=graphs(), seed=seeds(), data=st.data())
def test_parts_compute_what_the_whole_does(graph: Graph, seed: int, data: st.DataObject) -> None:
    nodes = list(graph.nodes)
    chosen = data.draw(st.lists(st.sampled_from(nodes), unique=True, min_size=1)) if nodes else []
    wanted = [v for n in chosen for v in n.outputs]
    every = [*graph.inputs, *(v for n in nodes for v in n.outputs)]
    whole = graph.clone()
    twins = dict(zip(every, [*whole.inputs, *(v for n in whole.nodes for v in n.outputs)], strict=True))
    whole.set_outputs([twins[v] for v in every], [str(i) for i in range(len(every))])
    values = dict(zip(every, evaluate(whole, random_inputs(np.random.default_rng(seed), graph)).values(), strict=True))

    cut, leaves = extract(wanted, set(chosen))
    cut.verify()
    assert len(cut) == len(chosen) and [v.type for v in cut.inputs] == [v.type for v in leaves]
    results = evaluate(cut, {f"in{i}": values[v] for i, v in enumerate(leaves)})
    for i, v in enumerate(wanted):
        assert compare("", values[v], results[f"out{i}"]).max_abs == 0.0


def test_parts_may_share_their_inputs_with_others(graph: Graph) -> None:
    relu, mul = layer(graph, "relu"), layer(graph, "mul")
    cut, leaves = extract([mul.output], {mul}, leaves=[graph.inputs[1], relu.output])
    assert leaves == [graph.inputs[1], relu.output] and [v.name for v in cut.inputs] == ["in0", "in1"]
    assert print_graph(cut).splitlines()[1] == '  %d = mul(%in1, %in1) : f32[4]  from "d"'


def test_deep_parts_do_not_exhaust_the_stack() -> None:
    graph = Graph()
    v = graph.add_input(VECTOR, "x")
    for _ in range(20_000):
        (v,) = graph.add(Identity(), v)
    cut, _ = extract([v], set(graph.nodes))
    assert len(cut) == 20_000


def test_views(graph: Graph) -> None:
    view = to_networkx(graph)
    relu, mul = layer(graph, "relu"), layer(graph, "mul")
    assert view.nodes[relu] == {"op": "relu", "origin": {"b"}, "macs": 0}
    assert view.nodes["q"]["op"] == "output" and view.nodes[graph.inputs[0]]["op"] == "input"
    assert view.number_of_edges(relu, mul) == 2
    assert [e["bytes"] for e in view.get_edge_data(relu, mul).values()] == [16, 16]
    assert [alive for _, alive in live_bytes(graph)] == [32, 32, 32, 44] and peak_bytes(graph) == 44
    assert Split in {type(n.op) for n in graph.nodes}
