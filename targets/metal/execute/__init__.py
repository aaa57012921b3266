"""Runs Metal's source on the processor, with checks of what its kernels do to memory.

`Executor(folder).run(arrays)` runs a folder with `model.metal`, `plan.json` and `weights.bin`; `faults(text)` says what
the text has that Metal Shading Language has not. The headers that make its words C++17 lie in
`codegen/templates/metal/host`. They take the text as it is but for one attribute, `[[threadgroup(n)]]`, whose name is
also that of an address space: see `text.portable`.
"""

from targets.metal.execute.executor import Executor
from targets.metal.execute.grammar import faults

__all__ = ["Executor", "faults"]
