"""Pruned channels as a technique among others, and what the pass does to a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.pass_base import replace_layer
from compiler.rewrite import Observer, Unobserved
from compiler.tensor import Array
from passes._compression import Candidate, Cost, Rows, Setting, layer_names, macs_of, work_of
from passes._fitted import data_of
from passes._gram import as_rows, is_matrix
from passes._prune_apply import Removal
from passes._prune_choice import Plan
from passes._prune_refit import pairs_of, refit

AMOUNTS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)


class PrunedChannels:
    """Fewer channels; `Setting`: amount, the share of its channels that a layer loses, with all that is coupled to
    them."""

    name = "prune-channels"

    def __init__(self, importance: str = "auto", multiple: int = 1, fit: bool = True, cost: Cost = macs_of) -> None:
        self.importance = importance
        self.multiple = multiple
        self.fit = fit
        self.cost = cost

    def candidates(self, graph: Graph, rows: Rows | None) -> Iterator[Candidate]:
        """For each set of coupled layers, by the first of them, shares of its channels. Errors are summed over the
        layers that read them."""
        plan = Plan(graph, self.importance, rows, AMOUNTS[-1])
        names = {node: name for name, node in layer_names(graph).items()}
        places = {node: i for i, node in enumerate(graph.nodes)}
        for node in sorted({g.node for g in plan.groups}, key=places.__getitem__):
            mine = [g for g in plan.groups if g.node is node]
            seen: set[tuple[int, ...]] = {(0,) * len(mine)}
            for amount in AMOUNTS:
                counts = tuple(g.takes(amount, self.multiple) for g in mine)
                if counts in seen:
                    continue
                seen.add(counts)
                removal = Removal(graph, plan.units, plan.chosen({node: amount}, self.multiple))
                before, after = (work_of(side, self.cost) for side in (removal.made, removal.made.values()))
                graph.erase_unread(removal.made.values())
                error = sum(sum(g.errors[:n]) for g, n in zip(mine, counts, strict=True))
                less = tuple((names[a], _numbers(a) - _numbers(b)) for a, b in removal.made.items() if a in names)
                setting = {"amount": amount}
                yield Candidate(names[node], self.name, setting, before, after, min(error, 1.0), coupled=less)

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> Sequence[Node]:
        """Remove the channels of some layers."""
        names = layer_names(graph)
        amounts: dict[Node, float] = {}
        for layer, setting in chosen.items():
            amount = setting.get("amount")
            if layer not in names or set(setting) != {"amount"} or not isinstance(amount, float) or not 0 <= amount < 1:
                raise UsageError(f"{self.name} does not know the layer {layer!r} or the setting {dict(setting)}")
            amounts[names[layer]] = amount
        plan = Plan(graph, self.importance, rows, max((AMOUNTS[-1], *amounts.values())), amounts)
        unknown = [n for n in amounts if all(g.node is not n for g in plan.groups)]
        if unknown:
            raise UsageError(f"{self.name} cannot take channels from {unknown[0].describe()}")
        return remove(graph, plan, plan.chosen(amounts, self.multiple), rows if self.fit else None, Unobserved())


def remove(graph: Graph, plan: Plan, gone: Array, rows: Rows | None, observer: Observer) -> Sequence[Node]:
    """Remove the numbers that are marked; with rows the weights of layers behind them are fitted. Returns the layers
    that were made."""
    if not gone.any():
        return ()
    copy = graph.clone()
    originals = dict(zip(graph.nodes, copy.nodes, strict=True))
    removal = Removal(graph, plan.units, gone)
    old, new = zip(*removal.ends, strict=True)
    if replace_layer(graph, "channels", old, new, removal.made.values(), observer) is None:
        return ()
    if rows is not None:
        came_from = {made: node for node, made in removal.made.items()}
        kept = {e.node: np.flatnonzero(~gone[e.ids]) for e in plan.units.gives}
        sources = {n: came_from.get(n, n) for n in graph.nodes}
        twins = {n: (originals[s], kept[s] if s in kept else _all(s)) for n, s in sources.items() if is_matrix(n)}
        refit(copy, graph, pairs_of(graph, removal.made.values(), twins), rows)
    return tuple(removal.made.values())


def _numbers(node: Node) -> int:
    return sum(v.type.size for v in node.inputs if v is not None and v.data is not None)


def _all(node: Node) -> Array:
    groups, results, _ = as_rows(node, data_of(node.inputs[1])).shape
    return np.arange(groups * results)
