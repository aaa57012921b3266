"""What lowering functions of the NEON target write to."""

from __future__ import annotations

from functools import cached_property

from compiler.graph import Graph
from targets.neon.blocking import Core, core
from targets.source.program import Program


class NeonProgram(Program):
    """One library being written.

    precision  fp32, fp16 or int8
    isa        the features that may be used: base, fp16, dotprod, i8mm; auto: kernels for each, of which the processor
               chooses
    core       the one whose caches blocks are to fit
    """

    def __init__(self, graph: Graph, precision: str, isa: str, threads: int = 1, cut_for: Core | None = None) -> None:
        super().__init__(graph, threads)
        self.precision, self.isa = precision, isa
        self.core = cut_for or core()

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the graph."""
        return sum(node.macs for node in self.graph.nodes)
