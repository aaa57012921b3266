"""The table of lowerings."""

from __future__ import annotations

from targets.neon.program import NeonProgram
from targets.source.table import Table

TABLE: Table[NeonProgram] = Table()
lowers = TABLE.register
