"""plan.json: buffers, and dispatches of kernels in order."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from codegen.arena import ALIGNMENT
from codegen.library import Port
from codegen.metal.kernel import MetalKernel, Numbers, metal_type
from codegen.program import Buffer, Call, Place, Pointer

VERSION = 1
PAGE = 16384  # bytes: what a mapping of weights.bin is a multiple of
PLACES = {Place.ARENA: "heap", Place.INPUT: "input", Place.OUTPUT: "output", Place.WEIGHT: "weights"}


class Host(NamedTuple):
    """What a host program has to know of a model: its name as an identifier, a title for readers, how its numbers are
    stored, the family of GPUs that launches are cut for, and the bytes of its working memory and of its weights."""

    name: str
    title: str
    precision: str
    family: str
    heap: int
    weights: int


def plan(
    host: Host, buffers: Sequence[Buffer], inputs: Sequence[Port], outputs: Sequence[Port], calls: Sequence[Call]
) -> dict[str, Any]:
    """The plan as plain values for JSON."""
    return {
        "version": VERSION,
        "name": host.name,
        "title": host.title,
        "precision": host.precision,
        "family": host.family,
        "heap": {"nbytes": host.heap, "alignment": ALIGNMENT},
        "weights": {"file": "weights.bin", "nbytes": host.weights},
        "buffers": [_buffer(b) for b in buffers],
        "inputs": [_port(p) for p in inputs],
        "outputs": [_port(p) for p in outputs],
        "dispatches": [_dispatch(c, b) for c, b in zip(calls, barriers(calls), strict=True)],
    }


def numbers_of(call: Call) -> Numbers:
    """What a call says of the parameters of its kernel that are no pointers."""
    pairs = zip(call.kernel.parameters, call.arguments, strict=True)
    return {p.name: a for p, a in pairs if isinstance(a, int | float)}


def barriers(calls: Sequence[Call]) -> list[bool]:
    """Before which calls a barrier has to stand: those that touch memory which one since the last barrier wrote, or
    write memory that one has read."""
    made: list[bool] = []
    reads: list[Range] = []
    writes: list[Range] = []
    for call in calls:
        own_reads, own_writes = _ranges(call.reads), _ranges(call.writes)
        is_hazard = _meet(own_reads + own_writes, writes) or _meet(own_writes, reads)
        if is_hazard:
            reads, writes = [], []
        reads += own_reads
        writes += own_writes
        made.append(is_hazard)
    return made


Range = tuple[str, int, int]  # a block of memory, and the first byte and the one after the last


def _ranges(buffers: Sequence[Buffer]) -> list[Range]:
    """Where buffers lie; constants are never written."""
    return [
        ("heap", b.offset, b.offset + b.nbytes)
        if b.place is Place.ARENA
        else (f"{b.place.value} {b.name}", 0, b.nbytes)
        for b in buffers
        if b.place is not Place.WEIGHT
    ]


def _meet(some: Sequence[Range], others: Sequence[Range]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in some for b in others)


def _buffer(b: Buffer) -> dict[str, Any]:
    return {"name": b.name, "place": PLACES[b.place], "offset": b.offset, "nbytes": b.nbytes, "note": b.note}


def _port(p: Port) -> dict[str, Any]:
    made = {"name": p.original, "buffer": p.buffer.name, "type": metal_type(p.ctype), "shape": list(p.dims)}
    return made if p.sizes is None else made | {"sizes": p.sizes.name}


def _dispatch(call: Call, has_barrier: bool) -> dict[str, Any]:
    kernel = call.kernel
    assert isinstance(kernel, MetalKernel)
    numbers = numbers_of(call)
    launch = kernel.launch(numbers)
    made: dict[str, Any] = {
        "kernel": kernel.name,
        "title": call.title,
        "origin": call.origin,
        "threadgroups": list(launch.groups),
        "threads": list(launch.threads),
        "buffers": [{"buffer": a.buffer.name, "offset": a.offset} for a in call.arguments if isinstance(a, Pointer)],
    }
    if numbers:
        made["numbers"] = [{"name": p.name, "type": p.ctype, "value": numbers[p.name]} for p in kernel.numbers]
    return made | {"threadgroup_memory": [t.nbytes for t in kernel.tiles], "barrier": has_barrier}


def words(numbers: Sequence[dict[str, Any]]) -> list[int]:
    """The members of a struct of numbers as the bits that they are stored with."""
    formats = {"uint": "<I", "int": "<i", "float": "<f"}
    return [struct.unpack("<I", struct.pack(formats[n["type"]], n["value"]))[0] for n in numbers]
