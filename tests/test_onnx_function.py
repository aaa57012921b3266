"""Operators that are read as the functions that ONNX defines them by."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.api import compile_model, load
from compiler.errors import OnnxError
from compiler.evaluate import evaluate
from tests.command import build, info, node

OPSET = 27
X = np.array([[[1, 2, 3, 4], [0, 1, 0, -1]]], np.float32)
W = np.array([[[1, 10, 100]], [[1, 0, 2]]], np.float32)
BEFORE = np.array([[[5, 6], [7, 8]]], np.float32)


def test_a_causal_convolution_and_its_state() -> None:
    model = build(
        [node("CausalConvWithState", "x w b past", "y state")],
        [info("x", [1, 2, 4]), info("past", [1, 2, 2])],
        [info("y", [1, 2, 4]), info("state", [1, 2, 2])],
        {"w": W, "b": np.array([0, 1000], np.float32)},
        OPSET,
    )
    graph = load(model)
    results = evaluate(graph, {"x": X, "past": BEFORE})
    padded = np.concatenate([BEFORE, X], axis=2)
    expected = np.stack([[np.convolve(row, w[0, ::-1], "valid") for row, w in zip(padded[0], W, strict=True)]])
    expected[0, 1] += 1000
    np.testing.assert_allclose(results["y"], expected)
    np.testing.assert_array_equal(results["state"], X[:, :, -2:])
    assert {name for n in graph.nodes for name in n.origin} == {"y_node"}


def test_linear_attention_adds_up_products_of_keys_and_values() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 5, 2)).astype(np.float32) for _ in "qkv")
    attributes = {"q_num_heads": 1, "kv_num_heads": 1, "update_rule": "linear", "scale": 1.0}
    model = build(
        [node("LinearAttention", "q k v", "y state", **attributes)],
        [info(n, [1, 5, 2]) for n in "qkv"],
        [info("y", [1, 5, 2]), info("state", [1, 1, 2, 2])],
        opset=OPSET,
    )
    results = evaluate(load(model), {"q": q, "k": k, "v": v})
    states = np.cumsum(k[0, :, :, None] * v[0, :, None, :], axis=0)
    np.testing.assert_allclose(results["y"][0], np.einsum("td,tde->te", q[0], states), rtol=1e-5)
    np.testing.assert_allclose(results["state"][0, 0], states[-1], rtol=1e-5)
    assert compile_model(model, "onnx", verify="off").report.after.layers > 0


def test_an_opset_without_the_operator() -> None:
    model = build([node("CausalConvWithState", "x w", "y")], [info("x", [1, 2, 4])], [info("y", None)], {"w": W}, 20)
    with pytest.raises(OnnxError, match="CausalConvWithState is not defined for this node"):
        load(model)


def test_too_many_operands() -> None:
    model = build([node("LinearAttention", "q " * 9, "y")], [info("q", [1, 5, 2])], [info("y", None)], opset=OPSET)
    with pytest.raises(OnnxError, match="LinearAttention"):
        load(model)
