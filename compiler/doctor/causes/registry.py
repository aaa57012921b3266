"""The causes that are known, in one table."""

from __future__ import annotations

from collections.abc import Callable

from compiler.doctor.evidence import Evidence
from compiler.doctor.record import Finding

Cause = Callable[[Evidence], Finding | None]
CAUSES: dict[str, Cause] = {}

GAIN = 6.0  # dB, which is one bit: a cause whose absence would help less is none
FIXED = frozenset(("sigmoid", "softmax", "tanh", "log_softmax"))  # targets may fix the scale of their results
HALF = 0.5  # of a layer's own noise


def cause(function: Cause) -> Cause:
    """Register a cause under its function's name. It gives what it measured, or None where it is not the cause."""
    name = function.__name__.replace("_", "-")
    assert name not in CAUSES, f"there are two causes {name}"
    CAUSES[name] = function
    return function


def number(x: float) -> str:
    """Of three digits, in words."""
    return f"{x:.3g}"


def percent(share: float) -> str:
    """Of two digits and more, in words."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def span(low: float, high: float) -> str:
    """A range in words."""
    return f"{number(low)} to {number(high)}"
