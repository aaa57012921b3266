"""Kernels of the Metal Shading Language as records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from textwrap import fill
from typing import ClassVar, NamedTuple

from codegen.program import Kernel, Parameter
from codegen.rendering import render

Grid = tuple[int, int, int]
Numbers = Mapping[str, int | float]  # what a dispatch says of the parameters that are no pointers

POSITIONS = {  # what a kernel may know of its thread: name -> type and attribute
    "at": ("uint3", "thread_position_in_grid"),
    "group": ("uint3", "threadgroup_position_in_grid"),
    "index": ("uint", "thread_index_in_threadgroup"),  # `thread` is a word of the language
    "lane": ("uint", "thread_index_in_simdgroup"),
    "simdgroup": ("uint", "simdgroup_index_in_threadgroup"),
}
SIMD = 32  # threads of a simdgroup
LONGEST = 120  # letters of a line
INDENT = "    "
CTYPES = {  # types of C -> those of the Metal Shading Language
    "half_t": "half",
    "bfloat_t": "bfloat",
    "double": "float",
    "int8_t": "char",
    "uint8_t": "uchar",
    "bool8_t": "bool8_t",
    "int16_t": "short",
    "uint16_t": "ushort",
    "int32_t": "int",
    "uint32_t": "uint",
    "int64_t": "long",
    "uint64_t": "ulong",
    "size_t": "uint",
    "ptrdiff_t": "int",
    "unsigned char": "uchar",
    "void": "uchar",
}
CONVERSIONS = {
    "half_to_float": "float",
    "float_to_half": "half",
    "bfloat_to_float": "float",
    "float_to_bfloat": "bfloat",
}
WIDTHS = {"char": 1, "uchar": 1, "bool8_t": 1, "short": 2, "ushort": 2, "half": 2, "bfloat": 2, "long": 8, "ulong": 8}


TYPE = re.compile(r"\b(?:" + "|".join([*(t for t in CTYPES if t not in ("void", "bool8_t")), *CONVERSIONS]) + r")\b")


class Tile(NamedTuple):
    """An array in the memory of a threadgroup: the type of its elements, its name, and how many there are."""

    ctype: str
    name: str
    length: int

    @property
    def nbytes(self) -> int:
        """As Metal wants it: a multiple of 16."""
        return -(-self.length * WIDTHS.get(metal_type(self.ctype), 4) // 16) * 16


class Launch(NamedTuple):
    """Threadgroups, and threads of each."""

    groups: Grid
    threads: Grid


class MetalKernel(Kernel):
    """A kernel function. Parameters that are pointers become buffers 0, 1, ..., all others members of a struct of
    numbers that is the buffer behind them.

    positions  what it knows of its thread, of POSITIONS
    """

    positions: ClassVar[Sequence[str]] = ("at",)

    @property
    def threads(self) -> Grid:
        """Of a threadgroup."""
        return (256, 1, 1)

    @property
    def tiles(self) -> Sequence[Tile]:
        """Arrays in the memory of a threadgroup."""
        return ()

    def grid(self, numbers: Numbers) -> Grid:
        """Threadgroups of a dispatch."""
        raise NotImplementedError

    def launch(self, numbers: Numbers) -> Launch:
        """Threadgroups of a dispatch, and threads of each: at most as many as `threads`."""
        return Launch(self.grid(numbers), self.threads)

    def render(self) -> str:
        return rendered(self.template, k=self, m=self)

    # -- text ------------------------------------------------------------------------------------------------

    @property
    def pointers(self) -> list[Parameter]:
        """Parameters that are buffers."""
        return [p for p in self.parameters if p.ctype.endswith("*")]

    @property
    def numbers(self) -> list[Parameter]:
        """Parameters that are numbers of 4 bytes."""
        return [Parameter(metal_type(p.ctype), p.name) for p in self.parameters if not p.ctype.endswith("*")]

    @property
    def struct(self) -> str:
        """The name of the struct of numbers."""
        return f"{self.name}_sizes"

    @property
    def declarations(self) -> str:
        """The struct of numbers, if there are any."""
        members = " ".join(f"{p.ctype}\N{NO-BREAK SPACE}{p.name};" for p in self.numbers)  # stay together
        line = f"struct {self.struct} {{ {members} }};"
        if len(line) > LONGEST:
            inside = fill(members, LONGEST, initial_indent=INDENT, subsequent_indent=INDENT)
            line = f"struct {self.struct} {{\n{inside}\n}};"
        return f"{line}\n\n".replace("\N{NO-BREAK SPACE}", " ") if members else ""

    @property
    def prototype(self) -> str:
        """The signature, with how many threads a threadgroup has at most."""
        given = [f"device {_pointed(p)}{p.name} [[buffer({i})]]" for i, p in enumerate(self.pointers)]
        if self.numbers:
            given.append(f"constant {self.struct} &s [[buffer({len(given)})]]")
        given += [f"threadgroup {metal_type(t.ctype)} *{t.name} [[threadgroup({i})]]" for i, t in enumerate(self.tiles)]
        given += [f"{POSITIONS[p][0]} {p} [[{POSITIONS[p][1]}]]" for p in self.positions]
        count = self.threads[0] * self.threads[1] * self.threads[2]
        head = f"kernel void {self.name}("
        lines = f",\n{' ' * len(head)}".join(given)
        return f"[[max_total_threads_per_threadgroup({count})]]\n{head}{lines})"


def in_metal(text: str) -> str:
    """C with the types of the Metal Shading Language, to which halves belong; they are converted by their names."""
    return TYPE.sub(lambda found: CONVERSIONS.get(found[0]) or metal_type(found[0]), text)


def metal_type(ctype: str) -> str:
    """A type of C in the Metal Shading Language."""
    return CTYPES.get(ctype, ctype)


def _pointed(p: Parameter) -> str:
    """The type of a pointer, up to its name."""
    constant = p.ctype.startswith("const ")
    plain = p.ctype.removeprefix("const ").removesuffix("*").strip().replace("size_t", "int64_t")  # lengths, in memory
    return f"{'const ' * constant}{metal_type(plain)} *"


def rendered(template: str, **values: object) -> str:
    """The text of a template of this language."""
    return render(template, metal_type=metal_type, in_metal=in_metal, prod=prod, **values)


def groups(items: int, threads: int) -> int:
    """Threadgroups for so many things, one to a thread."""
    return max(-(-items // threads), 1)


def planar(width: int, height: int, threads: int = 256) -> Launch:
    """For a thread for each place of a plane: threadgroups that are as wide as the plane, up to the next power of two,
    and otherwise high."""
    wide = min(1 << max(width - 1, 0).bit_length(), threads)
    high = threads // wide
    return Launch((groups(width, wide), groups(height, high), 1), (wide, high, 1))
