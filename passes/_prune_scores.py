"""How much channels matter: by the weights that compute them, by what they add to the layers that read them, and by
what these layers err without them once their other weights are fitted anew.

- norms of weights: H. Li et al., Pruning Filters for Efficient ConvNets, 2017
- scales of batch normalisations: Z. Liu et al., Learning Efficient Convolutional Networks through Network Slimming,
  2017
- mean squares of activations times those of the weights that read them, after M. Sun et al., A Simple and Effective
  Pruning Approach for Large Language Models, 2023, for channels
- least squares: B. Hassibi & D. Stork, Optimal Brain Surgeon, 1993, for blocks of weights, on a layer's own output
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Graph
from compiler.tensor import Array
from passes._compression import Rows
from passes._fitted import data_of
from passes._gram import as_rows, enough, is_matrix, samples
from passes._prune_units import End, Units

LARGEST = 2304  # inputs of a layer whose second-order statistics are taken as a whole
DAMPING = 0.01  # share of the mean of H's diagonal that is added to it
State = tuple[Array, Array, Array, float]  # class of each input, inverse of H, weight, power of the results
ROUNDS = 8  # times that the errors of what is left are computed anew


def by_weights(u: Units, power: int) -> Array:
    """The mean norm, L1 or L2, of what computes each class, relative to those of the same layer; [numbers]."""
    ends = []
    for end in u.gives:
        w = data_of(end.node.inputs[1])
        rows = np.moveaxis(w, end.axis, 0).reshape(w.shape[end.axis], -1)
        norms = np.linalg.norm(rows.astype(np.float64), power, axis=1)
        ends.append((end.ids, norms))
    return _mean_of(u, ends)


def by_scales(u: Units, graph: Graph) -> Array:
    """The mean scale of the batch normalisations of each class, by their weights where there are none; [numbers]."""
    cuts = [(c, n) for n in graph.of(ops.BatchNorm) for c in u.cuts.get(n, ()) if c.operand == 1]
    ends = [(c.ids.reshape(-1), np.abs(data_of(n.inputs[1])).astype(np.float64)) for c, n in cuts]
    scores = _mean_of(u, ends)
    known = np.zeros(u.count, np.bool_)
    for ids, _ in ends:
        known[u.classes[ids]] = True
    return np.where(known[u.classes], scores, by_weights(u, 2))


def _mean_of(u: Units, ends: Sequence[tuple[Array, Array]]) -> Array:
    total, count = np.zeros(u.count), np.zeros(u.count)
    for ids, norms in ends:
        mine = u.classes[ids]
        np.add.at(total, mine, norms / max(float(norms.mean()), 1e-30))
        np.add.at(count, mine, 1)
    mean = total / np.maximum(count, 1)
    return np.asarray(mean[u.classes])


class Reader:
    """One group of a layer that reads numbered channels, with statistics of its rows of inputs X.

    ids      number of each input
    weight   [results, inputs]
    squares  sums of squares of X; `gram` X^T X, None of wide layers and unless `second`; `sums` of X, of `count` rows
    """

    def __init__(self, end: End, ids: Array, weight: Array, second: bool) -> None:
        self.end = end
        self.ids = ids
        self.weight = weight
        size = len(ids)
        self.squares = np.zeros(size)
        self.sums = np.zeros(size)
        self.gram: Array | None = np.zeros((size, size), np.float32) if second and size <= LARGEST else None
        self.count = 0

    def add(self, x: Array) -> None:
        """Take in rows [rows, inputs]."""
        self.squares += np.square(x, dtype=np.float64).sum(0)
        self.sums += x.sum(0, dtype=np.float64)
        if self.gram is not None:
            self.gram += x.T @ x
        self.count += len(x)

    def shares(self) -> Array:
        """What each input adds to the squares of the results, of 1 in all, as if inputs were independent."""
        found = self._variances() * np.square(self.weight, dtype=np.float64).sum(0)
        return np.asarray(found / max(found.sum(), 1e-30))

    def _variances(self) -> Array:
        mean = self.sums / max(self.count, 1)
        return np.asarray(np.maximum(self.squares / max(self.count, 1) - np.square(mean), 0) + 1e-30)

    def covariance(self) -> Array:
        """Of X, damped: constants of channels go into the bias."""
        assert self.gram is not None
        mean = self.sums / max(self.count, 1)
        h = self.gram / max(self.count, 1) - np.outer(mean, mean)
        size = len(self.ids)
        damping = max(DAMPING, 0.1 * size / max(size + self.count, 1)) * max(float(np.trace(h)) / size, 1e-12)
        return np.asarray(h + damping * np.eye(size))


def readers_of(graph: Graph, u: Units, rows: Rows, second: Array) -> list[Reader]:
    """The layers that read channels which may go, with statistics of what they read; of second order where they read
    numbers that `second` marks, [numbers]. Which rows are sampled does not depend on it."""
    ends = [e for e in u.takes if is_matrix(e.node) and not u.fixed[u.classes[e.ids]].all()]
    made = {e.node: _parts(e, second) for e in ends}
    values = list(dict.fromkeys(v for e in ends if (v := e.node.inputs[0]) is not None))
    rng = np.random.default_rng(0)
    for arrays in rows.each(graph, values) if values else ():
        found = dict(zip(values, arrays, strict=True))
        for node, parts in made.items():
            x = node.inputs[0]
            assert x is not None
            taken = samples(node, found[x], max(1, enough(node) // len(rows.feeds)), rng)
            for part, rows_of_part in zip(parts, taken, strict=True):
                part.add(rows_of_part)
    return [part for parts in made.values() for part in parts]


def _parts(end: End, second: Array) -> list[Reader]:
    w = data_of(end.node.inputs[1])
    weights = as_rows(end.node, w)
    taps = prod(w.shape[2:]) if isinstance(end.node.op, ops.Conv) else 1
    ids = np.repeat(end.ids, taps).reshape(len(weights), -1)
    return [Reader(end, i, m, bool(second[i].any())) for i, m in zip(ids, weights, strict=True)]


def by_readers(u: Units, readers: Sequence[Reader]) -> Array:
    """What each class adds to the layers that read it, summed over these; by weights where nothing reads; [numbers]."""
    total, known = np.zeros(u.count), np.zeros(u.count, np.bool_)
    for reader in readers:
        mine = u.classes[reader.ids]
        np.add.at(total, mine, reader.shares())
        known[mine] = True
    unknown = by_weights(u, 2) / max(len(np.unique(u.classes)), 1)
    return np.asarray(np.where(known[u.classes], total[u.classes], unknown))


class Elimination:
    """Removes classes from readers one after the other, always those that cost least once the weights of what is left
    are fitted anew."""

    def __init__(self, u: Units, readers: Sequence[Reader], units: Sequence[int]) -> None:
        chosen = set(units)
        self.states: list[State] = []
        for reader in readers:
            mine = u.classes[reader.ids]
            if reader.gram is None or not chosen & set(mine.tolist()):
                continue
            h = reader.covariance()
            w = reader.weight.astype(np.float64)
            power = max(float(((w @ h) * w).sum()), 1e-30)
            self.states.append((mine, np.linalg.inv(h), w, power))

    def order(self, units: Sequence[int], most: int) -> tuple[list[int], list[float]]:
        """The first `most` units to go and the error that each adds, summed over readers, relative to what they
        compute."""
        left = list(units)
        gone: list[int] = []
        errors: list[float] = []
        batch = max(1, -(-most // ROUNDS))
        while len(gone) < most:
            costs = self._costs(left)
            best = sorted(range(len(left)), key=lambda i: costs[i])[: min(batch, most - len(gone))]
            errors += [costs[i] for i in best]
            gone += [left[i] for i in best]
            self._remove([left[i] for i in best])
            left = [c for c in left if c not in set(gone)]
        return gone, errors

    def _costs(self, units: Sequence[int]) -> list[float]:
        total = np.zeros(len(units))
        for mine, inverse, w, power in self.states:
            order = mine.argsort(kind="stable")
            first, end = (np.searchsorted(mine[order], units, side) for side in ("left", "right"))
            for taps in set((end - first).tolist()) - {0}:
                at = np.flatnonzero(end - first == taps)
                inputs = order[first[at][:, None] + np.arange(taps)]
                blocks = inverse[inputs[:, :, None], inputs[:, None, :]]
                parts = w.T[inputs]
                squares = np.matmul(parts, parts.transpose(0, 2, 1))
                total[at] += np.trace(np.linalg.solve(blocks, squares), axis1=1, axis2=2) / power
        return total.tolist()

    def _remove(self, units: Sequence[int]) -> None:
        self.states = [_without(state, np.isin(state[0], units)) for state in self.states]


def _without(state: State, out: Array) -> State:
    """What is left once some inputs are zeros and the weights of the others are fitted anew."""
    mine, inverse, w, power = state
    if not out.any():
        return state
    cross = np.linalg.solve(inverse[np.ix_(out, out)], inverse[out][:, ~out])
    left = inverse[np.ix_(~out, ~out)] - inverse[~out][:, out] @ cross
    return mine[~out], left, w[:, ~out] - w[:, out] @ cross, power
