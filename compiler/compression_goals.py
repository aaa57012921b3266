"""Goals of compression, from text: what is to be left of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compiler.errors import UsageError
from passes._compress_walk import Goal

if TYPE_CHECKING:
    from compiler.target import Target

AXIS = {"compress": "parameters", "size": "bytes", "macs": "macs", "latency": "cost"}
NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*([a-z%]*)\s*", re.IGNORECASE)
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
UNITS = {"compress": COUNTS, "macs": COUNTS, "size": BYTES, "latency": TIMES}
EXAMPLES = {"compress": "2x, 50% or 1.5M", "macs": "100M or 2x", "size": "5MB or 2x", "latency": "A14=5ms or A14=2x"}
BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int16x8": 8}


def goal_of(goals: Mapping[str, str], call: float, headers: Callable[[], float] = lambda: 0.0) -> Goal | None:
    """The goal that is given; `call`: seconds of a call; `headers`: bytes beside weights, asked for if bytes of a whole
    artifact are given. UsageError for what is none."""
    if not goals:
        return None
    ((name, text),) = goals.items()
    value = text.rpartition("=")[2] if name == "latency" else text
    if value == "auto":
        return Goal(AXIS[name])
    m = NUMBER.fullmatch(value)
    unit = m.group(2).lower() if m is not None else "?"
    number = float(m.group(1)) if m is not None else 0.0
    if number <= 0 or (unit not in ("x", "%") and unit not in UNITS[name]):
        raise UsageError(f"--{name} {text!r} says no amount", hint=f"for example {EXAMPLES[name]}, or auto")
    if unit in ("x", "%"):
        share = 1 / number if unit == "x" else number / 100
        if share > 1:
            raise UsageError(f"--{name} {text!r} asks for more than there is", hint=f"for example {EXAMPLES[name]}")
        return Goal(AXIS[name], share, is_share=True)
    left = number * UNITS[name][unit]
    if name == "latency":
        left -= call
        if left <= 0:
            raise UsageError(f"--latency {text!r} is less than the {call * 1e3:.3g} ms of a call without any layer")
    if name == "size":
        beside = headers()
        left -= beside
        if left <= 0:
            raise UsageError(
                f"--size {text!r} is less than what the artifact takes without any weight, {beside:,.0f} bytes",
                hint="ask for more, or for a share of the weights: 2x",
            )
    return Goal(AXIS[name], left)


def bytes_each(target: Target) -> float:
    """How many bytes a weight takes in what a target writes, but for scales and headers."""
    asked = getattr(target, "weights", None)
    kind = asked if isinstance(asked, str) else getattr(asked, "kind", "")
    kind = kind or str(getattr(target, "precision", "fp32"))
    if kind.startswith(("palette", "int4")):
        return int(kind.removeprefix("palette").removeprefix("int")) / 8
    return BITS.get(kind, 32) / 8
