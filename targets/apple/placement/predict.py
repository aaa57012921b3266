"""The prediction: rules, then the segmenter's choice, for a chip, a system and the processors that may be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from targets.apple.engine import Chip
from targets.apple.placement.costs import estimate
from targets.apple.placement.eligible import ANE, CPU, Rule, Verdict, judge
from targets.apple.placement.macs import macs
from targets.apple.placement.operation import Operation, Program
from targets.apple.placement.segmenter import UNITS, Path, segment
from targets.apple.placement.segments import Pieces, pieces


class Placed(NamedTuple):
    """One operation: what may run it and by which rule, where it is predicted to run, what the best choice costs less
    than the next, and the estimated microseconds of each processor."""

    operation: Operation
    verdict: Verdict
    selected: str
    margin_ms: float
    estimates_us: dict[str, float]
    macs: int

    @property
    def eligible(self) -> tuple[str, ...]:
        return self.verdict.units

    def as_json(self) -> dict[str, Any]:
        op = self.operation
        return {
            "number": op.number,
            "operator": op.kind,
            "output": op.name,
            "layer": op.layer,
            "onnx": op.onnx,
            "origin": list(op.origin),
            "macs": self.macs,
            "bytes": op.bytes_in + op.bytes_out + op.weight_bytes,
            "eligible": list(self.eligible),
            "selected": self.selected,
            "margin_ms": None if self.margin_ms == float("inf") else round(self.margin_ms, 6),
            "estimates_us": {unit: round(us, 3) for unit, us in self.estimates_us.items()},
            "rule": self.verdict.rule.as_json(),
            "remarks": [r.as_json() for r in self.verdict.remarks],
        }


class Prediction(NamedTuple):
    """Of one program. `path` is the segmenter's, `pieces` the graph cut by what may run on the engine, in whatever
    order; `chosen` by what is put there."""

    placed: tuple[Placed, ...]
    path: Path
    pieces: Pieces
    chosen: Pieces

    @property
    def macs(self) -> int:
        return sum(p.macs for p in self.placed)

    @property
    def macs_eligible(self) -> float:
        """Share of the multiply-accumulates in operations that may run on the engine."""
        return self._share(sum(p.macs for p in self.placed if p.verdict.ane))

    @property
    def macs_in_largest(self) -> float:
        """Share of those in the largest segment of such operations."""
        return self._share(0 if self.pieces.largest is None else self.pieces.largest.macs)

    @property
    def macs_selected(self) -> float:
        """Share of those in operations that are predicted to be put there."""
        return self._share(sum(p.macs for p in self.placed if p.selected == ANE))

    @property
    def off_engine(self) -> tuple[Placed, ...]:
        """The operations that may not run on the engine."""
        return tuple(p for p in self.placed if not p.verdict.ane)

    @property
    def remarks(self) -> tuple[tuple[Placed, Rule], ...]:
        return tuple((p, r) for p in self.placed for r in p.verdict.remarks)

    def _share(self, part: int) -> float:
        return part / self.macs if self.macs else 0.0

    def counts(self) -> dict[str, Any]:
        """The figures that are compared before and after the layers are re-authored."""
        return {
            "operations": len(self.placed),
            "operations_eligible": len(self.placed) - len(self.off_engine),
            "operations_selected": sum(p.selected == ANE for p in self.placed),
            "macs": self.macs,
            "macs_eligible": round(self.macs_eligible, 6),
            "macs_in_largest_segment": round(self.macs_in_largest, 6),
            "macs_selected": round(self.macs_selected, 6),
            "segments_on_engine": len(self.pieces.on_engine),
            "segments": len(self.pieces.segments),
            "crossing_bytes": self.pieces.crossing_bytes,
            "segments_selected": len(self.chosen.on_engine),
            "crossing_bytes_selected": self.chosen.crossing_bytes,
            "estimated_ms": round(self.path.cost_ms, 6),
            "ties": self.path.ties,
        }


def predict(program: Program, chip: Chip, units: str = "all") -> Prediction:
    """Where the operations of a program run; linear in their number."""
    allowed = UNITS[units]
    verdicts = [judge(op, chip.family) for op in program.operations]
    times = [estimate(op, chip.family) for op in program.operations]
    costs = [_costs(v, t, allowed) for v, t in zip(verdicts, times, strict=True)]
    path = segment(costs)
    placed = tuple(
        Placed(op, v, unit, margin, t, macs(op))
        for op, v, unit, margin, t in zip(program.operations, verdicts, path.units, path.margins_ms, times, strict=True)
    )
    return Prediction(
        placed,
        path,
        pieces(program, [v.ane for v in verdicts]),
        pieces(program, [unit == ANE for unit in path.units]),
    )


def _costs(verdict: Verdict, times: dict[str, float], allowed: Sequence[str]) -> dict[str, float]:
    """Milliseconds of the processors that may be used; the CPU runs everything."""
    return {unit: times[unit] / 1e3 for unit in verdict.units if unit in allowed or unit == CPU}
