"""The lowering table of Core AI: needs as data, and the functions registered for each operation."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from compiler.errors import EmitError
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.target import LoweringTable, Need
from compiler.tensor import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, DType, TensorType
from targets.coreai.dtypes import MAX_RANK
from targets.coreai.kernels import kernel_for, launch
from targets.coreai.lower.lowering import Lowering

FLOATS = (F16, F32, F64, BF16)
SIGNED = (I8, I16, I32, I64)
INTS = (*SIGNED, U8, U16, U32, U64)
SOURCE = "coreai-core 1.0.0b3, verifier of the dialect and Apple's runtime"
LIMITS = {I64: (-(2**31), 2**31 - 1), U64: (0, 2**32 - 1)}  # of the integers that are held in 32 bits
LONGEST = 2**31 - 1  # axis
LARGEST_TENSOR = 16 << 30  # bytes
LARGEST_MADE = 256 << 20  # bytes of the constants that the lowering of one layer makes
EXTREMES = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)  # "to the end" and "nothing": clamped when written


class _Table(LoweringTable[Lowering]):
    """The table, with kernels for what it does not accept; it names the layer where emission fails."""

    def accepts(self, node: Node) -> bool:
        return self.objection(node) is None

    def objection(self, node: Node) -> str | None:
        missing = super().objection(node)
        return None if missing and kernel_for(node) is not None else missing

    def support(self) -> list[tuple[str, str]]:
        """(operation, what it needs beyond the needs of every operation) for the docs, sorted."""
        return sorted(
            (op.name, "; ".join(need.text for need in needs if need not in GENERAL) or "-")
            for op, (needs, _) in self.entries.items()
        )

    def lower(self, program: Lowering, graph: Graph, without: Container[Node] = ()) -> None:
        """Emit every layer in order. EmitError names the layer of which the dialect forbids something."""
        for node in graph.nodes:
            if node not in without:
                self.lower_layer(program, node)

    def lower_layer(self, program: Lowering, node: Node) -> None:
        """Emit one layer, after those that it reads."""
        try:
            if (kernel := kernel_for(node)) is not None and super().objection(node):
                launch(program, node, kernel)
            elif program.carry is not None and self.objection(node):
                program.carry(program, node)
            else:
                self.entries[type(node.op)][1](program, node, node.op)
        except EmitError as e:
            raise EmitError(f"coreai: {node.describe()} cannot be written: {e.message}", hint=e.hint) from e


TABLE = _Table()


def _values(node: Node) -> Sequence[Value]:
    return [v for v in (*node.inputs, *node.outputs) if v is not None]


def fits_32_bits(v: Value) -> bool:
    """Whether a constant has no integers beyond 32 bits, but for those that stand for infinity."""
    limits = LIMITS.get(v.type.dtype)
    if v.data is None or limits is None or not v.data.size:
        return True
    if limits[0] <= v.data.min() and v.data.max() <= limits[1]:
        return True
    inside = (v.data >= limits[0]) & (v.data <= limits[1])
    return bool((inside | np.isin(v.data, EXTREMES)).all())


RANK = Need(
    text=f"rank of at most {MAX_RANK}",
    holds=lambda node: all(v.type.rank <= MAX_RANK for v in _values(node)),
    source="coreai-core 1.0.0b3",
    confidence="documented",
)
FILLED = Need(
    text="tensors of known size with at least one element",
    holds=lambda node: all(v.type.is_static and 0 not in v.type.shape for v in _values(node)),
    source="coreai-core 1.0.0b3",
    confidence="documented",
)
SOMEWHERE_FILLED = Need(
    text="tensors of known size, not all of them empty",
    holds=lambda node: (
        all(v.type.is_static for v in _values(node))
        and any(v is not None and 0 not in v.type.shape for v in node.inputs)
        and any(0 not in v.type.shape for v in node.outputs)
    ),
    source="coreai-core 1.0.0b3",
    confidence="documented",
)
HELD = Need(
    text="floats of at least 16 bits, integers or booleans",
    holds=lambda node: all(v.type.dtype in FLOATS or v.type.dtype.kind in "iub" for v in _values(node)),
    source=SOURCE,
    confidence="documented",
)
SMALL_CONSTANTS = Need(
    text="constant integers within 32 bits", holds=lambda node: all(map(fits_32_bits, _values(node))), source=SOURCE
)


@lru_cache(4096)  # asked of every value of every layer, more than once
def _held_in_memory(t: TensorType) -> bool:
    return max(t.dims, default=0) <= LONGEST and t.nbytes <= LARGEST_TENSOR


IN_MEMORY = Need(
    text=f"tensors of at most {LARGEST_TENSOR >> 30} GiB with axes of at most {LONGEST} elements",
    holds=lambda node: all(_held_in_memory(v.type) for v in _values(node)),
)

GENERAL = (HELD, FILLED, IN_MEMORY, RANK, SMALL_CONSTANTS)  # of every operation, unless it says otherwise


def makes(nbytes: Callable[[Node], int]) -> Need:
    """A limit on what the lowering computes for a layer and writes as constants: matrices, indices, masks."""
    return Need(
        text=f"sizes for which the constants made for it have at most {LARGEST_MADE >> 20} MiB",
        holds=lambda node: nbytes(node) <= LARGEST_MADE,
    )


def operand_types(*allowed: DType) -> Need:
    """Operands and results have one of these element types."""
    names = ", ".join(d.name for d in allowed)
    return Need(
        text=f"element types among {names}",
        holds=lambda node: all(v.type.dtype in allowed for v in _values(node)),
        source=SOURCE,
        confidence="documented",
    )


FLOAT = operand_types(*FLOATS)
NUMBER = operand_types(*FLOATS, *INTS)
BOOLEAN = operand_types(BOOL)


def never(reason: str) -> Need:
    """A need that no layer meets: why Core AI cannot express the operation, and the nearest that it can."""
    return Need(text=reason, holds=lambda _: False, source=SOURCE, confidence="documented")


F = TypeVar("F", bound=Callable[..., None])


def lowers(*ops: type[Op], needs: Sequence[Need] = (), drops_empty: bool = False) -> Callable[[F], F]:
    """Register one lowering for several operations. The limits of size, rank and element type always apply;
    `drops_empty` lets some values be empty."""
    filled = SOMEWHERE_FILLED if drops_empty else FILLED
    general = (HELD, filled, IN_MEMORY, RANK, SMALL_CONSTANTS)

    def register(function: F) -> F:
        for op in ops:
            TABLE.lowers(op, *general, *needs)(function)
        return function

    return register
