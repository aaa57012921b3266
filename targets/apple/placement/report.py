"""What a placement report holds: the prediction before and after layers were re-authored, memory, rooflines, and how a
device's own plan compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from compiler.halves import Risk
from targets.apple import engine
from targets.apple.engine import Chip
from targets.apple.placement.eligible import Rule
from targets.apple.placement.memory import Memory, memory
from targets.apple.placement.operation import Program
from targets.apple.placement.plan import Plan, Score, score
from targets.apple.placement.predict import Prediction, predict
from targets.apple.placement.roofline import Estimate, ceiling, estimate, estimates, of_each, work
from targets.apple.placement.segments import depth
from targets.apple.placement.systems import System
from targets.apple.placement.text import lines

QUESTIONS = {
    "eligible": "what may run on the engine, by the rules for the chip's family",
    "selected": "what Core ML is predicted to put there, by a published model of its segmenter",
    "executed": "only a device answers: --compute-plan FILE.json reads back what one plans",
}


class PlacementReport(NamedTuple):
    """For a chip, a system and the processors that may be used. `before` is the program without re-authored layers,
    where it is known; `score` compares a plan from a device."""

    chip: Chip
    system: System
    units: str
    program: Program
    before: Prediction | None
    after: Prediction
    memory: Memory
    rooflines: tuple[Estimate, ...]
    score: Score | None
    warnings: tuple[Rule, ...]
    risks: tuple[Risk, ...] = ()  # of 16-bit floats

    @property
    def roofline(self) -> Estimate:
        """That of the chip itself."""
        return next(e for e in self.rooflines if e.ceiling.chip == self.chip.name)

    def text(self) -> str:
        """For a terminal, lines of plain text."""
        return "\n".join(lines(self)) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        done = work(self.program.operations)
        top = ceiling(self.chip)
        return {
            "chip": self.chip.name,
            "family": self.chip.family,
            "system": self.system.name,
            "units": self.units,
            "questions": dict(QUESTIONS),
            "risks": [risk.as_json() for risk in self.risks],
            "before": None if self.before is None else self.before.counts(),
            "after": self.after.counts(),
            "off_engine_before": [] if self.before is None else [p.as_json() for p in self.before.off_engine],
            "operations": [p.as_json() | rates for p, rates in zip(self.after.placed, of_each(done, top), strict=True)],
            "segments": [
                {"on_engine": s.on_engine, "operations": list(s.operations), "macs": s.macs}
                for s in self.after.pieces.segments
            ],
            "memory": self.memory.as_json(),
            "roofline": {
                "about": "an estimate: max(operations / peak, bytes / bandwidth) of every operation",
                "ceiling": top.as_json(),
                "chips": [e.as_json() for e in self.rooflines],
            },
            "warnings": [w.as_json() for w in self.warnings],
            "compute_plan": None if self.score is None else self.score.as_json(),
        }


def report(
    program: Program, plain: Program | None, chip: Chip, system: System, units: str, plan: Plan | None
) -> PlacementReport:
    """The report on a program, and on the one that was not re-authored if there is one."""
    before, after = None if plain is None else predict(plain, chip, units), predict(program, chip, units)
    return PlacementReport(
        chip,
        system,
        units,
        program,
        before,
        after,
        memory(program),
        tuple(_of_chips(program, chip)),
        None if plan is None else score(after, plan),
        (*_warnings(program, system), *_lost(before, after)),
    )


def _lost(before: Prediction | None, after: Prediction) -> Iterator[Rule]:
    """Where less is predicted to be put on the engine than without re-authored layers."""
    if before is not None and after.macs_selected < before.macs_selected:
        known = engine.load("costs")["segmenter"]
        shares = f"{100 * before.macs_selected:.0f} % -> {100 * after.macs_selected:.0f} %"
        says = (
            f"re-authored, fewer multiply-accumulates are selected for the engine ({shares}): by this estimate of Core"
            " ML's own it saves less than a segment costs; --skip channels-first leaves the regions as they are"
        )
        yield Rule("selection", says, known["source"], "inferred")


def _of_chips(program: Program, chip: Chip) -> list[Estimate]:
    """Of all chips from A14 on, and of the one that was asked for if it is older."""
    done = work(program.operations)
    found = estimates(done)
    known = any(e.ceiling.chip == chip.name for e in found)
    return found if known else [estimate(done, ceiling(chip)), *found]


def _warnings(program: Program, system: System) -> list[Rule]:
    """Where the package does not load, and where the prediction is weakest."""
    found = []
    oldest = System.of(program.system)
    if system.version < oldest.version:
        says = f"the package needs {oldest.name} and does not load on {system.name}"
        found.append(Rule("system", says, system.source, system.confidence))
    deepest = engine.load("rules")["runtime"]["graph_depth"]
    if (found_depth := depth(program.operations)) > deepest["value"]:
        says = f"one chain has {found_depth:,} operations; as reported of convolutions: {deepest['rule']}"
        found.append(Rule("graph_depth", says, deepest["source"], "inferred"))
    known = engine.load("costs")["segmenter"]
    if system.ios != "iOS27":
        says = f"the segmenter's constants were read on macOS 27 (M4); that they hold on {system.name} is assumed"
        found.append(Rule("segmenter", says, known["source"], "inferred"))
    return found
