"""Scaled forms of a graph, of which the judge keeps one if it helps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from compiler.graph import Graph
from compiler.rewrite import Observer
from passes._repair import Judge
from passes._scale_choice import Wanted, scale
from passes._scale_noise import regional
from passes._scales import Factors


def settle_scales(
    graph: Graph, judge: Judge | None, rule: str, alphas: Sequence[float], normed: bool, observer: Observer
) -> int:
    """Scale the channels that a normalisation or attention has part in (`normed`), or the others, by one of several
    exponents or by the best for each region; all of them or none. Returns 1 or 0."""
    if judge is None or not judge.admits(graph):
        return 0
    factors = Factors(graph)
    apart = factors.fixed | (~factors.normed if normed else factors.normed)
    ends = [end for end in factors.gives if not apart[factors.classes[end.ids]].all()]
    if not ends:
        return 0
    wanted = Wanted(graph, factors, judge.channels(graph))
    found = {f"alpha {a}": wanted.scales(a, normed, balanced=normed) for a in alphas}
    by_region = wanted.scales(regional(factors, wanted.reach), normed, balanced=False)
    if not any(np.array_equal(by_region, s) for s in found.values()):
        found["alpha by region"] = by_region
    bare = [factors.classes[end.ids.reshape(-1)] for end in factors.gives if end.operand is None]
    if bare:
        found["without new layers"] = np.where(np.isin(factors.classes, np.concatenate(bare)), 1.0, by_region)
    choices = {name: partial(scale, scales=s) for name, s in found.items() if (s != 1).any()}
    return judge.settle(graph, rule, choices, ends[0].node, observer)
