"""How long the engine of each chip would take: an estimate from multiply-accumulates, bytes and published rates.

Every operation takes max(operations / peak, bytes / bandwidth), as if all of them ran on the engine and every value
went through memory once in each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from targets.apple import engine
from targets.apple.engine import FAMILY_ORDER, Chip
from targets.apple.placement.eligible import INFERRED
from targets.apple.placement.macs import macs
from targets.apple.placement.operation import Operation

SINCE_INT8 = "H16"  # the first family on which products of 8-bit numbers are faster
OLDEST = "H13"  # the first family in the table


class Figure(NamedTuple):
    """A rate, and the chip from which it is taken where it is not known of the chip itself."""

    value: float
    source: str
    confidence: str
    of: str


class Ceiling(NamedTuple):
    """The rates of one chip: 10^12 operations a second in fp16 and int8 (two for each multiply-accumulate), GB/s of
    memory, and milliseconds for each call."""

    chip: str
    fp16: Figure
    int8: Figure
    bandwidth: Figure
    dispatch: Figure

    @property
    def inferred(self) -> tuple[str, ...]:
        """What is taken from another chip or derived, in words."""
        named = {"fp16": self.fp16, "int8": self.int8, "bandwidth": self.bandwidth, "dispatch": self.dispatch}
        return tuple(f"{n} from {f.of}" for n, f in named.items() if f.of != self.chip)

    @property
    def knows_bandwidth(self) -> bool:
        """Whether the bandwidth is the chip's own."""
        return self.bandwidth.of == self.chip

    def as_json(self) -> dict[str, Any]:
        rest = {k: v._asdict() for k, v in self._asdict().items() if k != "chip"}
        return {"chip": self.chip, **rest}


class Estimate(NamedTuple):
    """Of one chip: milliseconds in fp16 and with 8-bit products, and the share of the time that memory takes."""

    ceiling: Ceiling
    fp16_ms: float
    int8_ms: float
    memory_share: float

    def as_json(self) -> dict[str, Any]:
        times = {"fp16_ms": round(self.fp16_ms, 6), "int8_ms": round(self.int8_ms, 6)}
        share = {"memory_share": round(self.memory_share, 6), "taken_from": list(self.ceiling.inferred)}
        return {"chip": self.ceiling.chip, **times, **share}


class Work(NamedTuple):
    """Of each operation: operations and bytes."""

    flops: np.ndarray[Any, np.dtype[np.float64]]
    moved: np.ndarray[Any, np.dtype[np.float64]]


def work(operations: Sequence[Operation]) -> Work:
    """Two operations for a multiply-accumulate; one for each element of what has none."""
    flops = [2.0 * macs(op) or float(sum(t.elements for t in op.outputs)) for op in operations]
    moved = [float(op.bytes_in + op.bytes_out + op.weight_bytes) for op in operations]
    return Work(np.array(flops), np.array(moved))


def of_each(done: Work, top: Ceiling) -> list[dict[str, Any]]:
    """Of every operation: operations, operations per byte, microseconds in fp16, and what they are spent on."""
    memory, compute = done.moved / top.bandwidth.value / 1e3, done.flops / top.fp16.value / 1e6
    per_byte = done.flops / np.maximum(done.moved, 1.0)
    rows = zip(done.flops.tolist(), per_byte.tolist(), memory.tolist(), compute.tolist(), strict=True)
    return [
        {
            "flops": int(flops),
            "intensity": round(intensity, 3),
            "roofline_us": round(max(moved, computed), 4),
            "bound": "memory" if moved > computed else "compute",
        }
        for flops, intensity, moved, computed in rows
    ]


def estimates(done: Work) -> list[Estimate]:
    """For every chip from A14 on, in the order of engine.chips()."""
    first = FAMILY_ORDER.index(OLDEST)
    return [
        estimate(done, ceiling(c)) for c in engine.chips().values() if FAMILY_ORDER.index(c.family) >= first
    ]  # fmt: skip


def estimate(done: Work, top: Ceiling) -> Estimate:
    """The time of all operations one after the other."""
    memory = done.moved / top.bandwidth.value / 1e6
    compute = done.flops / top.fp16.value / 1e9
    times = np.maximum(compute, memory)
    int8 = np.maximum(done.flops / top.int8.value / 1e9, memory / 2)
    bound = float(times[memory > compute].sum() / times.sum()) if times.sum() else 0.0
    call = top.dispatch.value
    return Estimate(top, float(times.sum()) + call, float(int8.sum()) + call, bound)


def ceiling(chip: Chip) -> Ceiling:
    """The rates of a chip. What is unknown comes from the nearest chip of which it is known, and says so."""
    fp16 = _nearest(chip, "fp16_tflops", _scaled)
    return Ceiling(
        chip.name, fp16, _int8(chip, fp16), _nearest(chip, "gb_per_s", _own_bandwidth), _nearest(chip, "dispatch_ms")
    )


def _peaks() -> Mapping[str, Mapping[str, Any]]:
    return {e["chip"]: e for e in engine.load("costs")["rooflines"] if "peak" in e}


def _measured(chip: Chip, key: str) -> Figure | None:
    entry = _peaks().get(chip.name, {})
    value = entry.get("peak", {}).get(key)
    return None if value is None else Figure(float(value), entry["source"], entry["confidence"], chip.name)


def _own_bandwidth(chip: Chip, key: str) -> Figure | None:
    known = chip.facts.get("dram_bw")
    if known is None or known["value"] is None:
        return None
    return Figure(float(known["value"]), known["source"], known["confidence"], chip.name)


def _scaled(chip: Chip, key: str) -> Figure | None:
    """A measured peak of a chip of the same family, in proportion to the advertised figures of both."""
    for other in engine.chips().values():
        found = _measured(other, key) if other.family == chip.family else None
        if found is not None:
            own, its = chip.fact("ane_tops"), other.fact("ane_tops")
            factor = own / its if own and its else 1.0
            return found._replace(value=found.value * factor, confidence=INFERRED, of=other.name)
    advertised = chip.facts.get("ane_tops")
    if advertised is None or advertised["value"] is None:
        return None
    half = float(advertised["value"]) / 2
    return Figure(half, advertised["source"], INFERRED, f"half of {chip.name}'s advertised TOPS")


def _nearest(chip: Chip, key: str, other: Callable[[Chip, str], Figure | None] | None = None) -> Figure:
    """The chip's own figure, or that of the nearest chip: of the same letter, older families before newer ones."""
    for candidate in (chip, *_neighbours(chip)):
        for way in (_measured, other):
            found = None if way is None else way(candidate, key)
            if found is not None:
                return found if candidate is chip else found._replace(confidence=INFERRED)
    raise AssertionError(f"no chip has {key}")


def _neighbours(chip: Chip) -> list[Chip]:
    at = FAMILY_ORDER.index(chip.family)

    def distance(c: Chip) -> tuple[bool, int, bool, bool]:
        steps = at - FAMILY_ORDER.index(c.family)
        return c.name[0] != chip.name[0], abs(steps), steps < 0, " " in c.name

    return sorted((c for c in engine.chips().values() if c.name != chip.name), key=distance)


def _int8(chip: Chip, fp16: Figure) -> Figure:
    measured = _measured(chip, "int8_tops")
    if measured is not None:
        return measured
    if FAMILY_ORDER.index(chip.family) < FAMILY_ORDER.index(SINCE_INT8):
        return fp16._replace(confidence=INFERRED)
    return fp16._replace(value=2 * fp16.value, confidence=INFERRED, of=f"twice fp16 of {fp16.of}")
