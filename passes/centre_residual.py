"""Write the residual stream of a transformer without its mean, which all that reads it would subtract.

Where layer normalisations alone read a stream, a number added to all features of a row changes nothing. So the layers
that write to it, and embeddings and other constants, are centred over their features once, W - mean(W); then every row
has a mean of zero, and layer_norm(x) = rms_norm(x) + bias (S. Ashkboos et al., SliceGPT, arXiv:2401.15024, do this in
order to rotate the stream).
"""

from __future__ import annotations

from compiler.graph import Graph, Node, Value
from compiler.ops.elementwise import Add
from compiler.ops.norm import LayerNorm, RmsNorm
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._stream import Stream, centred, stream_into


class CentreResidual(Pass):
    """Layer normalisations of one stream become RMS normalisations. Weights that write to it are copied.

    min_norms   how many there must be
    """

    min_norms: int = 2

    def run(self, graph: Graph, observer: Observer) -> int:
        place = {node: i for i, node in enumerate(graph.nodes)}
        fired, seen, others = 0, set[Node](), set[Value]()
        for norm in graph.of(LayerNorm):
            stream = None if norm in seen or norm.is_erased else stream_into(norm, others)
            if stream is not None and len(stream.norms) >= self.min_norms:
                seen.update(stream.norms)
                fired += _centre(graph, stream, place, observer)
        return fired


def _centre(graph: Graph, stream: Stream, place: dict[Node, int], observer: Observer) -> bool:
    new: dict[Value, Value] = {}
    added: list[Node] = []
    for node in sorted((*stream.layers, *stream.norms), key=place.__getitem__):
        g = Builder(graph, node, node.origin)
        if node in stream.norms:
            x, scale, *bias = node.inputs
            assert x is not None
            y = g.add(RmsNorm(axis=node.op.axis, eps=node.op.eps), new[x], scale)  # type: ignore[attr-defined]  # of a norm
            new[node.output] = g.add(Add(), y, bias[0]) if bias else y
        else:
            new[node.output] = centred(g, node, new, stream)
        added += g.added
    old = [norm.output for norm in stream.norms]
    return replace_layer(graph, "stream", old, [new[v] for v in old], added, observer) is not None
