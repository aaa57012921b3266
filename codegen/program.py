"""What a target hands to the code generators: kernels, buffers, calls. Plain records; no graph is known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import ClassVar, NamedTuple

from codegen.rendering import render
from compiler.record import Record


class Place(Enum):
    """Where a buffer lies."""

    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    WEIGHT = "weight"


class Buffer:
    """Bytes that calls read and write; its identity is the object.

    name    an identifier, unique in its place
    nbytes  its size
    place   where it lies
    note    what is in it, for readers of the source
    offset  in the arena or in the weights, once that is planned
    """

    __slots__ = ("name", "nbytes", "note", "offset", "place")

    def __init__(self, name: str, nbytes: int, place: Place, note: str = "") -> None:
        self.name, self.nbytes, self.place, self.note = name, nbytes, place, note
        self.offset = 0

    def __repr__(self) -> str:
        return f"{self.place.value} {self.name}: {self.nbytes} bytes at {self.offset}"


class Pointer(NamedTuple):
    """So many bytes into a buffer."""

    buffer: Buffer
    offset: int = 0


class Parameter(NamedTuple):
    """Of a kernel: its type in C and its name."""

    ctype: str
    name: str

    def __str__(self) -> str:
        return f"{self.ctype}{'' if self.ctype.endswith('*') else ' '}{self.name}"


class Kernel(Record):
    """A function of the generated library. Records are equal if their functions are.

    family    of kernels that share a file
    template  that renders it, with the record as `k`
    isa       what the processor has to have: base, fp16, dotprod, i8mm
    is_internal  only kernels of the same file call it
    header    of macros that its assembly takes, if there is one
    """

    family: ClassVar[str]
    template: ClassVar[str]
    isa: ClassVar[str] = "base"
    is_internal: ClassVar[bool] = False
    header: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """Of the function."""
        raise NotImplementedError

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Of the function, which returns nothing."""
        raise NotImplementedError

    @property
    def needs(self) -> Sequence[Kernel]:
        """Other kernels that it calls."""
        return ()

    @property
    def prototype(self) -> str:
        """Its declaration without a semicolon."""
        return f"{'static ' * self.is_internal}void {self.name}({', '.join(map(str, self.parameters))})"

    def render(self) -> str:
        """The text of the function."""
        return render(self.template, k=self)


class Choice(Kernel):
    """One of some kernels with the same parameters: the last of which the processor has what it takes. Which one, is
    settled when the library is initialised."""

    family = template = ""
    variants: tuple[Kernel, ...]

    @property
    def name(self) -> str:
        return f"{self.variants[0].name}_or_better"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return self.variants[0].parameters

    @property
    def needs(self) -> Sequence[Kernel]:
        return self.variants


def sizes(*names: str) -> list[Parameter]:
    """Parameters that count something."""
    return [Parameter("size_t", name) for name in names]


Argument = Pointer | int | float | None


class Split:
    """How a call is divided among threads: it does `items` things, and each part some of them, one after the other.
    Parameters are told by their names.

    count  the number of items, of which a part has fewer
    begin, end  for kernels that take pointers to the whole: the first item, and the one after the last
    steps  bytes from an item to the next, for pointers that go on with the items
    last   numbers that are 0 in all parts but the one with the last item
    own    working memory of which each thread has so many bytes for itself
    grain  parts begin at multiples of it
    """

    __slots__ = ("begin", "count", "end", "grain", "items", "last", "own", "steps")

    def __init__(
        self,
        items: int,
        count: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        steps: Mapping[str, int] | None = None,
        last: Sequence[str] = (),
        own: Mapping[str, int] | None = None,
        grain: int = 1,
    ) -> None:
        self.items, self.count, self.begin, self.end = items, count, begin, end
        self.steps, self.last, self.own, self.grain = steps or {}, last, own or {}, grain


class Call(NamedTuple):
    """One step of the schedule.

    kernel     what is called
    arguments  as its parameters ask for
    reads, writes  the buffers that it touches
    title      what it does, for readers of the source
    origin     the layers of the model that it stands for
    split      how it is divided among threads, if it can be
    """

    kernel: Kernel
    arguments: Sequence[Argument]
    reads: Sequence[Buffer]
    writes: Sequence[Buffer]
    title: str
    origin: str = ""
    split: Split | None = None
