"""Loops over elements that are read and written at any distances, in the Metal Shading Language: a thread for each
element, which may compute several results; loops of different sizes may share a dispatch, each with threads of its
own."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import prod
from typing import ClassVar, NamedTuple

from codegen.expression import Expression, functions, write_all
from codegen.metal.kernel import Grid, Launch, MetalKernel, Numbers, groups, planar
from codegen.metal.scalar import METAL
from codegen.program import Parameter

ROW = 256  # threads of a threadgroup
SHOWN = 4  # functions in a name
STAYS, NEXT, FAR = 0, 1, 2  # along an axis: no way to go, one element, or as many as a number of the kernel says


class Element(NamedTuple):
    """Of an operand or result: its type of C, and which of the walks of its loop leads to it."""

    ctype: str
    walk: int


class Part(NamedTuple):
    """A loop: what it computes of operands 0, 1, ..., what these and its results are, and what there is to go along
    each axis on each of its walks: STAYS, NEXT or FAR."""

    expressions: tuple[Expression, ...]
    reads: tuple[Element, ...]
    writes: tuple[Element, ...]
    walks: tuple[tuple[int, ...], ...]

    @property
    def rank(self) -> int:
        """How many axes it has."""
        return len(self.walks[0])


class Strided(MetalKernel):
    """Loops that depend on nothing that another one computes: y0 = f(x0, x1, ...), y1 = g(x0, x1, ...), ..."""

    family = "elementwise"
    template = "metal/strided.metal.j2"
    positions: ClassVar[Sequence[str]] = ("at",)
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        done = list(dict.fromkeys(f for p in self.parts for e in p.expressions for f in functions(e)))
        kinds = dict.fromkeys(y.ctype.removesuffix("_t") for p in self.parts for y in p.writes)
        shown = "_".join(done[:SHOWN]) + ("_etc" if len(done) > SHOWN else "") if done else "copy"
        count = sum(len(p.writes) for p in self.parts)
        several = f"_{count}" if count > 1 else ""
        digest = sha256(repr(self.parts).encode()).hexdigest()[:6]
        return f"{shown}{several}_strided_{'_'.join(kinds)}_{digest}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        parts = range(len(self.parts))
        pointers = [
            Parameter(f"{'const ' * (letter == 'x')}{element.ctype} *", name)
            for at in parts
            for letter, elements in (("x", self.parts[at].reads), ("y", self.parts[at].writes))
            for name, element in zip(self.names(at, letter), elements, strict=True)
        ]
        sizes = [Parameter("size_t", n) for at in parts for n in self.sizes(at)]
        return [*pointers, *sizes, *(Parameter("size_t", n) for at in parts for n in self.distances(at))]

    def names(self, part: int, letter: str) -> list[str]:
        """Of the operands, x, the results, y, or the walks, p, of a part: counted over all parts."""
        counts = [len({"x": p.reads, "y": p.writes, "p": p.walks}[letter]) for p in self.parts]
        return [f"{letter}{sum(counts[:part]) + i}" for i in range(counts[part])]

    def distances(self, part: int) -> list[str]:
        """The numbers that say how far it is along axes on walks."""
        walks = zip(self.names(part, "p"), self.parts[part].walks, strict=True)
        return [f"{name}_{axis}" for name, steps in walks for axis, step in enumerate(steps) if step == FAR]

    def sizes(self, part: int) -> list[str]:
        """The numbers that say how long the axes of a part are."""
        letter = "n" if len(self.parts) == 1 else chr(ord("a") + part)
        return [f"{letter}{axis}" for axis in range(self.parts[part].rank)]

    def grid(self, numbers: Numbers) -> Grid:
        return self.launch(numbers).groups

    def launch(self, numbers: Numbers) -> Launch:
        sizes = [[int(numbers[n]) for n in self.sizes(at)] for at in range(len(self.parts))]
        if self.is_plane:
            return planar(sizes[0][-1], prod(sizes[0][:-1]))
        return Launch((groups(sum(map(prod, sizes)), ROW), 1, 1), (ROW, 1, 1))

    @property
    def is_plane(self) -> bool:
        """Whether the last axis is the grid's x, and the others its y; else a thread knows its number alone."""
        return len(self.parts) == 1 and self.parts[0].rank > 1

    # -- text ------------------------------------------------------------------------------------------------

    def count(self, part: int) -> str:
        """How many elements a part has."""
        return " * ".join(f"s.{n}" for n in self.sizes(part))

    def indices(self, part: int) -> list[str]:
        """Statements that give the index along each axis, i0, i1, ..., that something goes along."""
        own, sizes = self.parts[part], self.sizes(part)
        last = own.rank - 1
        used = [axis for axis in range(own.rank) if any(steps[axis] for steps in own.walks)]
        made = []
        for axis in used:
            if self.is_plane and axis == last:
                continue
            whole = range(axis + 1, last if self.is_plane else own.rank)
            inner = [f"s.{sizes[k]}" for k in whole]
            by = f" / {inner[0]}" if len(inner) == 1 else f" / ({' * '.join(inner)})" if inner else ""
            rest = f" % s.{sizes[axis]}" if axis else ""
            made.append(f"const uint i{axis} = {'row' if self.is_plane else 'i'}{by}{rest};")
        return made

    def places(self, part: int) -> list[str]:
        """Statements that say where each walk leads."""
        last = self.parts[part].rank - 1
        made = []
        for name, steps in zip(self.names(part, "p"), self.parts[part].walks, strict=True):
            terms = []
            for axis, step in enumerate(steps):
                index = "i" if self.is_plane and axis == last else f"i{axis}"
                if step:
                    terms.append(index if step == NEXT else f"{index} * s.{name}_{axis}")
            made.append(f"const uint {name} = {' + '.join(terms) or '0'};")
        return made

    def loads(self, part: int) -> list[tuple[str, str, str]]:
        """Type, name and index of each operand."""
        own, places = self.parts[part], self.names(part, "p")
        return [(x.ctype, name, places[x.walk]) for name, x in zip(self.names(part, "x"), own.reads, strict=True)]

    def statements(self, part: int) -> list[str]:
        """What is computed of the operands, e0, e1, ..., and stored."""
        own, places = self.parts[part], self.names(part, "p")
        operands = {i: f"e{x[1:]}" for i, x in enumerate(self.names(part, "x"))}
        made, results = write_all(own.expressions, METAL, operands)
        for name, y, result in zip(self.names(part, "y"), own.writes, results, strict=True):
            made.append(f"{name}[{places[y.walk]}] = {result};")
        return made
