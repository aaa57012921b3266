"""Whole regions moved to (B, C, 1, S), for a chip."""

from __future__ import annotations

from compiler.pass_base import Step
from targets.apple.engine import Chip


def steps(chip: Chip) -> tuple[Step, ...]:
    """The passes, with the chip's limits."""
    return ()
