"""Where the operands and the mask of an attention come from, behind factors, transposes and repetitions."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np

from compiler.errors import ShapeError
from compiler.graph import Value
from compiler.op import broadcast
from compiler.ops.elementwise import Add, And, Div, Mul, Not, Where
from compiler.ops.index import Gather
from compiler.ops.parts import Tile
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.pattern import Const, Layer, Match, OneOf, Pattern, Wild
from compiler.rewrite import Builder
from compiler.tensor import Array, Dim, Shape
from passes._idioms import is_scalar, number, splat

HIDDEN = -1e4  # a score this low has a weight of 0 beside any ordinary one
LARGEST = 2**26  # elements of a constant mask that is looked at


class View(NamedTuple):
    """The elements of `source` in the order they have, under another shape."""

    source: Value
    shape: Shape

    def value(self, g: Builder) -> Value:
        """The view as a value. A leading 1 is put in before a transpose, where reshapes meet other reshapes."""
        source, shape = self
        if shape == source.type.shape:
            return source
        node = source.node
        if node is not None and isinstance(node.op, Transpose) and shape == (1, *source.type.shape):
            inner = node.inputs[0]
            assert inner is not None
            lifted = g.add(Reshape(shape=(1, *inner.type.shape)), inner)
            return g.add(Transpose(perm=(0, *(i + 1 for i in node.op.perm))), lifted)
        return g.add(Reshape(shape=shape), source)


def behind(v: Value, *ops: type) -> Value | None:
    """The first operand of the layer that computes `v`, if it is one of `ops`."""
    return v.node.inputs[0] if v.node is not None and isinstance(v.node.op, ops) else None


def claim(g: Builder, *values: Value) -> None:
    """Let the replacement stand for the layers that compute these values, too."""
    g.origin = g.origin.union(*(v.node.origin for v in values if v.node is not None))


def unscaled(g: Builder, v: Value) -> tuple[Value, float]:
    """`v` without the constant numbers that it is multiplied with or divided by, and their product."""
    factor = 1.0
    while v.node is not None and isinstance(v.node.op, Mul | Div):
        x, k = v.node.inputs
        if isinstance(v.node.op, Mul) and x is not None and x.data is not None:
            x, k = k, x
        if x is None or k is None or k.data is None or not is_scalar(k) or x.type != v.type or not number(k.data):
            break
        factor *= number(k.data) if isinstance(v.node.op, Mul) else 1 / number(k.data)
        claim(g, v)
        v = x
    return v, factor


def untransposed(g: Builder, kt: Value) -> tuple[View, float]:
    """The keys [..., T, D] whose transpose is `kt`, behind a transpose if there is one, and the factor on the way."""
    kt, outer = unscaled(g, kt)
    rank = kt.type.rank
    wanted = (*kt.type.shape[:-2], kt.type.shape[-1], kt.type.shape[-2])
    perm = (*range(rank - 2), rank - 1, rank - 2)
    if (k := behind(kt, Transpose)) is not None and kt.node is not None:
        claim(g, kt)
        k, inner = unscaled(g, k)
        perm = tuple(kt.node.op.perm[i] for i in perm)  # type: ignore[attr-defined]  # behind a transpose
        return View(k if perm == tuple(range(rank)) else g.add(Transpose(perm=perm), k), wanted), outer * inner
    turned = behind(kt, Reshape)
    if turned is not None and turned.type.rank == 3 and turned.type.shape[1:] == kt.type.shape[2:]:
        flat = behind(turned, Transpose)
        if flat is not None and turned.node is not None and turned.node.op == Transpose(perm=(0, 2, 1)):
            claim(g, kt, turned)
            k, inner = unscaled(g, flat)
            return View(_unshaped(g, k), wanted), outer * inner
    return View(g.add(Transpose(perm=perm), kt), wanted), outer


def _unshaped(g: Builder, v: Value) -> Value:
    """What `v` is a reshape of."""
    while (inner := behind(v, Reshape)) is not None:
        claim(g, v)
        v = inner
    return v


def ungrouped(g: Builder, view: View) -> View:
    """Keys or values [B,H,T,D] whose heads are not yet repeated for the queries that share them, if they are."""
    source = view.source
    while (inner := behind(source, Reshape)) is not None:
        source = inner
    x, repeated = behind(source, Expand, Tile, Gather), source.type.shape
    if x is None:
        return view
    batch, heads, *rest = view.shape
    few = x.type.shape[1] if x.type.rank > 1 else 0
    shape = (batch, few, *rest)
    if not isinstance(few, int) or not isinstance(heads, int) or few <= 0 or heads % few:
        return view
    if isinstance(source.node and source.node.op, Gather):
        found = x.type.shape == shape and _repeats(source, few, heads // few)
    elif len(repeated) == 4:
        found = x.type.shape == shape and few == 1 and repeated == view.shape
    else:
        found = repeated == (batch, few, heads // few, *rest) and x.type.shape == (batch, few, 1, *rest)
    if not found:
        return view
    claim(g, view.source, source)
    return View(_unshaped(g, x), shape)


def _repeats(gathered: Value, few: int, times: int) -> bool:
    """Whether a gather along axis 1 takes each of `few` slices `times` times, in order."""
    node = gathered.node
    index = node.inputs[1] if node is not None else None
    if node is None or index is None or index.data is None or node.op != Gather(axis=1):
        return False
    return np.array_equal(index.data, np.repeat(np.arange(few), times))


class Mask(NamedTuple):
    """What keeps queries from keys: the causal order, a term to add to the scores, and the keys that are seen."""

    causal: bool = False
    term: Value | None = None
    seen: Value | None = None

    @property
    def operand(self) -> tuple[Value, ...]:
        """The operand that says it, besides the causal order; there is at most one."""
        return tuple(v for v in (self.term, self.seen) if v is not None)

    def broadcasts(self, scores: Value) -> bool:
        """Whether the operand broadcasts to the scores."""
        try:
            return all(broadcast(v.type.shape, scores.type.shape) == scores.type.shape for v in self.operand)
        except ShapeError:
            return False

    def joined(self, g: Builder, other: Mask) -> Mask | None:
        """Both at once; None for a term and a choice, which no one operand can say."""
        term, seen = self.term or other.term, self.seen or other.seen
        if self.term is not None and other.term is not None:
            term = g.add(Add(), self.term, other.term)
        if self.seen is not None and other.seen is not None:
            seen = g.add(And(), self.seen, other.seen)
        return None if term is not None and seen is not None else Mask(self.causal or other.causal, term, seen)


def is_causal(seen: Array, queries: Dim, keys: Dim) -> bool:
    """Whether query i sees exactly the keys 0 to i, in every batch and head."""
    if not isinstance(queries, int) or not isinstance(keys, int) or seen.shape[-2:] != (queries, keys):
        return False
    return bool(np.all(seen == np.tri(queries, keys, dtype=bool)))


def added_mask(g: Builder, term: Value, queries: Dim, keys: Dim) -> Mask:
    """The meaning of a term that is added to the scores."""
    data = term.data
    if data is not None and data.size <= LARGEST and data.dtype.kind == "f":
        seen, hidden = data == 0, data <= HIDDEN
        if seen.all():
            return Mask()
        if np.all(seen | hidden) and is_causal(seen, queries, keys):
            return Mask(causal=True)
    node = term.node
    if node is not None and isinstance(node.op, Where):
        condition, zero, low = node.inputs
        if zero is not None and low is not None and splat(zero.data, 0) and splat(low.data, -inf):
            claim(g, term)
            return Mask(seen=condition)
    return Mask(term=term)


def chosen_mask(g: Builder, seen: Value, fill: Value, like: Value, *, negated: bool) -> Mask | None:
    """The meaning of where(seen, scores, fill), or of where(seen, fill, scores) if `negated`."""
    queries, keys = like.type.shape[-2:]
    low = fill.data if fill.data is not None else np.zeros(1)
    if not low.size or not (low.flat[0] <= HIDDEN) or not splat(low, low.flat[0]):
        return None
    if seen.data is not None and seen.data.size <= LARGEST:
        data = ~seen.data if negated else seen.data
        if is_causal(data, queries, keys):
            return Mask(causal=True)
        if np.all(data.any(-1)):
            return Mask(seen=g.const(data))
    if low.flat[0] == -inf:
        return Mask(seen=g.add(Not(), seen) if negated else seen)
    zero, bottom = (g.const(np.array(v), like=like.type) for v in (0, low.flat[0]))
    return Mask(term=g.add(Where(), seen, *((bottom, zero) if negated else (zero, bottom))))


class Masking:
    """Scores with a mask or without, as a pattern, and the meaning of what it met."""

    def __init__(self, scores: Pattern) -> None:
        self.term, self.seen, self.hidden = Wild(), Wild(), Wild()
        self.fill = Const()
        self.pattern = OneOf(
            Layer(Add, scores, self.term),
            Layer(Where, self.seen, scores, self.fill),
            Layer(Where, self.hidden, self.fill, scores),
            scores,
        )

    def mask(self, m: Match, g: Builder, scores: Value) -> Mask | None:
        """The mask on `scores`; None if it is of another kind."""
        if self.term in m:
            return added_mask(g, m.value(self.term), *scores.type.shape[-2:])
        if self.fill not in m:
            return Mask()
        negated = self.hidden in m
        condition = m.value(self.hidden if negated else self.seen)
        return chosen_mask(g, condition, m.value(self.fill), scores, negated=negated)


def joined_mask(m: Match, g: Builder, scores: Value, *maskings: Masking) -> Mask | None:
    """All masks on `scores` as one; None if one of them, or all together, are of another kind."""
    whole: Mask | None = Mask()
    for masking in maskings:
        mask = masking.mask(m, g, scores)
        whole = whole.joined(g, mask) if whole is not None and mask is not None else None
    return whole


def _fit(q: View, k: View, v: View) -> bool:
    """Whether an attention takes these operands."""
    shapes = q.shape, k.shape, v.shape
    if any(len(s) != 4 for s in shapes) or q.shape[0] != k.shape[0] or k.shape[:3] != v.shape[:3]:
        return False
    heads, few = q.shape[1], k.shape[1]
    return isinstance(heads, int) and isinstance(few, int) and few > 0 and heads % few == 0 and q.shape[3] == k.shape[3]


class Operands(NamedTuple):
    """Queries, keys and values of rank 4, and the factor that the scores get from them."""

    views: tuple[View, View, View]
    factor: float

    def values(self, g: Builder) -> list[Value]:
        """The three as values."""
        return [view.value(g) for view in self.views]


def operands(g: Builder, q: Value, kt: Value, v: Value) -> Operands | None:
    """The operands behind q, the transpose of k, and v; None if no attention takes them. Operands of rank 3 are one
    batch of many heads; heads that are repeated for the queries that share them are taken once."""
    if min(q.type.rank, kt.type.rank, v.type.rank) < 2:
        return None
    (q, before), (keys, on_the_way) = unscaled(g, q), untransposed(g, kt)
    lead = (1,) * (4 - q.type.rank)
    queries, values = (View(x, (*lead, *x.type.shape)) for x in (q, v))
    keys = View(keys.source, (*lead, *keys.shape))
    few = ungrouped(g, keys), ungrouped(g, values)
    for k, w in (few, (keys, values)):
        if _fit(queries, k, w):
            return Operands((queries, k, w), before * on_the_way)
    return None
