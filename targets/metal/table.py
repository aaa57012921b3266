"""The table of lowerings."""

from __future__ import annotations

from targets.metal.program import MetalProgram
from targets.source.table import Table

TABLE: Table[MetalProgram] = Table()
lowers = TABLE.register
