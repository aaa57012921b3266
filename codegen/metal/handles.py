"""Kernels whose memory comes as tensors of one axis, as Core AI hands it to a custom kernel.

Each becomes a function, and a dispatch is a kernel that calls it with the addresses of its tensors, with numbers that
are known, and with memory of its threadgroups that it declares itself. That `&x[0]` is the address of a tensor's first
element is what users of Core AI's kernels found (its documentation shows indices alone); with one axis there is no
order of axes, and no stride but 1.

Core AI's kernels give new tensors and change none. Where one step writes into what another has written, both are steps
of one dispatch, by the threads of a single threadgroup that go over the places of the grid with a barrier in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from math import prod
from typing import Any, NamedTuple

from codegen.metal.kernel import POSITIONS, WIDTHS, Launch, MetalKernel, Numbers, metal_type, rendered
from codegen.metal.source import used
from codegen.names import comment
from codegen.rendering import literal

POINTER = re.compile(r"device (?P<constant>const )?(?P<type>\w+) \*(?P<name>\w+) \[\[buffer\(\d+\)\]\]")
HANDLE = re.compile(r"tensor<device (\w+), dextents<int, 1>, tensor_handle> (\w+) \[\[buffer\((\d+)\)\]\]")
INCLUDE = "#include <metal_tensor>\n"
ENTRY = re.compile(
    r"(?P<head>^kernel void \w+\([^{]*)\)\n\{\n(?P<tiles>(?:    threadgroup \w+ \w+\[\d+\];\n)+)", re.MULTILINE
)
TILE = re.compile(r"threadgroup (\w+) (\w+)\[(\d+)\];")
IN_GROUP = ("index", "lane", "simdgroup")  # positions that are the same for every place of a grid


class Address(NamedTuple):
    """What a pointer of a kernel is given: the name of a tensor, and how many bytes into it."""

    tensor: str
    offset: int = 0


class Step(NamedTuple):
    """A kernel with its numbers, and an address for each of its pointers."""

    kernel: MetalKernel
    numbers: Numbers
    addresses: Sequence[Address]

    @property
    def launch(self) -> Launch:
        """As the kernel alone is launched."""
        return self.kernel.launch(self.numbers)

    @property
    def threads(self) -> int:
        """Of a threadgroup."""
        return prod(self.launch.threads)


class Dispatch(NamedTuple):
    """Steps in order. Tensors by name, with the types of their elements: those that are read, and those that are
    written."""

    steps: Sequence[Step]
    reads: dict[str, str]
    writes: dict[str, str]

    @property
    def launch(self) -> Launch:
        """Several steps run in one threadgroup."""
        if len(self.steps) == 1:
            return self.steps[0].launch
        return Launch((1, 1, 1), (max(s.threads for s in self.steps), 1, 1))

    @property
    def rounds(self) -> int:
        """Of the threads of that threadgroup, over the grids of its steps."""
        return sum(prod(s.launch.groups) for s in self.steps) if len(self.steps) > 1 else 1

    @property
    def is_even(self) -> bool:
        """Whether all threads take part in each step that has memory of its threadgroup, and so barriers."""
        threads = prod(self.launch.threads)
        return all(s.threads == threads or not s.kernel.tiles for s in self.steps)

    @property
    def tiles(self) -> list[int]:
        """Bytes of the arrays in the memory of its threadgroups."""
        return [t.nbytes for s in self.steps for t in s.kernel.tiles]


class Source(NamedTuple):
    """A text, and the names of its kernels, one for each dispatch."""

    text: str
    names: Sequence[str]


def source(title: str, dispatches: Sequence[Dispatch], kernels: Sequence[MetalKernel]) -> Source:
    """The text of some dispatches. `kernels` are all that these call, those that are called first."""
    functions = [_function(k) for k in kernels]
    body = "\n\n".join(functions)
    values = {
        "title": comment(title),
        "shared": used(body),
        "functions": functions,
        "has_matrices": "simdgroup_float8x8" in body or "simdgroup_matrix" in body,
    }
    mark = sha256(_rendered(values, dispatches, "").encode()).hexdigest()[:8]
    return Source(_rendered(values, dispatches, mark), [_name(d, i, mark) for i, d in enumerate(dispatches)])


def plain(text: str) -> str:
    """The same kernels with pointers in place of tensors, and memory of threadgroups as parameters: Metal as a host
    without tensors runs it."""
    head, *entries = re.split(r"^(?=kernel void )", text, flags=re.MULTILINE)
    return head.replace(INCLUDE, "") + "".join(map(_plain_entry, entries))


def pointed(kernel: MetalKernel) -> list[str]:
    """Of each pointer of a kernel, what it points to."""
    return [m["type"] for m in POINTER.finditer(kernel.prototype)]


def _plain_entry(text: str) -> str:
    """An entry whose pointers have the type of the smallest elements that it takes theirs for."""
    for element, name, _ in HANDLE.findall(text):
        address = f"&{name}[0]"
        taken = rf"<device (?:const )?(\w+) \*>\((?:reinterpret_cast<device uchar \*>\()?{re.escape(address)}"
        smallest = min([element, *re.findall(taken, text)], key=lambda t: WIDTHS.get(t, 4))
        text = text.replace(address, f"reinterpret_cast<device {element} *>({address})")
        text = HANDLE.sub(rf"device {smallest} *\2 [[buffer(\3)]]", text, count=1)
    return ENTRY.sub(_with_tiles, text)


def _with_tiles(found: re.Match[str]) -> str:
    tiles = enumerate(TILE.findall(found["tiles"]))
    given = "".join(f", threadgroup {ctype} *{name} [[threadgroup({i})]]" for i, (ctype, name, _) in tiles)
    return f"{found['head']}{given})\n{{\n"


def _rendered(values: dict[str, Any], dispatches: Sequence[Dispatch], mark: str) -> str:
    entries = [_entry(d, _name(d, i, mark)) for i, d in enumerate(dispatches)]
    return rendered("metal/handles.metal.j2", entries=entries, **values)


def _name(dispatch: Dispatch, index: int, mark: str) -> str:
    """Of an entry: unlike those of every other text, whose mark is another one."""
    return f"{dispatch.steps[-1].kernel.name}_{index}_{mark}"


def _function(kernel: MetalKernel) -> str:
    """A kernel as a function of the same name and parameters."""
    text, prototype = kernel.render().strip(), kernel.prototype
    assert text.count(prototype) == 1, f"{kernel.name} is not written with its prototype"
    lines = [line for line in prototype.split("\n") if not line.startswith("[[")]
    head = re.sub(r" \[\[.*?\]\]", "", "\n".join(lines))
    return text.replace(prototype, head.replace("kernel void", "inline void", 1))


def _entry(dispatch: Dispatch, name: str) -> dict[str, Any]:
    """What the template has to know of a dispatch."""
    tensors = [*dispatch.reads.items(), *dispatch.writes.items()]
    given = [
        f"tensor<device {element}, dextents<int, 1>, tensor_handle> {tensor} [[buffer({i})]]"
        for i, (tensor, element) in enumerate(tensors)
    ]
    elements = dict(tensors)
    is_alone = len(dispatch.steps) == 1
    known = {p for s in dispatch.steps for p in s.kernel.positions}
    positions = [p for p in POSITIONS if p in known and (is_alone or p in IN_GROUP)]
    if not is_alone and "index" not in positions:
        positions.append("index")
    given += [f"{POSITIONS[p][0]} {p} [[{POSITIONS[p][1]}]]" for p in positions]
    steps = [_step(s, f"{name}_{i}", "" if is_alone else str(i), elements) for i, s in enumerate(dispatch.steps)]
    return {
        "name": name,
        "parameters": given,
        "threads": prod(dispatch.launch.threads),
        "steps": steps,
        "is_alone": is_alone,
    }


def _step(step: Step, name: str, suffix: str, elements: dict[str, str]) -> dict[str, Any]:
    kernel, numbers, _ = step
    pointers = list(POINTER.finditer(kernel.prototype))
    assert len(pointers) == len(kernel.pointers) == len(step.addresses), f"{kernel.name} has pointers of other forms"
    arguments = [_address(m, a, elements[a.tensor]) for m, a in zip(pointers, step.addresses, strict=True)]
    arguments += [f"{name}_numbers"] * bool(kernel.numbers)
    arguments += [f"{t.name}{suffix}" for t in kernel.tiles]
    return {
        "kernel": kernel,
        "numbers": [_number(p.ctype, numbers[p.name]) for p in kernel.numbers],
        "constant": f"{name}_numbers",
        "tiles": [f"{metal_type(t.ctype)} {t.name}{suffix}[{t.length}]" for t in kernel.tiles],
        "call": f"{kernel.name}({', '.join([*arguments, *kernel.positions])})",
        "positions": kernel.positions,
        "groups": step.launch.groups,
        "threads": step.launch.threads,
        "count": step.threads,
    }


def _number(ctype: str, value: float) -> str:
    return literal(value) if ctype == "float" else f"{value}u" if ctype == "uint" else str(value)


def _address(pointer: re.Match[str], at: Address, element: str) -> str:
    address = f"&{at.tensor}[0]"
    if at.offset:
        address = f"reinterpret_cast<device uchar *>({address}) + {at.offset}"
    if at.offset or element != pointer["type"]:
        address = f"reinterpret_cast<device {pointer['constant'] or ''}{pointer['type']} *>({address})"
    return address
