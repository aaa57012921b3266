"""Weights of layers behind removed channels, fitted so that they give again what they gave.

Layer by layer, with what layers before give by then, min |X' W' - X W|^2 + d |W' - W_kept|^2 has a closed form
(Y. He et al., Channel Pruning for Accelerating Very Deep Neural Networks, 2017, without its search; the ridge is
towards the weights as they were, so that the error on the rows is never larger than without the fit). Means go into
the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.tensor import Array
from passes._compression import Rows
from passes._fitted import data_of, set_data
from passes._gram import as_rows, enough, from_rows, is_matrix, samples

Solver = Callable[[Array, Array, Array, bool], tuple[Array, Array]]
STEPS = 30  # of alternating directions
RIDGE, DOUBT = 0.03, 0.3  # d, as a share of the mean square of an input: least, and of inputs without any rows


class Pair(NamedTuple):
    """A layer as it was, in the graph as it was, and as it is, and the results that it has left."""

    before: Node
    after: Node
    rows: Array


def fitted(x: Array, y: Array, w: Array, free: bool) -> tuple[Array, Array]:
    """The weight [results, inputs] near w and the bias [results] for which x [rows, inputs] gives y [rows, results]
    best; the bias is 0 if it is not free."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    means = (x.mean(0), y.mean(0)) if free else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    x, y = x - means[0], y - means[1]
    rest = y - x @ w.T
    count, inputs = x.shape
    ridge = _ridge(x)
    if inputs <= count:
        delta = np.linalg.solve(x.T @ x + ridge * np.eye(inputs), x.T @ rest)
    else:
        delta = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(count), rest)
    made = w + delta.T
    return made, means[1] - made @ means[0]


def _ridge(x: Array) -> float:
    """d times the number of rows."""
    count, inputs = x.shape
    return (RIDGE + DOUBT * inputs / (inputs + count)) * count * max(float(np.square(x).mean()), 1e-12)


def within(x: Array, y: Array, w: Array, free: bool) -> tuple[Array, Array]:
    """The same with zeros where w has zeros, by alternating directions (V. Boza, Fast and Effective Weight Update for
    Pruned Large Language Models, 2024); w itself, and the bias that suits it, if that does not err less."""
    aim, _ = fitted(x, y, w, free)
    x, y = x.astype(np.float64), y.astype(np.float64)
    means = (x.mean(0), y.mean(0)) if free else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    x, y = x - means[0], y - means[1]
    h = x.T @ x
    h += _ridge(x) * np.eye(len(h))
    sizes = np.sqrt(np.diagonal(h))
    h = h / sizes / sizes[:, None]
    inverse, pull = np.linalg.inv(h + np.eye(len(h))), aim * sizes @ h
    zeros = w == 0
    made, dual = w * sizes, np.zeros_like(aim)
    for _ in range(STEPS):
        near = (pull + made - dual) @ inverse
        made = np.where(zeros, 0, near + dual)
        dual += near - made
    made = made / sizes
    if np.square(y - x @ made.T).sum() > np.square(y - x @ w.T).sum():
        made = w.astype(np.float64)
    return made, means[1] - made @ means[0]


def in_step(before: Graph, after: Graph, pairs: Sequence[Pair], rows: Rows) -> Iterator[tuple[Pair, Array, Array]]:
    """Layers, in the order in which what they read is computed, with samples [groups, rows, inputs] of what they read
    in either graph; their weights in `after` may change before the next one is asked for. `before` is a copy of the
    graph that `after` was."""
    readers: dict[tuple[Value, Value], list[Pair]] = {}
    for p in pairs:
        readers.setdefault((_read(p.before), _read(p.after)), []).append(p)
    places = {n: i for i, n in enumerate(after.nodes)}
    cuts = sorted(readers, key=lambda c: -1 if c[1].node is None else places[c[1].node])
    for cut in [c for c in cuts if c[1].node is None]:
        arrays = [feed[cut[1].name] for feed in rows.feeds]
        for p in readers.pop(cut):
            yield p, *_sampled(p, arrays, arrays)
    cuts = [c for c in cuts if c in readers]
    given, given_now = rows.stages(before, [v for v, _ in cuts]), rows.stages(after, [v for _, v in cuts])
    for cut, old, new in zip(cuts, given, given_now, strict=False):
        for p in readers[cut]:
            yield p, *_sampled(p, old, new)


def _sampled(pair: Pair, old: Sequence[Array], new: Sequence[Array]) -> tuple[Array, Array]:
    """What either layer reads at the same places."""
    most = max(1, enough(pair.before) // len(old))
    found = [
        np.concatenate([samples(n, a, most, np.random.default_rng(i)) for i, a in enumerate(arrays)], 1)
        for n, arrays in ((pair.before, old), (pair.after, new))
    ]
    return found[0], found[1]


def refit(before: Graph, after: Graph, pairs: Sequence[Pair], rows: Rows) -> int:
    """Fit the weights of layers to what they gave before; returns how many."""
    for pair, old, new in in_step(before, after, pairs, rows):
        fit(after, pair, old, new, fitted)
    return len(pairs)


def _read(node: Node) -> Value:
    x = node.inputs[0]
    assert x is not None
    return x


def fit(graph: Graph, pair: Pair, old: Array, new: Array, solve: Solver) -> None:
    """Give a layer the weights and the bias by which it gives for the rows `new` what it gave for `old`; it stays if
    these are not finite."""
    w = data_of(pair.after.inputs[1])
    rows = as_rows(pair.after, w).astype(np.float64)
    wanted = as_rows(pair.before, data_of(pair.before.inputs[1]))
    bias = data_of(pair.after.inputs[2]).reshape(len(rows), -1) if _has_bias(pair.after) else None
    made, shifts = [], []
    for g, kept in enumerate(pair.rows.reshape(len(rows), -1)):
        source, mine = int(kept[0]) // wanted.shape[1], kept % wanted.shape[1]
        y = old[source] @ wanted[source][mine].T
        row, shift = solve(new[g], y if bias is None else y + bias[g], rows[g], bias is not None)
        if not np.isfinite(row).all() or not np.isfinite(shift).all():
            return
        made.append(row)
        shifts.append(shift)
    set_data(graph, pair.after, 1, from_rows(pair.after, np.stack(made), w.shape))
    if bias is not None:
        set_data(graph, pair.after, 2, np.concatenate(shifts))


def _has_bias(node: Node) -> bool:
    return len(node.inputs) > 2 and node.inputs[2] is not None and node.inputs[2].data is not None


def pairs_of(after: Graph, changed: Iterable[Node], twins: Mapping[Node, tuple[Node, Array]]) -> list[Pair]:
    """Layers with weights that read what changed. `changed`: layers that were made anew; `twins`: layers -> those that
    they were, and the results of these that are left."""
    reached = {v for n in changed for v in n.outputs}
    found = []
    for node in after.nodes:
        if any(v in reached for v in node.inputs):
            reached.update(node.outputs)
            if node in twins and is_matrix(node) and node.inputs[0] in reached:
                found.append(Pair(twins[node][0], node, twins[node][1]))
    return found
