"""Integer layers through LiteRT: exact at the ends of every element type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.op import Op
from compiler.ops import (
    Abs,
    Add,
    ArgMax,
    ArgMin,
    BitCast,
    BitShift,
    BitwiseAnd,
    BitwiseNot,
    BitwiseOr,
    BitwiseXor,
    Cast,
    CumProd,
    CumSum,
    Div,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Max,
    Min,
    Mod,
    Mul,
    Neg,
    Pow,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    Sign,
    Sub,
    TopK,
    Where,
)
from compiler.ops.numeric import integer_range
from compiler.tensor import DTYPES, Array, DType, type_of
from tests.one_op import layer_of
from tests.targets.tflite_harness import emitted

INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
BINARY: tuple[Op, ...] = (
    Add(), Sub(), Mul(), Div(), Mod(), Mod(fmod=1), Max(), Min(), Equal(), Less(), LessOrEqual(), Greater(),
    GreaterOrEqual(), BitwiseAnd(), BitwiseOr(), BitwiseXor(),
)  # fmt: skip


def numbers(dtype: DType, seed: int, count: int = 96) -> Array:
    """The ends of the range, small numbers, and numbers of every size."""
    rng = np.random.default_rng(seed)
    low, high = integer_range(dtype)
    bits = rng.integers(0, dtype.bits, count)
    raw = [int(v) for v in rng.integers(0, 1 << 63, count, dtype=np.uint64)]
    sized = [(low + v % (high - low + 1)) // (1 << int(b)) for v, b in zip(raw, bits, strict=True)]
    values = [low, low + 1, high, high - 1, 0, 1, 2, 3, 7, *sized, *([-1, -2, -7] if low < 0 else [])]
    return np.array(rng.permutation(np.array(values, object)), dtype.numpy)


def executed(op: Op, tmp_path: Path, x: Array, *others: Array) -> None:
    """The layer on run-time operands gives what it means, bit for bit."""
    graph = layer_of(op, tuple(type_of(a) for a in others), type_of(x))
    feeds = dict(zip((v.name for v in graph.inputs), (x, *others), strict=True))
    expected = evaluate(graph, feeds)
    results = emitted(graph, tmp_path / "m.tflite").run(feeds)
    for name, array in expected.items():
        wrong = np.flatnonzero(results[name] != array)[:4]
        operands = [np.broadcast_to(a, array.shape).reshape(-1)[wrong] for a in (x, *others) if a.size == array.size]
        assert results[name].dtype == array.dtype and not len(wrong), (
            f"{op.name} of {operands} is {results[name].reshape(-1)[wrong]}, not {array.reshape(-1)[wrong]}"
        )


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("op", BINARY, ids=lambda op: f"{op.name}{getattr(op, 'fmod', '')}")
def test_two_operands(op: Op, name: str, tmp_path: Path) -> None:
    x, y = numbers(DTYPES[name], 0), numbers(DTYPES[name], 1)
    if isinstance(op, Div | Mod):
        traps = (x == integer_range(DTYPES[name])[0]) & (y.astype(object) == -1)  # in the kernel as in C
        x, y = x[~traps], y[~traps]
    executed(op, tmp_path, x, y)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("divisor", [1, 3, 60, 100])
def test_constant_divisors(name: str, divisor: int, tmp_path: Path) -> None:
    x = numbers(DTYPES[name], 2)
    for op in (Div(), Mod(), Mod(fmod=1)):
        graph = layer_of(op, (np.array(divisor, x.dtype),), type_of(x))
        result = emitted(graph, tmp_path / "m.tflite").run({"x0": x})["y0"]
        assert np.array_equal(result, evaluate(graph, {"x0": x})["y0"])


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(direction: str, name: str, tmp_path: Path) -> None:
    x = numbers(DTYPES[name], 3)
    bits = DTYPES[name].bits
    by = np.array(np.random.default_rng(4).integers(-2 if name[0] == "i" else 0, bits + 3, x.shape), x.dtype)
    executed(BitShift(direction=direction), tmp_path, x, by)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("op", [Abs(), Neg(), Sign(), BitwiseNot()], ids=lambda op: op.name)
def test_one_operand(op: Op, name: str, tmp_path: Path) -> None:
    if name[0] == "u" and isinstance(op, Neg):
        pytest.skip("signed element types only")
    executed(op, tmp_path, numbers(DTYPES[name], 5))


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("exponents", ["i32", "i64", "u8", "f32"])
def test_powers(name: str, exponents: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    low, high = integer_range(DTYPES[name])
    y = rng.integers(0, 7, 64)
    span = np.array([int(high ** (1 / max(1, int(e)))) - 1 for e in y.tolist()])
    x = np.array([int(rng.integers(max(low, -s), s + 1)) for s in np.minimum(span, 1 << 20)], DTYPES[name].numpy)
    if DTYPES[exponents].kind != name[0]:  # ONNX means the power of two doubles
        fits = np.abs(x.astype(np.float64)) ** y < 2**52
        x, y = x[fits], y[fits]
    executed(Pow(), tmp_path, x, y.astype(DTYPES[exponents].numpy))


def test_negative_powers(tmp_path: Path) -> None:
    x = np.array([1, -1, -1, 2, -3, 7, 5], np.int32)
    executed(Pow(), tmp_path, x, np.array([-3, -3, -2, -1, -2, -1, 2], np.int32))
    executed(Pow(), tmp_path, x.astype(np.int64), np.array([-3, -3, -2, -1, -2, -1, 2], np.int64))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("to", [*INTEGERS, "f32", "bool"])
def test_casts(source: str, to: str, tmp_path: Path) -> None:
    executed(Cast(to=to), tmp_path, numbers(DTYPES[source], 7))


@pytest.mark.parametrize("to", ["i32", "i64", "u8", "u32", "u64"])
def test_casts_of_floats(to: str, tmp_path: Path) -> None:
    _, high = integer_range(DTYPES[to])
    x = np.array([0.0, 0.9, 1.5, 100.99, high / 3, high / 2, high * 0.75], np.float32)
    executed(Cast(to=to), tmp_path, np.concatenate([x, -x]) if to[0] == "i" else x)


@pytest.mark.parametrize(("source", "to"), [("f32", "i32"), ("i32", "f32"), ("f32", "u32"), ("u32", "f32"),
                                            ("f16", "u16"), ("i16", "f16"), ("u64", "i64"), ("i32", "u32"),
                                            ("u32", "i32"), ("i8", "u8"), ("u16", "i16")])  # fmt: skip
def test_bits_read_as_another_type(source: str, to: str, tmp_path: Path) -> None:
    floats = {"f32": np.float32, "f16": np.float16}
    if source in floats:
        x = np.random.default_rng(8).standard_normal(64).astype(floats[source])
    else:
        x = numbers(DTYPES[source], 9)
        x = (
            np.abs(x // 4 if source in ("i32", "u32") else x // 8) if to[0] == "f" else x
        )  # no NaN, whose bits may change
    executed(BitCast(to=to), tmp_path, x)


def test_the_bits_of_doubles_are_not_kept(tmp_path: Path) -> None:
    graph = layer_of(BitCast(to="i64"), (), type_of(np.zeros(3)))
    with pytest.raises(LegalityError, match="double and bfloat16, which are held in float32"):
        emitted(graph, tmp_path / "m.tflite")


@pytest.mark.parametrize("name", INTEGERS)
def test_means_and_choices(name: str, tmp_path: Path) -> None:
    x = (numbers(DTYPES[name], 10)[:100] // (1 << max(1, DTYPES[name].bits - 48))).reshape(-1, 4)
    if name not in ("u32", "u64"):
        executed(ReduceMean(axes=(1,), keepdims=True), tmp_path, x)
    executed(Where(), tmp_path, x > 1, x, x[::-1].copy())


REDUCTIONS: tuple[Op, ...] = (
    ReduceMax(axes=(1,)), ReduceMin(axes=(0,), keepdims=False), ReduceSum(axes=(1,)), ReduceProd(axes=(1,)),
    ArgMax(axis=1), ArgMin(axis=0, keepdims=False), ArgMax(axis=1, select_last_index=True), CumSum(axis=1),
    CumSum(axis=0, exclusive=True, reverse=True), CumProd(axis=1),
)  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("op", REDUCTIONS, ids=str)
def test_reductions(op: Op, name: str, tmp_path: Path) -> None:
    executed(op, tmp_path, numbers(DTYPES[name], 13)[:100].reshape(10, 10))


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("largest", [True, False])
def test_the_largest_of_each_type(name: str, largest: bool, tmp_path: Path) -> None:
    x = numbers(DTYPES[name], 11)[:40].reshape(4, 10)
    x = np.array([np.random.default_rng(12).permutation(np.unique(row)[:5]) for row in x])
    executed(TopK(k=3, axis=1, largest=largest), tmp_path, x)
