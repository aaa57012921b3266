"""Pad channels with zeros to multiples of an array's width, where a roofline says that layers then take less time.

An array of multipliers may run layers whose channels do not fill its rows at a lower rate. Kernels get rows and columns
of zeros; whoever is no convolution reads the channels that there were.
"""

from __future__ import annotations

from compiler.graph import Graph, Node
from compiler.pass_base import Pass
from compiler.rewrite import Firing, Observer
from passes._padding import choose, find, gain, pad, total
from passes._roofline import Array, Machine


class PadChannels(Pass):
    """`array`: multipliers in each row and column; `unaligned`: the part of the rate that is left where channels do not
    fill them, beside what idles; `macs` and `bandwidth`: multiply-accumulates and bytes per second. Zeros add work."""

    adds_work = True
    array: int = 64
    unaligned: float = 1.0
    macs: float = 2e12
    bandwidth: float = 32e9

    def run(self, graph: Graph, observer: Observer) -> int:
        machine = Machine(Array(self.array, self.unaligned), self.macs, self.bandwidth)
        groups, of = find(graph)
        chosen = choose(groups, of, machine)
        saved = {g: f"{1e6 * gain(g, chosen, of, machine):.2f} of {1e6 * total(g, of, machine):.2f} us" for g in groups}
        live: dict[Node, Node] = {}
        fired = 0
        for group in groups:
            width = machine.array.filled(group.channels)
            told = f"{group.channels} channels to {width}, saves {saved[group]}"
            first = next(iter(group.nodes))
            if width != group.channels and group not in chosen:
                observer.skipped("pad", live.get(first, first), f"does not pay by the roofline: {told}")
            elif group in chosen and observer.allow():
                old = tuple(live.get(n, n) for n in group.nodes)
                made = pad(graph, group, width, live)
                observer.fired(Firing(told, old, tuple(made), (), (), ()))
                fired += 1
        return fired
