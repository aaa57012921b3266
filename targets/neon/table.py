"""The table of lowerings, and how functions register with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compiler.graph import Node
from compiler.op import Op
from compiler.target import Lower, LoweringTable, Need
from targets.neon.needs import HELD, KNOWN, SAY_SIZES
from targets.neon.program import Program

TABLE: LoweringTable[Program] = LoweringTable()
TAILS: dict[type[Op], Callable[[Node], bool]] = {}  # operations whose lowering computes tails, and for which layers


def lowers(
    *ops: type[Op], needs: tuple[Need, ...] = (), tails: Callable[[Node], bool] | None = None
) -> Callable[[Lower[Program]], Lower[Program]]:
    """Register a function `(program, node, op)` for operations, of known sizes unless the data decide on them. `tails`
    tells of which layers it computes `program.tail(node)` before it stores results: float32, whole, in the order of the
    layer's result."""

    def register(function: Lower[Program]) -> Lower[Program]:
        for op in ops:
            general = () if op in SAY_SIZES else (KNOWN, HELD)
            TABLE.lowers(op, *general, *needs)(function)
            if tails is not None:
                TAILS[op] = tails
        return function

    return register


def otherwise(*ops: type[Op], needs: tuple[Need, ...] = ()) -> Callable[[Lower[Program]], Lower[Program]]:
    """Register a function for those of the operations that have no lowering yet."""
    return lowers(*(op for op in ops if op not in TABLE.entries), needs=needs)


def always(_: Any) -> bool:
    """Of every layer."""
    return True
