"""The passes that re-author a graph for the Neural Engine, in their order."""

from __future__ import annotations

from compiler.pass_base import Step
from targets.apple import halves, legal, regions
from targets.apple.engine import Chip


def steps(chip: Chip, half: bool = True) -> tuple[Step, ...]:
    """What comes after a target's own decompositions. `half`: floats are stored in 16 bits."""
    return (*legal.steps(chip), *regions.steps(chip), *(halves.steps(chip) if half else ()))
