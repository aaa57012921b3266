"""What a region costs as it is and as it was written, and whether that is worth it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from compiler.graph import Node
from compiler.ops.attention import Attention
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense
from compiler.ops.shape import Reshape, Transpose
from passes._bc1s_cost import Rates
from passes._bc1s_regions import Region


class Verdict(NamedTuple):
    """What a region costs before and after."""

    layers: int
    products: int
    convs: int
    movers: tuple[int, int]
    inside: int
    padded: tuple[int, int]
    time: tuple[float, float]

    def against(self, least_products: int, least_gain: float) -> str:
        """Why the region stays as it is; empty if it does not."""
        if self.products < least_products:
            return "a lone product pays for its borders"
        before, after = self.time
        return "" if after <= before * (1 - least_gain) else f"saves less than {least_gain:.0%}"

    def numbers(self) -> dict[str, int]:
        """For reports; times in nanoseconds."""
        return {
            "layers": self.layers,
            "products": self.products,
            "convs": self.convs,
            "movers_before": self.movers[0],
            "movers_at_borders": self.movers[1],
            "movers_inside": self.inside,
            "padded_bytes_before": self.padded[0],
            "padded_bytes_after": self.padded[1],
            "ns_before": round(self.time[0] * 1000),
            "ns_after": round(self.time[1] * 1000),
        }

    def __str__(self) -> str:
        return (
            f"region of {self.layers} layers, {self.products} products as {self.convs} convs, "
            f"reshapes and transposes {self.movers[0]} -> {self.inside} inside and {self.movers[1]} at borders, "
            f"padded bytes {self.padded[0]} -> {self.padded[1]}, "
            f"estimated {self.time[0]:.1f} -> {self.time[1]:.1f} us"
        )


def _borders(region: Region) -> set[Node]:
    """Written reshapes and transposes that come before all other layers, or after all."""
    movers = [n for n in region.written if isinstance(n.op, Reshape | Transpose)]
    moving = set(movers)
    inner = set(region.written).difference(movers)
    found: set[Node] = set()
    for n in movers:
        above = n.inputs[0]
        while above is not None and above.node in moving:
            above = above.node.inputs[0] if above.node is not None else None
        seen: set[Node] = set()
        stack = [n.output]
        while stack:
            v = stack.pop()
            seen.update(u for u in v.users if u in inner)
            stack.extend(u.output for u in v.users if u in moving)
        if above is None or above.node not in inner or not seen:
            found.add(n)
    return found


def weighed(region: Region, rates: Rates) -> Verdict:
    """What a region costs before and after."""
    before, after, borders = (*region.layers, *region.dead), region.written, _borders(region)
    return Verdict(
        len(before),
        sum(isinstance(n.op, Dense | Attention) for n in before),
        sum(isinstance(n.op, Conv) for n in after),
        (sum(isinstance(n.op, Reshape | Transpose) for n in before), len(borders)),
        sum(isinstance(n.op, Reshape | Transpose) for n in after) - len(borders),
        (sum(rates.size(n.outputs) for n in before), sum(rates.size(n.outputs) for n in after)),
        (sum(map(rates.time, before)), sum(map(rates.time, after))),
    )


def totals(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """The sum of what regions cost, and how many there are."""
    numbers = [v.numbers() for v in verdicts]
    return {"regions": len(numbers), **{key: sum(n[key] for n in numbers) for n in numbers[:1] for key in n}}
