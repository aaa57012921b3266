"""Expressions of floats with vectors of four; booleans are masks."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Dialect, Number, Writer, number_text

LANES = 4
TYPES = {"float": "float32x4_t", "bool8_t": "uint32x4_t"}


def _call(name: str) -> Writer:
    return lambda _, a: f"{name}({', '.join(a)})"


def _each(name: str) -> Writer:
    """A function of math.h, a lane at a time."""
    return lambda _, a: f"each{'_pair' if len(a) > 1 else ''}_f32x4({name}, {', '.join(a)})"


def _unequal(_: Apply, a: Sequence[str]) -> str:
    return f"vmvnq_u32(vceqq_f32({a[0]}, {a[1]}))"


INTRINSICS = {
    "add": "vaddq_f32",
    "sub": "vsubq_f32",
    "mul": "vmulq_f32",
    "div": "vdivq_f32",
    "neg": "vnegq_f32",
    "abs": "vabsq_f32",
    "max": "vmaxq_f32",
    "min": "vminq_f32",
    "sqrt": "vsqrtq_f32",
    "floor": "vrndmq_f32",
    "ceil": "vrndpq_f32",
    "round": "vrndnq_f32",
    "equal": "vceqq_f32",
    "less": "vcltq_f32",
    "greater": "vcgtq_f32",
    "less_or_equal": "vcleq_f32",
    "greater_or_equal": "vcgeq_f32",
    "and": "vandq_u32",
    "or": "vorrq_u32",
    "xor": "veorq_u32",
    "not": "vmvnq_u32",
    "select": "vbslq_f32",
}
MATH = ("exp", "exp_negative", "expm1_negative", "log", "log1p", "sigmoid", "tanh", "erf", "sin", "cos", "pow")
LONG = {name: f"{name}_f32x4" for name in MATH}  # functions of simd_math.h
EACH = {name: f"{name}f" for name in ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")}
WRITERS: dict[str, Writer] = {
    **{name: _call(intrinsic) for name, intrinsic in (INTRINSICS | LONG).items()},
    **{name: _each(function) for name, function in EACH.items()},
    "sign": _call("sign_f32x4"),
    "unequal": _unequal,
    "cut_rest": _each("fmodf"),
    "floored_rest": _each("floored_rest_f32"),
}


def _number(number: Number) -> str:
    if number.ctype == "bool8_t":
        return f"vdupq_n_u32({'UINT32_MAX' if number.value else '0'})"
    return f"vdupq_n_f32({number_text(number)})"


VECTOR = Dialect(WRITERS, _number, lambda ctype: TYPES[ctype])
