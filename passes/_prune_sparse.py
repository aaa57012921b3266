"""Layers of which single weights become zeros, and pruned weights as a technique among others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.ops.conv import Conv
from compiler.tensor import Array
from passes._compression import Candidate, Cost, Rows, Setting, Work, layer_names, macs_of, work_of
from passes._fitted import data_of, set_data
from passes._gram import BLOCK, Gram, as_rows, enough, from_rows, is_matrix, samples
from passes._prune_mask import Pattern, by_magnitude, pruned
from passes._prune_refit import Pair, fit, in_step, within
from passes._rounding import damped, errors

AMOUNTS = (0.3, 0.5, 0.7, 0.8)
PATTERNS = ("2:4",)
WIDEST = 4608  # inputs of a layer whose weights are fitted


def pattern_of(text: str) -> Pattern:
    """`N:M`, N weights left of every M neighbours; UsageError if it is not that."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    kept, of = map(int, found.groups()) if found else (0, 0)
    if not 0 < kept < of or BLOCK % of:
        raise UsageError(f"pattern {text!r} is not N:M with 0 < N < M and M a power of two, such as 2:4")
    return Pattern(1 - kept / of, kept, of)


def layers_for(graph: Graph, pattern: Pattern) -> list[Node]:
    """Convolutions and matrix products with constant weights that take the pattern; one of those that share them."""
    found = {id(data_of(n.inputs[1])): n for n in reversed(list(graph.nodes)) if is_matrix(n) and _takes(n, pattern)}
    return list(reversed(found.values()))


def _takes(node: Node, pattern: Pattern) -> bool:
    """Not convolutions of each channel alone, and not rows that the pattern does not divide."""
    each = _channels(node)
    return (each > 1 or not isinstance(node.op, Conv)) and (not pattern.of or each % pattern.of == 0)


def _channels(node: Node) -> int:
    w = data_of(node.inputs[1])
    return int(w.shape[1]) if isinstance(node.op, Conv) else as_rows(node, w).shape[-1]


def _inner(node: Node) -> Array:
    """The order of inputs in which neighbours are channels of one tap, as kernels for N:M read them."""
    w = data_of(node.inputs[1])
    taps = prod(w.shape[2:]) if isinstance(node.op, Conv) else 1
    return np.arange(_channels(node) * taps).reshape(-1, taps).T.reshape(-1)


def matrix(node: Node) -> Array:
    """The weight [groups, results, inputs], with neighbouring channels side by side."""
    return as_rows(node, data_of(node.inputs[1]))[..., _inner(node)]


def _store(graph: Graph, node: Node, rows: Array) -> bool:
    """Give a layer, and those that share its weight, the numbers of such a matrix; whether they are others."""
    old = data_of(node.inputs[1])
    back = np.empty_like(rows)
    back[..., _inner(node)] = rows
    data = np.ascontiguousarray(from_rows(node, back, old.shape), old.dtype)
    if np.array_equal(data, old):
        return False
    data.flags.writeable = False
    for n in list(graph.nodes):
        for i, v in enumerate(n.inputs):
            if v is not None and v.data is old:
                set_data(graph, n, i, data)
    return True


def thresholded(nodes: Sequence[Node], amount: float) -> list[Pattern]:
    """For each layer the share of its weights that matter least in the whole graph: by w^2 over the sum of all squares
    in the layer that are not smaller (J. Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, 2021)."""
    scores = [_adapted(data_of(n.inputs[1])) for n in nodes]
    if not scores:
        return []
    level = np.quantile(np.concatenate(scores), amount)
    return [Pattern(float((s < level).mean())) for s in scores]


def _adapted(w: Array) -> Array:
    squares = np.sort(np.square(w.reshape(-1), dtype=np.float64))
    return np.asarray(squares / np.maximum(np.cumsum(squares[::-1])[::-1], 1e-300))


def prune(graph: Graph, chosen: Mapping[Node, Pattern], rows: Rows | None) -> list[Node]:
    """Set weights of layers to zero, in their order; with rows those that matter least for what layers read once those
    before are done, and fit the others to what the layers gave. Returns the layers that changed."""
    if rows is None:
        made = {n: np.where(by_magnitude(matrix(n), pattern), 0, matrix(n)) for n, pattern in chosen.items()}
        return [n for n, w in made.items() if _store(graph, n, w)]
    copy = graph.clone()
    twins = dict(zip(graph.nodes, copy.nodes, strict=True))
    pairs = [Pair(twins[n], n, np.arange(prod(matrix(n).shape[:2]))) for n in chosen]
    changed = []
    for pair, old, new in in_step(copy, graph, pairs, rows):
        n, gram = pair.after, Gram()
        gram.add(new[..., _inner(n)])
        if _store(graph, n, pruned(matrix(n), chosen[n], gram.blocks, gram.count)):
            changed.append(n)
            if new.shape[-1] <= WIDEST and not _is_shared(graph, n):
                fit(graph, pair, old, new, within)
    return changed


def _is_shared(graph: Graph, node: Node) -> bool:
    data = [data_of(v) for v in node.inputs[1:] if v is not None]
    return any(
        n is not node and v is not None and any(v.data is d for d in data) for n in graph.nodes for v in n.inputs
    )


def _grams(graph: Graph, nodes: Sequence[Node], rows: Rows | None) -> Iterator[tuple[Node, Gram | None]]:
    """Layers, with second-order statistics of what they read."""
    if rows is None:
        yield from ((n, None) for n in nodes)
        return
    found, rng = {n: Gram() for n in nodes}, np.random.default_rng(0)
    values = list(dict.fromkeys(v for n in nodes if (v := n.inputs[0]) is not None))
    for arrays in rows.each(graph, values):
        known = dict(zip(values, arrays, strict=True))
        for n, gram in found.items():
            x = n.inputs[0]
            assert x is not None
            gram.add(samples(n, known[x], max(1, enough(n) // len(rows.feeds)), rng)[..., _inner(n)])
    yield from found.items()


class PrunedWeights:
    """Weights that are zeros; `Setting`: amount, the share of the layer's, or pattern, N:M. Parameters are those that
    are not zeros; the work is that of dense layers."""

    name = "prune-weights"

    def __init__(self, cost: Cost = macs_of) -> None:
        self.cost = cost

    def candidates(self, graph: Graph, rows: Rows | None) -> Iterator[Candidate]:
        """Shares and patterns for each layer."""
        names = {node: name for name, node in layer_names(graph).items()}
        for node, gram in _grams(graph, layers_for(graph, Pattern(0.5)), rows):
            settings: list[Setting] = [{"amount": a} for a in AMOUNTS]
            settings += [{"pattern": p} for p in PATTERNS if _takes(node, pattern_of(p))]
            for setting in sorted(settings, key=lambda s: _pattern(s).amount):
                yield self._candidate(node, names[node], setting, gram)

    def _candidate(self, node: Node, name: str, setting: Setting, gram: Gram | None) -> Candidate:
        w, pattern = matrix(node), _pattern(setting)
        if gram is None:
            zeros = by_magnitude(w, pattern)
            made = np.where(zeros, 0, w)
            error, whole = float(np.square(made - w).sum()), float(np.square(w).sum())
        else:
            made = pruned(w, pattern, gram.blocks, gram.count)
            error, whole = (_energy(a, gram) for a in (made - w, w))
        before = work_of([node], self.cost)
        fewer = Work(int((made == 0).sum() - (w == 0).sum()), 0, 0.0, bits=-w.size)  # of a mask
        return Candidate(name, self.name, setting, before, before - fewer, min(error / max(whole, 1e-30), 1.0))

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> Sequence[Node]:
        """Set weights of some layers to zero."""
        names = layer_names(graph)
        known = set(layers_for(graph, Pattern(0.5)))
        wanted: dict[Node, Pattern] = {}
        for layer, setting in chosen.items():
            node = names.get(layer)
            pattern = _pattern(setting)
            if node not in known or node is None or not _takes(node, pattern):
                raise UsageError(f"{self.name} cannot prune the layer {layer!r} by {dict(setting)}")
            wanted[node] = pattern
        return prune(graph, {n: wanted[n] for n in graph.nodes if n in wanted}, rows)


def _energy(w: Array, gram: Gram) -> float:
    start, total = 0, 0.0
    for h in gram.blocks:
        total += float(errors(w[..., start : start + h.shape[-1]], damped(h, gram.count)).sum())
        start += h.shape[-1]
    return total


def _pattern(setting: Setting) -> Pattern:
    (option,) = setting if len(setting) == 1 else ("",)
    value = setting.get(option)
    if option == "pattern" and isinstance(value, str):
        return pattern_of(value)
    if option == "amount" and isinstance(value, float) and 0 <= value < 1:
        return Pattern(value)
    raise UsageError(f"prune-weights does not know the setting {dict(setting)}; it is amount=0.5 or pattern='2:4'")
