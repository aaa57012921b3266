"""The passes that re-author a graph for the Neural Engine, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.pass_base import Step
from targets.apple import halves, legal, regions
from targets.apple.engine import Chip


def steps(
    chip: Chip,
    half: bool = True,
    rows: halves.Rows | None = None,
    approximate: Sequence[str] = (),
    engine: bool = True,
) -> tuple[Step, ...]:
    """What comes after a target's own decompositions. `half`: floats are stored in 16 bits; `rows`: data that shows
    how large they become; `approximate`: the approximations that are asked for, see legal.asked. Without `engine`, for
    other processors, only what 16-bit floats need."""
    written = (*legal.steps(chip, approximate), *regions.steps(chip, half)) if engine else ()
    return (*written, *(halves.steps(chip, rows) if half else ()))
