"""The table of lowerings of operators, and how functions register with it."""

from __future__ import annotations

from collections.abc import Callable

from targets.neon.int8.program import IntegerProgram
from targets.tflite.integer.kernel import Node

Lower = Callable[[IntegerProgram, Node], None]
LOWERINGS: dict[str, Lower] = {}


def lowers(*codes: str) -> Callable[[Lower], Lower]:
    """Register a function `(program, node)` for operators."""

    def register(function: Lower) -> Lower:
        for code in codes:
            assert code not in LOWERINGS, f"{code} has two lowerings"
            LOWERINGS[code] = function
        return function

    return register
