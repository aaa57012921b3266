"""The files of a C library, from its schedule, its buffers and its kernels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from codegen.arena import ALIGNMENT
from codegen.program import Buffer, Call, Choice, Kernel
from codegen.rendering import TEMPLATES, render
from codegen.schedule import steps, table
from codegen.wrapping import wrapped

VERBATIM = (
    "assembly.h", "fixed.h", "fixed_functions.h", "fixed_gates.h", "fixed_wide.h", "half_assembly.h",
    "half_numbers.h", "half_tile.h", "halves.h", "int8_assembly.h", "int8_plain.h", "neon_twin.h",
    "neon_twin_doubles.h", "neon_twin_half.h", "neon_twin_transposes.h", "numbers.h", "places.h", "simd.h",
    "simd_math.h", "simd_transposes.h",
)  # fmt: skip
INTERFACE = 1  # of libraries: goes up when callers have to change
EMBEDDINGS = ("file", "incbin", "array")
ISAS = ("base", "fp16", "dotprod", "i8mm")  # each has what the ones before it have
MARCH = {
    "fp16": "-march=armv8.2-a+fp16",
    "dotprod": "-march=armv8.2-a+fp16+dotprod",
    "i8mm": "-march=armv8.2-a+fp16+dotprod+i8mm",
}


class Port(NamedTuple):
    """An input or output of the library: its buffer, the type of its elements and their number, its name in the model
    and its shape. If the data decide how many there are, `size` is the most, and `sizes` takes the length of each
    axis."""

    buffer: Buffer
    ctype: str
    size: int
    original: str
    dims: Sequence[int] = ()
    sizes: Buffer | None = None

    @property
    def rank(self) -> int:
        """How many lengths there are."""
        return self.sizes.nbytes // 8 if self.sizes is not None else 0

    @property
    def public_type(self) -> str:
        """The type of C that any program knows; integers stand for numbers that C lacks."""
        if self.ctype in ("float", "double") or re.fullmatch(r"u?int(8|16|32|64)_t", self.ctype):
            return self.ctype
        return {"half_t": "uint16_t", "bfloat_t": "uint16_t"}.get(self.ctype, f"{'u' * (self.ctype[0] != 'i')}int8_t")


class Library(NamedTuple):
    """What is written. `name` is an identifier, `title` is for readers; `threads` share the work, and `embed` tells
    where the weights are: in a `file` that the caller loads, or in the program, by `incbin` or as an `array` of C."""

    name: str
    title: str
    calls: Sequence[Call]
    kernels: Sequence[Kernel]
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    arena: Sequence[Buffer]
    arena_size: int
    weights: Sequence[Buffer]
    weights_size: int
    threads: int = 1
    embed: str = "file"


class SourceFile(NamedTuple):
    """A file of kernels: what they are, what the processor has to have, and the compiler's flag for that."""

    name: str
    family: str
    isa: str
    kernels: Sequence[Kernel]

    @property
    def march(self) -> str:
        """The compiler's flag for aarch64; empty if none is needed."""
        return MARCH.get(self.isa, "")


def kernel_files(kernels: Sequence[Kernel]) -> list[SourceFile]:
    """One for each family and what it asks of the processor; internal kernels are where they are called."""
    groups: dict[tuple[str, str], dict[Kernel, None]] = {}

    def add(kernel: Kernel, group: dict[Kernel, None]) -> None:
        for needed in kernel.needs:
            if needed.is_internal and needed not in group:
                add(needed, group)
        group[kernel] = None

    for kernel in kernels:
        if not kernel.is_internal and not isinstance(kernel, Choice):
            add(kernel, groups.setdefault((kernel.family, kernel.isa), {}))
    return [
        SourceFile(f"kernels_{family}{'' if isa == 'base' else f'_{isa}'}.c", family, isa, list(group))
        for (family, isa), group in groups.items()
    ]


def required_isa(library: Library) -> str:
    """What a processor has to have to run the library at all."""
    found: set[Kernel] = set()
    left = [call.kernel for call in library.calls]
    while left:
        kernel = left.pop()
        if kernel not in found:
            found.add(kernel)
            left += kernel.variants[:1] if isinstance(kernel, Choice) else kernel.needs
    return max((k.isa for k in found), key=ISAS.index, default="base")


def _tell_apart(library: Library) -> None:
    """Rename members of structs that have the name of a kernel, which is a macro."""
    taken = {k.name for k in library.kernels}
    for ports in (library.inputs, library.outputs):
        for buffer in [b for p in ports for b in (p.buffer, p.sizes) if b is not None]:
            while buffer.name in taken:
                buffer.name += "_tensor"


def sources(library: Library) -> dict[str, str]:
    """The text of each file, by its name; weights are not among them."""
    files = kernel_files(library.kernels)
    _tell_apart(library)
    choices = [k for k in library.kernels if isinstance(k, Choice)]
    needs = required_isa(library)
    own = ["cpu.c"] * bool(choices or needs != "base") + ["pool.c"] * (library.threads > 1)
    calls = steps(library.calls, library.threads > 1)
    values = {
        **library._asdict(),
        "alignment": ALIGNMENT,
        "interface": INTERFACE,
        "steps": calls,
        "used": {word for s in calls for word in re.findall(r"\b[A-Z_]+(?=\()", s.text)},
        "places": table(library.arena, "AT_"),
        "constants": table(library.weights, "W_"),
        "choices": choices,
        "needs": needs,
        "files": files,
        "own": own,
        "embedded": {"incbin": "weights.S", "array": "weights.c"}.get(library.embed),
    }
    names = ["model.h", "model.c", "kernels.h", *own, *(n.replace(".c", ".h") for n in own), "runner.c"]
    names += ["weights.S"] * (library.embed == "incbin")
    made = {name: wrapped(render(f"neon/{name}.j2", **values)) for name in names}
    for f in files:
        text = render("neon/kernels.c.j2", title=library.title, family=f.family, kernels=f.kernels)
        made[f.name] = wrapped(text)
    for name in ("Makefile", "CMakeLists.txt"):
        made[name] = render(f"neon/{name}.j2", **values)
    return made | _headers(made.values())


def _headers(texts: Iterable[str]) -> dict[str, str]:
    """Those of VERBATIM that are included, and what they include."""
    found: dict[str, str] = {}
    for text in texts:
        for name in re.findall(r'^#include "(.*)"$', text, re.MULTILINE):
            if name in VERBATIM and name not in found:
                found[name] = (Path(TEMPLATES) / "neon" / name).read_text(encoding="utf-8")
    return found if not found else _headers(found.values()) | found
