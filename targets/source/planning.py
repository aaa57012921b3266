"""From a graph to calls, and from calls to where their buffers lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from codegen.arena import Plan, Span, plan
from codegen.program import Buffer, Call, Place
from targets.source.program import Program
from targets.source.schedule import Schedule
from targets.source.table import Table
from targets.source.tails import Test, grouped

P = TypeVar("P", bound=Program)


def write_schedule(p: P, table: Table[P], is_vector: Test) -> None:
    """Lower the graph of a program: layers with their tails, groups of elementwise layers as one loop."""
    groups = grouped(p.graph, table.tails, is_vector)
    p.tails.update(groups.tails)
    p.chains.update(groups.chains)
    for node in p.graph.nodes:
        if node in groups.inside:
            continue
        head = groups.last.get(node, node)
        table.entries[type(head.op)][1](p, head, head.op)
    p.finish()
    p.calls = needed(p.calls)


def needed(calls: Sequence[Call]) -> list[Call]:
    """Calls without those whose results no later call touches: moves of what is read where it lies."""
    kept: list[Call] = []
    touched: set[Buffer] = set()
    for call in reversed(calls):
        if any(b.place is not Place.ARENA or b in touched for b in call.writes):
            kept.append(call)
            touched.update(call.reads, call.writes)
    return kept[::-1]


def planned(p: Schedule) -> Plan:
    """Give the buffers of the arena their offsets. One may lie upon another that its writer is last to read."""
    spans: dict[Buffer, list[int]] = {}
    for step, call in enumerate(p.calls):
        for buffer in (*call.reads, *call.writes):
            if buffer.place is Place.ARENA:
                spans.setdefault(buffer, [step, step])[1] = step
    roots: dict[Buffer, Buffer] = {}
    for buffer, under in p.shares.items():
        root = roots.get(under, under)
        fits = buffer in spans and root in spans and spans[root][1] == spans[buffer][0]
        if fits and under in spans and buffer.nbytes <= root.nbytes:
            roots[buffer] = root
            spans[root][1] = spans[buffer][1]
    own = [b for b in p.buffers if b in spans and b not in roots]
    made = plan([Span(b.nbytes, *spans[b]) for b in own])
    for buffer, offset in zip(own, made.offsets, strict=True):
        buffer.offset = offset
    for buffer, root in roots.items():
        buffer.offset = root.offset
    return made
