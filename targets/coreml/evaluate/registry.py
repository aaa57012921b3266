"""What each MIL operation computes. Operations are functions of numpy arrays, named and parameterised as in MIL.

Floats arrive as fp32 arrays (fp16 values exactly representable), are computed in fp32, and are rounded to the declared
type of the result by the caller. Constant scalars arrive as Python values, lists as numpy arrays, tuples of tensors as
lists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tensor = Any  # numpy arrays of any element type, whose arithmetic has no static type
Result = Tensor | tuple[Tensor, ...] | list[Tensor]
Function = Callable[..., Result]

FUNCTIONS: dict[str, Function] = {}
MOVES: set[str] = set()
"""Operations that only move or copy elements, so that fp16 results need no rounding."""


def mil(*names: str, moves: bool = False) -> Callable[[Any], Any]:  # returns what it decorates, whatever its type
    """Register a function as the meaning of the MIL operations `names`."""

    def register(function: Any) -> Any:  # as above
        for name in names:
            assert name not in FUNCTIONS, name
            FUNCTIONS[name] = function
        if moves:
            MOVES.update(names)
        return function

    return register
