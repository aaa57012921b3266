"""Expressions in the Metal Shading Language, an element at a time. What is a double elsewhere is a float here."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Dialect, Expression, Number, Writer, number_text, supports
from codegen.metal.kernel import in_metal, metal_type
from codegen.scalar import FLOATS, SCALAR

OWN = {
    "log1p": "log1p_float",
    "erf": "erf_float",
    "expm1_negative": "expm1_float",
    "exp_negative": "exp",
    "sigmoid": "sigmoid_float",
}
MATH = ("sqrt", "exp", "log", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
        "atanh", "floor", "ceil")  # fmt: skip


def _call(name: str) -> Writer:
    return lambda _, a: f"{name}({', '.join(a)})"


def _of_floats(name: str, otherwise: Writer) -> Writer:
    """A function of floats; of other types what C does."""

    def write(e: Apply, a: Sequence[str]) -> str:
        return f"{name}({', '.join(a)})" if e.ctype in FLOATS else in_metal(otherwise(e, a))

    return write


def _plain(writer: Writer) -> Writer:
    return lambda e, a: in_metal(writer(e, a))


def _converted(e: Apply, a: Sequence[str]) -> str:
    """Halves are types of the language."""
    source = e.arguments[0].ctype
    if e.ctype in ("half_t", "bfloat_t") and source in ("float", "double"):
        return f"{metal_type(e.ctype)}({a[0]})"
    if source in ("half_t", "bfloat_t") and e.ctype in ("float", "double"):
        return f"float({a[0]})"
    if source in FLOATS and e.ctype in FLOATS:
        return a[0]
    return in_metal(SCALAR.writers["convert"](e, a))


WRITERS: dict[str, Writer] = {
    **{name: _plain(writer) for name, writer in SCALAR.writers.items()},
    **{name: _call(name) for name in MATH},
    **{name: _call(function) for name, function in OWN.items()},
    "round": _call("rint"),
    "pow": _of_floats("pow", SCALAR.writers["pow"]),
    "abs": _of_floats("fabs", SCALAR.writers["abs"]),
    "cut_rest": _of_floats("fmod", SCALAR.writers["cut_rest"]),
    "floored_rest": _of_floats("floored_rest_real", SCALAR.writers["floored_rest"]),
    "convert": _converted,
}


def _number(number: Number) -> str:
    if number.ctype == "double":
        number = number._replace(value=float(number.value), ctype="float")
    if number.ctype in FLOATS or number.ctype == "bool8_t":
        return number_text(number)
    return integer(int(number.value), number.ctype)


def integer(value: int, ctype: str) -> str:
    """A constant of an integer type of C. The smallest ones are no literals."""
    suffix = f"{'u' * ctype.startswith('u')}{'l' * ('64' in ctype)}"
    if value in (-(1 << 31), -(1 << 63)):
        return f"(-{-value - 1}{suffix} - 1)"
    return f"{value}{suffix}"


METAL = Dialect(WRITERS, _number, metal_type)


def is_metal(expression: Expression) -> bool:
    """Whether an expression can be written."""
    return supports(expression, METAL)
