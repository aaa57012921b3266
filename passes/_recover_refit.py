"""Recovery in closed form: layer by layer, weights that give again what the original gives (`Refit`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.tensor import Array
from passes._compression import Rows
from passes._fitted import data_of, set_data
from passes._gram import as_rows, from_rows, results, samples
from passes._logits import with_logits
from passes._recover_points import Aim, aims_of, channels_kept
from passes._recover_solve import Normal

SWEEPS = 8
FOLDS = 3
EVERY = 8  # one run of so many is left out, to judge by
ROWS, NUMBERS = 1 << 15, 1 << 24  # of what a layer multiplies, about
APART = 1 << 22  # numbers of the normal equations up to which each result has its own
EXACT = 1e-12  # noise of the outputs that is none: 120 dB
LEAST = 1e-9  # share of the largest direction of a layer behind that counts
QUIET = 0.05  # what an error counts at least where the activation is flat

Stage = Generator[list[Array], list[Array] | None, None]


class Refit:
    """Weights and biases of least squared error, in sweeps over the layers, until the outputs on runs that are left out
    get no nearer to the original's, by a whole sweep or by half of its changes.

    sweeps  at most
    seed    of the places that are looked at where there are many
    tell    is told how far it is
    """

    name = "recover"

    def __init__(self, sweeps: int = SWEEPS, seed: int = 0, tell: Callable[[str], None] | None = None) -> None:
        self.sweeps, self.seed = sweeps, seed
        self.tell = tell or (lambda _: None)

    def run(self, before: Graph, after: Graph, rows: Rows) -> int:
        """See `Recovery`."""
        aims = aims_of(before, after)
        if not rows.feeds or not aims:
            return 0
        judge = Distance(before, rows)
        least = start = judge.noise(after)
        if start <= EXACT:
            return 0
        kept = channels_kept(aims, before, after, rows)
        first = best = _constants(aims)
        for i in range(self.sweeps):
            _sweep(before, after, aims, kept, rows, judge.fitted, self.seed + i)
            noise = judge.noise(after)
            if not noise < least:
                _halve(after, best)
                noise = judge.noise(after)
            self.tell(f"recover, sweep {i + 1}: noise {noise:.3g} of {start:.3g}")
            if not noise < least:
                break
            least, best = noise, _constants(aims)
        for (node, index), v in best.items():
            if node.inputs[index] is not v:
                after.set_operand(node, index, v)
        return sum(v is not first[key] for key, v in best.items())


class Distance:
    """How far the outputs of a graph are from those of the original, on runs that nothing is fitted to."""

    def __init__(self, before: Graph, rows: Rows) -> None:
        count = len(rows.feeds)
        self.rows = rows
        self.left_out = [i for i in range(count) if i % EVERY == EVERY - 1] or list(range(count))
        self.fitted = [i for i in range(count) if i % EVERY != EVERY - 1]
        self._wanted = self._scores(before)

    def noise(self, graph: Graph) -> float:
        """The mean over the outputs of squared differences relative to squares; infinite if one is no number."""
        found = []
        for old, new in zip(self._wanted, self._scores(graph), strict=True):
            square = sum(float(np.square(a).sum()) for a in old)
            found.append(sum(float(np.square(a - b).sum()) for a, b in zip(old, new, strict=True)) / max(square, 1e-30))
        mean = float(np.mean(found)) if found else 0.0
        return mean if np.isfinite(mean) else float("inf")

    def _scores(self, graph: Graph) -> list[list[Array]]:
        twin = with_logits(graph)
        floats = [v for v in twin.outputs if v.type.dtype.is_float and v.data is None]
        runs = list(self.rows.each(twin, floats)) if floats else []
        return [[runs[i][k].astype(np.float64) for i in self.left_out] for k in range(len(floats))]


def _constants(aims: Sequence[Aim]) -> dict[tuple[Node, int], Value]:
    """What the layers multiply with and add."""
    found = {}
    for node in (a.node for a in aims):
        for index in (1, 2):
            v = node.inputs[index] if index < len(node.inputs) else None
            if v is not None and v.data is not None:
                found[node, index] = v
    return found


def _halve(graph: Graph, best: Mapping[tuple[Node, int], Value]) -> None:
    """Let the constants be half-way between what they are and the best ones."""
    for (node, index), v in best.items():
        if node.inputs[index] is not v:
            set_data(graph, node, index, (data_of(v) + data_of(node.inputs[index])) / 2)


def _sweep(
    before: Graph,
    after: Graph,
    aims: Sequence[Aim],
    kept: Mapping[Value, Array],
    rows: Rows,
    fitted: Sequence[int],
    seed: int,
) -> None:
    """Fit every layer once, in order, to what it reads by then."""
    samplers = {a: _Sampler(a, len(rows.feeds), seed) for a in aims}
    old = _Stream(before, {a: [a.wanted] for a in aims}, rows, samplers)
    new = _Stream(after, {a: [v for v in (a.read, a.beside) if v is not None] for a in aims}, rows, samplers)
    for aim in aims:
        wanted, given = old.take(aim), new.take(aim)
        problem = _Problem(aim, len(fitted))
        for part, i in enumerate(fitted):
            target = wanted[aim.wanted][i][:, kept[aim.point]].astype(np.float64)
            beside = np.zeros_like(target) if aim.beside is None else given[aim.beside][i].astype(np.float64)
            problem.add(part, given[aim.read][i], target - beside, beside)
        problem.settle(after)


class _Sampler:
    """Places of what a layer reads and computes, the same on every call."""

    def __init__(self, aim: Aim, runs: int, seed: int) -> None:
        self.aim, self.seed = aim, seed
        inputs = as_rows(aim.node, data_of(aim.node.inputs[1])).shape[-1]
        self.most = max(1, min(ROWS, NUMBERS // inputs) // runs)

    def of(self, v: Value, x: Array, run: int) -> Array:
        """[groups, rows, inputs] of what the layer reads, [rows, channels] of other values."""
        rng = np.random.default_rng((self.seed, run))
        if v is self.aim.read:
            return samples(self.aim.node, x, self.most, rng)
        return results(self.aim.node, x, self.most, rng)


class _Stream:
    """Samples of values of a graph for each aim; a value is computed when an aim that needs it is taken."""

    def __init__(
        self, graph: Graph, needs: Mapping[Aim, Sequence[Value]], rows: Rows, samplers: Mapping[Aim, _Sampler]
    ) -> None:
        places = {node: i for i, node in enumerate(graph.nodes)}
        values = {v for vs in needs.values() for v in vs}
        self._cuts = sorted((v for v in values if v.node is not None), key=lambda v: places[_node(v)])
        self._stages = rows.stages(graph, list(self._cuts))
        self._needs, self._rows, self._samplers = needs, rows, samplers
        self._readers: dict[Value, list[Aim]] = {}
        for aim, vs in needs.items():
            for v in dict.fromkeys(vs):
                self._readers.setdefault(v, []).append(aim)
        self._held: dict[Aim, dict[Value, list[Array]]] = {}

    def take(self, aim: Aim) -> dict[Value, list[Array]]:
        """The values that the aim needs, run by run."""
        for v in self._needs[aim]:
            while v not in self._held.get(aim, {}):
                self._next(v)
        return self._held.pop(aim)

    def _next(self, v: Value) -> None:
        if v.node is None:
            cut, arrays = v, [np.asarray(feed[v.name]) for feed in self._rows.feeds]
        else:
            cut, arrays = self._cuts.pop(0), next(self._stages)
        for aim in self._readers.pop(cut):
            found = [self._samplers[aim].of(cut, x, i) for i, x in enumerate(arrays)]
            self._held.setdefault(aim, {})[cut] = found


def _node(v: Value) -> Node:
    assert v.node is not None
    return v.node


class _Problem:
    """The least squares problem of one aim."""

    def __init__(self, aim: Aim, runs: int) -> None:
        self.aim = aim
        self.runs = runs
        self.weight = _weight(aim.node)
        self.free = _bias(aim.node) is not None
        groups, count, inputs = self.weight.shape
        self.apart = aim.gate is not None and aim.behind is None and groups * count * (inputs + 1) ** 2 <= APART
        self.grams: Array = np.zeros(0)
        self.cross: Array = np.zeros(0)

    def add(self, run: int, x: Array, wanted: Array, beside: Array) -> None:
        """Samples of what the layer reads [groups, rows, inputs], and of what its result, or that of the layer behind,
        should be, before what is added to it, [rows, channels]."""
        groups = len(self.weight)
        x = np.concatenate([x.astype(np.float64), np.ones((*x.shape[:2], 1))], 2)
        present = _present(self.aim.node, x[..., :-1], self.weight)
        if self.aim.behind is not None:
            present = _present(self.aim.behind, present[None], _weight(self.aim.behind))
        lacking = wanted - present
        if self.apart:
            parts = self._apart(x, lacking, self._steepness(present + beside, wanted + beside))
        else:
            rest = lacking.reshape(len(lacking), groups, -1).transpose(1, 0, 2)
            parts = x.transpose(0, 2, 1) @ x, x.transpose(0, 2, 1) @ rest
        if not self.grams.size:
            self.grams, self.cross = (np.zeros((FOLDS, *p.shape)) for p in parts)
        fold = run * FOLDS // max(self.runs, 1)
        self.grams[fold] += parts[0]
        self.cross[fold] += parts[1]

    def _steepness(self, present: Array, wanted: Array) -> Array:
        """By how much the activation shows an error, [rows, channels]."""
        op = self.aim.gate
        assert op is not None
        gap = wanted - present
        shown = [np.asarray(op.evaluate(v.astype(np.float32)), np.float64) for v in (wanted, present)]
        rise = shown[0] - shown[1]
        slope = np.divide(rise, gap, out=np.ones_like(gap), where=np.abs(gap) > 1e-4)
        return np.clip(np.square(slope), QUIET, None)

    def _apart(self, x: Array, lacking: Array, weights: Array) -> tuple[Array, Array]:
        """Normal equations of each result."""
        groups, count, inputs = self.weight.shape
        grams = np.empty((groups * count, inputs + 1, inputs + 1))
        cross = np.empty((groups * count, inputs + 1, 1))
        for m in range(groups * count):
            mine = x[m // count]
            scaled = mine * weights[:, m : m + 1]
            grams[m] = scaled.T @ mine
            cross[m, :, 0] = scaled.T @ lacking[:, m]
        return grams, cross

    def settle(self, graph: Graph) -> None:
        """Give the layer the weights and the bias that solve it, if any are better than those it has."""
        used = [i for i in range(FOLDS) if self.grams[i].any()]
        grams, cross = self.grams[used], self.cross[used]
        found = self._through(_weight(self.aim.behind)[0], grams, cross) if self.aim.behind else None
        found = found if self.aim.behind else Normal(grams, cross, self.free).solve()
        if found is None:
            return
        groups, count, inputs = self.weight.shape
        change = found.transpose(0, 2, 1).reshape(groups, count, inputs + 1)
        w = data_of(self.aim.node.inputs[1])
        set_data(graph, self.aim.node, 1, from_rows(self.aim.node, self.weight + change[..., :-1], w.shape))
        bias = _bias(self.aim.node)
        if bias is not None:
            set_data(graph, self.aim.node, 2, bias + change[..., -1].reshape(-1))

    def _through(self, w: Array, grams: Array, cross: Array) -> Array | None:
        """The change [1, inputs + 1, results] of what a matrix [outputs, results] is applied to behind; along the
        principal directions of that, results are problems of their own. What it lacks of a mean goes into a bias
        behind."""
        shares, turn = np.linalg.eigh(w.T @ w)
        shares = np.maximum(shares, LEAST * max(float(shares.max()), LEAST))
        found = Normal(grams, cross @ w @ turn / shares, True, shares).solve()
        return None if found is None else found @ turn.T


def _weight(node: Node) -> Array:
    """[groups, results, inputs]."""
    return as_rows(node, data_of(node.inputs[1])).astype(np.float64)


def _present(node: Node, x: Array, weight: Array) -> Array:
    """What a layer computes for samples, [rows, results]."""
    y = x @ weight.transpose(0, 2, 1)
    flat = y.transpose(1, 0, 2).reshape(y.shape[1], -1)
    bias = _bias(node)
    return flat if bias is None else flat + bias


def _bias(node: Node) -> Array | None:
    v = node.inputs[2] if len(node.inputs) > 2 else None
    return None if v is None or v.data is None else v.data.astype(np.float64)
