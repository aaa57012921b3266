"""The weights of a split: of the best approximation of a layer's weight, or of its results on rows of data.

With rows, y are the results of the layer in the model as it was and z the numbers of the bottleneck when all layers
before are split. The map from z to y of a given rank with the least squared error has a closed form: a regression, then
the principal directions of what it gives (reduced-rank regression: A. Izenman, 1975; for networks X. Zhang et al.,
Accelerating Very Deep Convolutional Networks for Classification and Detection, 2015, and without what the layers before
changed: whitening by the covariance of the inputs). The regression is damped towards the map that fits the weights, by
as much as rows that it has not seen ask for. The means go into the bias.
What that gives is where a joint fit of all factors starts, and rows that are left out choose between both and the
nearest weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.tensor import Array
from passes._compression import Rows, layer_names
from passes._low_rank_algebra import Root, left_modes, modes_of, modes_within
from passes._low_rank_forms import Start, spread
from passes._low_rank_joint import Goal, is_affordable, product_of, refined
from passes._low_rank_layers import Layer, Moments, Seen, damping, observed, sampled
from passes._low_rank_metric import metrics_of, root_for
from passes._low_rank_split import Plan, Split, Weights

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of a regression, relative to the mean variance of what it reads
FOLDS = 3  # parts of the rows that are left out in turn
FEW, MANY = 4, 48  # runs that are the least to fit anything to, and of which one part tells what is better
CERTAIN = 2.0  # standard errors by which weights are better than the nearest at least
WIDE = 1536  # numbers of a bottleneck beyond which nothing is regressed on them
WAYS = range(4)  # to get the weights of a split
NEAREST, SHIFTED, FITTED, JOINT = WAYS
SAME = 1e-9  # squared error, relative to the variance, that is none


class Sample(NamedTuple):
    """What a layer multiplies its matrix with in the model as it was, and as it is now, [count, numbers] each, and the
    run that each row is of."""

    was: Array
    now: Array
    runs: Array

    def part(self, mask: Array) -> Sample:
        """Some of the rows."""
        return Sample(*(array[mask] for array in self))


def nearest(plan: Plan) -> Weights:
    """The weights by the weight of the layer alone."""
    layer = plan.layer
    start = plan.form.start(layer, None, plan.ranks)
    if not start.rank:
        return Weights(start.weights(None, start.prior), layer.bias)
    u = left_modes(start.whole(start.prior), start.rank).vectors[:, : start.rank]
    return Weights(start.weights(u, u.T @ start.prior), layer.bias)


def fitted(plan: Plan, sample: Sample, metric: Root | None = None) -> Weights:
    """The weights by what the layer computes on rows of data, and by what of that matters."""
    layer = plan.layer
    seen = Seen(layer, metric)
    seen.add(sample.now)
    start = plan.form.start(layer, seen, plan.ranks)
    y, z = sample.was @ layer.matrix.T, start.features(sample.now)
    a = _regression(start.prior, z, y, sample.runs)
    if not start.rank:
        return Weights(start.weights(None, a), _bias(layer, y.mean(0) - a @ z.mean(0)))
    u, down = _directions(start, a, z, seen)
    v = down @ a
    return Weights(start.weights(u, v), _bias(layer, y.mean(0) - u @ (v @ z.mean(0))))


def jointly(plan: Plan, sample: Sample, weights: Weights, metric: Root | None) -> Weights:
    """Weights that are nearer to the results on rows of data than those given, by changing all factors."""
    w = plan.layer.matrix
    y, x = (sample.was - sample.was.mean(0)) @ w.T, sample.now - sample.now.mean(0)
    inputs, cross = x.T @ x / len(x), y.T @ x / len(x)
    share = damping(len(inputs), len(x))
    white = share * float(np.trace(inputs)) / len(inputs)
    goal = Goal((1 - share) * inputs + white * np.eye(len(inputs)), (1 - share) * cross + white * w, metric)
    arrays = refined(plan.form.name, weights.arrays, plan.layer.tensor.shape, goal)
    return _centred(plan, sample, Weights(arrays, None))


def _centred(plan: Plan, sample: Sample, weights: Weights) -> Weights:
    """The weights with the bias that gives the mean of the results."""
    made = product_of(plan.form.name, weights.arrays, plan.layer.tensor.shape)
    mean = plan.layer.matrix @ sample.was.mean(0) - made @ sample.now.mean(0)
    return weights._replace(bias=_bias(plan.layer, mean))


def best(plan: Plan, sample: Sample, metric: Root | None, near: Weights) -> Weights:
    """Weights with another bias, of the closed form or of all factors together: whichever err least on rows that they
    were not fitted to; the nearest if these do no worse there, but for chance, or if there are few rows."""
    runs = np.unique(sample.runs)
    if len(runs) < FEW:
        return near
    errors = []
    for fold in range(1 if len(runs) > MANY else FOLDS):
        out = sample.runs % FOLDS == fold
        left = sample.part(out)
        ways = _ways(plan, sample.part(~out), metric, near, len(WAYS))
        errors.append(np.array([_errors(plan, w, left, metric) for w in ways]))
    each = np.concatenate(errors, axis=1)
    found = int(each.sum(1).argmin())
    won = each[NEAREST] - each[found]
    if won.mean() <= CERTAIN * won.std() / np.sqrt(len(won)):
        return near
    return list(_ways(plan, sample, metric, near, found + 1))[found]


def _ways(plan: Plan, sample: Sample, metric: Root | None, near: Weights, count: int) -> Iterator[Weights]:
    """The first of these."""
    found = near
    for way in range(count):
        if way == SHIFTED:
            found = _centred(plan, sample, near)
        elif way == FITTED:
            found = fitted(plan, sample, metric)
        elif way == JOINT and plan.form.name != "matrix" and is_affordable(*plan.layer.matrix.shape):
            found = jointly(plan, sample, found, metric)
        yield found


def _errors(plan: Plan, weights: Weights, sample: Sample, metric: Root | None) -> Array:
    """The squared error of the results in each run."""
    made = product_of(plan.form.name, weights.arrays, plan.layer.tensor.shape)
    bias = 0.0 if weights.bias is None else weights.bias
    own = 0.0 if plan.layer.bias is None else plan.layer.bias
    off = sample.now @ made.T + bias - sample.was @ plan.layer.matrix.T - own
    found = np.bincount(sample.runs, np.square(off if metric is None else off @ metric.root).sum(1))
    return found[np.unique(sample.runs)]


def looked_up(plan: Plan, seen: Seen) -> Weights:
    """The weights of a table by how often its rows are looked up."""
    layer = plan.layer
    w = layer.matrix
    u = modes_of(spread(seen.results, w, seen.variance, w.shape[1]), plan.ranks[0]).vectors
    mean = seen.results.mean
    return Weights([u.T @ w, u], mean - u @ (u.T @ mean))


def _bias(layer: Layer, shift: Array) -> Array:
    return shift if layer.bias is None else layer.bias + shift


def _directions(start: Start, a: Array, z: Array, seen: Seen) -> tuple[Array, Array]:
    """The directions of the results that are kept, and the map from results to their coefficients."""
    moments = Moments()
    moments.add(z @ a.T)
    whole = start.whole(a)
    found = spread(moments, whole, seen.variance, seen.layer.matrix.shape[1])
    if seen.metric is None:
        u = modes_within(found, whole, start.rank).vectors
        return u, u.T
    root = seen.metric.root
    u = modes_within(root @ found @ root, root @ whole, start.rank).vectors
    return seen.metric.inverse @ u, u.T @ root


def _regression(prior: Array, z: Array, y: Array, runs: Array) -> Array:
    """The map from z to y, around the means, that is nearest to the prior as far as rows that are left out want."""
    z, y = z - z.mean(0), y - y.mean(0)
    lacking = y - z @ prior.T
    if z.shape[1] > WIDE or np.square(lacking).sum() <= SAME * np.square(y).sum():
        return prior
    folds = [runs % FOLDS == i for i in range(FOLDS)]
    parts = [(z[f].T @ z[f], lacking[f].T @ z[f]) for f in folds if f.any()]
    gram, cross = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    scale = max(float(np.trace(gram)) / len(gram), 1e-30)
    strength = _strength(parts, gram, cross, scale) if len(parts) > 1 else 1.0
    if not np.isfinite(strength):
        return prior
    return np.asarray(prior + np.linalg.solve(gram + strength * scale * np.eye(len(gram)), cross.T).T)


def _strength(parts: Sequence[tuple[Array, Array]], gram: Array, cross: Array, scale: float) -> float:
    """The damping that leaves the least error on the folds that are left out; infinite if any map is worse than
    none."""
    errors = np.zeros(len(DAMPINGS))
    for own_gram, own_cross in parts:
        energies, vectors = np.linalg.eigh(gram - own_gram)
        turned = (cross - own_cross) @ vectors
        left_gram, left_cross = vectors.T @ own_gram @ vectors, own_cross @ vectors
        for i, strength in enumerate(DAMPINGS):
            b = turned / (np.maximum(energies, 0.0) + strength * scale * (1 - 1 / len(parts)))
            errors[i] += float((b @ left_gram * b).sum()) - 2 * float((b * left_cross).sum())
    best = int(errors.argmin())
    return DAMPINGS[best] if errors[best] < 0 else float("inf")


def fit_all(graph: Graph, plans: Sequence[Plan], rows: Rows | None) -> dict[str, Weights]:
    """The weights of all plans, by the names of their layers. With rows, those of a layer are fitted to what it reads
    when all layers before it are split."""
    if rows is None or not plans:
        return {plan.layer.name: nearest(plan) for plan in plans}
    tables = [p.layer for p in plans if p.layer.is_table]
    seen = observed(graph, tables, rows)
    found = {p.layer.name: looked_up(p, seen[p.layer.name]) for p in plans if p.layer.is_table}
    twin = graph.clone()
    names = layer_names(twin)
    splits: dict[str, Split] = {}
    near: dict[str, Weights] = {}
    for plan in plans:
        name = plan.layer.name
        copy = plan._replace(layer=plan.layer._replace(node=names[name]))
        near[name] = found.get(name) or nearest(plan)
        splits[name] = Split(twin, copy, _with_bias(plan, near[name]))
        splits[name].settle()
    rest = [p for p in plans if not p.layer.is_table]
    metrics = metrics_of(graph, rows) if rest else {}
    for plan, was, now in _streamed(graph, twin, rest, splits, rows):
        name = plan.layer.name
        metric = root_for(metrics.get(plan.layer.node.outputs[0]))
        found[name] = best(plan, _sample(plan.layer, was, now), metric, near[name])
        splits[name].set(found[name])
    return found


def _with_bias(plan: Plan, weights: Weights) -> Weights:
    """The weights with a bias, so that no layer has to be made anew when it gets one."""
    return weights if weights.bias is not None else weights._replace(bias=np.zeros(len(plan.layer.tensor)))


def _sample(layer: Layer, was: Sequence[Array], now: Sequence[Array]) -> Sample:
    """Samples of both at the same places."""
    a = [sampled(layer, x, len(was), i) for i, x in enumerate(was)]
    b = [sampled(layer, x, len(now), i) for i, x in enumerate(now)]
    runs = np.repeat(np.arange(len(a)), [len(x) for x in a])
    return Sample(np.concatenate(a).astype(np.float64), np.concatenate(b).astype(np.float64), runs)


def _streamed(
    graph: Graph, twin: Graph, plans: Sequence[Plan], splits: dict[str, Split], rows: Rows
) -> Iterator[tuple[Plan, list[Array], list[Array]]]:
    """The plans in the order of what their layers read, with that on all rows, in the graph and in its copy."""
    readers: dict[Value, list[Plan]] = {}
    for plan in plans:
        readers.setdefault(plan.layer.data, []).append(plan)
    for v in [v for v in readers if v.node is None]:
        given = [np.asarray(feed[v.name]) for feed in rows.feeds]
        yield from ((plan, given, given) for plan in readers[v])
    places = {node: i for i, node in enumerate(graph.nodes)}
    values = sorted((v for v in readers if v.node is not None), key=lambda v: (places[_node(v)], v.index))
    now = {v: splits[readers[v][0].layer.name].data for v in values}
    cuts = list({v.node: v for v in reversed(values)}.values())[::-1]
    pair = rows.stages(graph, cuts), rows.stages(twin, [now[v] for v in cuts])
    for v in values:
        if v in cuts:
            a, b = (next(stage) for stage in pair)
        else:  # a further result of the layer before
            a, b = ([x for (x,) in rows.each(g, [w])] for g, w in ((graph, v), (twin, now[v])))
        yield from ((plan, a, b) for plan in readers[v])


def _node(v: Value) -> Node:
    assert v.node is not None
    return v.node
