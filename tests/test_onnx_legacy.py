"""Models of opsets before 7: broadcasting by attributes, modes for training, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.api import compile_model, load
from compiler.errors import OnnxError
from compiler.evaluate import evaluate
from compiler.tensor import Array
from tests.command import build, info, node

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 11


def result(op_type: str, x: Array, y: Array, opset: int = 6, **attributes: Any) -> Array:  # Any: handed on
    """One node of two operands, imported and evaluated."""
    made = node(op_type, "x y", "z", **attributes)
    model = build([made], [info("x", list(x.shape)), info("y", list(y.shape))], [info("z", None)], opset=opset)
    return evaluate(load(model), {"x": x, "y": y})["z"]


@pytest.mark.parametrize(
    ("shape", "axis", "as_in_opset_7"),
    [
        ((2,), 0, (2, 1, 1)),
        ((3,), 1, (3, 1)),
        ((2, 3), 0, (2, 3, 1)),
        ((3, 4), None, (3, 4)),
        ((4,), -1, (4,)),
        ((), None, ()),
        ((1,), 0, (1, 1, 1)),
    ],
)
def test_the_second_operand_is_aligned_from_the_axis_on(
    shape: tuple[int, ...], axis: int | None, as_in_opset_7: tuple[int, ...]
) -> None:
    y = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    attributes = {"broadcast": 1} if axis is None else {"broadcast": 1, "axis": axis}
    np.testing.assert_array_equal(result("Sub", X, y, **attributes), X - y.reshape(as_in_opset_7))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
def test_any_part_of_the_shape_can_be_aligned(dims: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(dims) - 1))
    end = data.draw(st.integers(start + 1, len(dims)))
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal(s).astype(np.float32) for s in (dims, dims[start:end]))
    expected = x * y.reshape(*y.shape, *(1,) * (len(dims) - end))
    np.testing.assert_array_equal(result("Mul", x, y, broadcast=1, axis=start), expected)


def test_without_broadcast_the_axis_says_nothing() -> None:
    np.testing.assert_array_equal(result("Add", X, X, broadcast=0, axis=1), X + X)


def test_an_operand_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OnnxError, match="does not fit one of rank 3 from axis 2 on"):
        result("Add", X, np.ones((3, 4), np.float32), broadcast=1, axis=2)


def test_from_opset_7_on_attributes_do_not_align() -> None:
    y = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(result("Add", X, y, opset=7, broadcast=1, axis=0), X + y)


@pytest.mark.parametrize(("opset", "axis"), [(1, 1), (3, 1), (4, 0)])
def test_concat_has_a_default_axis_before_opset_4(opset: int, axis: int) -> None:
    attributes = {} if opset < 4 else {"axis": axis}
    np.testing.assert_array_equal(result("Concat", X, X, opset=opset, **attributes), np.concatenate([X, X], axis))


@pytest.mark.parametrize("count", [1, 3])
def test_slopes_are_per_channel(count: int) -> None:
    slope = np.array([0.5, 2.0, 3.0], np.float32)[:count]
    expected = np.where(X < 0, X * slope.reshape(-1, 1), X)
    np.testing.assert_array_equal(result("PRelu", X, slope), expected)


def normalized(opset: int, **attributes: Any) -> Any:  # Any: a ModelProto, attributes are handed on
    ones = {name: np.full(3, v, np.float32) for name, v in (("s", 2), ("b", 1), ("m", 0.5), ("v", 4))}
    made = node("BatchNormalization", "x s b m v", "y", epsilon=0.0, **attributes)
    return build([made], [info("x", [2, 3, 4])], [info("y", [2, 3, 4])], ones, opset)


def test_normalization_for_inference() -> None:
    y = evaluate(load(normalized(6, is_test=1)), {"x": X})["y"]
    np.testing.assert_allclose(y, (X - 0.5) + 1, rtol=1e-6)


@pytest.mark.parametrize("attributes", [{}, {"is_test": 0}])
def test_normalization_in_training_is_refused(attributes: dict[str, int]) -> None:
    with pytest.raises(OnnxError, match="BatchNormalization without is_test is in training mode before opset 7"):
        load(normalized(6, **attributes))


def test_dropout() -> None:
    def model(**attributes: Any) -> Any:  # Any: as above
        return build([node("Dropout", "x", "y", **attributes)], [info("x", [3])], [info("y", [3])], opset=6)

    x = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(evaluate(load(model(is_test=1, ratio=0.9)), {"x": x})["y"], x)
    with pytest.raises(OnnxError, match="Dropout without is_test"):
        load(model(ratio=0.9))


@pytest.mark.parametrize(("op_type", "opset", "first"), [("Reshape", 4, 5), ("Cast", 5, 6), ("Pad", 1, 2)])
def test_operators_that_took_something_else_are_refused(op_type: str, opset: int, first: int) -> None:
    with pytest.raises(OnnxError, match=f"{op_type} before opset {first} is not supported"):
        result(op_type, X, X, opset=opset)


def test_a_compiled_model_is_verified() -> None:
    model = build(
        [node("Gemm", "x w b", "h", broadcast=1), node("Add", "h c", "y", broadcast=1, axis=0)],
        [info("x", [2, 3])],
        [info("y", [2, 4])],
        {name: np.ones(s, np.float32) for name, s in (("w", (3, 4)), ("b", (4,)), ("c", (2,)))},
        6,
    )
    compiled = compile_model(model, "onnx")
    assert compiled.report.verification is not None and compiled.report.passed
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(compiled.run({"x": x})["y"], np.repeat([[8.0], [17.0]], 4, axis=1))
