"""The schedule of a library as C: calls of kernels, and how those that can be divided are divided among threads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from codegen.program import Argument, Buffer, Call, Place, Pointer, Split
from codegen.rendering import literal

SHORTEST = 4  # letters of a path that are written once
SMALL = 1 << 15  # bytes read and written, below which dividing a call costs more than it gives


class Step(NamedTuple):
    """A call as text.

    number  from 1 on
    title   what it does
    origin  the layers of the model that it stands for
    text    the call, of a part if it is divided
    items   how many things it does, to be divided among threads; 0 if it is not
    grain   parts begin at multiples of it
    own     whether the number of the thread is read
    """

    number: int
    title: str
    origin: str
    text: str
    items: int
    grain: int
    own: bool


class Constant(NamedTuple):
    """A line of a table of offsets: its name and value in columns, and what is there."""

    name: str
    value: str
    note: str


def steps(calls: Sequence[Call], is_threaded: bool) -> list[Step]:
    """Each call as text."""
    return [_step(i, c, is_threaded) for i, c in enumerate(calls, 1)]


def table(buffers: Sequence[Buffer], prefix: str) -> list[Constant]:
    """Where buffers lie, in columns."""
    names = [prefix + b.name.upper() for b in buffers]
    wide = max(map(len, names), default=0)
    values = [f"{b.offset}," for b in buffers]
    long = max(map(len, values), default=0)
    return [Constant(n.ljust(wide), v.ljust(long), b.note) for n, v, b in zip(names, values, buffers, strict=True)]


def folded(names: str) -> str:
    """Paths that begin with the same folders, with these once: a/b/{c, d/e}."""
    listed = names.split(", ")
    folders = zip(*(name.split("/")[:-1] for name in listed), strict=False)
    shared = "".join(f"{each[0]}/" for each in takewhile(lambda each: len(set(each)) == 1, folders))
    if len(listed) == 1 or len(shared) < SHORTEST:
        return names
    return f"{shared}{{{', '.join(name.removeprefix(shared) for name in listed)}}}"


def _step(number: int, call: Call, is_threaded: bool) -> Step:
    split = call.split if is_threaded and _is_worth(call) else None
    names = [p.name for p in call.kernel.parameters]
    texts = [_argument(a, split, name) for name, a in zip(names, call.arguments, strict=True)]
    text = f"{call.kernel.name}({', '.join(texts)});"
    if split is None:
        return Step(number, call.title, folded(call.origin), text, 0, 1, own=False)
    known = {*split.steps, *split.own, *split.last, *(n for n in (split.count, split.begin, split.end) if n)}
    assert split.count or split.begin or split.end, f"{call.kernel.name} has no parameter for a part"
    assert known.intersection(names) >= {n for n in (split.count, split.begin, split.end) if n}
    return Step(number, call.title, folded(call.origin), text, split.items, split.grain, own=bool(split.own))


def _is_worth(call: Call) -> bool:
    return call.split is not None and call.split.items > call.split.grain and _moved(call) >= SMALL


def _moved(call: Call) -> int:
    return sum(b.nbytes for b in {*call.reads, *call.writes})


def _argument(a: Argument, split: Split | None, name: str) -> str:
    if a is None:
        return "NULL"
    if isinstance(a, Pointer):
        return _place(a, _moved_by(split, name))
    text = literal(a) if isinstance(a, float) else str(a)
    if split is None:
        return text
    if name in split.last:
        return text if text == "0" else f"end == {split.items} ? {text} : 0"
    return {split.count: "end - begin", split.begin: "begin", split.end: "end"}.get(name, text)


def _moved_by(split: Split | None, name: str) -> str:
    """What a pointer of a part goes on by, as text."""
    if split is None:
        return ""
    if step := split.steps.get(name):
        return f"begin * {step}"
    own = split.own.get(name)
    return f"thread * {own}" if own else ""


def _place(p: Pointer, moved: str) -> str:
    macro = {Place.INPUT: "IN", Place.OUTPUT: "OUT", Place.ARENA: "A", Place.WEIGHT: "W"}[p.buffer.place]
    is_port = p.buffer.place in (Place.INPUT, Place.OUTPUT)
    name = p.buffer.name if is_port else p.buffer.name.upper()
    offset = " + ".join([*[str(p.offset)] * bool(p.offset), *[moved] * bool(moved)])
    return f"{macro}_AT({name}, {offset})" if offset else f"{macro}({name})"
