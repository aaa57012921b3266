"""Operations that rearrange elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.errors import EmitError
from targets.coreml.evaluate.registry import Tensor, mil


@mil("identity", moves=True)
def identity(x: Tensor) -> Tensor:
    """The operand."""
    return x


@mil("shape")
def shape_(x: Tensor) -> Tensor:
    """The sizes of `x`."""
    return np.array(np.shape(x), np.int32)


@mil("reshape", moves=True)
def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """The same elements in another shape; 0 keeps the size of the same axis, from the last, -1 is worked out."""
    added = len(shape) - np.ndim(x)
    kept = [np.shape(x)[i - added] if i >= added else 1 for i in range(len(shape))]
    return np.reshape(x, [int(n) or old for n, old in zip(shape, kept, strict=True)])


@mil("reshape_like", moves=True)
def reshape_like(
    x: Tensor, ref_tensors: list[Tensor], begins: list[int], ends: list[int], end_masks: list[bool]
) -> Tensor:
    """`x` in a shape put together from stretches of the shapes of `ref_tensors`."""
    sizes: list[int] = []
    for tensor, begin, end, to_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += np.shape(tensor)[begin : None if to_end else end]
    return np.reshape(x, sizes)


@mil("flatten2d", moves=True)
def flatten2d(x: Tensor, axis: int) -> Tensor:
    """The axes before `axis` as rows, the others as columns."""
    return np.reshape(x, (int(np.prod(x.shape[:axis], dtype=np.int64)), -1))


@mil("transpose", moves=True)
def transpose(x: Tensor, perm: Tensor) -> Tensor:
    """Axes in the order `perm`."""
    return np.transpose(x, [int(p) for p in perm])


@mil("expand_dims", moves=True)
def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """Axes of size 1 put in at `axes` of the result."""
    return np.expand_dims(x, tuple(int(a) for a in axes))


@mil("squeeze", moves=True)
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without those of `axes` (or of all) that have size 1."""
    over = range(x.ndim) if axes is None else [int(a) % x.ndim for a in axes]
    return np.squeeze(x, axis=tuple(a for a in over if x.shape[a] == 1))


@mil("concat", moves=True)
def concat(values: list[Tensor], axis: int, interleave: bool) -> Tensor:
    """One after the other along `axis`; interleaved, element by element in turn."""
    parts = [np.atleast_1d(value) for value in values]
    if not interleave:
        return np.concatenate(parts, axis=axis)
    axis %= parts[0].ndim
    stacked = np.stack(parts, axis=axis + 1)
    return stacked.reshape(*parts[0].shape[:axis], -1, *parts[0].shape[axis + 1 :])


@mil("stack", moves=True)
def stack(values: list[Tensor], axis: int) -> Tensor:
    """Tensors side by side along a new axis."""
    return np.stack(values, axis=axis)


@mil("split", moves=True)
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Tensor | None = None) -> list[Tensor]:
    """Consecutive pieces along `axis`, of `split_sizes` or `num_splits` equal ones."""
    if split_sizes is not None:
        return np.split(x, np.cumsum(split_sizes)[:-1], axis=axis)
    if num_splits is None:
        raise EmitError("a split operation has neither num_splits nor split_sizes")
    return np.split(x, num_splits, axis=axis)


@mil("tile", moves=True)
def tile(x: Tensor, reps: Tensor) -> Tensor:
    """`x` repeated along each axis."""
    return np.tile(x, [int(r) for r in reps])


@mil("pad", moves=True)
def pad_(x: Tensor, pad: Tensor, mode: str, constant_val: float = 0) -> Tensor:
    """Elements before and after each of the last axes: a constant, reflected without the edge, or the edge repeated."""
    pairs = np.reshape(pad, (-1, 2)).tolist()
    pads = [[0, 0]] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, pads, constant_values=constant_val)
    return np.pad(x, pads, mode="edge" if mode == "replicate" else "reflect")


@mil("crop", moves=True)
def crop(x: Tensor, crop_height: Sequence[int], crop_width: Sequence[int]) -> Tensor:
    """Without so many rows and columns at either end of the last two axes."""
    (top, bottom), (left, right) = np.ravel(crop_height), np.ravel(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@mil("reverse", moves=True)
def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Reversed along `axes`, or along all."""
    return np.flip(x, None if axes is None else tuple(int(a) for a in axes))


@mil("reverse_sequence", moves=True)
def reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: int, batch_axis: int) -> Tensor:
    """The first `lengths[i]` elements along `seq_axis` reversed, for each i along `batch_axis`."""
    steps, size = np.arange(x.shape[seq_axis]), np.asarray(lengths)[:, None]
    index = np.where(steps < size, size - 1 - steps, steps)
    moved = np.moveaxis(x, (batch_axis, seq_axis), (0, 1))
    result = moved[np.arange(len(index))[:, None], index]
    return np.moveaxis(result, (0, 1), (batch_axis, seq_axis))


@mil("sliding_windows", moves=True)
def sliding_windows(x: Tensor, axis: int, size: int, stride: int) -> Tensor:
    """All windows of `size` elements along `axis`, in a new axis after it."""
    axis %= x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    return np.moveaxis(windows[(slice(None),) * axis + (slice(None, None, stride),)], -1, axis + 1)


def _blocks_out(x: Tensor, block: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H / b, b, W / b, b)."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // block, block, w // block, block)


@mil("pixel_shuffle", moves=True)
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Channels (C, b, b) to blocks of b x b pixels, as PyTorch and ONNX's CRD mode."""
    n, c, h, w = x.shape
    b = upscale_factor
    return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


@mil("pixel_unshuffle", moves=True)
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of pixel_shuffle."""
    n, c, h, w = x.shape
    b = downscale_factor
    return _blocks_out(x, b).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * b**2, h // b, w // b)


@mil("depth_to_space", moves=True)
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Channels (b, b, C) to blocks of b x b pixels, as TensorFlow and ONNX's DCR mode."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@mil("space_to_depth", moves=True)
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """The inverse of depth_to_space."""
    n, c, h, w = x.shape
    b = block_size
    return _blocks_out(x, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


@mil("space_to_batch", moves=True)
def space_to_batch(x: Tensor, block_shape: Tensor, paddings: Tensor) -> Tensor:
    """Pixels of each block of the padded image to samples, block position first."""
    bh, bw = (int(b) for b in block_shape)
    padded = np.pad(x, [(0, 0), (0, 0), *np.asarray(paddings).tolist()])
    n, c, h, w = padded.shape
    blocks = padded.reshape(n, c, h // bh, bh, w // bw, bw)
    return blocks.transpose(3, 5, 0, 1, 2, 4).reshape(n * bh * bw, c, h // bh, w // bw)


@mil("batch_to_space", moves=True)
def batch_to_space(x: Tensor, block_shape: Tensor, crops: Tensor) -> Tensor:
    """The inverse of space_to_batch."""
    bh, bw = (int(b) for b in block_shape)
    n, c, h, w = x.shape
    samples = n // (bh * bw)
    image = x.reshape(bh, bw, samples, c, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(samples, c, h * bh, w * bw)
    (top, bottom), (left, right) = np.asarray(crops).tolist()
    return image[:, :, top : h * bh - bottom, left : w * bw - right]
