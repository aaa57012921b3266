"""Text from the templates in `codegen/templates`."""

from __future__ import annotations

import re
from functools import cache
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.names import comment, string

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> jinja2.Environment:
    """Undefined names are errors; what templates print is not escaped."""
    import jinja2  # for generated sources alone

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # C, not HTML
    )
    made.filters.update(comment=comment, string=string, literal=literal, uses=uses)
    return made


def render(template: str, **values: object) -> str:
    """The text of a template."""
    return environment().get_template(template).render(**values)


def uses(text: str, header: str) -> bool:
    """Whether a source uses a name that a header of `templates/neon` defines."""
    return not defined(header).isdisjoint(re.findall(r"\w+", text))


@cache
def defined(header: str) -> frozenset[str]:
    """The functions, types and macros of a header of `templates/neon`."""
    text = (TEMPLATES / "neon" / header).read_text(encoding="utf-8")
    functions = re.findall(r"^(?:INLINE|TILE|static inline) [\w *]*?(\w+)\(", text, re.MULTILINE)
    types = re.findall(r"^(?:typedef .*?|}) (\w+);", text, re.MULTILINE)
    return frozenset([*functions, *types, *re.findall(r"^#define (\w+)", text, re.MULTILINE)])


def literal(value: float) -> str:
    """A float constant of C that has exactly the value when rounded to 32 bits."""
    if isnan(value):
        return "NAN"
    if value in (float("inf"), float("-inf")):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
