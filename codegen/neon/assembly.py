"""Inline assembly as source: groups of instructions that occur again and again are macros, which a header defines; what
it has is found in any list of instructions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from codegen.rendering import TEMPLATES

INT8, HALVES = "int8_assembly.h", "half_assembly.h"
WIDTH = 104  # letters of instructions in a line of source
NUMBER = re.compile(r"(?<=\b[vq])\d+|(?<=\[)\d+(?=\])|(?<=#)\d+(?=\])")  # of a register, a lane or a place
PARAMETER = re.compile(r"(?<=\b[vq])(?:<\w+>|\d+)|(?<=\[)<\w+>(?=\])|(?<=#)<\w+>(?=\])")


class Macro(NamedTuple):
    """Instructions without their numbers, and for each number the place of the parameter that it is, or the number
    itself as text."""

    name: str
    forms: tuple[str, ...]
    numbers: tuple[int | str, ...]
    arity: int


def _text(header: str) -> str:
    """Of a header, behind that of those that it includes."""
    text = (TEMPLATES / "neon" / header).read_text(encoding="utf-8").replace("\\\n", " ")
    return "".join(map(_text, re.findall(r'^#include "(.*)"$', text, re.MULTILINE))) + text


@cache
def macros(header: str) -> dict[str, list[Macro]]:
    """Those of a header by the form of their first instruction, long ones first, then those of few
    parameters."""
    text = _text(header)
    bodies: dict[str, tuple[list[str], str]] = {}
    found: dict[str, list[Macro]] = {}
    for name, parameters, body in re.findall(r"^#define (\w+)\(([^)]*)\)(.*)$", text, re.MULTILINE):
        names = [p.strip() for p in parameters.split(",")]
        bodies[name] = names, body
        lines = [line for part in _expanded(bodies, body) for line in part]
        forms, numbers = [], list[int | str]()
        for line in lines:
            bare = re.sub(r"<\w+>", "0", line)
            forms.append(NUMBER.sub("@", bare))
            numbers += [names.index(g[1:-1]) if g.startswith("<") else g for g in PARAMETER.findall(line)]
        found.setdefault(forms[0], []).append(Macro(name, tuple(forms), tuple(numbers), len(names)))
    for listed in found.values():
        listed.sort(key=lambda m: (-len(m.forms), m.arity))
    return found


def _expanded(bodies: dict[str, tuple[list[str], str]], body: str) -> Iterator[list[str]]:
    """The instructions of a macro, with its parameters as <name>."""
    for literal, called, given in re.findall(r'((?:"[^"]*"|\s|#\w+)+)|(\w+)\(([^)]*)\)', body):
        if called:
            inner_names, inner = bodies[called]
            values = dict(zip(inner_names, (g.strip() for g in given.split(",")), strict=True))
            for part in _expanded(bodies, inner):
                yield [re.sub(r"<(\w+)>", _replaced(values), line) for line in part]
        elif '"' in literal:
            joined = re.sub(r'"([^"]*)"|\s+', r"\1", re.sub(r"#(\w+)(?=\s)", r'"<\1>"', literal))
            yield [line.strip() for line in joined.split("\\n") if line.strip()]


def _replaced(values: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def given(m: re.Match[str]) -> str:
        value = values[m.group(1)]
        return value if value.isdigit() else f"<{value}>"

    return given


def packed(lines: Sequence[str], header: str) -> list[str]:
    """Lines of source: macros of a header, and strings of some instructions each; labels, and what is a macro already,
    on their own."""
    made: list[str] = []
    now: list[str] = []

    def flush() -> None:
        if now:
            made.append("".join(now).replace('""', ""))
            now.clear()

    for word in _words(lines, macros(header)):
        is_call = word.endswith(")") and word[0].isupper()
        if word.endswith(":") or (word.isupper() and not is_call):
            flush()
            made.append(word if word.isupper() else f'"{word}\\n"')
            continue
        text = f"{word} " if is_call else f'"{word}\\n "'
        if now and len("".join(now).replace('""', "")) + len(text) > WIDTH:
            flush()
        if now and not is_call and now[-1][-1] != '"' and now[-1][-1] != " ":
            now.append(" ")
        if now and is_call and now[-1].endswith('"'):
            now.append(" ")
        now.append(text)
    flush()
    return [line.strip() for line in made]


def _words(lines: Sequence[str], known: Mapping[str, list[Macro]]) -> Iterator[str]:
    """Instructions, and calls of macros in place of those that they stand for."""
    shapes = [(NUMBER.sub("@", line), NUMBER.findall(line)) for line in lines]
    at = 0
    while at < len(lines):
        call = next((c for m in known.get(shapes[at][0], ()) if (c := _call(m, shapes, at))), None)
        if call is None:
            yield lines[at]
            at += 1
        else:
            yield call[0]
            at += call[1]


def _call(macro: Macro, shapes: Sequence[tuple[str, list[str]]], at: int) -> tuple[str, int] | None:
    """The call of a macro that stands for the instructions from `at` on, and their number; None if it is another
    one."""
    count = len(macro.forms)
    some = shapes[at : at + count]
    if tuple(form for form, _ in some) != macro.forms:
        return None
    found: dict[int, str] = {}
    for number, due in zip([n for _, numbers in some for n in numbers], macro.numbers, strict=True):
        if (number if isinstance(due, str) else found.setdefault(due, number)) != (
            due if isinstance(due, str) else number
        ):
            return None
    return f"{macro.name}({', '.join(found[i] for i in range(macro.arity))})", count
