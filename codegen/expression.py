"""Expressions of elements: what fused loops and the ends of products compute, as data.

An expression is a tree of plain records; a dialect says how each function is written in C for one element, or with
vectors. Equal parts are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isinf, isnan
from typing import NamedTuple

from codegen.rendering import literal


class Operand(NamedTuple):
    """An element of the operand `index`, of a type of C."""

    index: int  # type: ignore[assignment]  # nobody looks for an element of the tuple
    ctype: str = "float"


class Number(NamedTuple):
    """A constant."""

    value: float | int
    ctype: str = "float"
    is_number: bool = True  # tuples of the same length would be equal to operands


class Apply(NamedTuple):
    """A function of elements; `ctype` is the type of its result, `numbers` its constants."""

    function: str
    arguments: tuple[Expression, ...]
    ctype: str = "float"
    numbers: tuple[float, ...] = ()


Expression = Operand | Number | Apply
Writer = Callable[[Apply, Sequence[str]], str]  # given an application and its arguments as text


class Dialect(NamedTuple):
    """How expressions are written.

    writers  function -> its text
    number   of a constant
    declare  the type of a variable that holds a result of a type of C
    """

    writers: Mapping[str, Writer]
    number: Callable[[Number], str]
    declare: Callable[[str], str]


class Body(NamedTuple):
    """Statements, one a line, and the name of what they compute."""

    lines: Sequence[str]
    result: str


def write(expression: Expression, dialect: Dialect, operands: Mapping[int, str], prefix: str = "t") -> Body:
    """The statements that compute an expression of named operands. KeyError for a function that the dialect lacks."""
    lines, (result,) = write_all([expression], dialect, operands, prefix)
    return Body(lines, result)


def write_all(
    expressions: Sequence[Expression], dialect: Dialect, operands: Mapping[int, str], prefix: str = "t"
) -> tuple[list[str], list[str]]:
    """The same for several expressions: the statements, and the names of what they compute."""
    lines: list[str] = []
    names: dict[Expression, str] = {}

    def name(e: Expression) -> str:
        if isinstance(e, Operand):
            return operands[e.index]
        if e in names:
            return names[e]
        if isinstance(e, Number):
            return dialect.number(e)
        text = dialect.writers[e.function](e, [name(a) for a in e.arguments])
        names[e] = f"{prefix}{len(names)}"
        lines.append(f"const {dialect.declare(e.ctype)} {names[e]} = {text};")
        return names[e]

    results = [name(e) for e in expressions]
    return lines, results


def functions(expression: Expression) -> list[str]:
    """The functions in an expression, from the first that is computed to the last, each once."""
    found: dict[str, None] = {}

    def visit(e: Expression) -> None:
        if isinstance(e, Apply):
            for argument in e.arguments:
                visit(argument)
            found[e.function] = None

    visit(expression)
    return list(found)


def operands(expression: Expression) -> list[Operand]:
    """The operands that it reads, in rising order."""
    found: set[Operand] = set()

    def visit(e: Expression) -> None:
        if isinstance(e, Operand):
            found.add(e)
        elif isinstance(e, Apply):
            for argument in e.arguments:
                visit(argument)

    visit(expression)
    return sorted(found)


def substitute(expression: Expression, replacements: Mapping[int, Expression]) -> Expression:
    """The expression with operands replaced by expressions."""
    if isinstance(expression, Operand):
        return replacements.get(expression.index, expression)
    if isinstance(expression, Number):
        return expression
    return expression._replace(arguments=tuple(substitute(a, replacements) for a in expression.arguments))


def supports(expression: Expression, dialect: Dialect) -> bool:
    """Whether a dialect has all its functions."""
    return all(f in dialect.writers for f in functions(expression))


def number_text(number: Number) -> str:
    """A constant as C writes it."""
    value, ctype = number.value, number.ctype
    if ctype == "float":
        return literal(float(value))
    if ctype == "double":
        return literal(float(value)) if isinf(value) or isnan(value) else repr(float(value))
    bits = int("".join(c for c in ctype if c.isdigit()) or 32)
    if bits < 32 or ctype == "bool8_t":
        return str(int(value))
    if ctype.startswith("u"):
        return f"UINT64_C({int(value)})" if bits == 64 else f"{int(value)}u"
    if value == -(1 << bits - 1):
        return f"INT{bits}_MIN"
    return f"INT64_C({int(value)})" if bits == 64 else str(int(value))


def is_within(expression: Expression, most: int) -> bool:
    """Whether an expression has at most so many parts, those that occur several times counted as often."""
    left = most

    def visit(e: Expression) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and (not isinstance(e, Apply) or all(map(visit, e.arguments)))

    return visit(expression)
