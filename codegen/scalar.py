"""Expressions in plain C, an element at a time.

Types of C: float, double, int8_t to uint64_t, and those of numbers.h. Arithmetic is on the plain ones alone; what is
stored in others is converted before and after.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Dialect, Writer, number_text

FLOATS = ("float", "double")
SMALL_FLOATS = ("f8e4m3fn_t", "f8e4m3fnuz_t", "f8e5m2_t", "f8e5m2fnuz_t", "f8e8m0_t", "f4e2m1_t")
HELD = {  # types that are held as their bits -> the plain type of their values
    **dict.fromkeys(("half_t", "bfloat_t", *SMALL_FLOATS), "float"),
    **dict.fromkeys(("int4_t", "int2_t", "uint4_t", "uint2_t"), "int32_t"),
}
ROUNDED_HALF_UP = {"up": "0.5f, 0", "nearest": "0.75f, 1", "down": "1.0f, 1"}  # above which mantissa, and whether at it


def wide_of(ctype: str) -> str:
    """The type without a sign in which integers of a type wrap around."""
    return "uint64_t" if "64" in ctype else "uint32_t"


def is_unsigned(ctype: str) -> bool:
    """Whether an integer has no sign."""
    return ctype.startswith("u")


def _infix(sign: str) -> Writer:
    """Of floats as it is; integers wrap around, so they are computed without a sign."""

    def write(e: Apply, a: Sequence[str]) -> str:
        if e.ctype in FLOATS:
            return f"{a[0]} {sign} {a[1]}"
        wide = wide_of(e.ctype)
        return f"({e.ctype})(({wide}){a[0]} {sign} ({wide}){a[1]})"

    return write


def _call(name: str) -> Writer:
    """A function of math.h, whose version for float ends in f."""
    return lambda e, a: f"{name}{'f' if e.ctype == 'float' else ''}({', '.join(a)})"


def _of_integers(name: str) -> Writer:
    """A function of numbers.h for 64 bits, with and without sign."""
    return lambda e, a: f"({e.ctype}){name}_{'uint64' if is_unsigned(e.ctype) else 'int64'}({', '.join(a)})"


def _compare(sign: str) -> Writer:
    return lambda _, a: f"{a[0]} {sign} {a[1]}"


def _bits(sign: str) -> Writer:
    return lambda e, a: f"({e.ctype})({a[0]} {sign} {a[1]})"


def _quotient(e: Apply, a: Sequence[str]) -> str:
    if e.ctype in FLOATS:
        return f"{a[0]} / {a[1]}"
    bits = 64 if "64" in e.ctype else 32
    return f"({e.ctype})quotient_{'u' * is_unsigned(e.ctype)}int{bits}({a[0]}, {a[1]})"


def _negative(e: Apply, a: Sequence[str]) -> str:
    return f"-{a[0]}" if e.ctype in FLOATS else f"({e.ctype})(0u - ({wide_of(e.ctype)}){a[0]})"


def _magnitude(e: Apply, a: Sequence[str]) -> str:
    if e.ctype in FLOATS:
        return f"{'fabsf' if e.ctype == 'float' else 'fabs'}({a[0]})"
    return a[0] if is_unsigned(e.ctype) else f"({a[0]} < 0 ? {_negative(e, a)} : {a[0]})"


def _sign(e: Apply, a: Sequence[str]) -> str:
    if e.ctype in FLOATS:
        return f"({a[0]} != {a[0]} ? {a[0]} : ({e.ctype})(({a[0]} > 0) - ({a[0]} < 0)))"
    return f"({e.ctype})({a[0]} > 0)" if is_unsigned(e.ctype) else f"({e.ctype})(({a[0]} > 0) - ({a[0]} < 0))"


def _extreme(sign: str) -> Writer:
    """NaN wins, as it does in NEON's fmax and fmin."""

    def write(e: Apply, a: Sequence[str]) -> str:
        is_nan = f" || {a[0]} != {a[0]}" if e.ctype in FLOATS else ""
        return f"({a[0]} {sign} {a[1]}{is_nan} ? {a[0]} : {a[1]})"

    return write


def _floored_rest(e: Apply, a: Sequence[str]) -> str:
    if e.ctype in FLOATS:
        return f"({e.ctype})floored_rest_real({a[0]}, {a[1]})"
    name = "cut_rest_uint64" if is_unsigned(e.ctype) else "floored_rest_int64"
    return f"({e.ctype}){name}({a[0]}, {a[1]})"


def _cut_rest(e: Apply, a: Sequence[str]) -> str:
    return _call("fmod")(e, a) if e.ctype in FLOATS else _of_integers("cut_rest")(e, a)


def _power(e: Apply, a: Sequence[str]) -> str:
    return _call("pow")(e, a) if e.ctype in FLOATS else _of_integers("power")(e, a)


def _shift_left(e: Apply, a: Sequence[str]) -> str:
    wide, width = wide_of(e.ctype), int(e.numbers[0])
    return f"((uint64_t){a[1]} >= {width} ? 0 : ({e.ctype})(({wide}){a[0]} << {a[1]}))"


def _shift_right(e: Apply, a: Sequence[str]) -> str:
    beyond = "0" if is_unsigned(e.ctype) else f"({a[0]} < 0 ? -1 : 0)"
    return f"({e.ctype})((uint64_t){a[1]} >= {int(e.numbers[0])} ? {beyond} : {a[0]} >> {a[1]})"


def _convert(e: Apply, a: Sequence[str]) -> str:
    """From the type of the operand to that of the result. `numbers` hold whether small floats saturate, and how powers
    of two are rounded (an index into ROUNDED_HALF_UP)."""
    source, text = e.arguments[0].ctype, a[0]
    if source == e.ctype:
        return text
    if source in HELD:
        plain = HELD[source]
        text = f"{source.removesuffix('_t')}_to_{'float' if plain == 'float' else 'int'}({text})"
        source = plain
    elif source == "bool8_t":
        text, source = f"({text} != 0)", "int32_t"
    if e.ctype == "bool8_t":
        return f"{text} != 0"
    if e.ctype in HELD:
        return _held(e, source, text)
    return text if source == e.ctype and text != a[0] else _plain(e.ctype, source, text)


def _held(e: Apply, source: str, text: str) -> str:
    name = e.ctype.removesuffix("_t")
    if HELD[e.ctype] == "int32_t":
        return f"int_to_{name}({f'real_to_int32({text})' if source in FLOATS else f'(int64_t){text}'})"
    if source != "float":
        text = f"odd_float({text})" if source == "double" and e.ctype != "bfloat_t" else f"(float){text}"
    saturates, rounding = (int(n) for n in (e.numbers or (1, 0)))
    if e.ctype == "f8e8m0_t":
        return f"float_to_{name}({text}, {saturates}, {list(ROUNDED_HALF_UP.values())[rounding]})"
    return f"float_to_{name}({text}{f', {saturates}' if e.ctype.startswith('f8') else ''})"


def _plain(ctype: str, source: str, text: str) -> str:
    if source not in FLOATS or ctype in FLOATS:
        return f"({ctype}){text}"
    if ctype in ("int64_t", "uint64_t", "int32_t"):
        return f"real_to_{ctype.removesuffix('_t')}({text})"
    return f"({ctype})real_to_{'int64' if ctype == 'uint32_t' else 'int32'}({text})"


MATH = ("sqrt", "exp", "log", "log1p", "tanh", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
        "cosh", "asinh", "acosh", "atanh", "floor", "ceil")  # fmt: skip

WRITERS: dict[str, Writer] = {
    **{name: _call(name) for name in MATH},
    "exp_negative": _call("exp"),
    "expm1_negative": _call("expm1"),
    "round": _call("rint"),
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "div": _quotient,
    "neg": _negative,
    "abs": _magnitude,
    "sign": _sign,
    "max": _extreme(">"),
    "min": _extreme("<"),
    "equal": _compare("=="),
    "unequal": _compare("!="),
    "less": _compare("<"),
    "greater": _compare(">"),
    "less_or_equal": _compare("<="),
    "greater_or_equal": _compare(">="),
    "and": _compare("&&"),
    "or": _compare("||"),
    "xor": lambda _, a: f"({a[0]} != 0) != ({a[1]} != 0)",
    "not": lambda _, a: f"!{a[0]}",
    "select": lambda _, a: f"({a[0]} ? {a[1]} : {a[2]})",
    "bit_and": _bits("&"),
    "bit_or": _bits("|"),
    "bit_xor": _bits("^"),
    "bit_not": lambda e, a: f"({e.ctype})~{a[0]}",
    "shift_left": _shift_left,
    "shift_right": _shift_right,
    "floored_rest": _floored_rest,
    "cut_rest": _cut_rest,
    "pow": _power,
    "cut": lambda e, a: f"({e.ctype}){a[0]}",  # of what fits
    "convert": _convert,
}  # fmt: skip

SCALAR = Dialect(WRITERS, number_text, lambda ctype: ctype)
