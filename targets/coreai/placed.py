"""Where layers are predicted to run: what is known of the engines is known of Core ML programs, so that one of the same
layers is asked instead. It is made in memory only."""

from __future__ import annotations

from typing import Any, NamedTuple

from compiler.errors import LegalityError
from compiler.graph import Graph
from compiler.report import Section
from targets.apple.placement.eligible import INFERRED, Rule
from targets.apple.target import AppleTarget
from targets.coreml.target import CoreMLTarget

NEWEST = "iOS26"  # of Core ML's deployment targets
SAYS = "predicted for the Core ML program of the same layers; Core AI is assumed to place them alike"
SOURCE = "rules and times were observed on Core ML programs"


class Unpredicted(NamedTuple):
    """Why there is no prediction."""

    reason: str

    def text(self) -> str:
        return f"no placement is predicted: {self.reason}\n"

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"unpredicted": self.reason}


def predicted(target: AppleTarget, graph: Graph, plain: Graph | None) -> Section:
    """For the chip, the system and the precision of `target`."""
    asked = CoreMLTarget(
        target.precision, NEWEST, chip=target.chip.name, os=target.system.name, io_layout=target.io_layout
    )
    asked.calibrated = target.calibrated
    try:
        found = asked.placement(asked.prepare(graph.clone()), plain)
    except LegalityError as e:
        return Unpredicted(f"it is known for Core ML programs, and {e.message}")
    return found._replace(warnings=(*found.warnings, Rule("core_ai", SAYS, SOURCE, INFERRED)))
