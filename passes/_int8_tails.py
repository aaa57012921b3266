"""How far the numbers that a function reads need to reach, if its results are rounded to steps.

Where a function is flat, codes for its operand are lost: below -3 a hard swish is 0. And of an inverse root, no operand
between 0 and one step of it is left, so that no result is as large as those have.
"""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.op import Op
from compiler.tensor import Array
from passes._int8_scheme import Range

FLAT: tuple[type[Op], ...] = (
    ops.Elu, ops.Exp, ops.Gelu, ops.HardSigmoid, ops.HardSwish, ops.Mish, ops.Sigmoid, ops.Silu, ops.Softplus, ops.Tanh,
)  # fmt: skip
PLACES = 4096  # at which a function is looked at
TOLERANCE = 0.25  # of a step of the result that a tail may differ in: it rounds to the same code, or to the next
UNSEEN = 2.0  # over the root of a step: the inverse root of what lies in the middle of all that rounds to 0


def reach(op: Op, span: Range, step: float) -> Range:
    """The part of a span outside of which what the function gives differs by less than the tolerance."""
    low, high = span
    if not isinstance(op, FLAT) or not low < high or step <= 0:
        return span
    places = np.linspace(low, high, PLACES)
    results = np.asarray(op.evaluate(places))
    first, last = (_flat(r, TOLERANCE * step) for r in (results, results[::-1]))
    return (low, high) if first + last >= PLACES else (float(places[first]), float(places[PLACES - 1 - last]))


def largest_root(step: float) -> float:
    """The largest inverse root to have a code for, of an operand with these steps."""
    return float(UNSEEN / np.sqrt(step))


def _flat(results: Array, tolerance: float) -> int:
    """The place up to which all results are about equal."""
    spread = np.maximum.accumulate(results) - np.minimum.accumulate(results)
    return max(int(np.searchsorted(spread, tolerance, side="right")) - 1, 0)
