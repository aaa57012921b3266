"""Compressed weights (`constexpr_*`) and quantised activations."""

from __future__ import annotations

import numpy as np

from compiler.errors import EmitError
from targets.coreml.dtypes import TYPES, unpack_bits
from targets.coreml.evaluate.registry import Tensor, mil


def _along(parameter: Tensor, axis: int | None, rank: int) -> Tensor:
    """A scalar as it is, a vector shaped to broadcast along `axis`."""
    if np.ndim(parameter) == 0:
        return np.asarray(parameter, np.float32)
    if axis is None:
        raise EmitError("a quantisation with a vector of scales has no axis")
    return np.reshape(parameter, (-1,) + (1,) * (rank - 1 - axis % rank)).astype(np.float32)


@mil("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """The reals scale * (data - zero_point)."""
    rank = quantized_data.ndim
    return _along(scale, axis, rank) * (quantized_data.astype(np.float32) - _along(zero_point, axis, rank))


@mil("dequantize")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """The reals scale * (input - zero_point)."""
    shift = np.float32(0) if zero_point is None else _along(zero_point, axis, input.ndim)
    return _along(scale, axis, input.ndim) * (input.astype(np.float32) - shift)


@mil("quantize")
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point), ties to even."""
    shift = np.float32(0) if zero_point is None else _along(zero_point, axis, input.ndim)
    limits = np.iinfo(output_dtype)
    return np.clip(np.rint(input / _along(scale, axis, input.ndim)) + shift, limits.min, limits.max)


@mil("constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """The operand; the conversion to the declared type follows."""
    return source_val


@mil("constexpr_lut_to_dense", moves=True)
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Tensor | None = None, vector_axis: int | None = None
) -> Tensor:
    """Entries of a table. With `shape` (iOS 16), packed indices into one table; else (iOS 18) tables (groups...,
    entries, vector).

    Each axis of the indices is cut into as many groups as the table has there; vectors lie along `vector_axis`.
    """
    if shape is not None:
        bits = int(lut.size - 1).bit_length()
        count = int(np.prod(shape, dtype=np.int64))
        return lut[unpack_bits(indices, TYPES[f"uint{bits}"], count)].reshape([int(n) for n in shape])
    groups = (np.repeat(np.arange(g), n // g) for g, n in zip(lut.shape, indices.shape, strict=False))
    entries = lut[(*np.ix_(*groups), indices)]
    if entries.shape[-1] == 1:
        return entries[..., 0]
    if vector_axis is None:
        raise EmitError("a lookup table of vectors has no vector_axis")
    axis = vector_axis % indices.ndim
    sizes = list(indices.shape)
    sizes[axis] *= entries.shape[-1]
    return np.moveaxis(entries, -1, axis + 1).reshape(sizes)


@mil("constexpr_sparse_to_dense", moves=True)
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor | None = None) -> Tensor:
    """Elements put where the mask is set, zeros elsewhere. With `shape` (iOS 16) the mask is packed bits."""
    if shape is not None:
        sizes = [int(n) for n in shape]
        mask = np.unpackbits(mask, count=int(np.prod(sizes, dtype=np.int64)), bitorder="little").reshape(sizes)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def _repeat_blocks(parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
    for axis, size in enumerate(shape):
        if parameter.shape[axis] not in (1, size):
            parameter = np.repeat(parameter, size // parameter.shape[axis], axis)
    return parameter.astype(np.float32)


@mil("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """The reals scale * (data - offset); each axis of `data` has as many blocks as the parameters have elements."""
    shift = np.float32(0) if offset is None else _repeat_blocks(offset, data.shape)
    return _repeat_blocks(scale, data.shape) * (data.astype(np.float32) - shift)


@mil("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """constexpr_lut_to_dense of sparse indices; the mask of the result, and its elements there."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, None, vector_axis)
    mask = indices_mask if vector_axis is None else np.repeat(indices_mask, lut.shape[-1], vector_axis)
    return mask, dense[mask != 0]


@mil("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """constexpr_blockwise_shift_scale of sparse data; the mask, and the elements there."""
    dense = constexpr_blockwise_shift_scale(constexpr_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]
