"""Operators that move elements: the evaluator of the operator moves their numbers, which tell what goes where."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from codegen.neon.copies import CopyStrided, Fill
from codegen.neon.gather import Gather
from codegen.neon.int8_lookup import Pick
from codegen.program import Pointer
from compiler.tensor import Array
from targets.neon.int8.program import CTYPES, IntegerProgram
from targets.neon.int8.table import lowers
from targets.source.lower.moving import dense, merged
from targets.source.lower.transposing import turn
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.model import KERNELS
from targets.tflite.reader import STORED, Tensor

FIRST = 1 << 20  # numbers of elements begin here; what is below fills
MOVED = {"SPLIT": (1,), "SELECT": (1, 2), "SELECT_V2": (1, 2)}  # operands that are moved; else the first
ALL = ("CONCATENATION", "PACK")


class Run(NamedTuple):
    """Elements that a strided copy moves: their sizes, and the first element and distances on either side."""

    sizes: Sequence[int]
    source: int
    steps: Sequence[int]
    target: int
    strides: Sequence[int]


@lowers("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def _same(p: IntegerProgram, node: Node) -> None:
    p.view(node.result(), p.at(node.tensor(0)))


@lowers("SHAPE")
def _shape(p: IntegerProgram, node: Node) -> None:
    p.constants[node.result().number] = np.array(node.tensor(0).shape, STORED[node.result().dtype])


@lowers("FILL")
def _fill(p: IntegerProgram, node: Node) -> None:
    """With a number that is computed."""
    y = node.result()
    size = STORED[y.dtype].itemsize
    p.call(node, Fill(size=size), p.at(node.tensor(1)), p.result(y), y.size, title=f"{y.size} equal elements")


@lowers(
    "TRANSPOSE", "CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "GATHER", "GATHER_ND",
    "PAD", "PADV2", "MIRROR_PAD", "TILE", "BROADCAST_TO", "REVERSE_V2", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
    "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "RESIZE_NEAREST_NEIGHBOR",
)  # fmt: skip
def _moved(p: IntegerProgram, node: Node) -> None:
    """All operands but those that are moved are constants."""
    code = node.operator.code
    moved = range(len(node.operator.inputs)) if code in ALL else MOVED.get(code, (0,))
    numbers, begins = dict(p.constants), [FIRST]
    seen: dict[int, int] = {}
    for i in moved:
        t = node.tensor(i)
        if t.number not in seen:
            seen[t.number] = begins[-1]
            numbers[t.number] = np.arange(t.size, dtype=np.int64).reshape(t.shape) + begins[-1]
            begins.append(begins[-1] + t.size)
    fill = None
    if code in ("PAD", "PADV2") and node.has(2) and node.tensor(2).number in p.constants:
        fill = node.value(2).reshape(())  # any number below the first one stands for it
        numbers[node.tensor(2).number] = np.zeros((), np.int64)
    if code == "GATHER" and node.operator.inputs[1] not in p.constants:
        _gather(p, node)
        return
    missing = [i for i in node.operator.inputs if i >= 0 and i not in numbers]
    if missing:
        raise node.refused("has places that are computed, which this target does not look up")
    found = KERNELS[code].evaluate(Node(node.operator, p.tensors, numbers, {}))
    results = found if isinstance(found, tuple) else (found,)
    sources = [(p.tensors[n], begin) for n, begin in seen.items()]
    for number, places in zip(node.operator.outputs, results, strict=True):
        shaped = np.asarray(places, np.int64).reshape(p.tensors[number].shape)
        move(p, node, sources, p.tensors[number], shaped, fill)


def _gather(p: IntegerProgram, node: Node) -> None:
    """Rows by their numbers, which are computed."""
    if node.option("BatchDims"):
        raise node.refused("has batch axes")
    x, at, y = node.tensor(0), node.tensor(1), node.result()
    axis = node.option("Axis") % len(x.shape)
    row = prod(x.shape[axis + 1 :])
    kernel = Gather(size=STORED[x.dtype].itemsize, index=CTYPES[at.dtype], is_row=row > 1)
    counts = [prod(x.shape[:axis]), x.shape[axis], at.size, *[row] * (row > 1)]
    p.call(node, kernel, p.at(x), p.at(at), p.result(y), *counts, title=f"{at.size} rows of {row} by their numbers")


def move(
    p: IntegerProgram,
    node: Node,
    sources: Sequence[tuple[Tensor, int]],
    y: Tensor,
    places: Array,
    given_fill: Array | None = None,
) -> None:
    """Fill `y` with elements by their numbers, which begin for each source as told; smaller numbers are elements
    themselves, or stand for the one that is given."""
    fills = np.unique(places[places < FIRST])
    if not len(fills) and len(sources) == 1 and _lies_so(places):
        first = int(places.reshape(-1)[0]) - sources[0][1] if places.size else 0
        p.view(y, _element(p.at(sources[0][0]), first, y))
        return
    given = [(p.at(t), t, begin) for t, begin in sources]
    to = p.result(y)
    size = STORED[y.dtype].itemsize
    if len(fills):
        value = np.asarray(fills[0] if given_fill is None else given_fill).astype(STORED[y.dtype])
        fill = p.constant(value.reshape(1), "fill")
        p.call(node, Fill(size=size), fill, to, y.size, title=f"filled with {value:g}")
    for source, t, begin in given:
        run = affine(places, begin, t.size)
        if run is None:
            chosen = np.where((places >= begin) & (places < begin + t.size), places - begin, -1).astype(np.int32)
            table = p.constant(chosen, "places")
            p.call(node, Pick(size=size), source, table, to, y.size, title=f"{t.shape} to {y.shape}")
        elif prod(run.sizes):
            copy(p, node, run, source, to, y)


def _lies_so(places: Array) -> bool:
    """Whether elements follow each other as they did."""
    flat = places.reshape(-1)
    return bool(flat.size and (np.diff(flat) == 1).all())


def _element(at: Pointer, element: int, t: Tensor) -> Pointer:
    return at._replace(offset=at.offset + element * STORED[t.dtype].itemsize)


def copy(p: IntegerProgram, node: Node, run: Run, source: Pointer, to: Pointer, t: Tensor) -> None:
    """Call the kernel that copies a run of elements of the type of t."""
    sizes, s, d = merged(run.sizes, run.steps, run.strides)
    size, title = STORED[t.dtype].itemsize, "x".join(map(str, run.sizes)) + " elements moved"
    places = _element(source, run.source, t), _element(to, run.target, t)
    found = turn(size, sizes, s, d)
    if found is not None:
        p.call(node, found.kernel, *places, *found.numbers, title=title, split=found.split)
        return
    is_row = s[-1] == d[-1] == 1
    cut = len(sizes) - is_row
    kernel = CopyStrided(size=size, rank=len(sizes), is_row=is_row)
    p.call(node, kernel, *places, *sizes, *s[:cut], *d[:cut], title=title)


def affine(places: Array, begin: int, size: int) -> Run | None:
    """How elements of one source lie, if a strided copy puts them there; None if it takes a table."""
    own = (places >= begin) & (places < begin + size)
    box = []
    for axis in range(places.ndim):
        found = np.flatnonzero(own.any(axis=tuple(a for a in range(places.ndim) if a != axis)))
        if not len(found):
            return Run((0,), 0, (1,), 0, (1,))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    part = places[tuple(box)] - begin
    if not own[tuple(box)].all():
        return None
    first = int(part[(0,) * part.ndim])
    steps = [int(np.take(part, 1, axis=a).reshape(-1)[0]) - first if n > 1 else 0 for a, n in enumerate(part.shape)]
    expected = np.full((1,) * part.ndim, first)
    for axis, (n, step) in enumerate(zip(part.shape, steps, strict=True)):
        expected = expected + (np.arange(n) * step).reshape([-1 if a == axis else 1 for a in range(part.ndim)])
    if (expected != part).any():
        return None
    strides = dense(places.shape)
    return Run(part.shape, first, steps, sum(b.start * s for b, s in zip(box, strides, strict=True)), strides)
