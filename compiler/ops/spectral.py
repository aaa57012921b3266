"""Discrete Fourier transforms; complex numbers are pairs (real, imaginary) on a last axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Self

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.window import bound
from compiler.tensor import F32, Array, TensorType


def as_complex(x: Array) -> Array:
    """Pairs, or single real numbers, of a last axis as complex128."""
    wide = x.astype(np.float64)
    return wide[..., 0] if x.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]


def as_pairs(z: Array) -> Array:
    """Complex numbers as pairs on a new last axis."""
    return np.stack([z.real, z.imag], -1)


def transform_macs(elements: int, length: int) -> int:
    """Multiply-accumulates of fast transforms of that length that give so many elements."""
    return int(elements * log2(max(length, 2)))


@op("dft", onnx="DFT", since=20)
class DFT(Op):
    """The transform of x [...,1 or 2] along `axis`, cut or filled up with zeros to `length`.

    With `onesided` only the length // 2 + 1 frequencies of a real signal are given, or taken by the `inverse`, whose
    result is then real.
    """

    axis: int
    length: int
    inverse: bool = False
    onesided: bool = False

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_float and x.rank >= 2 and x.shape[-1] in (1, 2), f"needs floats [...,1 or 2], got {x}")
        expect(0 <= self.axis < x.rank - 1, f"axis {self.axis} is not one of the signal axes of {x}")
        expect(self.length > 0, f"length {self.length} should be positive")
        real = self.onesided and self.inverse
        count = self.length // 2 + 1 if self.onesided and not self.inverse else self.length
        return x.with_shape((*x.shape[: self.axis], count, *x.shape[self.axis + 1 : -1], 1 if real else 2))

    def evaluate(self, x: Array) -> Array:
        signal = as_complex(x)
        if self.inverse and self.onesided:
            return np.fft.irfft(signal, self.length, self.axis)[..., None].astype(x.dtype)
        y = (np.fft.ifft if self.inverse else np.fft.fft)(signal, self.length, self.axis)
        if self.onesided:
            y = y.take(np.arange(self.length // 2 + 1), self.axis)
        return as_pairs(y).astype(x.dtype)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return transform_macs(outputs[0].size, self.length)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        x = node.type(0)
        axis = normalize_axis(node.scalar("axis", 2, 1 if node.version < 20 else -2), x.rank)
        inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
        given = x.with_shape(x.shape[axis : axis + 1]).dims[0]
        length = int(node.scalar("", 1, 2 * (given - 1) if inverse and onesided else given))
        return cls(axis=axis, length=length, inverse=inverse, onesided=onesided)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, 17, self.onnx)
        inverse, onesided = int(self.inverse), int(self.onesided)
        length = e.const(np.array(self.length, np.int64))
        if e.opset < 20:
            return e.node("DFT", *inputs, length, axis=self.axis, inverse=inverse, onesided=onesided)
        return e.node(
            "DFT", *inputs, length, e.const(np.array(self.axis, np.int64)), inverse=inverse, onesided=onesided
        )

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank < 3 or x.dtype is not F32 or x.shape[-1] not in (1, 2) or not x.is_static or not all(x.shape):
            return None
        axis = int(rng.integers(1, x.rank - 1))
        onesided = x.shape[-1] == 1 and bool(rng.random() < 0.5)
        length = int(rng.integers(1, 9)) if rng.random() < 0.5 else x.dims[axis]
        return cls(axis=axis, length=length, inverse=not onesided and bool(rng.random() < 0.3), onesided=onesided), ()


@op("stft", onnx="STFT", since=17)
class STFT(Op):
    """Transforms of frames of `length` elements, every `step`, of signals x [B,L,1 or 2], times a window [length]:
    [B,frames,length or (`onesided`) length // 2 + 1,2]."""

    step: int
    length: int
    onesided: bool = True

    def infer(self, x: TensorType, window: TensorType | None = None) -> TensorType:
        expect(x.dtype.is_float and x.rank == 3 and x.shape[-1] in (1, 2), f"needs floats [B,L,1 or 2], got {x}")
        (total,) = bound(x.shape[1:2])
        expect(0 < self.length <= total and self.step > 0, f"frames of {self.length} every {self.step} do not fit {x}")
        expect(not self.onesided or x.shape[-1] == 1, f"a one-sided transform needs a real signal, got {x}")
        wanted = x.with_shape((self.length,))
        expect(window is None or window == wanted, f"the window should be {wanted}, it is {window}")
        bins = self.length // 2 + 1 if self.onesided else self.length
        return x.with_shape((x.shape[0], 1 + (total - self.length) // self.step, bins, 2))

    def evaluate(self, x: Array, window: Array | None = None) -> Array:
        frames = np.lib.stride_tricks.sliding_window_view(as_complex(x), self.length, 1)[:, :: self.step]
        y = np.fft.fft(frames if window is None else frames * window.astype(np.float64))
        return as_pairs(y[..., : self.length // 2 + 1] if self.onesided else y).astype(x.dtype)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return transform_macs(outputs[0].size, self.length)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 3 or x.dtype is not F32 or x.shape[-1] != 1 or not x.is_static or not all(x.shape):
            return None
        length = int(rng.integers(1, x.dims[1] + 1))
        transform = cls(step=int(rng.integers(1, 4)), length=length, onesided=bool(rng.random() < 0.5))
        return transform, (x.with_shape((length,)),)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, self.since, self.onnx)
        x, window = (*inputs, None)[:2]
        step, length = (e.const(np.array(v, np.int64)) for v in (self.step, self.length))
        return e.node("STFT", x, step, window, length, onesided=int(self.onesided))

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        x = node.type(0)
        whole = node.type(2).shape[0] if node.has(2) else x.shape[1]
        length = node.scalar("", 3, whole)
        step = node.scalar("", 1)
        return cls(step=int(step), length=int(length), onesided=bool(node.attr("onesided", 1)))


__all__ = ["DFT", "STFT"]
