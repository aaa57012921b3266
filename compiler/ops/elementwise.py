"""Element-by-element operations: functions of one operand, broadcasting arithmetic, comparison, logic, choice, cast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import erf
from typing import Any, ClassVar

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, broadcast, expect, op
from compiler.ops.numeric import convert, kind_of, widen
from compiler.tensor import BOOL, DTYPES, Array, DType, TensorType

Sample = tuple[Op, tuple[TensorType | Array | None, ...]]


class Unary(Op):
    """A function of one operand that keeps its type; `kinds` are the DType kinds it accepts.

    Floats of fewer than 32 bits are computed in 32.
    """

    elementwise = True
    kinds: ClassVar[str] = "f"
    function: ClassVar[Callable[..., Any]]

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.kind in self.kinds, f"does not take elements of type {x.dtype}")
        return x

    def evaluate(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.function(widen(x))).astype(x.dtype, copy=False)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), ()) if x.dtype.kind in cls.kinds else None


def _unary(onnx: str, function: Callable[..., Any], kinds: str = "f", since: int = 1) -> type[Unary]:
    body = {"function": staticmethod(function), "kinds": kinds, "__doc__": f"{onnx}, element by element."}
    return op(onnx.lower(), onnx=onnx, since=since)(type(onnx, (Unary,), body))


def erf_of(x: Array) -> Array:
    """The error function, in float64."""
    return np.asarray(np.frompyfunc(erf, 1, 1)(x), np.float64)


Abs = _unary("Abs", np.abs, "fiu")
Neg = _unary("Neg", np.negative, "fi")
Sign = _unary("Sign", np.sign, "fiu")
Floor = _unary("Floor", np.floor)
Ceil = _unary("Ceil", np.ceil)
Round = _unary("Round", np.rint, since=11)
Sqrt = _unary("Sqrt", np.sqrt)
Reciprocal = _unary("Reciprocal", lambda x: 1 / x)
Exp = _unary("Exp", np.exp)
Log = _unary("Log", np.log)
Sin = _unary("Sin", np.sin)
Cos = _unary("Cos", np.cos)
Tan = _unary("Tan", np.tan)
Asin = _unary("Asin", np.arcsin)
Acos = _unary("Acos", np.arccos)
Atan = _unary("Atan", np.arctan)
Sinh = _unary("Sinh", np.sinh, since=9)
Cosh = _unary("Cosh", np.cosh, since=9)
Asinh = _unary("Asinh", np.arcsinh, since=9)
Acosh = _unary("Acosh", np.arccosh, since=9)
Atanh = _unary("Atanh", np.arctanh, since=9)
Tanh = _unary("Tanh", np.tanh)
Erf = _unary("Erf", erf_of, since=9)
Not = _unary("Not", np.logical_not, "b")
BitwiseNot = _unary("BitwiseNot", np.invert, "iu", since=18)


@op("identity", onnx="Identity")
class Identity(Unary):
    """x."""

    kinds = "fiubsc"
    function = staticmethod(lambda x: x)


class Question(Unary):
    """A question about each element: bool out."""

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_float, f"does not take elements of type {x.dtype}")
        return x.with_dtype(BOOL)


@op("isnan", onnx="IsNaN", since=9)
class IsNaN(Question):
    """Whether each element is not a number."""

    def evaluate(self, x: Array) -> Array:
        return np.isnan(widen(x))


@op("isinf", onnx="IsInf", since=10)
class IsInf(Question):
    """Whether each element is infinite, of the chosen signs."""

    detect_negative: int = 1
    detect_positive: int = 1

    def evaluate(self, x: Array) -> Array:
        negative, positive = bool(self.detect_negative), bool(self.detect_positive)
        wide = widen(x)
        return np.isinf(wide) & np.where(wide < 0, negative, positive)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        negative, positive = (int(v) for v in rng.integers(2, size=2))
        return (cls(detect_negative=negative, detect_positive=positive), ()) if x.dtype.is_float else None


class Nary(Op):
    """A function of operands broadcast together."""

    elementwise = True
    kinds: ClassVar[str] = "fiu"
    result: ClassVar[DType | None] = None
    function: ClassVar[Callable[..., Any]]

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        return self.joined(x, y)

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.function(x, y)).astype(self.result.numpy if self.result else x.dtype, copy=False)

    def joined(self, *xs: TensorType) -> TensorType:
        """The type of the broadcast operands, which must share one accepted element type."""
        dtype = xs[0].dtype
        for x in xs:
            expect(x.dtype is dtype, f"operands differ in element type: {', '.join(str(x.dtype) for x in xs)}")
        expect(dtype.kind in self.kinds, f"does not take elements of type {dtype}")
        return TensorType(self.result or dtype, broadcast(*(x.shape for x in xs)))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.kind not in cls.kinds:
            return None
        shape = tuple(1 if rng.random() < 0.3 else d for d in x.shape)
        return cls(), (x.with_shape(shape[int(rng.integers(len(shape) + 1)) :] if rng.random() < 0.3 else shape),)


def _binary(
    onnx: str,
    function: Callable[..., Any],
    kinds: str = "fiu",
    result: DType | None = None,
    since: int = 7,
    swaps: bool = False,
) -> type[Nary]:
    doc = f"{onnx} of two operands, broadcast together."
    body = {"function": staticmethod(function), "kinds": kinds, "result": result, "commutative": swaps, "__doc__": doc}
    return op(onnx.lower(), onnx=onnx, since=since)(type(onnx, (Nary,), body))


def _not_zero(rng: np.random.Generator, x: TensorType) -> Array | TensorType:
    """A random divisor like x: data if it is of integers, which have no quotient by 0."""
    return rng.integers(1, 6, x.dims).astype(x.dtype.numpy) if x.dtype.is_integer else x


Add = _binary("Add", np.add, swaps=True)
Sub = _binary("Sub", np.subtract)
Mul = _binary("Mul", np.multiply, swaps=True)
Equal = _binary("Equal", np.equal, "fiubs", BOOL, swaps=True)
Less = _binary("Less", np.less, result=BOOL)
Greater = _binary("Greater", np.greater, result=BOOL)
LessOrEqual = _binary("LessOrEqual", np.less_equal, result=BOOL, since=12)
GreaterOrEqual = _binary("GreaterOrEqual", np.greater_equal, result=BOOL, since=12)
And = _binary("And", np.logical_and, "b", swaps=True)
Or = _binary("Or", np.logical_or, "b", swaps=True)
Xor = _binary("Xor", np.logical_xor, "b", swaps=True)
BitwiseAnd = _binary("BitwiseAnd", np.bitwise_and, "iu", since=18, swaps=True)
BitwiseOr = _binary("BitwiseOr", np.bitwise_or, "iu", since=18, swaps=True)
BitwiseXor = _binary("BitwiseXor", np.bitwise_xor, "iu", since=18, swaps=True)


@op("div", onnx="Div", since=7)
class Div(Nary):
    """x / y; the quotient of integers is cut towards zero, and 0 where y is 0."""

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            if kind_of(x) == "f":
                return np.asarray(widen(x) / widen(y)).astype(x.dtype, copy=False)
            divisor = np.where(y == 0, 1, y).astype(y.dtype)
            quotient = x // divisor
            inexact = (quotient * divisor != x) & ((x < 0) != (divisor < 0))
            return np.where(y == 0, 0, quotient + inexact).astype(x.dtype)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), (_not_zero(rng, x),)) if x.dtype.is_real and x.is_static else None


@op("pow", onnx="Pow", since=12)
class Pow(Nary):
    """x to the power y; the element types may differ, the result has x's."""

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        expect(x.dtype.is_real and y.dtype.is_real, "needs real element types")
        return TensorType(x.dtype, broadcast(x.shape, y.shape))

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            exact = kind_of(x) == kind_of(y) and (kind_of(y) != "i" or not (y < 0).any())
            return np.asarray(np.power(widen(x), widen(y) if exact else y.astype(np.float64))).astype(x.dtype)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.name not in ("f32", "f64", "i32", "i64") or not x.is_static:
            return None
        exponent = DTYPES[str(rng.choice(["f32", "i64", "i32"]))]
        return cls(), (rng.integers(0, 4, x.dims).astype(exponent.numpy),)


@op("mod", onnx="Mod", since=10)
class Mod(Nary):
    """Remainder with the sign of y (fmod=0, the quotient rounded down) or of x (fmod=1, cut towards zero)."""

    fmod: int = 0

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            remainder = np.fmod if self.fmod else np.mod
            return np.asarray(remainder(widen(x), widen(y))).astype(x.dtype, copy=False)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if not x.dtype.is_real or not x.is_static:
            return None
        return cls(fmod=1 if x.dtype.is_float else int(rng.integers(2))), (_not_zero(rng, x),)


class Variadic(Nary):
    """A function of one or more operands broadcast together."""

    def infer(self, *xs: TensorType) -> TensorType:
        expect(xs, "needs an operand")
        return self.joined(*xs)

    def evaluate(self, *xs: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(reduce(self.function, map(widen, xs))).astype(xs[0].dtype, copy=False)


@op("max", onnx="Max", since=8)
class Max(Variadic):
    """The largest operand; NaN wins."""

    commutative = True
    function = staticmethod(np.maximum)


@op("min", onnx="Min", since=8)
class Min(Variadic):
    """The smallest operand; NaN wins."""

    commutative = True
    function = staticmethod(np.minimum)


@op("sum", onnx="Sum", since=8)
class Sum(Variadic):
    """The sum of all operands, in order."""

    kinds = "f"
    function = staticmethod(np.add)


@op("mean", onnx="Mean", since=8)
class Mean(Variadic):
    """The mean of all operands."""

    kinds = "f"

    def evaluate(self, *xs: Array) -> Array:
        total = np.asarray(reduce(np.add, map(widen, xs)))
        return np.asarray(total / total.dtype.type(len(xs))).astype(xs[0].dtype, copy=False)


@op("where", onnx="Where", since=9)
class Where(Op):
    """x where the condition holds, else y."""

    elementwise = True

    def infer(self, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
        expect(condition.dtype is BOOL, f"needs a boolean condition, got {condition}")
        expect(x.dtype is y.dtype, f"branches differ in element type: {x.dtype} and {y.dtype}")
        return TensorType(x.dtype, broadcast(condition.shape, x.shape, y.shape))

    def evaluate(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), (x.with_dtype(DTYPES["f32"]), x.with_dtype(DTYPES["f32"]))) if x.dtype is BOOL else None


@op("cast", onnx="Cast", since=9)
class Cast(Op):
    """Each element converted to the element type `to`, as `compiler.ops.numeric.convert` says."""

    elementwise = True
    to: str
    saturate: bool = True
    round_mode: str = "up"

    def infer(self, x: TensorType) -> TensorType:
        expect(self.to in DTYPES, f"{self.to!r} is no element type")
        return x.with_dtype(DTYPES[self.to])

    def evaluate(self, x: Array) -> Array:
        return convert(x, DTYPES[self.to], saturate=self.saturate, round_mode=self.round_mode)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Cast:
        return cls(
            to=node.attr("to").name,
            saturate=bool(node.attr("saturate", 1)),
            round_mode=node.attr("round_mode", "up"),
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        float8 = self.to.startswith("f8")
        round_mode = self.round_mode if self.to == "f8e8m0" else None
        return e.node(
            "Cast", *inputs, to=DTYPES[self.to], saturate=int(self.saturate) if float8 else None, round_mode=round_mode
        )

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.kind not in "fiub" or x.dtype.bits < 8:
            return None
        kinds = ["f32", "f16", "f64", "bool"] + ["i64", "i32"] * (x.dtype.kind != "f")
        return cls(to=str(rng.choice([k for k in kinds if k != x.dtype.name]))), ()


def scalar_like(value: float, x: TensorType) -> Array:
    """A rank-0 array of the element type of `x`."""
    return np.array(value, x.dtype.numpy)
