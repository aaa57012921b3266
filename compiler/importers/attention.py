"""ONNX Attention and RotaryEmbedding: folded heads, caches and windows become layers around the operation."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode, expect
from compiler.ops.attention import Attention, RotaryEmbedding
from compiler.ops.elementwise import Add, And, Div, IsNaN, Less, LessOrEqual, Mul, Sub, Tanh, Where
from compiler.ops.matmul import MatMul
from compiler.ops.parts import Concat, Pad
from compiler.ops.shape import Reshape, Transpose
from compiler.ops.softmax import Softmax
from compiler.tensor import BOOL

SWAPPED = (0, 2, 1, 3)  # [batch, length, heads, features] <-> [batch, heads, length, features]


def split_heads(b: LayerBuilder, x: Value, heads: int) -> Value:
    """x [B,S,H*D] as [B,H,S,D]; itself if it has rank 4."""
    if x.type.rank == 4:
        return x
    expect(x.type.rank == 3, f"needs a tensor of rank 3 or 4, got {x.type}")
    batch, length, width = x.type.shape
    expect(heads > 0 and isinstance(width, int) and width % heads == 0, f"{x.type} does not split into {heads} heads")
    assert isinstance(width, int)
    return b.add(Transpose(perm=SWAPPED), b.add(Reshape(shape=(batch, length, heads, width // heads)), x))


def join_heads(b: LayerBuilder, x: Value) -> Value:
    """x [B,H,S,D] as [B,S,H*D]."""
    batch, heads, length, width = x.type.shape
    width = x.type.with_shape((heads, width)).size
    return b.add(Reshape(shape=(batch, length, width)), b.add(Transpose(perm=SWAPPED), x))


@importer("Attention")
def attention(node: OnnxNode, b: LayerBuilder) -> Sequence[Value]:
    """The attention layer; past keys and values are joined before it, what else hides keys becomes its mask. The
    scores, where asked for, are computed beside it."""
    q, k, v = (operand(node, i) for i in range(3))
    folded = q.type.rank == 3
    q = split_heads(b, q, node.attr("q_num_heads", 0))
    k, v = (split_heads(b, t, node.attr("kv_num_heads", 0)) for t in (k, v))
    if node.has(4) != node.has(5) or (node.has(4) and node.has(6)):
        raise OnnxError("past_key and past_value go together, and not with nonpad_kv_seqlen")
    past = operand(node, 4).type.dims[2] if node.has(4) else 0
    if node.has(4):
        k, v = (b.add(Concat(axis=2), operand(node, 4 + i), t) for i, t in enumerate((k, v)))
    scale = node.attr("scale", 1 / sqrt(q.type.dims[3]))
    causal, mask = _mask(node, b, q, k, past)
    layer = Attention(scale=scale, causal=causal, softcap=node.attr("softcap", 0.0))
    y = b.add(layer, q, k, v, mask)
    results = [join_heads(b, y) if folded else y, k, v]
    if node.n_outputs > 3:
        results.append(_scores(b, layer, q, k, mask, node.attr("qk_matmul_output_mode", 0)))
    return results


def _mask(node: OnnxNode, b: LayerBuilder, q: Value, k: Value, past: int) -> tuple[bool, Value | None]:
    """Whether the layer is causal by itself, and the mask that holds everything else."""
    mask = operand(node, 3) if node.has(3) else None
    keys, queries = k.type.dims[2], q.type.dims[2]
    if mask is not None and mask.type.shape[-1] != keys:
        missing = keys - mask.type.dims[-1]
        expect(missing >= 0, f"the mask {mask.type} is longer than {keys} keys")
        hidden = False if mask.type.dtype is BOOL else -inf
        mask = b.add(Pad(pads=(*(0,) * (2 * mask.type.rank - 1), missing), value=hidden), mask)
    causal = bool(node.attr("is_causal", 0))
    left, right = (node.attr(f"{side}_window_size", -1) for side in ("left", "right"))
    windowed = left >= 0 or right >= 0
    if not node.has(6):
        if not windowed and not (causal and past):
            return causal, mask
        ahead = np.arange(keys) - np.arange(queries)[:, None] - past
        limit = min(0 if causal else keys, right if right >= 0 else keys)
        seen = (ahead <= limit) & (ahead >= (-left if left >= 0 else -keys - queries - past))
        return False, _narrowed(b, mask, b.const(seen), q)
    lengths = b.add(Reshape(shape=(*operand(node, 6).type.shape, 1, 1, 1)), operand(node, 6))
    places = b.const(np.arange(keys))
    mask = _narrowed(b, mask, b.add(Less(), places, lengths), q)
    if causal or windowed:
        rows = b.const(np.arange(queries).reshape(-1, 1) - queries)
        ahead_of = b.add(Sub(), b.add(Sub(), places, rows), lengths)
        for limit in ([0] if causal else []) + ([right] if right >= 0 else []):
            mask = _narrowed(b, mask, b.add(LessOrEqual(), ahead_of, b.const(limit)), q)
        if left >= 0:
            mask = _narrowed(b, mask, b.add(LessOrEqual(), b.const(-left), ahead_of), q)
    return False, mask


def _narrowed(b: LayerBuilder, mask: Value | None, seen: Value, q: Value) -> Value:
    """A mask that also hides what `seen` denies."""
    if mask is None:
        return seen
    if mask.type.dtype is BOOL:
        return b.add(And(), mask, seen)
    return b.add(Where(), seen, mask, b.const(-inf, like=q))


def _scores(b: LayerBuilder, layer: Attention, q: Value, k: Value, mask: Value | None, mode: int) -> Value:
    """Scores of all queries and keys: scaled products (mode 0), capped (1), masked (2), or their softmax (3)."""
    batch, heads, queries, depth = q.type.dims
    shared, keys = k.type.dims[1:3]
    grouped = b.add(Reshape(shape=(batch, shared, heads // shared * queries, depth)), q) if heads != shared else q
    scaled = b.add(Mul(), grouped, b.const(layer.scale, like=q))
    scores = b.add(MatMul(), scaled, b.add(Transpose(perm=(0, 1, 3, 2)), k))
    scores = b.add(Reshape(shape=(batch, heads, queries, keys)), scores) if heads != shared else scores
    if layer.softcap > 0 and mode > 0:
        cap = b.const(layer.softcap, like=q)
        scores = b.add(Mul(), b.add(Tanh(), b.add(Div(), scores, cap)), cap)
    if mode < 2:
        return scores
    for seen in (mask, b.const(np.tri(queries, keys, dtype=bool)) if layer.causal else None):
        if seen is not None and seen.type.dtype is BOOL:
            scores = b.add(Where(), seen, scores, b.const(-inf, like=q))
        elif seen is not None:
            scores = b.add(Add(), scores, seen)
    if mode == 2:
        return scores
    weights = b.add(Softmax(axis=3), scores)
    return b.add(Where(), b.add(IsNaN(), weights), b.const(0, like=q), weights)


@importer("RotaryEmbedding")
def rotary_embedding(node: OnnxNode, b: LayerBuilder) -> Value:
    """The layer on [B,H,S,D]; a tensor of rank 3 is split into heads before and joined after."""
    x, cos, sin = (operand(node, i) for i in range(3))
    folded = x.type.rank == 3
    positions = operand(node, 3) if node.has(3) else None
    y = split_heads(b, x, node.attr("num_heads", 0))
    width = node.attr("rotary_embedding_dim", 0) or y.type.shape[3]
    fits = isinstance(width, int) and cos.type.shape[-1] == width // 2
    expect(fits, f"the cos table {cos.type} does not fit {width} rotated features")
    y = b.add(RotaryEmbedding(interleaved=bool(node.attr("interleaved", 0))), y, cos, sin, positions)
    return join_heads(b, y) if folded else y
