"""A plan against the text that it runs: what a driver of Metal would refuse, and the description that the program
reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

from codegen.metal.plan import VERSION
from compiler.errors import EmitError
from targets.metal.execute.text import KernelText, Parameter, Token, members

MEMORY, THREADS, ALIGNMENT = 32768, 1024, 16  # bytes of threadgroup memory and threads of a threadgroup
_NUMBERS = {"uint": "<I", "int": "<i", "float": "<f"}
Plan = dict[str, Any]  # of JSON


def check(plan: Plan, kernels: Sequence[KernelText], words: Sequence[Token]) -> None:
    """EmitError for a plan of another version, buffers that do not fit their place, and the first dispatch that does
    not fit its kernel or the limits of a threadgroup."""
    if plan.get("version") != VERSION:
        raise EmitError(f"the plan is of version {plan.get('version')}, this program reads {VERSION}")
    known = {k.name: k for k in kernels}
    names = [b["name"] for b in plan["buffers"]]
    if len(set(names)) != len(names):
        raise EmitError("two buffers of the plan have one name")
    sizes = {b["name"]: b["nbytes"] for b in plan["buffers"]}
    for b in plan["buffers"]:
        room = plan[b["place"]]["nbytes"] if b["place"] in ("heap", "weights") else b["nbytes"]
        if b["offset"] < 0 or b["offset"] + b["nbytes"] > room:
            raise EmitError(f"buffer {b['name']} lies beyond the {b['place']} of {room} bytes")
    for i, d in enumerate(plan["dispatches"]):
        where = f"dispatch {i} of kernel {d['kernel']}"
        if d["kernel"] not in known:
            raise EmitError(f"{where}: the text has no such kernel")
        _check_launch(d, known[d["kernel"]], where)
        _check_bindings(d, known[d["kernel"]], where, sizes, words)


def _check_launch(d: Plan, k: KernelText, where: str) -> None:
    x, y, z = d["threads"]
    if x * y * z > min(k.max_threads, THREADS):
        raise EmitError(
            f"{where}: {x * y * z} threads per threadgroup, at most {min(k.max_threads, THREADS)} are allowed"
        )
    if min(*d["threads"], *d["threadgroups"]) < 1:
        raise EmitError(f"{where}: a grid of {d['threadgroups']} threadgroups of {d['threads']} threads is empty")
    memory = d.get("threadgroup_memory") or []
    if sum(memory) > MEMORY:
        raise EmitError(f"{where}: {sum(memory)} bytes of threadgroup memory, at most {MEMORY} are allowed")
    if any(n % ALIGNMENT or n <= 0 for n in memory):
        raise EmitError(f"{where}: lengths of threadgroup memory {memory} are no positive multiples of {ALIGNMENT}")


def _check_bindings(d: Plan, k: KernelText, where: str, sizes: dict[str, int], words: Sequence[Token]) -> None:
    given = len(d["buffers"]) + bool(d.get("numbers"))
    asked = {p.slot for p in k.parameters if p.attribute == "buffer"}
    if asked != set(range(given)):
        raise EmitError(f"{where}: it takes buffers {sorted(asked)}, the plan binds {given}")
    memory = {p.slot for p in k.parameters if p.attribute == "threadgroup"}
    if memory != set(range(len(d.get("threadgroup_memory") or []))):
        raise EmitError(f"{where}: it takes threadgroup memory {sorted(memory)}, the plan gives other lengths")
    for i, b in enumerate(d["buffers"]):
        if b["buffer"] not in sizes:
            raise EmitError(f"{where}: buffer {b['buffer']} is not in the plan")
        if not 0 <= b.get("offset", 0) <= sizes[b["buffer"]]:
            raise EmitError(f"{where}: [[buffer({i})]] begins beyond the end of {b['buffer']}")
    if d.get("numbers"):
        _check_numbers(
            d["numbers"],
            next(p for p in k.parameters if p.slot == given - 1 and p.attribute == "buffer"),
            where,
            words,
        )


def _check_numbers(numbers: list[Plan], p: Parameter, where: str, words: Sequence[Token]) -> None:
    told = [(n["type"], n["name"]) for n in numbers]
    declared = members(words, p.ctype)
    if declared is not None and declared != told:
        raise EmitError(f"{where}: struct {p.ctype} has members {declared}, the plan's numbers are {told}")


def _packed(number: Plan, kernel: str) -> bytes:
    try:
        return struct.pack(_NUMBERS[number["type"]], number["value"])
    except (struct.error, OverflowError, KeyError) as e:
        named = f"number {number['name']} of kernel {kernel}"
        raise EmitError(f"{named}: {number['value']} is no {number['type']} of 4 bytes") from e


def description(plan: Plan, kernels: Sequence[KernelText]) -> str:
    """The plan as the program reads it: numbers in a fixed order, names to the end of their line."""
    order = {k.name: i for i, k in enumerate(kernels)}
    buffers = {b["name"]: i for i, b in enumerate(plan["buffers"])}
    sides = [x["buffer"] for side in ("inputs", "outputs") for x in plan[side]]
    sides += [o["sizes"] for o in plan["outputs"] if o.get("sizes")]
    inputs = len(plan["inputs"])
    lines = [f"{plan['heap']['nbytes']} {plan['weights']['nbytes']} {inputs} {len(sides) - inputs}"]
    lines += [str(plan["buffers"][buffers[name]]["nbytes"]) for name in sides]
    lines.append(str(len(plan["buffers"])))
    for b in plan["buffers"]:
        place = {"heap": 0, "weights": 1}.get(b["place"])
        place = 2 + sides.index(b["name"]) if place is None else place
        name = "".join(c if c.isprintable() else "?" for c in b["name"])
        lines.append(f"{place} {b['offset']} {b['nbytes']} {name}")
    lines.append(str(len(plan["dispatches"])))
    for d in plan["dispatches"]:
        numbers = b"".join(_packed(n, d["kernel"]) for n in d.get("numbers") or [])
        memory = d.get("threadgroup_memory") or []
        bound = [x for b in d["buffers"] for x in (buffers[b["buffer"]], b.get("offset", 0))]
        row = [
            order[d["kernel"]],
            int(bool(d.get("barrier"))),
            *d["threadgroups"],
            *d["threads"],
            len(d["buffers"]),
            *bound,
        ]
        lines.append(" ".join(map(str, [*row, len(memory), *memory, len(numbers), *numbers])))
    lines.append(str(len(plan["outputs"])))
    for o in plan["outputs"]:
        sizes = buffers[o["sizes"]] if o.get("sizes") else (1 << 64) - 1
        width = WIDTHS[o["type"]]
        lines.append(f"{buffers[o['buffer']]} {sizes} {width} {width * prod(o['shape'])}")
    return "\n".join(lines) + "\n"


WIDTHS = {
    **dict.fromkeys(("bool", "char", "uchar"), 1),
    **dict.fromkeys(("short", "ushort", "half", "bfloat"), 2),
    **dict.fromkeys(("int", "uint", "float"), 4),
    **dict.fromkeys(("long", "ulong"), 8),
}
