"""Goals of compression, from text: what is to be left of a model, and what it costs on a chip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from compiler.errors import UsageError
from compiler.graph import Node
from passes._compress_search import Goal

if TYPE_CHECKING:
    from compiler.target import Target

AXIS = {"compress": "parameters", "size": "parameters", "macs": "macs", "latency": "cost"}
NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*([a-z%]*)\s*", re.IGNORECASE)
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
UNITS = {"compress": COUNTS, "macs": COUNTS, "size": BYTES, "latency": TIMES}
EXAMPLES = {"compress": "2x, 50% or 1.5M", "macs": "100M or 2x", "size": "5MB or 2x", "latency": "A14=5ms or A14=2x"}
BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int16x8": 8}
APPLE = ("ane", "coreai")
HALF = 2  # bytes of a number in fp16


class Seconds(NamedTuple):
    """Of a layer on the Neural Engine of a chip, by its roofline in fp16; each call takes `call` beside."""

    chip: str
    macs: float
    bandwidth: float
    call: float

    def of(self, node: Node) -> float:
        """A layer's."""
        outputs, inputs = [v.type for v in node.outputs], node.input_types
        values = (*outputs, *(t for t in inputs if t is not None))
        moved = sum(HALF * t.size if t.dtype.is_float else t.nbytes for t in values)
        work = node.macs or sum(t.size for t in outputs) / 2
        return float(max(work / self.macs, moved / self.bandwidth))


def chip_seconds(latency: str | None, target: Target) -> Seconds | None:
    """The cost function of the chip that a goal names or an Apple target has; None if there is none. UsageError for an
    unknown chip."""
    name = None
    if latency is not None:
        name, _, value = latency.rpartition("=")
        if not name or not value:
            raise UsageError(f"--latency {latency!r} is not CHIP=TIME", hint=f"for example {EXAMPLES['latency']}")
    elif target.name in APPLE:
        name = getattr(target, "chip", None)
    if name is None:
        return None
    from targets.apple import engine  # its data, where a chip is asked about
    from targets.apple.placement.roofline import ceiling

    top = ceiling(engine.chip(name) if isinstance(name, str) else name)
    return Seconds(top.chip, top.fp16.value * 1e12 / 2, top.bandwidth.value * 1e9, top.dispatch.value / 1e3)


def goal_of(goals: Mapping[str, str], each: float, call: float) -> Goal | None:
    """The goal that is given; `each`: bytes of a weight, `call`: seconds of a call. UsageError for what is none."""
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
    if name == "latency" and left <= call:
        raise UsageError(f"--latency {text!r} is less than the {call * 1e3:.3g} ms of a call without any layer")
    return Goal(AXIS[name], left / each if name == "size" else left - call if name == "latency" else left)


def bytes_each(target: Target) -> float:
    """How many bytes a weight takes in what a target writes, but for scales and headers."""
    asked = getattr(target, "weights", None)
    kind = str(getattr(asked, "kind", "")) or str(getattr(target, "precision", "fp32"))
    if kind.startswith(("palette", "int4")):
        return int(kind.removeprefix("palette").removeprefix("int")) / 8
    return BITS.get(kind, 32) / 8
