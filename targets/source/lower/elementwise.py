"""Layers that compute element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from codegen.expression import Expression, Operand, functions, operands, substitute
from codegen.neon.elementwise import Elementwise
from codegen.program import Argument, Pointer, Split
from compiler.graph import Node, Value
from compiler.ops.layout import aligned_shape, physical_shape
from compiler.target import Need
from compiler.tensor import TensorType
from targets.source.chains import chain_of, trimmed
from targets.source.elements import element_type
from targets.source.expressions import EXPRESSIONS, computes
from targets.source.program import Program, bytes_of
from targets.source.table import lowers

Axes = tuple[tuple[bool, ...], ...]
COMPUTED = Need(text="elements that are numbers or booleans", holds=computes)
SHARED = 1 << 14  # elements from which on several threads share a loop


class Given(NamedTuple):
    """An operand of a loop: where it lies, densely, and its sizes along the axes of the loop: 1 where it repeats."""

    at: Pointer
    sizes: Sequence[int]


@lowers(*EXPRESSIONS, needs=(COMPUTED,))
def _elementwise(p: Program, node: Node, _: Any) -> None:  # Any: whichever operation it is
    chain = trimmed(p.chains.get(node) or chain_of(node, [node]))
    out = node.output.type
    sizes = sizes_of(out)
    given = [Given(p.at(v), sizes_of(v.type, out)) for v in chain.values]
    y = p.result(node.output, over=_over(given, chain.values, sizes, out))
    compute(p, node, chain.expression, given, y, sizes, element_type(out.dtype))


def sizes_of(t: TensorType, out: TensorType | None = None) -> list[int]:
    """The sizes of the axes as they lie in memory; of an operand, beside those of the result."""
    return [d for d in (physical_shape(t) if out is None else aligned_shape(t, out)) if isinstance(d, int)]


def compute(
    p: Program,
    node: Node,
    expression: Expression,
    given: Sequence[Given],
    y: Pointer,
    sizes: Sequence[int],
    ctype: str,
) -> None:
    """A loop over the elements of y, which has these sizes and this type of C."""
    if not prod(sizes):
        return
    read = [o.index for o in operands(expression)]
    kinds = {o.index: o.ctype for o in operands(expression)}
    given = [given[i] for i in read]
    expression = substitute(expression, {i: Operand(place, kinds[i]) for place, i in enumerate(read)})
    counts, axes = collapsed(sizes, [g.sizes for g in given])
    kernel = Elementwise(expression=expression, ctype=ctype, axes=axes, rank=len(counts))
    arguments: list[Argument] = [*(g.at for g in given), y, *counts]
    title = f"{', '.join(functions(expression)) or 'copy'} of {node.outputs[0].type}"
    split = _split(kernel, counts, [kinds[i] for i in read], ctype)
    p.call(kernel, *arguments, node=node, title=title, split=split)


def _split(kernel: Elementwise, counts: Sequence[int], kinds: Sequence[str], ctype: str) -> Split | None:
    """Among threads: the outermost axis, if there is enough to do."""
    if prod(counts) < SHARED or counts[0] < 2 * GRAIN:
        return None
    inner = prod(counts[1:])
    steps = {"y": width_of(ctype) * inner}
    for i, kind in enumerate(kinds):
        if kernel.axes[i][0]:
            own = prod(n for n, has in zip(counts[1:], kernel.axes[i][1:], strict=True) if has)
            steps[f"x{i}"] = width_of(kind) * own
    return Split(counts[0], count="n0", steps=steps, grain=GRAIN if len(counts) == 1 else 1)


GRAIN = 16


def width_of(ctype: str) -> int:
    """Bytes of an element."""
    return WIDTHS.get(ctype, 1)


WIDTHS = {"float": 4, "double": 8, "half_t": 2, "bfloat_t": 2}
WIDTHS |= {f"{sign}int{8 * size}_t": size for sign in ("", "u") for size in (2, 4, 8)}


def _over(given: Sequence[Given], values: Sequence[Value], sizes: Sequence[int], out: TensorType) -> Value | None:
    """The operand whose place the result may take: one that is read element by element, and no other way too."""
    same = [bytes_of(v.type.dtype) == bytes_of(out.dtype) for v in values]
    whole = [i for i, g in enumerate(given) if list(g.sizes) == list(sizes) and same[i]]
    for i in whole:
        own = given[i].at
        if all(g.at.buffer is not own.buffer or (j in whole and g.at == own) for j, g in enumerate(given)):
            return values[i]
    return None


def collapsed(out: Sequence[int], shapes: Sequence[Sequence[int]]) -> tuple[list[int], Axes]:
    """The sizes of the axes of the result, and for each operand which of them it has; axes that all operands have, or
    lack, in the same way become one with their neighbours, and those of 1 go."""
    sizes: list[int] = []
    has: list[tuple[bool, ...]] = []
    for axis, size in enumerate(out):
        if size == 1:
            continue
        own = tuple(shape[axis] == size for shape in shapes)
        if has and has[-1] == own:
            sizes[-1] *= size
        else:
            sizes.append(size)
            has.append(own)
    if not sizes:
        sizes, has = [1], [tuple(True for _ in shapes)]
    return sizes, tuple(zip(*has, strict=True))
