"""Every registered operation: inference and evaluation agree with each other, with ONNX Runtime, and through ONNX."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf
from typing import NamedTuple

import numpy as np
import pytest

from compiler.errors import OnnxError, VerificationError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.onnx_import import import_model
from compiler.onnx_reference import is_too_new
from compiler.op import OPS
from compiler.oracle import open_session, run_session
from compiler.tensor import F32, I64, Array, TensorType, dtype_of, type_of
from compiler.text_parse import parse_graph
from tests.harness import assert_text_is_exact
from tests.one_op import layer_inputs, one_layer

INSTANCES = 12  # of each operation
OPSETS = (None, 13, 17)  # the newest in use, the oldest that is written, one between

# Operations whose `sample` finds nothing to say, as text.
WITHOUT_OPERAND = {
    "constant_of_shape": 'graph() {\n %y = constant_of_shape() shape=(2, 3) value=1.5 : f32[2,3]\n return %y as "y0"\n}'
}

# What ONNX Runtime does not run of an operation on f32 or i64. It has few kernels for other types: those may lack.
NO_KERNEL = {
    "depth_to_space": "no kernel for integers",
    "space_to_depth": "no kernel for integers",
    "global_lp_pool": "no kernel at opset 22",
    "max_roi_pool": "no kernel at opset 22",
    "roi_align": "no kernel at opset 22",
    "one_hot": "kernels for few combinations of element types",
    "rotary_embedding": "no caches of more rows than the sequence has, without positions",
}
REFUSALS = ("NOT_IMPLEMENTED", "INVALID_GRAPH", "not support", "not currently supported", "can't be converted")


# Why an operation written as ONNX is not read back as itself.
READ_OTHERWISE = {
    "identity": "a layer that does nothing is not built",
    "convert_layout": "an order in memory means nothing to ONNX",
    "pad": "one that pads nothing is not built",
    "shape": "a shape is known when the model is read",
    "size": "a size is known when the model is read",
    "constant_of_shape": "small constants are evaluated when the model is read",
    "space_to_depth": "ONNX has the other order of channels only as a reshape and a transpose",
    "dense": "ONNX writes it as a MatMul and an Add",
    "rotary_embedding": "ONNX Runtime has no kernel for f64, so it is written as single layers",
    "attention": "ONNX Runtime has no kernel for f64, so it is written as single layers",
    "lp_normalize": "ONNX says nothing of eps, so it is written as single layers",
}

# Relative error that one layer may have in each element type; attributes of ONNX are f32, whatever the operands are.
TOLERANCE = {"f64": 1e-6, "f32": 2e-5, "f16": 4e-3, "bf16": 3e-2}
F32_INSIDE = ("group_norm",)  # ONNX's own definition computes it in f32 whatever the operands are


class Written(NamedTuple):
    """A graph of one layer, what it computes, and the model that it was written as; `opset` None is the newest."""

    graph: Graph
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    opset: int | None
    model: bytes


def sums_nothing(w: Written) -> bool:
    return any(not a.size for a in w.inputs.values())


def clips_above_all(w: Written) -> bool:
    return any(n.op.values()["low"] == inf for n in w.graph.nodes)


# Where ONNX Runtime is not to be followed.
WRONG_THERE: dict[str, tuple[str, Callable[[Written], bool]]] = {
    "matmul_integer": ("sums over no elements are left uninitialised", sums_nothing),
    "qlinear_matmul": ("sums over no elements are left uninitialised", sums_nothing),
    "clip": ("without an upper bound, infinities become the largest finite number", clips_above_all),
}


@cache
def instances(name: str) -> tuple[tuple[Graph, dict[str, Array]], ...]:
    """Random graphs of one layer of an operation, with inputs."""
    if name in WITHOUT_OPERAND:
        return ((parse_graph(WITHOUT_OPERAND[name]), {}),)
    found = []
    for seed in range(INSTANCES):
        rng = np.random.default_rng(seed)
        graph = one_layer(OPS[name], rng)
        if graph is not None:
            found.append((graph, layer_inputs(rng, graph)))
    return tuple(found)


@cache
def written(name: str) -> tuple[Written, ...]:
    """The instances of an operation at each opset that can express them."""
    models, refusals = [], []
    for graph, inputs in instances(name):
        outputs = evaluate(graph, inputs)
        for opset in OPSETS:
            try:
                models.append(Written(graph, inputs, outputs, opset, export_bytes(graph, opset)))
            except OnnxError as e:
                refusals.append((opset, e.message))
    assert [r for r in refusals if r[0] is None or "needs ONNX opset" not in r[1]] == []
    return tuple(models)


def assert_close(result: Array, expected: Array, what: str, coarse: bool = False) -> None:
    """Equal in type and shape, and in value up to the rounding of one layer (of f32 at best, if `coarse`)."""
    assert dtype_of(result) is dtype_of(expected) and result.shape == expected.shape, what
    if expected.dtype.kind in "OUS":
        assert result.astype(str).tolist() == expected.astype(str).tolist(), what
    elif dtype_of(expected).is_float:
        a, b = expected.astype(np.float64), result.astype(np.float64)
        tolerance = max(TOLERANCE.get(dtype_of(expected).name, 0.0), coarse * TOLERANCE["f32"])
        scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
        assert np.allclose(b, a, tolerance, tolerance * scale / 4, equal_nan=True), f"{what}: {b} is not {a}"
    else:
        assert np.array_equal(result, expected), f"{what}: {result} is not {expected}"


def named_alike(declared: TensorType, found: TensorType) -> bool:
    """Whether a type is a declared one with numbers for its names."""
    alike = (isinstance(d, str) or d == n for d, n in zip(declared.shape, found.shape, strict=True))
    return declared.dtype is found.dtype and all(alike)


@pytest.mark.parametrize("name", OPS)
def test_inference_is_what_evaluation_gives(name: str) -> None:
    assert instances(name), f"{name}: `sample` accepts no operand that is tried"
    for graph, inputs in instances(name):
        graph.verify()
        given = {n: a.copy() for n, a in inputs.items()}
        outputs = evaluate(graph, inputs)
        for v, n in zip(graph.outputs, graph.output_names, strict=True):
            found = type_of(outputs[n])
            assert len(found.shape) == v.type.rank and named_alike(v.type, found), f"{found} where {v.node!r}"
        assert all(a.tobytes() == given[n].tobytes() for n, a in inputs.items()), f"{name} writes to its operands"


@pytest.mark.parametrize("name", OPS)
def test_text_is_exact(name: str) -> None:
    for graph, _ in instances(name):
        assert_text_is_exact(graph)


@pytest.mark.parametrize("name", OPS)
def test_work_and_traffic_are_counted(name: str) -> None:
    for graph, _ in instances(name):
        for node in graph.nodes:
            moved = node.op.bytes_moved([v.type for v in node.outputs], *node.input_types)
            assert node.macs >= 0 and moved >= 0 and isinstance(node.macs, int) and isinstance(moved, int)


@pytest.mark.parametrize("name", OPS)
def test_evaluation_is_what_onnx_runtime_gives(name: str) -> None:
    ran, refusals = 0, []
    for w in written(name):
        if name in WRONG_THERE and WRONG_THERE[name][1](w):
            continue
        common = {v.type.dtype for v in w.graph.inputs} <= {F32, I64}
        try:
            session = open_session(w.model)
            if not session.in_runtime and not is_too_new(w.model):
                refusals.append(("NOT_IMPLEMENTED", common and name not in NO_KERNEL))
                continue
            results = run_session(session, w.inputs)
        except VerificationError as e:
            refusals.append((e.message, common and name not in NO_KERNEL))
            continue
        ran += 1
        for n, expected in w.outputs.items():
            assert_close(results[n], expected, f"{n} of {next(w.graph.nodes)!r} at opset {w.opset}", name in F32_INSIDE)
    assert [r for r in refusals if r[1] or not any(known in r[0] for known in REFUSALS)] == []
    assert ran, f"none of {len(written(name))} models ran"


@pytest.mark.parametrize("name", OPS)
def test_what_is_written_reads_back(name: str) -> None:
    itself = True
    for w in written(name):
        graph = import_model(w.model).graph
        graph.verify()
        results = evaluate(graph, w.inputs)
        for n, expected in w.outputs.items():
            assert_close(results[n], expected, f"{n} of {next(w.graph.nodes)!r} at opset {w.opset}, read back")
        if w.opset is None:
            itself &= graph.op_counts == w.graph.op_counts
    assert itself or name in READ_OTHERWISE or not OPS[name].onnx


def test_tables_name_operations_that_exist() -> None:
    for table in (WITHOUT_OPERAND, NO_KERNEL, WRONG_THERE, READ_OTHERWISE):
        assert set(table) <= set(OPS)
