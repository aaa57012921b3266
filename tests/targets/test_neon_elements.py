"""Element-by-element layers, reductions and normalisations as C: natively, and as NEON under an emulator."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Operand
from codegen.neon.elementwise import Elementwise
from compiler import ops
from compiler.graph import Graph, Value
from compiler.op import OPS, Op
from compiler.ops.layout import ConvertLayout, in_order
from compiler.tensor import BF16, BOOL, DTYPES, F16, F32, F64, FLOAT8, I4, I64, U4, Array, DType, TensorType
from targets.neon.build import Toolchain
from targets.source.chains import is_elementwise
from targets.source.expressions import EXPRESSIONS
from tests.strategies import random_array
from tests.targets.neon_graphs import calls, expect_same
from tests.targets.neon_kernels import Case, run_cases, toolchains

WIDE = tuple(
    DTYPES[n] for n in ("f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool")
)
FUNCTIONS = {  # with the largest error in ulp, and where it is stated
    "exp": (np.exp, 2.0, -np.inf, np.inf),
    "exp_negative": (np.exp, 2.0, -87.0, 0.0),
    "expm1_negative": (np.expm1, 2.0, -np.inf, 0.0),
    "log": (np.log, 2.0, -np.inf, np.inf),
    "log1p": (np.log1p, 3.0, -np.inf, np.inf),
    "tanh": (np.tanh, 3.0, -np.inf, np.inf),
    "erf": (np.frompyfunc(erf, 1, 1), 5.0, -np.inf, np.inf),
    "sin": (np.sin, 3.0, -np.inf, np.inf),
    "cos": (np.cos, 3.0, -np.inf, np.inf),
}


def every_kind_of_float() -> Array:
    """Floats of all exponents, and those that are special; not a whole number of vectors."""
    x = np.arange(0, 1 << 32, 80021, dtype=np.uint32).view(np.float32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 88.72284, -103.97, 3.4e38, -87.4]
    return np.concatenate([x, np.array(special, np.float32)])


def in_ulp(got: Array, exact: Array) -> Array:
    """How far floats are from exact results, in units in the last place; 0 where both are not numbers or both have no
    end."""
    rounded = exact.astype(np.float32)
    unit = np.spacing(np.maximum(np.abs(rounded), np.float32(2.0**-126)))
    apart = np.abs(got.astype(np.float64) - exact) / np.where(np.isfinite(unit), unit, 2.0**104)
    same = (np.isnan(got) & np.isnan(rounded)) | (got == rounded)
    return np.asarray(np.where(same, 0.0, apart))


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_functions_of_vectors_are_as_exact_as_stated(tools: Toolchain) -> None:
    x = every_kind_of_float()
    cases = []
    for name in FUNCTIONS:
        kernel = Elementwise(expression=Apply(name, (Operand(0),)), ctype="float", axes=((True,),), rank=1)
        assert kernel.is_vector
        cases.append(Case(kernel, [x, np.zeros_like(x), x.size], [1]))
    with np.errstate(all="ignore"):
        for (name, (function, most, low, high)), (got,) in zip(FUNCTIONS.items(), run_cases(cases, tools), strict=True):
            inside = ((x >= low) & (x <= high)) | np.isnan(x)
            exact = np.asarray(function(x[inside].astype(np.float64)), np.float64)
            error = in_ulp(got[inside], exact)
            assert error.max() <= most, f"{name}: {error.max()} ulp at {x[inside][error.argmax()]!r}"


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_powers_of_vectors_are_exact_to_an_ulp(tools: Toolchain) -> None:
    rng = np.random.default_rng(9)
    x = np.exp(rng.uniform(-40, 40, 4001)).astype(np.float32)
    y = rng.uniform(-2, 2, 4001).astype(np.float32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 3.0, 0.5, 1e-40, 1e30]
    a, b = (v.reshape(-1).astype(np.float32) for v in np.meshgrid(special, special))
    x, y = np.concatenate([x, a]), np.concatenate([y, b])
    kernel = Elementwise(
        expression=Apply("pow", (Operand(0), Operand(1))), ctype="float", axes=((True,), (True,)), rank=1
    )
    ((got,),) = run_cases([Case(kernel, [x, y, np.zeros_like(x), x.size], [2])], tools)
    with np.errstate(all="ignore"):
        error = in_ulp(got, np.power(x.astype(np.float64), y.astype(np.float64)))
    assert error.max() <= 1.0, f"{x[error.argmax()]!r} to the power {y[error.argmax()]!r}"


def samples(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Graph:
    """A layer of every element-by-element operation that takes elements of a type."""
    graph = Graph("samples")
    x = graph.add_input(TensorType(dtype, shape), "x")
    outputs = []
    for cls in OPS.values():
        found = cls.sample(rng, x.type) if cls in EXPRESSIONS else None
        if found is None:
            continue
        op, others = found
        given_values = []
        for i, other in enumerate(others):
            if isinstance(other, TensorType):
                given_values.append(graph.add_input(other, f"{cls.name}{i}"))
            else:
                given_values.append(graph.const(np.asarray(other)))
        (y,) = graph.add(op, x, *given_values)
        assert y.node is not None and is_elementwise(y.node)
        outputs.append(y)
    graph.set_outputs(outputs, [v.node.op.name for v in outputs if v.node is not None])
    return graph


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_every_operation_on_every_type(dtype: DType) -> None:
    rng = np.random.default_rng(7)
    graph = samples(dtype, (3, 7), rng)
    assert len(graph.outputs) >= (5 if dtype is BOOL else 10)
    feeds = {v.name: random_array(rng, v.type) for v in graph.inputs}
    if dtype.is_float:
        feeds["x"].reshape(-1)[:6] = [np.inf, -np.inf, np.nan, -0.0, 0.0, 1.0]
    elif dtype.is_integer:
        low = np.iinfo(dtype.numpy).min
        feeds["x"].reshape(-1)[:2] = [
            low,
            np.iinfo(dtype.numpy).max >> (12 if dtype.bits == 64 else 0),
        ]  # doubles hold it
    expect_same(graph, feeds, rtol=2e-5)


def test_casts_between_all_types() -> None:
    rng = np.random.default_rng(3)
    graph = Graph("casts")
    kinds = [*WIDE, I4, U4, *(d for d in FLOAT8 if d.name != "f8e8m0"), DTYPES["f4e2m1"]]
    feeds: dict[str, Array] = {}
    outputs: list[Value] = []
    names: list[str] = []
    for source in kinds:
        x = graph.add_input(TensorType(source, (11,)), f"x_{source.name}")
        numbers = rng.choice([0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 5.0, 7.0], 11)
        feeds[x.name] = numbers.astype(np.float32).astype(source.numpy)
        for to in kinds:
            if to is not source and {source, to} != {I4, U4}:  # the reference cannot convert these
                outputs += graph.add(ops.Cast(to=to.name), x)
                names.append(f"{source.name}_to_{to.name}")
    graph.set_outputs(outputs, names)
    expect_same(graph, feeds, rtol=0, atol=0)


@pytest.mark.parametrize("source", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("saturate", [True, False])
def test_floats_of_few_bits_are_rounded_as_the_reference_does(source: DType, saturate: bool) -> None:
    edge = np.array([448, 464, 465, 480, 240, 247, 248, 249, 57344, 61439, 61440, 1e9, np.inf, -np.inf, np.nan, 0.0])
    tiny = np.ldexp(np.arange(1, 40) / 8.0, -9)
    x = np.concatenate([edge, -edge, tiny, -tiny, tiny * 2.0**-8, [6.0, 5.0, 2.5, 0.25, 65519, 65520]])
    graph = Graph("small")
    v = graph.add_input(TensorType(source, x.shape), "x")
    kinds = [F16, BF16, DTYPES["f4e2m1"], *FLOAT8]
    outputs = [
        graph.add(ops.Cast(to=to.name, saturate=saturate, round_mode=mode), v)[0]
        for to in kinds
        for mode in (("up", "down", "nearest") if to.name == "f8e8m0" else ("up",))
        if to is not source
    ]
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    with np.errstate(all="ignore"):
        expect_same(graph, {"x": x.astype(source.numpy)}, rtol=0, atol=0)


def chain() -> Graph:
    """A chain with operands that are broadcast along every axis, a comparison, and a value that is read twice."""
    graph = Graph("chain")
    x = graph.add_input(TensorType(F32, (2, 5, 37)), "x")
    row = graph.add_input(TensorType(F32, (37,)), "row")
    column = graph.add_input(TensorType(F32, (5, 1)), "column")
    half = graph.const(np.array(0.5, np.float32))
    (a,) = graph.add(ops.Mul(), x, row)
    (b,) = graph.add(ops.Add(), a, column)
    (c,) = graph.add(ops.Sigmoid(), b)
    (d,) = graph.add(ops.Mul(), b, c)
    (e,) = graph.add(ops.Greater(), d, half)
    (f,) = graph.add(ops.Where(), e, d, x)
    graph.set_outputs([f], ["y"])
    return graph


def test_a_chain_is_one_loop() -> None:
    graph = chain()
    made = calls(graph)
    assert len(made) == 1 and isinstance(made[0].kernel, Elementwise) and made[0].kernel.is_vector
    rng = np.random.default_rng(1)
    expect_same(graph, {v.name: random_array(rng, v.type) for v in graph.inputs})


def test_what_others_read_is_not_swallowed() -> None:
    graph = chain()
    (middle,) = (n.output for n in graph.of(ops.Sigmoid))
    graph.set_outputs([*graph.outputs, middle], ["y", "z"])
    assert len(calls(graph)) == 3
    rng = np.random.default_rng(1)
    expect_same(graph, {v.name: random_array(rng, v.type) for v in graph.inputs})


REDUCTIONS: tuple[type[Op], ...] = (
    ops.ReduceSum, ops.ReduceMean, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd, ops.ReduceL1, ops.ReduceL2,
    ops.ReduceSumSquare, ops.ReduceLogSum, ops.ReduceLogSumExp,
)  # fmt: skip


@settings(max_examples=4, deadline=None)
@given(st.lists(st.integers(1, 19), min_size=1, max_size=4), st.data())
def test_reductions_along_any_axes(shape: list[int], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    graph = Graph("reductions")
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    dtype = data.draw(st.sampled_from([F32, F32, F64, F16, DTYPES["i32"], DTYPES["u8"], I64, BOOL]))
    x = graph.add_input(TensorType(dtype, tuple(shape)), "x")
    takes = [r for r in REDUCTIONS if dtype.kind in r.kinds]  # type: ignore[attr-defined]  # of reductions
    outputs = [graph.add(r(axes=axes, keepdims=data.draw(st.booleans())), x)[0] for r in takes]
    graph.set_outputs(outputs, [r.name for r in takes])
    feed = np.abs(random_array(rng, x.type)) if dtype.is_float else random_array(rng, x.type)
    expect_same(graph, {"x": feed}, rtol=2e-5)


def test_reductions_of_long_and_wide_values() -> None:
    graph = Graph("long")
    x = graph.add_input(TensorType(F32, (3, 67, 35)), "x")
    outputs = [graph.add(r(axes=a), x)[0] for r in REDUCTIONS for a in ((0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2))]
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    feed = np.random.default_rng(0).uniform(0.5, 1.5, (3, 67, 35)).astype(np.float32)
    expect_same(graph, {"x": feed}, rtol=2e-5)


def test_reductions_pass_on_what_is_no_number() -> None:
    graph = Graph("special")
    x = graph.add_input(TensorType(F32, (4, 19)), "x")
    outputs = [graph.add(r(axes=(1,)), x)[0] for r in REDUCTIONS]
    graph.set_outputs(outputs, [r.name for r in REDUCTIONS])
    feed = np.ones((4, 19), np.float32)
    feed[0, 3], feed[1, 18], feed[2, 0], feed[3] = np.nan, np.inf, -np.inf, -np.inf
    expect_same(graph, {"x": feed})


@settings(max_examples=4, deadline=None)
@given(st.lists(st.integers(1, 21), min_size=1, max_size=4), st.data())
def test_normalisations_along_any_axis(shape: list[int], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from([F32, F32, F64, F16]))
    axis = data.draw(st.integers(0, len(shape) - 1))
    graph = Graph("norms")
    x = graph.add_input(TensorType(dtype, tuple(shape)), "x")
    made: list[Op] = [ops.Softmax(axis=axis), ops.LogSoftmax(axis=axis), ops.Hardmax(axis=axis)]
    made += [ops.LpNormalize(axis=axis, p=1), ops.LpNormalize(axis=axis, p=2, eps=0.5)]
    outputs = [graph.add(op, x)[0] for op in made]
    scale = graph.add_input(TensorType(dtype, tuple(shape[axis:])), "scale")
    outputs += graph.add(ops.LayerNorm(axis=axis), x, scale)
    outputs += graph.add(ops.LayerNorm(axis=axis, eps=1e-2), x, scale, scale)
    outputs += graph.add(ops.RmsNorm(axis=axis), x, scale)
    if len(shape) > 1:
        one = graph.add_input(TensorType(dtype, (shape[1],)), "channels")
        outputs += graph.add(ops.BatchNorm(), x, one, one, one, graph.const(np.full(shape[1], 0.7, dtype.numpy)))
        outputs += graph.add(ops.InstanceNorm(eps=0.1), x, one, one)
        groups = data.draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
        outputs += graph.add(ops.GroupNorm(groups=groups, eps=0.1), x, one, one)
    if len(shape) > 2:
        outputs += graph.add(ops.LocalResponseNorm(size=3, alpha=0.5), x)
        outputs += graph.add(ops.LocalResponseNorm(size=4, alpha=0.5, beta=0.6), x)
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    expect_same(graph, {v.name: random_array(rng, v.type) for v in graph.inputs}, rtol=1e-4, atol=1e-5)


def channels_last(t: TensorType) -> TensorType:
    """The type of an image with its channels side by side."""
    return in_order(t, (0, 2, 3, 1))


def test_images_with_channels_side_by_side() -> None:
    graph = Graph("images")
    x = graph.add_input(TensorType(F32, (2, 20, 3, 5)), "x")
    (y,) = graph.add(ConvertLayout(order=(0, 2, 3, 1)), x)
    one = graph.add_input(TensorType(F32, (20,)), "channels")
    positive = graph.const(np.full(20, 0.7, np.float32))
    made: list[tuple[Op, list[Value]]] = [
        (ops.LocalResponseNorm(size=5, alpha=0.5), [y]),
        (ops.LocalResponseNorm(size=4, alpha=0.5, beta=0.6), [y]),
        (ops.InstanceNorm(eps=0.1), [y, one, one]),
        (ops.GroupNorm(groups=4, eps=0.1), [y, one, one]),
        (ops.BatchNorm(), [y, one, one, one, positive]),
        (ops.BatchNorm(), [y, positive, positive, positive, positive]),
        *((ops.Softmax(axis=a), [y]) for a in range(4)),
        *((ops.ReduceMean(axes=a), [y]) for a in ((1,), (2, 3), (0, 3), (1, 2))),
        (ops.Mul(), [y, graph.const(np.arange(20, dtype=np.float32).reshape(20, 1, 1))]),
    ]
    outputs = []
    for op, values in made:
        (found,) = graph.add(op, *values)
        y.type, found.type = channels_last(y.type), channels_last(found.type)
        (back,) = graph.add(ConvertLayout(order=(0, 1, 2, 3)), found)
        back.type = in_order(back.type, (0, 1, 2, 3))
        outputs.append(back)
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    rng = np.random.default_rng(2)
    feeds = {v.name: np.abs(random_array(rng, v.type)) + np.float32(0.1) for v in graph.inputs}
    expect_same(graph, feeds, rtol=1e-4, atol=1e-5)


def test_softmax_of_masked_rows() -> None:
    graph = Graph("masked")
    x = graph.add_input(TensorType(F32, (5, 23)), "x")
    graph.set_outputs([*graph.add(ops.Softmax(axis=1), x), *graph.add(ops.LogSoftmax(axis=1), x)], ["y", "z"])
    feed = np.random.default_rng(5).standard_normal((5, 23)).astype(np.float32) * 10
    feed[0, 5:], feed[1, ::2], feed[2], feed[3, 22], feed[4] = -np.inf, -1e4, 300, np.nan, -np.inf
    expect_same(graph, {"x": feed})


@pytest.mark.parametrize("stored", ["u8", "i8", "i4", "u16", "f8e4m3fn"])
def test_quantization_along_axes_and_in_blocks(stored: str) -> None:
    rng = np.random.default_rng(11)
    graph = Graph("quantized")
    x = graph.add_input(TensorType(F32, (4, 6)), "x")
    outputs = []
    for axis, block, shape in ((None, 0, ()), (0, 0, (4,)), (1, 0, (6,)), (1, 3, (4, 2)), (0, 3, (2, 6))):
        scale = graph.const(rng.uniform(0.1, 0.6, shape).astype(np.float32))
        zero = graph.const(rng.integers(0, 3, shape).astype(DTYPES[stored].numpy))
        (q,) = graph.add(ops.QuantizeLinear(axis=axis, block_size=block, dtype=stored), x, scale, zero)
        outputs += [q, *graph.add(ops.DequantizeLinear(axis=axis, block_size=block), q, scale, zero)]
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    feed = rng.standard_normal((4, 6)).astype(np.float32) * 30
    feed[0, :4] = [np.inf, -np.inf, np.nan, 0.05]
    expect_same(graph, {"x": feed}, rtol=0, atol=0)
