"""Expressions of floats with vectors of four; booleans are masks, and halves are floats once they are loaded."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Dialect, Expression, Number, Writer, number_text, supports

LANES = 4
TYPES = {"float": "float32x4_t", "half_t": "float32x4_t", "bool8_t": "uint32x4_t"}
FLOATS = ("float", "half_t")


def _call(name: str) -> Writer:
    return lambda _, a: f"{name}({', '.join(a)})"


def _each(name: str) -> Writer:
    """A function of math.h, a lane at a time."""
    return lambda _, a: f"each{'_pair' if len(a) > 1 else ''}_f32x4({name}, {', '.join(a)})"


def _unequal(_: Apply, a: Sequence[str]) -> str:
    return f"vmvnq_u32(vceqq_f32({a[0]}, {a[1]}))"


def _convert(e: Apply, a: Sequence[str]) -> str:
    """Between floats and halves."""
    return f"round_half_f32x4({a[0]})" if e.ctype == "half_t" else a[0]


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
    "convert": _convert,
    "cut_rest": _each("fmodf"),
    "floored_rest": _each("floored_rest_f32"),
}


def _number(number: Number) -> str:
    if number.ctype == "bool8_t":
        return f"vdupq_n_u32({'UINT32_MAX' if number.value else '0'})"
    return f"vdupq_n_f32({number_text(number)})"


VECTOR = Dialect(WRITERS, _number, lambda ctype: TYPES[ctype])
HALVES = Dialect(
    {f: _call(INTRINSICS[f].replace("f32", "f16")) for f in ("add", "sub", "mul", "neg", "abs", "max", "min")},
    lambda number: f"vdupq_n_f16((float16_t){number_text(number)})",
    lambda _: "float16x8_t",
)  # eight halves, for processors that compute with them


def is_vector(expression: Expression) -> bool:
    """Whether an expression is one of floats, halves and booleans that vectors have."""
    return supports(expression, VECTOR) and _is_known(expression)


def _is_known(e: Expression) -> bool:
    if e.ctype not in TYPES or (isinstance(e, Number) and e.ctype == "half_t"):
        return False
    if not isinstance(e, Apply):
        return True
    if e.function == "convert" and (e.ctype not in FLOATS or e.arguments[0].ctype not in FLOATS):
        return False
    return all(map(_is_known, e.arguments))


def unrounded(expression: Expression) -> Expression:
    """What is rounded to halves when it is stored."""
    is_rounded = isinstance(expression, Apply) and expression.function == "convert" and expression.ctype == "half_t"
    return expression.arguments[0] if isinstance(expression, Apply) and is_rounded else expression


def loaded(ctype: str, place: str, count: str = "") -> str:
    """Four elements in memory, floats or halves, as floats; the first `count`, then zeros, if that is said."""
    if ctype == "half_t":
        return f"load_half({place}, {count})" if count else f"load_half_x4({place})"
    return f"load_f32({place}, {count})" if count else f"vld1q_f32({place})"


def stored(ctype: str, place: str, value: str, count: str = "") -> str:
    """The statement that stores four floats as elements in memory, or the first `count` of them."""
    name = ("store_half" if count else "store_half_x4") if ctype == "half_t" else "store_f32" if count else "vst1q_f32"
    return f"{name}({place}, {value}{f', {count}' if count else ''});"
