"""One function for each operation whose kernels are of this target alone, by family; importing this registers them all,
and those that it shares."""

from passes.decompose import DECOMPOSED
from targets.metal.lower import attention, conv, elementwise, matmul, movement, recurrent
from targets.metal.table import TABLE
from targets.source import lower as shared
from targets.source.table import SHARED

TABLE.adopt(SHARED)
TABLE.decomposes(DECOMPOSED)

__all__ = ["TABLE", "attention", "conv", "elementwise", "matmul", "movement", "recurrent", "shared"]
