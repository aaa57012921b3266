"""Attention head by head on the channels: scores with their keys on the channels, softmax along these, no transposes.

Form and mask value follow "Deploying Transformers on the Apple Neural Engine" (Apple, 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Node, Value
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Add, Cast, Greater, Max, Mul, Sub, Tanh
from compiler.ops.matmul import Einsum
from compiler.ops.parts import Concat, Split
from compiler.ops.reduce import ReduceMax
from compiler.ops.softmax import Softmax
from compiler.tensor import BOOL, Array
from passes._bc1s_form import MAX_HEADS, Author, Form
from passes._bc1s_frame import CHANNELS, WIDTH, Frame, Ref
from passes._bc1s_known import Known
from passes._masks import is_finite

SCORES, WEIGHTED = Einsum(equation="bchk,bchq->bkhq"), Einsum(equation="bchk,bkhq->bchq")
HALF_HIDDEN = -4e4  # of 16-bit floats
KEYS, QUERIES = CHANNELS - 1, WIDTH - 1  # axes of the scores (B, K, 1, Q)


class Settings(NamedTuple):
    """How attention is written.

    hidden             added to the scores of what must not be seen
    probability_scale  what weights are multiplied with before the product with the values, and divided by after, ...
    many_keys          ... where there are as many keys
    query_chunk        queries that are taken at a time ...
    working_set        ... where the scores of a head have more bytes
    """

    hidden: float
    probability_scale: float
    many_keys: int
    query_chunk: int
    working_set: int


class Mask(NamedTuple):
    """What is added to the scores of each head, and 0 for each query that sees nothing, else 1; None: nothing."""

    added: Sequence[Value] | None = None
    sees: Sequence[Value] | None = None


def heads_frame(dims: Sequence[int]) -> Frame:
    """Of operands [B,H,S,D]: heads as a list, features on the channels."""
    return _frame(dims, channels=3, width=2)


def scores_frame(dims: Sequence[int]) -> Frame:
    """Of a mask for scores [B,H,Q,K]: keys on the channels."""
    return _frame(dims, channels=3, width=2)


def _frame(dims: Sequence[int], channels: int, width: int) -> Frame:
    sizes = tuple(() if d == 1 else (d,) for d in dims)
    places = tuple(((axis, 0),) if axis is not None and sizes[axis] else () for axis in (1, 0, channels, None, width))
    return Frame(sizes, places)


def fits(node: Node) -> bool:
    """Whether a list can hold the heads."""
    q = node.inputs[0]
    return q is not None and q.type.dims[1] <= MAX_HEADS and 0 not in q.type.dims


def attention(k: Known, node: Node, settings: Settings, is_scaled: bool) -> Sequence[Form] | None:
    """The layer, head by head; heads of keys and values that several heads of queries share are read by each."""
    op, q = node.op, node.inputs[0]
    assert isinstance(op, Attention) and q is not None
    if not fits(node):
        return None
    if q.type.dtype.bits < 32:
        settings = settings._replace(hidden=max(settings.hidden, HALF_HIDDEN))
    operands = _operands(k, node)
    mask = _mask(k, node, op, settings)
    if mask is None or operands is None:
        return None
    queries, keys, values = operands
    if not is_scaled and op.scale != 1:
        factor = k.author.number(op.scale, q.type.dtype)
        queries = tuple(k.author.add(Mul(), t, factor) for t in queries)
    shared, results = len(queries) // len(keys), []
    for head, query in enumerate(queries):
        added = None if mask.added is None else mask.added[head]
        results.append(_head(k.author, op, (query, keys[head // shared], values[head // shared]), added, settings))
    return [_finished(k.author, Form(heads_frame(node.output.type.dims), tuple(results)), mask, settings, keys[0])]


def _operands(k: Known, node: Node) -> list[tuple[Value, ...]] | None:
    """The heads of queries, keys and values. The features of queries and keys may lie in any order, if it is the same:
    scores are sums over them."""
    q, key, value, *_ = node.inputs
    assert q is not None and key is not None and value is not None
    frames = [heads_frame(v.type.dims) for v in (q, key, value)]
    near = [k.near(v) for v in (q, key)]
    lies = [None if frame is None else _features(frame.packed()) for frame in near]
    if lies[0] is not None and lies[0] == lies[1]:
        frames[:2] = (_with_features(frame, *lies[0]) for frame in frames[:2])
    found = [k.exactly(v, frame) for v, frame in zip((q, key, value), frames, strict=True)]
    known = [form.tensors for form in found if form is not None]
    return known if len(known) == len(found) else None


def _features(frame: Frame) -> tuple[tuple[int, ...], tuple[Ref, ...]]:
    """The factors of the last axis, and their order on the channels."""
    return frame.sizes[3], tuple(r for r in frame.places[CHANNELS] if r[0] == 3)


def _with_features(frame: Frame, sizes: tuple[int, ...], order: tuple[Ref, ...]) -> Frame:
    """The frame with its last axis in these factors, in this order; as it is if some lie elsewhere."""
    if len(order) < len(sizes):
        return frame
    places = tuple(order if i == CHANNELS else place for i, place in enumerate(frame.places))
    return Frame((*frame.sizes[:3], sizes), places)


def _is_scaled_up(settings: Settings, keys: Value) -> bool:
    return settings.probability_scale != 1 and keys.type.dims[QUERIES] >= settings.many_keys


def _head(
    a: Author, op: Attention, operands: tuple[Value, Value, Value], added: Value | None, settings: Settings
) -> Value:
    """One head, by chunks of queries if its scores are many."""
    query, key, value = operands
    count, each = query.type.dims[QUERIES], settings.query_chunk
    batch, length = key.type.dims[0], key.type.dims[QUERIES]
    if batch * count * length * 2 <= settings.working_set or count <= each:
        return _product(a, op, operands, added, settings)
    sizes = [each] * (count // each) + [count % each] * (count % each > 0)
    parts = a.many(Split(axis=QUERIES, sizes=tuple(sizes)), query)
    masks: Sequence[Value | None] = [added] * len(parts)
    if added is not None and added.type.dims[QUERIES] > 1:
        masks = _cut(a, added, sizes)
    pieces = [_product(a, op, (p, key, value), m, settings) for p, m in zip(parts, masks, strict=True)]
    return a.add(Concat(axis=QUERIES), *pieces)


def _cut(a: Author, v: Value, sizes: Sequence[int]) -> Sequence[Value]:
    if v.data is None:
        return a.many(Split(axis=QUERIES, sizes=tuple(sizes)), v)
    parts = np.split(v.data, np.cumsum(sizes)[:-1], QUERIES)
    return a.kept(("cut", v), lambda: [a.const(p, v.type.dtype, v) for p in parts])


def _product(
    a: Author, op: Attention, operands: tuple[Value, Value, Value], added: Value | None, settings: Settings
) -> Value:
    query, key, value = operands
    scores = a.add(SCORES, key, query)
    if op.softcap > 0:
        down, up = (a.number(n, query.type.dtype) for n in (1 / op.softcap, op.softcap))
        scores = a.add(Mul(), a.add(Tanh(), a.add(Mul(), scores, down)), up)
    if added is not None:
        scores = a.add(Add(), scores, added)
    weights = a.add(Softmax(axis=KEYS), scores)
    if _is_scaled_up(settings, key):
        weights = a.add(Mul(), weights, a.number(settings.probability_scale, query.type.dtype))
    return a.add(WEIGHTED, value, weights)


def _finished(a: Author, form: Form, mask: Mask, settings: Settings, keys: Value) -> Form:
    """The heads, as one tensor if something is left to be multiplied."""
    dtype = form.tensors[0].type.dtype
    if mask.sees is not None and len(set(map(id, mask.sees))) > 1:
        form = Form(form.frame, tuple(a.add(Mul(), t, s) for t, s in zip(form.tensors, mask.sees, strict=True)))
        mask = Mask()
    factors = [] if mask.sees is None else [mask.sees[0]]
    if _is_scaled_up(settings, keys):
        factors.append(a.number(1 / settings.probability_scale, dtype))
    if not factors:
        return form
    whole = a.converted(form, form.frame.packed())
    assert whole is not None
    (x,) = whole.tensors
    for factor in factors:
        x = a.add(Mul(), x, factor)
    return Form(whole.frame, (x,))


def _mask(k: Known, node: Node, op: Attention, settings: Settings) -> Mask | None:
    """What keeps queries from keys; None if the mask has no such form."""
    q, key, _, *masks = node.inputs
    assert q is not None and key is not None
    dims = (*q.type.dims[:3], key.type.dims[2])
    causal = np.asarray(np.tri(dims[2], dims[3]) > 0) if op.causal else None
    mask = masks[0] if masks else None
    if mask is None or mask.data is not None:
        return _known_mask(k, mask, causal, q, scores_frame(dims), settings.hidden)
    given = k.at(mask, scores_frame(dims))
    if given is None:
        return None
    finite = is_finite(mask)
    pairs = [_computed(k, t, causal, q, settings.hidden, finite) for t in given]
    if finite:
        return Mask([added for added, _ in pairs])
    return Mask([added for added, _ in pairs], [seen() for _, seen in pairs])


def _known_mask(k: Known, mask: Value | None, causal: Array | None, q: Value, frame: Frame, hidden: float) -> Mask:
    """Constant masks and the causal one in one constant."""
    if mask is None and causal is None:
        return Mask()

    def constants() -> list[Value]:
        data = np.zeros((1, 1), q.type.dtype.numpy) if mask is None else mask.data
        assert data is not None
        seen = data if data.dtype == bool else data > -np.inf
        seen = seen if causal is None else seen & causal
        term = np.zeros(()) if data.dtype == bool else np.maximum(data, hidden)
        added = k.author.const(np.where(seen, term, hidden), q.type.dtype, mask)
        any_seen = np.asarray(seen.any(-1, keepdims=True))
        return [added] if any_seen.all() else [added, k.author.const(any_seen, q.type.dtype)]

    added, *sees = k.author.kept(("mask", mask, causal is None, frame.shape, q.type.dtype.name), constants)
    columns = frame.without([3])
    return Mask(k.author.constant(added, frame), k.author.constant(sees[0], columns) if sees else None)


def _computed(
    k: Known, given: Value, causal: Array | None, q: Value, hidden: float, finite: bool
) -> tuple[Value, Callable[[], Value]]:
    """For one head, what a mask [B,K,1,Q] adds, and which queries see something; shared by all layers that read it.
    What a finite mask hides from a query is less hidden than what comes after it."""
    a, dtype = k.author, q.type.dtype
    after, hidden = hidden, hidden / 2 if finite and causal is not None else hidden
    if given.type.dtype is BOOL:
        seen = a.add(Cast(to=dtype.name), given)
        added = a.add(Mul(), a.add(Sub(), seen, a.number(1, dtype)), a.number(-hidden, dtype))
    else:
        seen = None
        added = a.add(Max(), given, a.number(hidden, dtype))
    if causal is not None:
        order = causal.T[None, :, None]
        open_, closed = a.kept(
            ("causal", causal.shape, dtype.name),
            lambda: [a.const(order, dtype), a.const(np.where(order, 0, after), dtype)],
        )
        added = a.add(Add(), a.add(Mul(), added, open_), closed)

    def sees() -> Value:
        each = (
            a.add(Cast(to=dtype.name), a.add(Greater(), given, a.number(hidden / 2, dtype))) if seen is None else seen
        )
        return a.add(ReduceMax(axes=(KEYS,)), each if causal is None else a.add(Mul(), each, open_))

    return added, sees
