"""Let the convolution behind a channel shuffle read its groups where they lie.

conv(shuffle(x)), with x [N,g*d,H,W] and `p` groups, is conv'(x') with x' [N,d,H,W*g] the same memory channels-last, the
kernel g times as wide and its taps over the columns of a pixel: group j reads channels j*d/p ... of all g columns, what
the shuffle would have put there. Layers in between that treat each channel alone (depthwise convolutions, pools,
functions of elements) run before the shuffle instead, with their constants reordered. Where p does not divide d, the
convolution that computes x is given rows in the order that is read, and rows of zeros to fill up (ShuffleNet: X. Zhang
et al., arXiv:1707.01083, is what this is for). A convolution in one group has its weights reordered.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Observer
from passes._shuffle import shuffles, unshuffled


class AbsorbShuffle(Pass):
    """Reshape, transpose and reshape of channels, in front of a convolution, without moving an element in memory that
    is channels-last. Rows of zeros that fill up groups of different size add work."""

    adds_work = True

    def run(self, graph: Graph, observer: Observer) -> int:
        fired = 0
        for s in shuffles(graph):
            if not observer.allow():
                break
            found = unshuffled(graph, s)
            if found is None:
                observer.skipped(
                    "shuffle", s.layers[1], "its groups differ in size, and what computes them is not known"
                )
                continue
            y, added = found
            replace_layer(graph, "shuffle", s.reader.outputs, (y,), added, observer)
            fired += 1
        return fired
