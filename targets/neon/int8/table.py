"""The table of lowerings of operators, and how functions register with it."""

from __future__ import annotations

from collections.abc import Callable

from targets.neon.int8.program import IntegerProgram
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.model import KERNELS

Lower = Callable[[IntegerProgram, Node], None]
LOWERINGS: dict[str, Lower] = {}
ANY_NUMBERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RESIZE_NEAREST_NEIGHBOR")  # floats among them
FLOATS: dict[str, Lower] = {}  # of operators whose first operand is floats or truth values


def lowers(*codes: str) -> Callable[[Lower], Lower]:
    """Register a function `(program, node)` for operators."""
    return _register(LOWERINGS, codes)


def float_lowers(*codes: str) -> Callable[[Lower], Lower]:
    """The same for operators of floats."""
    return _register(FLOATS, codes)


def lowering(code: str, dtype: str) -> Lower | None:
    """The function for an operator whose first operand is of a type; None if there is none."""
    if dtype not in ("FLOAT32", "BOOL"):
        return LOWERINGS.get(code)
    moves = dtype == "BOOL" or code in ANY_NUMBERS or (code in KERNELS and "FLOAT32" in KERNELS[code].types)
    return FLOATS.get(code) or (LOWERINGS.get(code) if moves else None)


def _register(table: dict[str, Lower], codes: tuple[str, ...]) -> Callable[[Lower], Lower]:
    def register(function: Lower) -> Lower:
        for code in codes:
            assert code not in table, f"{code} has two lowerings"
            table[code] = function
        return function

    return register
