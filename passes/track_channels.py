"""Give the layers that compute channels the order in which others read them.

Every channel is followed back through concats, splits, slices, gathers and shuffles to the layer that computes it. A
convolution gives its channels in any order, with its rows reordered, and takes them in any, with its columns
reordered; layers between them that treat each channel alone follow. So channels that are read together are computed
side by side, and what reads some of them takes a slice, or several joined, instead of a gather of a shuffle
(ShuffleNet V2: N. Ma et al., arXiv:1807.11164, is what this is for: there half of the channels now move no byte).
"""

from __future__ import annotations

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.ops.index import Gather
from compiler.ops.parts import Slice, Split
from compiler.ops.shape import Transpose
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Observer
from passes._channel_order import Reorder
from passes._channel_places import Places
from passes._channel_regions import Regions
from passes._channels import Channels

ROUNDS = 8


class TrackChannels(Pass):
    """Channels in the order of their readers, where that moves fewer bytes; `most`: operands that a concat may have."""

    most: int = 5

    def validate(self) -> None:
        if self.most < 2:
            raise UsageError(f"most={self.most}: a concat joins at least 2 operands")

    def run(self, graph: Graph, observer: Observer) -> int:
        """Each round moves fewer bytes than the one before; mostly there is one."""
        fired = 0
        while fired < ROUNDS and graph.of(Gather, Slice, Split, Transpose) and observer.allow():
            channels = Channels(graph)
            Regions(graph, channels, self.most).refuse(Places(channels))
            new = Reorder(graph, channels, Places(channels), self.most)
            if not new.ends:
                break
            old, values = zip(*new.ends, strict=True)
            replace_layer(graph, "channels", old, values, new.added, observer)
            fired += 1
        return fired
