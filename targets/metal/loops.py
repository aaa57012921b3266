"""Loops over elements as data: what they read and write, and at which distances."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from codegen.expression import Expression, Operand, operands, substitute
from codegen.metal.adapted import Adapted
from codegen.metal.strided import FAR, NEXT, STAYS, Element, Part, Strided
from codegen.neon.copies import CopyStrided
from codegen.neon.elementwise import Elementwise
from codegen.neon.transpose import Interleaving, Transposing
from codegen.program import Argument, Call, Pointer
from targets.source.lower.moving import dense

SMALL = 1 << 14  # elements up to which a transpose takes no longer without tiles than a dispatch of its own


class Access(NamedTuple):
    """Elements of a type of C from a place on, at distances along the axes of a loop."""

    at: Pointer
    ctype: str
    strides: tuple[int, ...]


class Store(NamedTuple):
    """What is computed of the operands of a loop, and where it is written."""

    expression: Expression
    to: Access


class Loop(NamedTuple):
    """For all elements of an array of `sizes`."""

    sizes: tuple[int, ...]
    reads: tuple[Access, ...]
    stores: tuple[Store, ...]

    @property
    def accesses(self) -> list[Access]:
        """What is read, then what is written."""
        return [*self.reads, *(store.to for store in self.stores)]

    @property
    def walks(self) -> list[tuple[int, ...]]:
        """The distances of all that is read and written."""
        return [x.strides for x in self.accesses]


def dispatch(loops: Sequence[Loop]) -> tuple[Strided, list[Argument]]:
    """The kernel for loops that do not depend on each other, and its arguments."""
    shapes = [collapsed(loop) for loop in loops]
    pointers = [x.at for loop in shapes for x in loop.accesses]
    sizes = [n for loop in shapes for n in loop.sizes]
    far = [s for loop in shapes for walk in dict.fromkeys(loop.walks) for s in walk if _step(s) == FAR]
    return Strided(parts=tuple(map(_part, shapes))), [*pointers, *sizes, *far]


def _part(loop: Loop) -> Part:
    walks = {walk: i for i, walk in enumerate(dict.fromkeys(loop.walks))}
    elements = [Element(x.ctype, walks[x.strides]) for x in loop.accesses]
    count = len(loop.reads)
    steps = tuple(tuple(map(_step, walk)) for walk in walks)
    return Part(tuple(s.expression for s in loop.stores), tuple(elements[:count]), tuple(elements[count:]), steps)


def _step(distance: int) -> int:
    return STAYS if distance == 0 else NEXT if distance == 1 else FAR


def collapsed(loop: Loop) -> Loop:
    """The same loop with its axes in the order in which its first result lies, neighbours made one where everything
    lies one in the other, and without axes of one element; at least one axis is left."""
    first = loop.stores[0].to.strides
    axes = sorted((a for a, n in enumerate(loop.sizes) if n != 1), key=lambda a: -first[a])
    made: list[tuple[int, list[int]]] = []
    for axis in axes:
        size, own = loop.sizes[axis], [walk[axis] for walk in loop.walks]
        if made and all(outer == size * inner for outer, inner in zip(made[-1][1], own, strict=True)):
            made[-1] = (made[-1][0] * size, own)
        else:
            made.append((size, own))
    made = made or [(1, [0 for _ in loop.walks])]
    strides = list(zip(*(own for _, own in made), strict=True))
    reads = tuple(x._replace(strides=s) for x, s in zip(loop.reads, strides, strict=False))
    rest = strides[len(reads) :]
    stores = tuple(x._replace(to=x.to._replace(strides=s)) for x, s in zip(loop.stores, rest, strict=True))
    return Loop(tuple(size for size, _ in made), reads, stores)


def together(some: Loop, more: Loop) -> Loop:
    """Two loops over arrays of the same sizes as one, in which what both read is read once."""
    reads = dict.fromkeys((*some.reads, *more.reads))
    order = {x: i for i, x in enumerate(reads)}
    names = {i: Operand(order[x], x.ctype) for i, x in enumerate(more.reads)}
    moved = [store._replace(expression=substitute(store.expression, names)) for store in more.stores]
    return Loop(some.sizes, tuple(reads), (*some.stores, *moved))


# -- what other kernels do, as loops -----------------------------------------------------------------------------------


def loops_of(call: Call) -> list[Loop]:
    """What a dispatch does; nothing if it is no loop over elements."""
    kernel = call.kernel
    if isinstance(kernel, Strided):
        return _of_strided(kernel, call.arguments)
    if not isinstance(kernel, Adapted):
        return []
    if isinstance(kernel.of, Elementwise):
        return [_of_elementwise(kernel.of, call.arguments)]
    if isinstance(kernel.of, CopyStrided) and not kernel.of.is_turned:
        return [_of_copy(kernel.of, call.arguments)]
    if isinstance(kernel.of, Transposing):
        made = _of_transpose(kernel.of, call.arguments)
        return [made] if prod(made.sizes) <= SMALL else []
    return []


def _of_elementwise(kernel: Elementwise, arguments: Sequence[Argument]) -> Loop:
    places = [a for a in arguments if isinstance(a, Pointer)]
    sizes = [a for a in arguments if isinstance(a, int)]
    kinds = {o.index: o.ctype for o in operands(kernel.expression)}
    reads = []
    for i, (place, has) in enumerate(zip(places, kernel.axes, strict=False)):
        own = dense([n if h else 1 for n, h in zip(sizes, has, strict=True)])
        strides = tuple(s if h else 0 for s, h in zip(own, has, strict=True))
        reads.append(Access(place, kinds[i], strides))
    y = Access(places[-1], kernel.ctype, tuple(dense(sizes)))
    return Loop(tuple(sizes), tuple(reads), (Store(kernel.expression, y),))


def _of_copy(kernel: CopyStrided, arguments: Sequence[Argument]) -> Loop:
    x, y = (a for a in arguments if isinstance(a, Pointer))
    numbers = [a for a in arguments if isinstance(a, int)]
    rank, cut = kernel.rank, len(kernel.strided)
    last = (1,) * (rank - cut)
    s, t = (tuple(numbers[rank + side * cut : rank + (side + 1) * cut]) + last for side in (0, 1))
    read = Access(x, kernel.unit, s)
    return Loop(tuple(numbers[:rank]), (read,), (Store(Operand(0, kernel.unit), Access(y, kernel.unit, t)),))


def _of_transpose(kernel: Transposing, arguments: Sequence[Argument]) -> Loop:
    x, y = (a for a in arguments if isinstance(a, Pointer))
    few = kernel.channels if isinstance(kernel, Interleaving) else 0
    n = dict.fromkeys(("rows", "columns", "s", "t"), few)
    n |= {p.name: a for p, a in zip(kernel.parameters, arguments, strict=True) if isinstance(a, int)}
    rows, columns, s, t = n["rows"], n["columns"], n["s"], n["t"]
    outer = range(kernel.outer)
    sizes = (*(n[f"n{i}"] for i in outer), rows, columns)
    read = Access(x, kernel.unit, (*(n[f"s{i}"] for i in outer), s, 1))
    write = Access(y, kernel.unit, (*(n[f"t{i}"] for i in outer), 1, t))
    return Loop(sizes, (read,), (Store(Operand(0, kernel.unit), write),))


def _of_strided(kernel: Strided, arguments: Sequence[Argument]) -> list[Loop]:
    values = dict(zip((p.name for p in kernel.parameters), arguments, strict=True))

    found = []
    for at, part in enumerate(kernel.parts):
        walks = [
            tuple(_number(values[f"{name}_{axis}"]) if step == FAR else step for axis, step in enumerate(steps))
            for name, steps in zip(kernel.names(at, "p"), part.walks, strict=True)
        ]

        def access(name: str, x: Element, walks: Sequence[tuple[int, ...]] = walks) -> Access:
            place = values[name]
            assert isinstance(place, Pointer)
            return Access(place, x.ctype, walks[x.walk])

        reads = tuple(map(access, kernel.names(at, "x"), part.reads))
        writes = map(access, kernel.names(at, "y"), part.writes)
        stores = tuple(Store(e, y) for e, y in zip(part.expressions, writes, strict=True))
        found.append(Loop(tuple(_number(values[name]) for name in kernel.sizes(at)), reads, stores))
    return found


def _number(value: Argument) -> int:
    assert isinstance(value, int)
    return value
