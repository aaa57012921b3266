"""The lowering table of TensorFlow Lite: needs as data, and the functions registered for each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.target import LoweringTable, Need
from compiler.tensor import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, DType
from targets.tflite.lower.lowering import Lowering

FLOATS = (F16, F32, F64, BF16)
INTS = (I8, I16, I32, I64, U8, U16, U32)
INTEGER = (*INTS, U64)
HELD_TYPES = (*FLOATS, *INTEGER, BOOL)
MOST_RANK = 8
SOURCE = "kernels of TensorFlow Lite, as LiteRT 2.3 registers them"

TABLE: LoweringTable[Lowering] = LoweringTable()


def values_of(node: Node) -> Sequence[Value]:
    """The operands that are present, and the results that are read."""
    return [*(v for v in node.inputs if v is not None), *(v for v in node.outputs if v.is_read)]


FILLED = Need(
    text="tensors of known size with at least one element",
    holds=lambda node: all(v.type.is_static and 0 not in v.type.shape for v in values_of(node)),
    source=SOURCE,
    confidence="measured",
)
HELD = Need(
    text="floats of 16 to 64 bits, integers of 8 to 64 bits, or booleans",
    holds=lambda node: all(v.type.dtype in HELD_TYPES for v in values_of(node)),
    source=SOURCE,
    confidence="measured",
)


AXES = Need(
    text=f"at most {MOST_RANK} axes (merge some that stay together)",
    holds=lambda node: all(v.type.rank <= MOST_RANK for v in values_of(node)),
    source=SOURCE,
    confidence="measured",
)
GENERAL = (HELD, FILLED, AXES)  # of every layer


def ranks(low: int, high: int) -> Need:
    """The first operand has a rank in this range."""

    def holds(node: Node) -> bool:
        x = node.inputs[0]
        return x is not None and low <= x.type.rank <= high

    return Need(text=f"rank {low} to {high}", holds=holds, source=SOURCE)


def up_to(rank: int) -> Need:
    """No operand or result has a higher rank."""
    return Need(
        text=f"rank of at most {rank}", holds=lambda n: all(v.type.rank <= rank for v in values_of(n)), source=SOURCE
    )


def operand_types(*allowed: DType) -> Need:
    """Operands and results have one of these element types."""
    names = ", ".join(d.name for d in allowed)
    return Need(
        text=f"element types among {names}",
        holds=lambda node: all(v.type.dtype in allowed for v in values_of(node)),
        source=SOURCE,
        confidence="measured",
    )


FLOAT = operand_types(*FLOATS)
NUMBER = operand_types(*FLOATS, *INTS)
RING = operand_types(*FLOATS, *INTEGER)
BOOLEAN = operand_types(BOOL)


F = TypeVar("F", bound=Callable[..., None])


def lowers(*ops: type[Op], needs: Sequence[Need] = ()) -> Callable[[F], F]:
    """Register one lowering for several operations. The limits of size and element type always apply."""

    def register(function: F) -> F:
        for op in ops:
            TABLE.lowers(op, *GENERAL, *needs)(function)
        return function

    return register
