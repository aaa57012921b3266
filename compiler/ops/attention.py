"""Scaled dot-product attention and the rotary embedding of positions."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Self

import numpy as np

from compiler.errors import OnnxError
from compiler.op import Emitter, OnnxNode, Op, broadcast, expect, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.ops.window import bound
from compiler.tensor import BOOL, F64, I64, Array, TensorType


def softmax_of_masked(scores: Array) -> Array:
    """Softmax along the last axis; 0 where all scores are -inf."""
    top = scores.max(-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


@op("attention", onnx="Attention", since=23)
class Attention(Op):
    """softmax(q k^T * scale + mask) v; Vaswani et al., arXiv:1706.03762.

    q [B,Hq,S,D], k [B,Hkv,T,D], v [B,Hkv,T,E] give [B,Hq,S,E]. Hq is a multiple of Hkv: neighbouring query heads share
    one head of k and v. The mask, of booleans (true: seen) or added, broadcasts to [B,Hq,S,T]. With `causal`, query i
    sees keys 0 to i. A softcap c > 0 turns scores s into c * tanh(s / c) before they are masked. A query that sees no
    key gives 0.
    """

    scale: float
    causal: bool = False
    softcap: float = 0.0

    def infer(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None) -> TensorType:
        expect(q.rank == k.rank == v.rank == 4, f"needs operands of rank 4, got {q}, {k}, {v}")
        expect(q.dtype.is_float and k.dtype is v.dtype is q.dtype, f"needs one float element type, got {q}, {k}, {v}")
        expect(k.shape[:3] == v.shape[:3], f"keys {k} and values {v} differ in batch, heads or length")
        expect(q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3], f"queries {q} do not fit keys {k}")
        heads, shared = bound((q.shape[1], k.shape[1]))
        expect(shared and heads % shared == 0, f"{heads} heads of queries are no multiple of {shared} of keys")
        if mask is not None:
            wanted = (*q.shape[:3], k.shape[2])
            fits = mask.dtype in (BOOL, q.dtype) and broadcast(mask.shape, wanted) == wanted
            expect(fits, f"the mask {mask} is not boolean or {q.dtype}, or does not broadcast to {list(wanted)}")
        return q.with_shape((*q.shape[:3], v.shape[3]))

    def evaluate(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        batch, heads, queries, depth = q.shape
        shared, keys = k.shape[1:3]
        grouped = widen(q).reshape(batch, shared, heads // shared * queries, depth)
        scores = np.matmul(grouped, widen(k).swapaxes(2, 3)) * grouped.dtype.type(self.scale)
        scores = scores.reshape(batch, heads, queries, keys)
        if self.softcap > 0:
            cap = scores.dtype.type(self.softcap)
            scores = cap * np.tanh(scores / cap)
        if mask is not None:
            scores = np.where(mask, scores, -inf) if mask.dtype.kind == "b" else scores + mask
        if self.causal:
            scores = np.where(np.tri(queries, keys, dtype=bool), scores, -inf)
        with np.errstate(all="ignore"):
            weights = softmax_of_masked(scores.astype(grouped.dtype, copy=False)).reshape(*grouped.shape[:3], keys)
            y = np.matmul(weights, widen(v))
        return y.reshape(batch, heads, queries, v.shape[3]).astype(q.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        q, k = inputs[:2]
        assert q is not None
        assert k is not None
        return (q.size + outputs[0].size) * k.with_shape(k.shape[2:3]).size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        raise OnnxError("attention is read by its importer")

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset < 23 or e.outputs[0].dtype is F64:  # which ONNX Runtime does not run
            return self._small_nodes(e, *inputs)
        causal, softcap = int(self.causal) or None, self.softcap or None
        operands = (*inputs[:3], *(self._whole_mask(e, mask) for mask in inputs[3:]))
        return e.node("Attention", *operands, scale=self.scale, is_causal=causal, softcap=softcap)

    @staticmethod
    def _whole_mask(e: Emitter, mask: str | None) -> str | None:
        """The mask with all its queries and keys: ONNX Runtime does not broadcast it along these."""
        q, k, mask_type = e.types[0], e.types[1], e.types[3]
        if mask is None or q is None or k is None or mask_type is None:
            return mask
        area = (q.dims[2], k.dims[2])
        return mask if mask_type.dims[-2:] == area else e.node("Expand", mask, e.const(np.array(area, np.int64)))[0]

    def _small_nodes(
        self, e: Emitter, q: str | None, k: str | None, v: str | None, mask: str | None = None
    ) -> Sequence[str]:
        q_type, k_type = e.types[:2]
        assert q_type is not None
        assert k_type is not None
        heads, queries, depth = q_type.dims[1:]
        shared, keys = k_type.dims[1:3]

        def shaped(name: str | None, *dims: int) -> str | None:
            if heads == shared:
                return name
            return e.node("Reshape", name, e.const(np.array((0, *dims), np.int64)))[0]

        grouped = (shared, heads // shared * queries)
        (scaled,) = e.node("Mul", q, e.const(self.scale, q_type))
        (turned,) = e.node("Transpose", k, perm=(0, 1, 3, 2))
        (raw,) = e.node("MatMul", shaped(scaled, *grouped, depth), turned)
        scores = shaped(raw, heads, queries, keys)
        if self.softcap > 0:
            cap = e.const(self.softcap, q_type)
            (scores,) = e.node("Mul", e.node("Tanh", e.node("Div", scores, cap)[0])[0], cap)
        if mask is not None and e.types[3] is not None:
            boolean = e.types[3].dtype is BOOL
            operands = (mask, scores, e.const(-inf, q_type)) if boolean else (scores, mask)
            (scores,) = e.node("Where" if boolean else "Add", *operands)
        if self.causal:
            (scores,) = e.node("Where", e.const(np.tri(queries, keys, dtype=bool)), scores, e.const(-inf, q_type))
        (weights,) = e.node("Softmax", scores, axis=-1)
        if mask is not None:
            (weights,) = e.node("Where", e.node("IsNaN", weights)[0], e.const(0, q_type), weights)
        y = e.node("MatMul", shaped(weights, *grouped, keys), v)
        final = shaped(y[0], heads, queries, e.outputs[0].dims[3])
        assert final is not None
        return [final]

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        batch, heads, queries, depth = x.dims
        shared = int(rng.choice([h for h in range(1, heads + 1) if heads % h == 0]))
        keys, width = (int(v) for v in rng.integers(1, 6, 2))
        k, v = (x.with_shape((batch, shared, keys, d)) for d in (depth, width))
        layer = cls(
            scale=float(rng.uniform(0.1, 1.0)), causal=bool(rng.random() < 0.3), softcap=float(rng.choice([0, 2]))
        )
        kind = rng.random()
        if kind < 0.4:
            return layer, (k, v)
        rows = queries if rng.random() < 0.7 else 1
        mask = x.with_shape((rows, keys)) if kind < 0.7 else x.with_shape((batch, 1, rows, keys))
        return layer, (k, v, mask if rng.random() < 0.5 else mask.with_dtype(BOOL))


@op("rotary_embedding", onnx="RotaryEmbedding", since=23)
class RotaryEmbedding(Op):
    """x [B,H,S,D] with pairs of its first 2*R features turned by the angles of their position; Su et al.,
    arXiv:2104.09864.

    cos and sin are [B,S,R], or [P,R] with `position_ids` [B,S] (i64) that choose rows. A pair is features i and i + R,
    or 2 * i and 2 * i + 1 if `interleaved`.
    """

    interleaved: bool = False

    def infer(
        self, x: TensorType, cos: TensorType, sin: TensorType, position_ids: TensorType | None = None
    ) -> TensorType:
        expect(x.rank == 4 and x.dtype.is_float, f"needs a float tensor of rank 4, got {x}")
        expect(cos == sin and cos.dtype is x.dtype, f"needs cos and sin of one type, got {cos} and {sin}")
        batch, _, length, width = x.shape
        if position_ids is None:
            expect(cos.rank == 3 and cos.shape[:2] == (batch, length), f"cos {cos} has no row per position of {x}")
        else:
            expect(position_ids == TensorType(I64, (batch, length)), f"position_ids {position_ids} do not fit {x}")
            expect(cos.rank == 2, f"with position_ids, cos should have rank 2, it is {cos}")
        turned = bound(cos.shape[-1:])[0] * 2
        expect(isinstance(width, int) and turned <= width, f"cos {cos} turns {turned} of {width} features")
        return x

    def evaluate(self, x: Array, cos: Array, sin: Array, position_ids: Array | None = None) -> Array:
        wide = widen(x)
        rows = slice(None) if position_ids is None else position_ids
        c, s = (widen(t)[rows][:, None] for t in (cos, sin))
        half = cos.shape[-1]
        first, second = (
            (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
            if self.interleaved
            else (
                slice(0, half),
                slice(half, 2 * half),
            )
        )
        y = wide.copy()
        a, b = wide[..., first], wide[..., second]
        y[..., first], y[..., second] = c * a - s * b, s * a + c * b
        return y.astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return 2 * outputs[0].size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        raise OnnxError("the rotary embedding is read by its importer")

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x, cos = e.types[:2]
        assert x is not None
        assert cos is not None
        half = cos.dims[-1]
        if e.opset >= 23 and x.dtype is not F64:
            part = None if 2 * half == x.dims[3] else 2 * half
            interleaved = int(self.interleaved) or None
            return e.node("RotaryEmbedding", *inputs, interleaved=interleaved, rotary_embedding_dim=part)
        return self._small_nodes(e, half, x, *inputs)

    def _small_nodes(
        self,
        e: Emitter,
        half: int,
        t: TensorType,
        x: str | None,
        cos: str | None,
        sin: str | None,
        position_ids: str | None = None,
    ) -> Sequence[str]:
        if position_ids is not None:
            cos, sin = (e.node("Gather", table, position_ids, axis=0)[0] for table in (cos, sin))
        heads = e.const(np.array([1], np.int64))
        cos, sin = (e.node("Unsqueeze", table, heads)[0] for table in (cos, sin))
        step = 2 if self.interleaved else 1
        starts = (0, 1 if self.interleaved else half)
        ends = (2 * half, 2 * half) if self.interleaved else (half, 2 * half)

        def part(start: int, end: int, step: int) -> str:
            return e.node("Slice", x, *(e.const(np.array([v], np.int64)) for v in (start, end, 3, step)))[0]

        a, b = (part(start, end, step) for start, end in zip(starts, ends, strict=True))
        real = e.node("Sub", e.node("Mul", cos, a)[0], e.node("Mul", sin, b)[0])[0]
        imaginary = e.node("Add", e.node("Mul", sin, a)[0], e.node("Mul", cos, b)[0])[0]
        pieces = [real, imaginary]
        if self.interleaved:
            last = e.const(np.array([-1], np.int64))
            (pairs,) = e.node("Concat", *(e.node("Unsqueeze", piece, last)[0] for piece in pieces), axis=-1)
            pieces = e.node("Reshape", pairs, e.const(np.array([0, 0, 0, 2 * half], np.int64)))
        rest = [part(2 * half, t.dims[3], 1)] if 2 * half < t.dims[3] else []
        return e.node("Concat", *pieces, *rest, axis=3)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.dtype.is_float or not x.is_static or not all(x.shape) or x.dims[3] < 2:
            return None
        batch, _, length, width = x.dims
        half = int(rng.integers(1, width // 2 + 1))
        layer = cls(interleaved=bool(rng.random() < 0.5))
        if rng.random() < 0.5:
            return layer, (x.with_shape((batch, length, half)),) * 2
        table = x.with_shape((7, half))
        return layer, (table, table, rng.integers(0, 7, (batch, length)))


__all__ = ["Attention", "RotaryEmbedding"]
