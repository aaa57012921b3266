"""Sources that run a plan of dispatches on Metal: Swift, Objective-C++, a program that times it, and how to build."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from codegen.metal.glue_layout import Argument, Layout, Port, Step, Value, layout
from codegen.metal.swift_names import cell, note, swift_string
from codegen.names import string
from codegen.rendering import render

FILES = ("Model.swift", "main.swift", "Model.h", "Model.mm", "README.md")
LONGEST = 120  # letters of a line
EXACT = 2**24  # numbers below are shown as they are: sizes, not the bits of floats


def glue_files(plan: Mapping[str, Any]) -> dict[str, str]:  # Any: what JSON holds
    """The text of every file beside `model.metal`, `plan.json` and `weights.bin`, by name. `plan` is what `plan.json`
    holds; ValueError if it is inconsistent."""
    made = layout(plan)
    values: dict[str, object] = {
        "plan": made,
        "title": note(made.title),
        "family": _family(made.family),
        "kernels": list(dict.fromkeys(step.kernel for step in made.steps)),
        "largest": _largest(made),
        "barriers": sum(step.barrier for step in made.steps),
        "swift": {
            "values": [_swift_value(v) for v in made.values],
            "inputs": [_swift_port(p) for p in made.inputs],
            "outputs": [_swift_port(p) for p in made.outputs],
            "steps": [_swift_step(s) for s in made.steps],
            "weights": swift_string(made.weights_file),
            "name": swift_string(made.title),
        },
        "objc": {
            "values": [_objc_value(v) for v in made.values],
            "inputs": [_objc_port(p) for p in made.inputs],
            "outputs": [_objc_port(p) for p in made.outputs],
            "steps": [_objc_step(s) for s in made.steps],
            "weights": string(made.weights_file),
            "name": string(made.title),
        },
        "cell": cell,
    }
    return {name: render(f"metal/{name}.j2", **values) for name in FILES}


def _family(name: str) -> int:
    """The raw value of MTLGPUFamily: 1007 for `apple7`; 0 for a name that is none."""
    found = re.fullmatch(r"apple(\d+)", name.lower())
    return 1000 + int(found[1]) if found else 0


def _largest(plan: Layout) -> dict[str, int]:
    """The most arguments, numbers and threadgroup buffers of a dispatch, at least 1: lengths of arrays of C."""
    return {
        "arguments": max([1, *(len(s.arguments) for s in plan.steps)]),
        "numbers": max([1, *(len(s.numbers) for s in plan.steps)]),
        "memory": max([1, *(len(s.memory) for s in plan.steps)]),
    }


def _swift_value(v: Value) -> str:
    place = f".{v.place}({v.slot})" if v.place in ("input", "output") else f".{v.place}"
    return f"static let {v.name} = Value({place}, offset: {v.offset}, nbytes: {v.nbytes})"


def _swift_port(p: Port) -> str:
    shape = ", ".join(map(str, p.shape))
    sizes = "" if p.sizes is None else f", sizes: {p.sizes}"
    head = f"Port(name: {swift_string(p.name)}, type: {swift_string(p.type)}"
    return f"{head}, shape: [{shape}], stride: {p.stride}, nbytes: {p.nbytes}{sizes})"


def _swift_step(s: Step) -> list[str]:
    """Lines of a dispatch, without the indent of the first."""
    parts = [
        f"step({swift_string(s.kernel)}",
        f"grid: ({_list(s.grid)})",
        f"threads: ({_list(s.threads)})",
        *_bracketed("", map(_swift_argument, s.arguments)),
    ]
    if s.numbers:
        parts += _bracketed("numbers: ", map(_number, s.numbers))
    if s.memory:
        parts += _bracketed("memory: ", map(str, s.memory))
    if s.barrier:
        parts.append("barrier: true")
    parts[-1] += ")"
    return _lines(parts, indent=4)


def _swift_argument(a: Argument) -> str:
    return f".{a.value.name}.at({a.offset})" if a.offset else f".{a.value.name}"


def _objc_value(v: Value) -> tuple[str, str]:
    """The name of a value, and its row."""
    return f"{v.place}_{v.name}", f"{{Place{v.place.capitalize()}, {v.slot}, {v.offset}, {v.nbytes}}}"


def _objc_port(p: Port) -> str:
    shape = ", ".join(f"@{n}" for n in p.shape)
    sizes = "NSNotFound" if p.sizes is None else str(p.sizes)
    return (
        f"port(@{string(p.name)}, @{string(p.type)}, @[ {shape} ], {p.stride}, {p.nbytes}, {sizes})"
        if shape
        else f"port(@{string(p.name)}, @{string(p.type)}, @[], {p.stride}, {p.nbytes}, {sizes})"
    )


def _objc_step(s: Step) -> list[str]:
    arguments = (f"{{{a.value.place}_{a.value.name}, {a.offset}}}" for a in s.arguments)
    parts = [
        f"{{{string(s.kernel)}",
        f"{{{_list(s.grid)}}}",
        f"{{{_list(s.threads)}}}",
        str(len(s.arguments)),
        *_bracketed("", arguments, "{}"),
        str(len(s.numbers)),
        *_bracketed("", map(_number, s.numbers), "{}"),
        str(len(s.memory)),
        *_bracketed("", map(str, s.memory), "{}"),
        f"{'true' if s.barrier else 'false'}}},",
    ]
    return _lines(parts, indent=4)


def _number(bits: int) -> str:
    return str(bits) if bits < EXACT else f"0x{bits:08x}"


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _bracketed(label: str, items: Iterable[str], marks: str = "[]") -> list[str]:
    """Pieces of a list between which a line may be broken."""
    pieces = list(items) or [""]
    pieces[0] = label + marks[0] + pieces[0]
    pieces[-1] += marks[1]
    return pieces


def _lines(pieces: list[str], indent: int) -> list[str]:
    """The pieces with commas between them, on as many lines as they need; those after the first stand further in."""
    lines = [" " * indent + pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) + 3 <= LONGEST:
            lines[-1] += f", {piece}"
        else:
            lines[-1] += ","
            lines.append(" " * (indent + 4) + piece)
    lines[0] = lines[0][indent:]
    return lines
