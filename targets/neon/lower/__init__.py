"""One function for each operation whose kernels are of this target alone, by family; importing this registers them all,
and those that it shares."""

from passes.decompose import DECOMPOSED
from targets.neon.lower import attention, conv, deconv, fft, matmul, recurrent
from targets.neon.table import TABLE
from targets.source import lower as shared
from targets.source.table import SHARED

TABLE.adopt(SHARED)
TABLE.decomposes(DECOMPOSED)

__all__ = ["attention", "conv", "deconv", "fft", "matmul", "recurrent", "shared"]
