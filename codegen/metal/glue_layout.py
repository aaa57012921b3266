"""What a plan says, in the form in which the sources that run it print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from codegen.metal.kernel import WIDTHS
from codegen.metal.plan import PAGE, words
from codegen.metal.swift_names import class_name, note, swift_identifier

PLACES = ("input", "output", "heap", "weights")
MOST_BUFFERS = 31  # entries of the buffer argument table (Metal Feature Set Tables)
MOST_BYTES = 4096  # that setBytes takes (MTLComputeCommandEncoder)
LEAST = 16  # bytes of an arena of which only values without elements are a part
SHOWN = {"bool8_t": "bool"}  # types that the kernels name in a way of their own


class Value(NamedTuple):
    """A part of a place. Inputs and outputs are places of their own, by `slot`, the caller's buffer that it is."""

    name: str
    place: str
    slot: int
    offset: int
    nbytes: int
    note: str


class Argument(NamedTuple):
    """A buffer of a kernel: a value, and how many bytes into it the kernel begins."""

    value: Value
    offset: int


class Step(NamedTuple):
    """One dispatch. `numbers` are the bit patterns of the kernel's structure of scalars; `note` names them."""

    kernel: str
    title: str
    note: str
    grid: tuple[int, int, int]
    threads: tuple[int, int, int]
    arguments: tuple[Argument, ...]
    numbers: tuple[int, ...]
    memory: tuple[int, ...]
    barrier: bool


class Port(NamedTuple):
    """An input or a result of the model, in the caller's buffer of `nbytes`. `stride` is the length of an element in
    bytes; `sizes` is the place in the list of results of the lengths that the data decide, one per axis."""

    name: str
    type: str
    shape: tuple[int, ...]
    stride: int
    nbytes: int
    sizes: int | None = None


class Layout(NamedTuple):
    """A plan."""

    name: str
    title: str
    precision: str
    family: str
    heap_nbytes: int
    weights_nbytes: int
    weights_file: str
    values: tuple[Value, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: tuple[Step, ...]


def layout(plan: Mapping[str, Any]) -> Layout:  # Any: what JSON holds
    """A plan in the form of `plan.json`. ValueError if it contradicts itself or breaks a rule of Metal; a value without
    elements may be a part of an empty heap."""
    inputs, input_slots = _ports(plan, "inputs")
    outputs, output_slots = _ports(plan, "outputs")
    values = _values(plan["buffers"], {"input": input_slots, "output": output_slots})
    steps = tuple(_step(index, row, values) for index, row in enumerate(plan["dispatches"]))
    heap, weights = plan["heap"]["nbytes"], plan["weights"]["nbytes"]
    if weights % PAGE:
        raise ValueError(f"weights of {weights} bytes do not end with a page of {PAGE}")
    for v in values.values():
        most = {"heap": heap, "weights": weights}.get(v.place)
        if most is not None and v.offset + v.nbytes > most:
            raise ValueError(f"{v.name} ends after its {v.place} of {most} bytes")
    return Layout(
        class_name(plan["name"]),
        plan["title"],
        plan["precision"],
        plan["family"],
        max(heap, LEAST) if any(v.place == "heap" for v in values.values()) else 0,
        weights if any(v.place == "weights" for v in values.values()) else 0,
        plan["weights"]["file"],
        tuple(values.values()),
        inputs,
        outputs,
        steps,
    )


def _ports(plan: Mapping[str, Any], side: str) -> tuple[tuple[Port, ...], dict[str, int]]:
    """The inputs or results, those with lengths that the data decide before the lengths; and buffers by place."""
    nbytes = {row["name"]: row["nbytes"] for row in plan["buffers"]}
    rows: list[Mapping[str, Any]] = list(plan[side])
    slots = {row["buffer"]: index for index, row in enumerate(rows)}
    lengths = [row for row in rows if row.get("sizes")]
    slots |= {row["sizes"]: len(rows) + index for index, row in enumerate(lengths)}
    if len(slots) != len(rows) + len(lengths):
        raise ValueError(f"two {side} share a buffer")
    for row in rows:
        least = prod(row["shape"]) * WIDTHS.get(row["type"], 4)
        if nbytes[row["buffer"]] < least:
            raise ValueError(f"{row['name']!r} takes {least} bytes, its buffer has {nbytes[row['buffer']]}")
    ports = [
        Port(
            row["name"],
            SHOWN.get(row["type"], row["type"]),
            tuple(row["shape"]),
            WIDTHS.get(row["type"], 4),
            nbytes[row["buffer"]],
            slots[row["sizes"]] if row.get("sizes") else None,
        )
        for row in rows
    ]
    ports += [Port(f"sizes of {row['name']}", "long", (len(row["shape"]),), 8, nbytes[row["sizes"]]) for row in lengths]
    return tuple(ports), slots


def _values(rows: Sequence[Mapping[str, Any]], slots: Mapping[str, Mapping[str, int]]) -> dict[str, Value]:
    """Values by their names in the plan."""
    found: dict[str, Value] = {}
    taken: set[str] = set()
    for row in rows:
        name, place = row["name"], row["place"]
        if name in found or place not in PLACES:
            raise ValueError(f"buffer {name!r} is there twice" if name in found else f"no place is called {place!r}")
        if place in slots and name not in slots[place]:
            raise ValueError(f"buffer {name!r} belongs to no {place}")
        short = swift_identifier(name, taken)
        taken.add(short)
        slot = slots[place][name] if place in slots else 0
        found[name] = Value(short, place, slot, row["offset"], row["nbytes"], note(row.get("note", "")))
    return found


def _step(index: int, row: Mapping[str, Any], values: Mapping[str, Value]) -> Step:
    numbers = row.get("numbers") or []
    arguments = tuple(Argument(values[b["buffer"]], b["offset"]) for b in row["buffers"])
    if len(arguments) + bool(numbers) > MOST_BUFFERS or len(numbers) * 4 > MOST_BYTES:
        raise ValueError(f"dispatch {index}, {row['kernel']!r}: more arguments than Metal takes")
    shown = ", ".join(f"{n['name']} = {n['value']}" for n in numbers)
    grid, threads = (row["threadgroups"], row["threads"])
    return Step(
        row["kernel"],
        note(": ".join(part for part in (row.get("origin", ""), row["title"]) if part)),
        note(shown),
        (grid[0], grid[1], grid[2]),
        (threads[0], threads[1], threads[2]),
        arguments,
        tuple(words(numbers)),
        tuple(row.get("threadgroup_memory") or ()),
        bool(row["barrier"]),
    )
