"""Tables of lowerings, and how functions register with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from compiler.graph import Node
from compiler.op import Op
from compiler.target import Lower, LoweringTable, Need
from targets.source.needs import HELD, KNOWN, SAY_SIZES
from targets.source.program import Program

P = TypeVar("P", bound=Program)


class Table(LoweringTable[P]):
    """`tails`: operations whose lowering computes the tails of layers, and of which layers."""

    def __init__(self) -> None:
        super().__init__()
        self.tails: dict[type[Op], Callable[[Node], bool]] = {}

    def register(
        self, *ops: type[Op], needs: tuple[Need, ...] = (), tails: Callable[[Node], bool] | None = None
    ) -> Callable[[Lower[P]], Lower[P]]:
        """Register a function `(program, node, op)` for operations, of known sizes unless the data decide on them.
        `tails` tells of which layers it computes `program.tail(node)` before it stores results: floats, whole, in the
        order of the layer's result."""

        def register(function: Lower[P]) -> Lower[P]:
            for op in ops:
                general = () if op in SAY_SIZES else (KNOWN, HELD)
                self.lowers(op, *general, *needs)(function)
                if tails is not None:
                    self.tails[op] = tails
            return function

        return register

    def adopt(self, other: Table[Any]) -> None:  # Any: of programs that this one's are
        """Take the lowerings of another table for operations that have none here."""
        for op in other.entries.keys() - self.entries.keys():
            self.entries[op] = other.entries[op]
            if op in other.tails:
                self.tails[op] = other.tails[op]


SHARED: Table[Program] = Table()
lowers = SHARED.register
