"""Import of ONNX models: opsets, functions, defaults, dynamic dimensions, frozen inputs, and refusals that name all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.api import compile_model, load
from compiler.errors import CompileError, OnnxError, UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.onnx_import import import_model
from compiler.oracle import open_session, run_graph, run_session
from compiler.tensor import Array
from tests.command import build, f32, info, node

X, Y = info("x", [2, 3]), info("y", [2, 3])
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def outputs(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime makes of a model."""
    return run_session(open_session(model.SerializeToString()), feeds)


def assert_same(model: onnx.ModelProto, feeds: dict[str, Array], **options: Any) -> Graph:  # Any: handed to load
    """The imported graph computes what the model does, by our own meaning and through ONNX again."""
    graph = load(model, **options)
    graph.verify()
    expected = outputs(model, feeds)
    given = {v.name: feeds[v.name] for v in graph.inputs}
    for result in (evaluate(graph, given), run_graph(graph, given)):
        assert result.keys() == expected.keys()
        for name, array in expected.items():
            assert result[name].dtype == array.dtype and result[name].shape == array.shape
            np.testing.assert_allclose(result[name], array, rtol=1e-6, atol=1e-6)
    return graph


def refused(model: onnx.ModelProto, *words: str, kind: type[CompileError] = OnnxError, **options: Any) -> CompileError:
    """The import ends with one error that says all the words."""
    with pytest.raises(kind) as caught:
        load(model, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return caught.value


# -- opsets ----------------------------------------------------------------------------------------------------------


def of_opset(opset: int) -> onnx.ModelProto:
    """Operators whose operands became attributes, or the other way round, at some opset."""
    two: dict[str, Any] = {"shape": np.array([3, 2], np.int64)}
    nodes = [node("Reshape", "x shape", "r")]
    if opset < 13:
        nodes += [node("Unsqueeze", "r", "u", axes=[0]), node("Squeeze", "u", "s", axes=[0])]
        nodes += [node("ReduceSum", "s", "m", axes=[1], keepdims=1), node("Softmax", "s", "p", axis=1)]
    else:
        two |= {"zero": np.array([0], np.int64), "one": np.array([1], np.int64)}
        nodes += [node("Unsqueeze", "r zero", "u"), node("Squeeze", "u zero", "s")]
        nodes += [node("ReduceSum", "s one", "m", keepdims=1), node("Softmax", "s", "p", axis=1)]
    if opset < 11:
        nodes.append(node("Clip", "s", "c", min=0.5, max=4.0))
    else:
        two |= {"low": np.float32(0.5), "high": np.float32(4)}
        nodes.append(node("Clip", "s low high", "c"))
    if opset < 10:
        nodes.append(node("Slice", "c", "l", starts=[0], ends=[2], axes=[0]))
    else:
        two |= {"starts": np.array([0], np.int64), "ends": np.array([2], np.int64)}
        nodes.append(node("Slice", "c starts ends", "l"))
    nodes += [node("Add", "p m", "a"), node("Sum", "a c", "y")]
    return build(nodes, [X], [info("y", [3, 2]), info("l", [2, 2])], two, opset)


@pytest.mark.parametrize("opset", range(7, 27))
def test_every_opset_that_onnx_runtime_runs(opset: int) -> None:
    assert_same(of_opset(opset), {"x": ROWS})


@pytest.mark.parametrize("opset", [27, 28])
def test_opsets_that_onnx_runtime_does_not_run(opset: int) -> None:
    """The same nodes mean the same in the newest opset it runs."""
    graph = load(of_opset(opset))
    expected = outputs(of_opset(26), {"x": ROWS})
    np.testing.assert_allclose(evaluate(graph, {"x": ROWS})["y"], expected["y"], rtol=1e-6)
    compiled = compile_model(of_opset(opset), "onnx", opset=opset)
    assert compiled.report.verification is not None and compiled.report.passed
    assert [c.name for c in compiled.report.verification] == ["y", "l"]


@pytest.mark.parametrize(("opset", "words"), [(0, "older than 1"), (29, "newer than 28"), (1 << 40, "newer than 28")])
def test_opsets_that_are_refused(opset: int, words: str) -> None:
    model = of_opset(13)
    model.opset_import[0].version = opset
    refused(model, f"opset {opset}", words)


def test_a_model_without_an_opset() -> None:
    model = of_opset(13)
    del model.opset_import[:]
    refused(model, "does not say which opset")


# -- functions -------------------------------------------------------------------------------------------------------


def test_local_functions_are_inlined() -> None:
    inner = helper.make_function(
        "here", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 17)]
    )
    calls = [
        helper.make_node("Twice", ["a"], ["t"], domain="here"),
        helper.make_node("Twice", ["t"], ["b"], domain="here"),
    ]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("here", 1)]
    outer = helper.make_function("here", "FourTimes", ["a"], ["b"], calls, imports)
    call = helper.make_node("FourTimes", ["x"], ["y"], "call", domain="here")
    model = build([call], [X], [Y], functions=[inner, outer])
    model.opset_import.append(helper.make_opsetid("here", 1))
    graph = assert_same(model, {"x": ROWS})
    assert graph.op_counts == {"add": 2}


def test_functions_with_attributes() -> None:
    body = [helper.make_node("LeakyRelu", ["a"], ["b"])]
    body[0].attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "here", "Leak", ["a"], ["b"], body, [helper.make_opsetid("", 17)], attributes=["slope"]
    )
    model = build([helper.make_node("Leak", ["x"], ["y"], domain="here", slope=0.25)], [X], [Y], functions=[function])
    model.opset_import.append(helper.make_opsetid("here", 1))
    graph = assert_same(model, {"x": ROWS - 3})
    assert next(graph.nodes).op.changed() == {"alpha": 0.25}


# -- inputs ----------------------------------------------------------------------------------------------------------


def test_an_input_with_an_initializer_is_a_constant() -> None:
    model = build([node("Add", "x w", "y")], [X, info("w", [3])], [Y], {"w": f32([1, 2, 3])})
    graph = assert_same(model, {"x": ROWS})
    assert [v.name for v in graph.inputs] == ["x"]
    refused(model, 'no input "w"', kind=UsageError, freeze={"w": np.zeros(3, np.float32)})


def test_omitted_operands() -> None:
    model = build(
        [node("Clip", "x", "t"), helper.make_node("Clip", ["t", "", "high"], ["y"])], [X], [Y], {"high": np.float32(2)}
    )
    assert_same(model, {"x": ROWS})


def test_an_input_that_nobody_reads_stays() -> None:
    graph = assert_same(
        build([node("Relu", "x", "y")], [X, info("z", [4])], [Y]), {"x": ROWS, "z": np.zeros(4, np.float32)}
    )
    assert [v.name for v in graph.inputs] == ["x", "z"]
    again = onnx.load_from_string(export_bytes(graph))
    assert [i.name for i in again.graph.input] == ["x", "z"]


def test_an_unbound_batch_becomes_one_and_is_said_so() -> None:
    model = build([node("Add", "x z", "y")], [info("x", ["n", 3]), info("z", ["n", 3])], [info("y", ["n", 3])])
    imported = import_model(model)
    assert [str(v.type) for v in imported.graph.inputs] == ["f32[1,3]"] * 2
    assert imported.notes == ['dimension 0 ("n") of input "x" is taken as 1, the batch']
    bound = import_model(model, {"z": (4, 3)})
    assert [str(v.type) for v in bound.graph.inputs] == ["f32[4,3]"] * 2 and bound.notes == []


def test_all_other_unbound_dimensions_are_named() -> None:
    inputs = [info("x", ["n", "t", 3]), info("z", ["k"]), info("v", None), info("u", [None, None])]
    model = build([node("Relu", "x", "y")], inputs, [info("y", None)])
    error = refused(
        model,
        'dimension 1 ("t") of "x"',
        'dimension 0 ("k") of "z"',
        '"v" has no shape',
        'dimension 1 (unnamed) of "u"',
    )
    assert '"n"' not in str(error) and "--input" in str(error.hint)
    shapes = {"x": (1, 2, 3), "z": (5,), "v": (), "u": (2, 2)}
    assert [str(v.type) for v in load(model, inputs=shapes).inputs] == ["f32[1,2,3]", "f32[5]", "f32[]", "f32[2,2]"]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": (2, 4)}, "has shape [n, 3], which [2, 4] contradicts"),
        ({"x": (2, 3), "z": (3, 3)}, "has shape [n, 3] with n = 2, which [3, 3] contradicts"),
        ({"x": (2, 3, 1)}, "has 2 dimensions [n, 3], but [2, 3, 1] was given"),
        ({"x": (-1, 3)}, "is not one of a tensor"),
        ({"x": (1 << 64, 3)}, "is not one of a tensor"),
        ({"w": (1,)}, 'no input "w"'),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    model = build([node("Add", "x z", "y")], [info("x", ["n", 3]), info("z", ["n", 3])], [info("y", ["n", 3])])
    refused(model, words, kind=UsageError, inputs=shapes)


# -- frozen inputs ---------------------------------------------------------------------------------------------------


def test_a_frozen_input_becomes_a_constant() -> None:
    model = build([node("Mul", "x k", "y")], [X, info("k", [])], [Y])
    graph = load(model, freeze={"k": np.array(0.5)})
    assert [v.name for v in graph.inputs] == ["x"]
    np.testing.assert_array_equal(evaluate(graph, {"x": ROWS})["y"], ROWS / 2)


def test_one_number_fills_a_frozen_input() -> None:
    model = build([node("Add", "x k", "y")], [X, info("k", ["n", 3])], [Y])
    np.testing.assert_array_equal(evaluate(load(model, freeze={"k": np.array(2)}), {"x": ROWS})["y"], ROWS + 2)
    given = load(model, freeze={"k": np.array(2)}, inputs={"k": (2, 3)})
    assert [c.type.shape for c in given.constants] == [(2, 3)]


def test_a_frozen_array_binds_its_dimensions() -> None:
    model = build([node("Add", "x k", "y")], [info("x", [2, "t"]), info("k", ["t"])], [info("y", [2, "t"])])
    graph = load(model, freeze={"k": np.ones(3, np.float32)})
    assert [str(v.type) for v in graph.inputs] == ["f32[2,3]"]


def test_frozen_values_are_compared_against_onnx_runtime() -> None:
    model = build([node("Mul", "x k", "y")], [X, info("k", [1])], [Y])
    compiled = compile_model(model, "onnx", freeze={"k": np.array(3)})
    assert compiled.report.verification is not None
    assert [(c.name, c.max_abs) for c in compiled.report.verification] == [("y", 0.0)]
    np.testing.assert_array_equal(compiled.run({"x": ROWS})["y"], ROWS * 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array(0.5), "holds i64 elements, which its frozen value is not"),
        (np.array("text"), "holds i64 elements"),
        (np.array([np.nan, 1]), "holds i64 elements"),
        (np.zeros((2, 2)), "has 1 dimensions [2], but [2, 2] was given"),
        (np.zeros(3), "has shape [2], which [3] contradicts"),
    ],
)
def test_frozen_values_that_do_not_fit(value: Array, words: str) -> None:
    model = build(
        [node("Add", "x k", "y")],
        [info("x", [2], TensorProto.INT64), info("k", [2], TensorProto.INT64)],
        [info("y", [2], TensorProto.INT64)],
    )
    refused(model, words, kind=UsageError, freeze={"k": value})


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_outputs_that_are_inputs_or_initializers() -> None:
    weights = {"w": f32([1, 2, 3])}
    model = build([node("Relu", "x", "y")], [X], [info("x", [2, 3]), info("w", [3]), Y], weights)
    graph = assert_same(model, {"x": ROWS})
    again = onnx.load_from_string(export_bytes(graph))
    onnx.checker.check_model(again, full_check=True)
    assert [n.op_type for n in again.graph.node] == ["Relu"]
    compiled = compile_model(model, "onnx")
    result = compiled.run({"x": ROWS})
    np.testing.assert_array_equal(result["x"], ROWS)
    np.testing.assert_array_equal(result["w"], weights["w"])


def test_one_value_under_two_names() -> None:
    """Both names survive, whatever passes make of them."""
    nodes = [node("Relu", "x", "a"), node("Identity", "a", "b"), node("Relu", "x", "c")]
    model = build(nodes, [X], [info(n, [2, 3]) for n in "abc"])
    assert_same(model, {"x": ROWS - 2})
    result = compile_model(model, "onnx").run({"x": ROWS - 2})
    assert list(result) == ["a", "b", "c"]
    for array in result.values():
        np.testing.assert_array_equal(array, np.maximum(ROWS - 2, 0))


def test_an_output_that_is_listed_twice_is_kept_once() -> None:
    imported = import_model(build([node("Relu", "x", "y")], [X], [Y, Y]))
    assert imported.graph.output_names == ["y"]
    assert imported.notes == ["1 outputs are listed twice and kept once"]
    onnx.checker.check_model(onnx.load_from_string(export_bytes(imported.graph)), full_check=True)
    assert list(compile_model(build([node("Relu", "x", "y")], [X], [Y, Y]), "onnx").run({"x": ROWS})) == ["y"]


def test_a_graph_without_nodes() -> None:
    graph = assert_same(build([], [X], [X]), {"x": ROWS})
    assert len(graph) == 0
    np.testing.assert_array_equal(compile_model(build([], [X], [X]), "onnx").run({"x": ROWS})["x"], ROWS)


def test_a_graph_without_outputs() -> None:
    refused(build([node("Relu", "x", "y")], [X], []), "the model has no outputs")


# -- what is refused, all at once ------------------------------------------------------------------------------------


def typed(name: str, proto: onnx.TypeProto) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, proto)


def test_everything_unsupported_is_listed_once() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    inputs = [
        X,
        typed("sequence", helper.make_sequence_type_proto(tensor)),
        typed("optional", helper.make_optional_type_proto(tensor)),
        typed("map", helper.make_map_type_proto(TensorProto.INT64, tensor)),
        typed("sparse", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [1])),
        onnx.ValueInfoProto(name="untyped"),
        typed("undefined", helper.make_tensor_type_proto(0, [1])),
        typed("unknown", helper.make_tensor_type_proto(99, [1])),
    ]
    random = helper.make_graph([node("RandomNormal", "", "r", shape=[1])], "body", [], [info("r", [1])])
    nodes = [
        node("Relu", "x", "y"),
        helper.make_node("Frobnicate", ["x"], ["f"], "frob"),
        helper.make_node("Conv", ["x"], ["g"], "strange", domain="com.example"),
        helper.make_node("Scaler", ["x"], ["h"], domain="ai.onnx.ml"),
        node("Bernoulli", "x", "b"),
        helper.make_node("Loop", ["", ""], ["l"], "loop", body=random),
    ]
    results = [Y, typed("out", helper.make_sequence_type_proto(tensor))]
    error = refused(build(nodes, inputs, results), "13 parts of the model cannot be imported")
    assert error.message.splitlines()[1:] == [
        '  input "sequence" is of type sequence, not a tensor',
        '  input "optional" is of type optional, not a tensor',
        '  input "map" is of type map, not a tensor',
        '  input "sparse" is of type sparse_tensor, not a tensor',
        '  input "untyped" has no type, not a tensor',
        '  input "undefined" has no element type',
        '  input "unknown" has an element type, number 99, that is not known',
        '  output "out" is of type sequence, not a tensor',
        '  ONNX node "frob" (Frobnicate): this operator is not supported',
        '  ONNX node "strange" (Conv): the domain "com.example" is not known',
        '  the Scaler node that computes "h": the domain "ai.onnx.ml" is not known',
        '  ONNX node "b_node" (Bernoulli): it draws random numbers',
        '  ONNX node "r_node" (RandomNormal): it draws random numbers',
    ]


# -- other sources ---------------------------------------------------------------------------------------------------


def test_nodes_out_of_order_are_sorted() -> None:
    branches = [
        helper.make_graph([node("Mul", f"late {k}", "b")], "b", [], [info("b", [2, 3])]) for k in ("two", "three")
    ]
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        node("Add", "early x", "late"),
        node("Relu", "x", "early"),
    ]
    weights = {"yes": np.array(True), "two": np.float32(2), "three": np.float32(3)}
    graph = load(build(nodes, [X], [Y], weights))
    np.testing.assert_array_equal(evaluate(graph, {"x": ROWS})["y"], ROWS * 4)


def test_sparse_initializers() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(f32([5, 7]), "w"),
        numpy_helper.from_array(np.array([1, 5], np.int64), "i"),
        [2, 3],
    )
    model = build([node("Add", "x w", "y")], [X], [Y])
    model.graph.sparse_initializer.append(sparse)
    expected = ROWS + f32([[0, 5, 0], [0, 0, 7]])
    np.testing.assert_array_equal(evaluate(load(model), {"x": ROWS})["y"], expected)


def test_shape_arithmetic_vanishes_once_dimensions_are_bound() -> None:
    zero, one, rest = (np.array([k], np.int64) for k in (0, 1, -1))
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Gather", "s one", "c", axis=0),
        node("Mul", "n c", "nc"),
        node("Concat", "nc rest", "to", axis=0),
        node("Reshape", "x to", "y"),
    ]
    model = build(nodes, [info("x", ["n", 2, 3])], [info("y", None)], {"zero": zero, "one": one, "rest": rest})
    graph = load(model, inputs={"x": (4, 2, 3)})
    assert graph.op_counts == {"reshape": 1}
    assert graph.outputs[0].type.shape == (8, 3)
