"""Compress layers by all techniques under one budget: the least that is lost for what is saved.

How much noise at the outputs each technique makes in each layer is measured on rows of data; the layers and settings
that lose least for what they save are chosen by Lagrange's method, and the whole is measured end to end.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Observer
from passes._compress_search import Search


class Compress(Pass):
    """As a `search` says; without one the pass does nothing. Split layers and tables add work that others lose."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    search: Search | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        return 0 if self.search is None else self.search.run(graph, observer)

    def __str__(self) -> str:
        return self.pass_name()
