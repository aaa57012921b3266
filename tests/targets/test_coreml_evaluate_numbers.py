"""How the evaluator treats numbers: fp16 rounding, overflow, compressed weights; control flow; what it refuses."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import EmitError, UsageError
from compiler.tensor import Array
from targets.coreml.dtypes import pack_bits
from targets.coreml.evaluate import evaluate_package
from targets.coreml.evaluate.evaluator import FAMILIES, MORE_FAMILIES
from targets.coreml.evaluate.registry import FUNCTIONS
from targets.coreml.mil import Program
from targets.coreml.opset import SIGNATURES
from tests.targets import (
    test_coreml_evaluate_elementwise,
    test_coreml_evaluate_image,
    test_coreml_evaluate_layers,
    test_coreml_evaluate_tensor,
)
from tests.targets.coreml_harness import In, coremltools, evaluator_of, infer, run

RNG = np.random.default_rng(23)
HALF = np.float16


def half(x: Array) -> Array:
    return x.astype(HALF).astype(np.float32)


def test_every_tensor_is_rounded_and_products_are_summed_in_fp32(tmp_path: Path) -> None:
    x, w, b = ((RNG.standard_normal(s) / 8).astype(HALF) for s in ((4, 1000), (3, 1000), (3,)))
    p = Program("iOS16")
    v = p.input("x", "fp16", x.shape)
    (y,) = p.op("linear", {"x": v, "weight": w, "bias": b}, [("fp16", (4, 3))], "y")
    (z,) = p.op("exp", {"x": y}, [("fp16", (4, 3))], "z")
    p.output(y, "y")
    p.output(z, "z")
    outputs = evaluator_of(tmp_path / "m.mlpackage", p).run({"x": x})
    exact = x.astype(np.float64) @ w.T.astype(np.float64) + b
    in_fp32 = half(np.asarray(x.astype(np.float32) @ w.T.astype(np.float32) + b.astype(np.float32)))
    assert outputs["y"].dtype == HALF
    assert np.array_equal(outputs["y"], in_fp32)
    assert np.max(np.abs(outputs["y"] - exact)) <= np.max(np.spacing(np.abs(exact).astype(HALF)))
    assert np.array_equal(outputs["z"], np.exp(in_fp32).astype(HALF), equal_nan=True)


def test_each_operation_rounds_once(tmp_path: Path) -> None:
    p = Program("iOS16")
    v = p.input("x", "fp16", (1,))
    (y,) = p.op("add", {"x": v, "y": 2048.0}, [("fp16", (1,))])
    (z,) = p.op("sub", {"x": y, "y": 2048.0}, [("fp16", (1,))])
    p.output(z, "z")
    evaluator = evaluator_of(tmp_path / "m.mlpackage", p)
    assert [evaluator.run({"x": np.array([v], HALF)})["z"][0] for v in (1.0, 2.0, 3.0, 5.0)] == [0, 2, 4, 4]


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_an_fp16_convolution_is_the_rounded_fp32_one(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((1, 3, 6, 6)).astype(HALF), rng.standard_normal((2, 3, 3, 3)).astype(HALF)
    results = []
    for ios_type, array_type in (("fp16", HALF), ("fp32", np.float32)):
        p = Program("iOS16")
        v = p.input("x", ios_type, x.shape)
        (y,) = p.op("conv", {"x": v, "weight": w.astype(array_type)}, [(ios_type, (1, 2, 4, 4))])
        p.output(y, "y")
        evaluator = evaluator_of(tmp_path_factory.mktemp("conv") / "m.mlpackage", p)
        results.append(evaluator.run({"x": x.astype(array_type)})["y"])
    assert np.array_equal(results[0], results[1].astype(HALF))


def overflowing(kind: str, x: Array, tmp_path: Path, **operands: Any) -> list[str]:
    return run(tmp_path / "m.mlpackage", kind, {"x": In(x), **operands}).warnings


def test_overflow_of_finite_operands_is_reported(tmp_path: Path) -> None:
    big = np.array([300.0, 1.0], HALF)
    assert overflowing("square", big, tmp_path) == [
        "square 'out_0' gives infinity in fp16 although its operands are finite"
    ]
    assert overflowing("square", np.array([255.0], HALF), tmp_path) == []
    assert overflowing("square", np.array([np.inf, 1], HALF), tmp_path) == []
    assert overflowing("square", big.astype(np.float32), tmp_path) == []
    (nan,) = overflowing("sqrt", np.array([-1.0], np.float32), tmp_path)
    assert nan == "sqrt 'out_0' gives NaN in fp32 although its operands are finite"
    assert overflowing("add", big, tmp_path, y=np.array([-np.inf, 0], HALF)) == []


def test_observers_see_every_tensor(tmp_path: Path) -> None:
    p = Program("iOS16")
    v = p.input("x", "fp32", (2,))
    (a,) = p.op("relu", {"x": v}, [("fp32", (2,))], "a")
    b, c = p.op("split", {"x": a, "num_splits": 2, "axis": 0}, [("fp32", (1,))] * 2, "parts")
    p.output(c, "c")
    p.output(b, "b")
    seen = []
    evaluator = evaluator_of(tmp_path / "m.mlpackage", p)
    evaluator.run(
        {"x": np.array([-1, 2], np.float32)}, lambda kind, name, value: seen.append((kind, name, value.tolist()))
    )
    assert seen == [("relu", "a", [0, 2]), ("split", "b", [0]), ("split", "c", [2])]


def test_tensors_are_freed_after_their_last_use(tmp_path: Path) -> None:
    p = Program("iOS16")
    v = p.input("x", "fp32", (8,))
    for _ in range(4):
        (v,) = p.op("exp", {"x": v}, [("fp32", (8,))])
    p.output(v, "y")
    alive: list[int] = []
    tensors: list[weakref.ref[Array]] = []

    def observe(_kind: str, _name: str, value: Array) -> None:
        tensors.append(weakref.ref(value))
        alive.append(sum(tensor() is not None for tensor in tensors))

    evaluator_of(tmp_path / "m.mlpackage", p).run({"x": np.zeros(8, np.float32)}, observe)
    assert alive == [1, 2, 2, 2]


def constant_of(kind: str, values: dict[str, Any], ios: str, typed: dict[str, str], path: Path) -> list[Array]:
    """The weight that a compressed form stands for, read back from a package, and coremltools' own expansion."""
    expected = apples_expansion(kind, values, ios, typed)
    p = Program(ios)
    v = p.input("x", "fp32", (1,))
    given_values = {n: (v, typed[n]) if n in typed else v for n, v in values.items()}
    dtype = {"float16": "fp16", "float32": "fp32"}[expected.dtype.name]
    (w,) = p.constexpr(kind, given_values, [(dtype, expected.shape)])
    (wide,) = p.op("cast", {"x": w, "dtype": "fp32"}, [("fp32", expected.shape)])
    (y,) = p.op("mul", {"x": wide, "y": v}, [("fp32", expected.shape)])
    p.output(y, "y")
    result = evaluator_of(path, p).run({"x": np.ones(1, np.float32)})["y"]
    assert np.any(result)
    return [result, expected.astype(np.float32)]


def apples_expansion(kind: str, values: dict[str, Any], ios: str, typed: dict[str, str]) -> Array:
    ct = coremltools()
    from coremltools.converters.mil.mil import Builder, Function, types

    stored = {
        name: np.asarray(value).astype(types.nptype_from_builtin(types.string_to_builtin(typed[name])))
        if name in typed
        else value
        for name, value in values.items()
    }
    with Function({}, opset_version=getattr(ct.target, ios)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(getattr(Builder, kind)(**stored).op.materialized_val_inference())


CODES = RNG.integers(0, 4, (6, 8)).astype(np.uint8)
SIGNED = RNG.integers(-8, 8, (6, 8)).astype(np.int8)
MASK = (RNG.random((6, 8)) < 0.4).astype(np.uint8)
TABLE = RNG.standard_normal(4).astype(HALF)
COMPRESSED: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    (
        "constexpr_affine_dequantize",
        {"quantized_data": SIGNED, "zero_point": np.int8(2), "scale": np.float32(0.3), "axis": 0},
        "iOS16",
        {},
    ),
    (
        "constexpr_affine_dequantize",
        {
            "quantized_data": CODES,
            "zero_point": np.arange(8, dtype=np.uint8),
            "scale": np.linspace(1, 2, 8, dtype=HALF),
            "axis": -1,
        },
        "iOS16",
        {},
    ),
    ("constexpr_cast", {"source_val": RNG.standard_normal((3, 4)).astype(HALF), "output_dtype": "fp32"}, "iOS16", {}),
    (
        "constexpr_lut_to_dense",
        {
            "indices": np.frombuffer(pack_bits(CODES.reshape(-1), 2), np.uint8),
            "lut": TABLE,
            "shape": np.array([6, 8], np.uint32),
        },
        "iOS16",
        {},
    ),
    (
        "constexpr_sparse_to_dense",
        {
            "nonzero_data": RNG.standard_normal(int(MASK.sum())).astype(HALF),
            "mask": np.packbits(MASK, bitorder="little"),
            "shape": np.array([6, 8], np.uint32),
        },
        "iOS16",
        {},
    ),
    (
        "constexpr_lut_to_dense",
        {"indices": CODES, "lut": RNG.standard_normal((3, 2, 4, 1)).astype(HALF)},
        "iOS18",
        {"indices": "uint2"},
    ),
    *(
        (
            "constexpr_lut_to_dense",
            {"indices": CODES, "lut": RNG.standard_normal((1, 2, 4, 3)).astype(np.float32), "vector_axis": axis},
            "iOS18",
            {"indices": "uint2"},
        )
        for axis in (0, 1)
    ),
    (
        "constexpr_blockwise_shift_scale",
        {
            "data": SIGNED,
            "scale": RNG.standard_normal((3, 4)).astype(np.float32),
            "offset": RNG.integers(-8, 8, (3, 4)),
        },
        "iOS18",
        {"data": "int4", "offset": "int4"},
    ),
    (
        "constexpr_blockwise_shift_scale",
        {"data": CODES, "scale": RNG.standard_normal((6, 1)).astype(np.float32)},
        "iOS18",
        {"data": "uint4"},
    ),
    (
        "constexpr_sparse_to_dense",
        {"nonzero_data": RNG.standard_normal(int(MASK.sum())).astype(np.float32), "mask": MASK},
        "iOS18",
        {"mask": "uint1"},
    ),
]


@pytest.mark.parametrize(("kind", "values", "ios", "typed"), COMPRESSED)
def test_compressed_weights(kind: str, values: dict[str, Any], ios: str, typed: dict[str, str], tmp_path: Path) -> None:
    result, expected = constant_of(kind, values, ios, typed, tmp_path / "m.mlpackage")
    np.testing.assert_allclose(result, expected, 1e-3 if ios == "iOS16" else 1e-6)


def test_sparse_compressed_weights_of_two_steps() -> None:
    count = int(MASK.sum())
    indices = RNG.integers(0, 4, count).astype(np.uint8)
    mask, values = FUNCTIONS["constexpr_lut_to_sparse"](MASK, indices, TABLE.reshape(1, 1, 4, 1))
    assert np.array_equal(mask, MASK)
    assert np.array_equal(values, TABLE[indices])
    data, scale = np.arange(count), np.arange(1, 9, dtype=np.float32).reshape(1, 8)
    _, scaled = FUNCTIONS["constexpr_sparse_blockwise_shift_scale"](MASK, data, scale)
    assert np.array_equal(scaled, data * (np.nonzero(MASK)[1] + 1))


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantised_activations(axis: int | None, dtype: str, tmp_path: Path) -> None:
    x = (RNG.standard_normal((2, 3, 4)) * 30).astype(np.float32)
    scale = np.float32(0.5) if axis is None else np.array([0.5, 0.25, 2], np.float32)
    zero = np.asarray(3 if axis is None else [1, 2, 3], dtype)
    operands = {"input": In(x), "scale": scale, "zero_point": zero if axis else zero[()], "axis": axis}
    ran = run(tmp_path / "q.mlpackage", "quantize", {**operands, "output_dtype": dtype})
    expected = infer("quantize", {**operands, "output_dtype": dtype}, "iOS18").values[0]
    assert expected is not None
    assert np.array_equal(ran.outputs[0], expected)
    back = run(tmp_path / "d.mlpackage", "dequantize", {**operands, "input": expected})
    spread = np.reshape(scale, (1, -1, 1)) * (
        expected.astype(np.float32) - np.reshape(zero.astype(np.float32), (1, -1, 1))
    )
    np.testing.assert_allclose(back.outputs[0], spread)


def test_branches_and_loops_made_by_coremltools_run(tmp_path: Path) -> None:
    ct = coremltools()
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

    @Builder.program(  # type: ignore[untyped-decorator]  # coremltools has no types
        input_specs=[Builder.TensorSpec((1,)), Builder.TensorSpec((1,), dtype=types.int32)],
        opset_version=ct.target.iOS16,
    )
    def network(x: Any, n: Any) -> Any:
        count = Builder.squeeze(x=n)
        _, total = Builder.while_loop(
            _cond=lambda i, _: Builder.less(x=i, y=count),
            _body=lambda i, total: (Builder.add(x=i, y=1), Builder.add(x=total, y=x)),
            loop_vars=(0, np.zeros(1, np.float32)),
        )
        return Builder.cond(
            pred=Builder.greater(x=count, y=3),
            _true_fn=lambda: Builder.mul(x=total, y=-1.0),
            _false_fn=lambda: Builder.add(x=total, y=0.5),
            name="out",
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.convert(
            network, convert_to="mlprogram", compute_precision=ct.precision.FLOAT32, skip_model_load=True
        )
        model.save(str(tmp_path / "m.mlpackage"))
    evaluator = evaluate_package(tmp_path / "m.mlpackage")
    x = np.array([2.0], np.float32)
    (name,) = evaluator.outputs
    assert [evaluator.run({"x": x, "n": np.array([n], np.int32)})[name][0] for n in (0, 2, 5)] == [0.5, 4.5, -10]


def test_what_cannot_be_run_is_named(tmp_path: Path) -> None:
    p = Program("iOS16")
    v = p.input("x", "fp32", (2, 3))
    (noise,) = p.op("random_normal", {"shape": [2, 3]}, [("fp32", (2, 3))])
    (y,) = p.op("add", {"x": v, "y": noise}, [("fp32", (2, 3))])
    p.output(y, "y")
    p.save(tmp_path / "m.mlpackage")
    with pytest.raises(EmitError, match="cannot be executed here: random_normal"):
        evaluate_package(tmp_path / "m.mlpackage")


def relu_package(path: Path, declared: tuple[int, ...] = (2, 3)) -> Any:
    p = Program("iOS16")
    v = p.input("x", "fp32", (2, 3))
    p.output(p.op("relu", {"x": v}, [("fp32", declared)], "r")[0], "y")
    return evaluator_of(path, p)


def test_wrong_inputs_are_refused(tmp_path: Path) -> None:
    evaluator = relu_package(tmp_path / "m.mlpackage")
    with pytest.raises(UsageError, match=r"inputs \['x'\], but was given \['z'\]"):
        evaluator.run({"z": np.zeros((2, 3))})
    with pytest.raises(UsageError, match=r"'x' has shape \(2, 3\), but was given \(3, 2\)"):
        evaluator.run({"x": np.zeros((3, 2))})


def test_a_program_that_declares_a_wrong_shape_is_caught(tmp_path: Path) -> None:
    with pytest.raises(EmitError, match=r"gives a result of shape \(2, 3\), but declares \(3, 2\)"):
        relu_package(tmp_path / "m.mlpackage", (3, 2)).run({"x": np.zeros((2, 3))})


def test_every_operation_that_is_emitted_is_executed_and_tested() -> None:
    assert len(FAMILIES + MORE_FAMILIES) == 14
    refused = {"classify", "read_state", "random_bernoulli", "random_categorical", "random_normal", "random_uniform"}
    assert set(SIGNATURES) - set(FUNCTIONS) == refused
    modules = (
        test_coreml_evaluate_elementwise,
        test_coreml_evaluate_image,
        test_coreml_evaluate_layers,
        test_coreml_evaluate_tensor,
    )
    tested = {case.kind for module in modules for case in module.CASES} | {kind for kind, *_ in COMPRESSED}
    here = {"quantize", "dequantize", "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale"}
    assert set(FUNCTIONS) - tested - here == {"non_maximum_suppression"}
