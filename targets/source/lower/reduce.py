"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from codegen.neon.reduce import Reduce
from codegen.program import Argument, Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of
from compiler.ops.reduce import Reduce as ReduceOp
from compiler.tensor import DType
from targets.source.elements import element_type, plain_type
from targets.source.lower.elementwise import COMPUTED, sizes_of, width_of
from targets.source.program import Program
from targets.source.reductions import MAKERS, Reduction, finite_largest, reduction_of, sum_of_exponentials
from targets.source.table import lowers


@lowers(*MAKERS, needs=(COMPUTED,))
def _reduce(p: Program, node: Node, op: Any) -> None:  # Any: one of the reductions
    x = line_of(p, operand(node), op.axes)
    reduce_to(p, node, x, reduction_of(type(op), x.dtype), p.result(node.output))


@lowers(ops.ReduceLogSumExp, needs=(COMPUTED,))
def _log_sum_exp(p: Program, node: Node, op: ReduceOp) -> None:
    x = line_of(p, operand(node), op.axes)
    top = scratch(p, x.dtype, node.output.type.size, "top")
    reduce_to(p, node, x, finite_largest(x.dtype), top)
    reduce_to(p, node, x, sum_of_exponentials(x.dtype), p.result(node.output), top)


class Lines(NamedTuple):
    """Elements to be put together: where they lie, densely, of which type they are, the sizes of their axes, and which
    of these go."""

    at: Pointer
    dtype: DType
    sizes: Sequence[int]
    gone: Sequence[bool]

    @property
    def kept(self) -> list[int]:
        """The sizes with 1 for axes that go: those of what is left."""
        return [1 if is_gone else n for n, is_gone in zip(self.sizes, self.gone, strict=True)]

    @property
    def lines(self) -> tuple[int, int]:
        """How many results there are, and elements for each."""
        rows = prod(self.kept)
        return rows, prod(self.sizes) // rows


def line_of(p: Program, x: Value, axes: Sequence[int]) -> Lines:
    """A value along some logical axes."""
    return Lines(p.at(x), x.type.dtype, sizes_of(x.type), [axis in axes for axis in order_of(x.type)])


def operand(node: Node, index: int = 0) -> Value:
    """An operand that is there."""
    v = node.inputs[index]
    assert v is not None
    return v


def scratch(p: Program, dtype: DType, count: int, name: str) -> Pointer:
    """Room for numbers of the type in which elements of a type are computed with."""
    return p.scratch(max(count, 1) * width_of(plain_type(dtype)), name)


def reduce_to(p: Program, node: Node, x: Lines, made: Reduction, y: Pointer, base: Pointer | None = None) -> None:
    """Put elements together; `base` holds a number for each result."""
    if not prod(x.kept):
        return
    counts, reduced = merged(x.sizes, x.gone)
    kernel = Reduce(
        combine=made.combine,
        start=made.start,
        each=made.each,
        finish=made.finish,
        ctypes=(element_type(x.dtype), made.kind, made.out, *([made.base] if made.base else [])),
        reduced=reduced,
    )
    arguments: list[Argument] = [x.at, *([base] if made.base else []), y, *counts]
    p.call(kernel, *arguments, node=node, title=f"{made.combine} along axes of {operand(node).type}")


def merged(sizes: Sequence[int], gone: Sequence[bool]) -> tuple[list[int], tuple[bool, ...]]:
    """Axes with neighbours of the same kind made one, and without those of one element; at least one goes."""
    found: list[tuple[int, bool]] = []
    for size, is_gone in zip(sizes, gone, strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == is_gone:
            found[-1] = (found[-1][0] * size, is_gone)
        else:
            found.append((size, is_gone))
    if not any(is_gone for _, is_gone in found):
        found.append((1, True))
    return [size for size, _ in found], tuple(is_gone for _, is_gone in found)
