"""Operators that move elements and change none; what they read and write has the same parameters."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.kernel import ANY, INT8_16, Kernel, Node, first_zero_point


def _reshaped(node: Node) -> Array:
    return node.value().reshape(node.result().shape)


def _shape(node: Node) -> Array:
    return np.array(node.value().shape, np.int64 if node.result().dtype == "INT64" else np.int32)


def _transpose(node: Node) -> Array:
    return node.value().transpose(node.ints(1))


def _concatenation(node: Node) -> Array:
    count = len(node.operator.inputs)
    if node.result().dtype in INT8_16 and not all(node.same_parameters(node.tensor(i)) for i in range(count)):
        raise node.refused("has operands of other parameters than its result")
    return np.concatenate([node.value(i) for i in range(count)], axis=node.option("Axis"))


def _pack(node: Node) -> Array:
    return np.stack([node.value(i) for i in range(len(node.operator.inputs))], axis=node.option("Axis"))


def _unpack(node: Node) -> tuple[Array, ...]:
    return tuple(np.moveaxis(node.value(), node.option("Axis"), 0))


def _split(node: Node) -> tuple[Array, ...]:
    return tuple(np.split(node.value(1), len(node.operator.outputs), axis=node.ints(0)[0]))


def _split_v(node: Node) -> tuple[Array, ...]:
    axis, sizes = node.ints(2)[0], node.ints(1)
    rest = node.value().shape[axis] - sum(n for n in sizes if n >= 0)
    ends = np.cumsum([n if n >= 0 else rest for n in sizes])[:-1]
    return tuple(np.split(node.value(), ends.tolist(), axis=axis))


def _slice(node: Node) -> Array:
    pairs = zip(node.ints(1), node.ints(2), strict=True)
    return node.value()[tuple(slice(b, None if n < 0 else b + n) for b, n in pairs)]


def _strided_slice(node: Node) -> Array:
    if node.option("EllipsisMask") or node.option("NewAxisMask") or node.option("Offset", False):
        raise node.refused("has an ellipsis, a new axis or offsets")
    begin_mask, end_mask, shrink = (node.option(k) for k in ("BeginMask", "EndMask", "ShrinkAxisMask"))
    index: list[int | slice] = []
    for i, (begin, end, step) in enumerate(zip(node.ints(1), node.ints(2), node.ints(3), strict=True)):
        if shrink >> i & 1:
            index.append(begin)
        else:
            index.append(slice(None if begin_mask >> i & 1 else begin, None if end_mask >> i & 1 else end, step))
    return node.value()[tuple(index)]


def _gather(node: Node) -> Array:
    if node.option("BatchDims"):
        raise node.refused("has batch axes")
    return np.take(node.value(), node.value(1), axis=node.option("Axis"))


def _gather_nd(node: Node) -> Array:
    return node.value()[tuple(np.moveaxis(node.value(1), -1, 0))]


def _pad(node: Node) -> Array:
    """With the number that stands for 0, or with the third operand."""
    fill = node.value(2).reshape(()) if node.has(2) else first_zero_point(node.result())
    return np.pad(node.value(), node.value(1).tolist(), constant_values=fill)


def _space_to_batch(node: Node) -> Array:
    """Padded with the number that stands for 0."""
    blocks, pads = node.ints(1), node.value(2).tolist()
    rest = node.value().ndim - 1 - len(blocks)
    x = np.pad(node.value(), [(0, 0), *pads, *[(0, 0)] * rest], constant_values=first_zero_point(node.result()))
    split = [n for size, b in zip(x.shape[1:], blocks, strict=False) for n in (size // b, b)]
    axes = range(1, 2 * len(blocks), 2)
    order = [*(a + 1 for a in axes), 0, *axes, *range(2 * len(blocks) + 1, 2 * len(blocks) + 1 + rest)]
    sizes = [size // b for size, b in zip(x.shape[1:], blocks, strict=False)]
    parts = x.reshape(x.shape[0], *split, *x.shape[1 + len(blocks) :]).transpose(order)
    return parts.reshape(-1, *sizes, *x.shape[1 + len(blocks) :])


def _batch_to_space(node: Node) -> Array:
    x, blocks, crops = node.value(), node.ints(1), node.value(2).tolist()
    count = len(blocks)
    parts = x.reshape(*blocks, -1, *x.shape[1:])
    order = [count, *(a for i in range(count) for a in (count + 1 + i, i)), *range(2 * count + 1, parts.ndim)]
    sizes = [size * b for size, b in zip(x.shape[1:], blocks, strict=False)]
    whole = parts.transpose(order).reshape(-1, *sizes, *x.shape[1 + count :])
    inner = (slice(before, size - after) for (before, after), size in zip(crops, sizes, strict=True))
    return whole[(slice(None), *inner)]


def _fill(node: Node) -> Array:
    return np.full(node.ints(0), node.value(1).reshape(()))


def _mirror_pad(node: Node) -> Array:
    return np.pad(node.value(), node.value(1).tolist(), mode="symmetric" if node.option("Mode") else "reflect")


def _tile(node: Node) -> Array:
    return np.tile(node.value(), node.ints(1))


def _broadcast_to(node: Node) -> Array:
    return np.broadcast_to(node.value(), node.ints(1))


def _reverse(node: Node) -> Array:
    return np.flip(node.value(), tuple(node.ints(1)))


def _select(node: Node) -> Array:
    return np.where(node.value(0), node.value(1), node.value(2))


def _depth_to_space(node: Node) -> Array:
    x, size = node.value(), node.option("BlockSize", 1)
    n, h, w, c = x.shape
    blocks = x.reshape(n, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h * size, w * size, c // size**2)


def _space_to_depth(node: Node) -> Array:
    x, size = node.value(), node.option("BlockSize", 1)
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h // size, w // size, c * size**2)


KERNELS = {
    "RESHAPE": Kernel(_reshaped, ANY),
    "SHAPE": Kernel(_shape, ANY),
    "SQUEEZE": Kernel(_reshaped, ANY),
    "EXPAND_DIMS": Kernel(_reshaped, ANY),
    "TRANSPOSE": Kernel(_transpose, ANY),
    "CONCATENATION": Kernel(_concatenation, ANY),
    "PACK": Kernel(_pack, ANY),
    "UNPACK": Kernel(_unpack, ANY),
    "SPLIT": Kernel(_split, ANY),
    "SPLIT_V": Kernel(_split_v, ANY),
    "SLICE": Kernel(_slice, ANY),
    "STRIDED_SLICE": Kernel(_strided_slice, ANY),
    "GATHER": Kernel(_gather, ANY),
    "GATHER_ND": Kernel(_gather_nd, ANY),
    "PAD": Kernel(_pad, ANY),
    "PADV2": Kernel(_pad, ANY),
    "MIRROR_PAD": Kernel(_mirror_pad, ANY),
    "TILE": Kernel(_tile, ANY),
    "BROADCAST_TO": Kernel(_broadcast_to, ANY),
    "REVERSE_V2": Kernel(_reverse, ANY),
    "SPACE_TO_BATCH_ND": Kernel(_space_to_batch, ANY),
    "BATCH_TO_SPACE_ND": Kernel(_batch_to_space, ANY),
    "FILL": Kernel(_fill, ANY),
    "SELECT": Kernel(_select, ANY),
    "SELECT_V2": Kernel(_select, ANY),
    "DEPTH_TO_SPACE": Kernel(_depth_to_space, ANY),
    "SPACE_TO_DEPTH": Kernel(_space_to_depth, ANY),
}
