"""Fewer dispatches. Loops over elements that do not depend on each other are one: those over arrays of the same sizes
compute several results of an element at a time, others have threads of their own. Products and convolutions whose
halves are only converted to floats store these."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Operand
from codegen.metal.adapted import Adapted
from codegen.metal.tailed import Tailed
from codegen.neon.elementwise import Elementwise
from codegen.program import Buffer, Call, Place, Pointer
from targets.metal.loops import Loop, dispatch, loops_of, together
from targets.metal.program import MetalProgram
from targets.source.schedule import TITLE

BACK = 24  # dispatches that are looked back over
POINTERS = 24  # of a dispatch; a kernel has 31 buffers at most, and one is for its numbers
LOOPS = 8  # of different sizes
STORES = 8  # of a loop


WIDENED = Apply("convert", (Operand(0, "half_t"),), "float")


def fuse(p: MetalProgram) -> None:
    """Make the dispatches of a program fewer."""
    _widen(p)
    _gather(p)


def _widen(p: MetalProgram) -> None:
    """Let kernels store floats where all that is done with their halves is a conversion."""
    writers: dict[Buffer, list[int]] = {}
    readers: dict[Buffer, int] = {}
    for at, call in enumerate(p.calls):
        for b in call.writes:
            writers.setdefault(b, []).append(at)
        for b in call.reads:
            readers[b] = readers.get(b, 0) + 1
    gone: set[int] = set()
    for at, call in enumerate(p.calls):
        kernel = call.kernel.of if isinstance(call.kernel, Adapted) else None
        if not isinstance(kernel, Elementwise) or kernel.expression != WIDENED:
            continue
        x, y, count = call.arguments
        assert isinstance(x, Pointer) and isinstance(y, Pointer) and isinstance(count, int)
        before = writers.get(x.buffer, [])
        is_alone = readers[x.buffer] == len(before) == 1 and x.buffer.place is Place.ARENA and not x.offset
        if not is_alone or x.buffer.nbytes != 2 * count:
            continue
        made = _stores_floats(p.calls[before[0]], x, y, call)
        if made is not None:
            p.shares.pop(y.buffer, None)
            p.macs[id(made)] = p.macs.pop(id(p.calls[before[0]]), 0)
            p.calls[before[0]] = made
            gone.add(at)
    p.calls = [call for at, call in enumerate(p.calls) if at not in gone]


def _stores_floats(call: Call, x: Pointer, y: Pointer, after: Call) -> Call | None:
    """The dispatch that writes floats to y instead of halves to x; None if its kernel only stores what it reads."""
    kernel = call.kernel
    if not isinstance(kernel, Tailed) or kernel.wide or kernel.is_spread:
        return None
    arguments = [y if a == x else a for a in call.arguments]
    writes = [y.buffer if b is x.buffer else b for b in call.writes]
    origin = ", ".join(dict.fromkeys([*call.origin.split(", "), *after.origin.split(", ")]))
    return Call(kernel.with_(wide="float"), arguments, call.reads, writes, call.title, origin)


def _gather(p: MetalProgram) -> None:
    """Write dispatches of loops together: either where the first of them stands or where the last one does."""
    made: list[Call] = []
    for call in p.calls:
        found = _partner(p, made, call)
        if found is None:
            made.append(call)
            continue
        at, is_first, loops = found
        merged = _merged(p, made[at], call, loops)
        if is_first:
            made[at] = merged
        else:
            del made[at]
            made.append(merged)
    p.calls = made


def _partner(p: MetalProgram, made: Sequence[Call], call: Call) -> tuple[int, bool, list[Loop]] | None:
    """A dispatch before this one that it may be written together with: its place, whether they go there, and their
    loops."""
    own = loops_of(call)
    if not own:
        return None
    can_rise = True
    for at in range(len(made) - 1, max(len(made) - 1 - BACK, -1), -1):
        other = made[at]
        meets = _depend(p, other, call)
        theirs = [] if meets else loops_of(other)
        if theirs and (can_rise or not any(_depend(p, other, between) for between in made[at + 1 :])):
            loops = _joined(theirs, own)
            if loops is not None:
                return at, can_rise, loops
        can_rise = can_rise and not meets
    return None


def _depend(p: MetalProgram, first: Call, second: Call) -> bool:
    """Whether a dispatch has to come after another."""
    writes = set(first.writes)
    return (
        any(b in writes for b in second.reads)
        or any(b in writes and b not in p.shared for b in second.writes)
        or not set(first.reads).isdisjoint(second.writes)
    )


def _joined(some: Sequence[Loop], more: Sequence[Loop]) -> list[Loop] | None:
    """The loops of two dispatches; None if they are too many for one."""
    loops = list(some)
    for loop in more:
        for i, known in enumerate(loops):
            if known.sizes == loop.sizes and len(known.stores) + len(loop.stores) <= STORES:
                loops[i] = together(known, loop)
                break
        else:
            loops.append(loop)
    pointers = sum(len(loop.walks) for loop in loops)
    return loops if pointers <= POINTERS and len(loops) <= LOOPS else None


def _merged(p: MetalProgram, some: Call, more: Call, loops: list[Loop]) -> Call:
    """One dispatch in place of two. Results do not lie upon what the other of them reads."""
    for call, other in ((some, more), (more, some)):
        for buffer in call.writes:
            if p.shares.get(buffer) in other.reads:
                del p.shares[buffer]
    kernel, arguments = dispatch(loops)
    origin = ", ".join(dict.fromkeys(name for c in (some, more) for name in c.origin.split(", ") if name))
    title = "; ".join(dict.fromkeys([*some.title.split("; "), more.title]))[:TITLE]
    reads: dict[Buffer, None] = dict.fromkeys((*some.reads, *more.reads))
    writes: dict[Buffer, None] = dict.fromkeys((*some.writes, *more.writes))
    call = Call(kernel, arguments, list(reads), list(writes), title, origin)
    p.macs[id(call)] = p.macs.pop(id(some), 0) + p.macs.pop(id(more), 0)
    return call
