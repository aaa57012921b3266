"""Let the readers of a layer normalisation take over its bias, and its scale if all of them are dense.

W (n * scale + bias) + b = (W diag(scale)) n + (b + W bias) for a dense layer. Where a normalised value is added to the
result of a dense layer as well (the residual of a transformer with the norm behind it), the bias moves to the bias of
that layer, and the scale stays.
"""

from __future__ import annotations

from compiler.graph import Graph, Value
from compiler.ops.norm import LayerNorm, RmsNorm
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Builder, Observer, Skip
from passes._norm_affine import Readers, plain, reader_of, readers_of


class FoldNormAffine(Pass):
    """The bias, or scale and bias, of a normalisation over the last axis merge into the dense layers around it."""

    def run(self, graph: Graph, observer: Observer) -> int:
        found = (readers_of(node) for node in graph.of(LayerNorm, RmsNorm))
        return sum(_folded(graph, r, observer) for r in found if r is not None and any(a is not None for a in r.moved))


def _folded(graph: Graph, r: Readers, observer: Observer) -> bool:
    origin = r.norm.origin.union(*(reader.origin for reader in r.partners))
    g = Builder(graph, r.norm, origin)
    y = plain(g, r)
    added, new = g.added, list[Value]()
    for reader in r.partners:
        g = Builder(graph, reader, origin)
        made = reader_of(g, reader, r, y)
        added.extend(g.added)
        if isinstance(made, Skip):
            graph.erase_unread(reversed(added))
            observer.skipped("affine", r.norm, made.reason)
            return False
        new.append(made)
    old = [reader.output for reader in r.partners]
    return replace_layer(graph, "affine", old, new, added, observer) is not None
