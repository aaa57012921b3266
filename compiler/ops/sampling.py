"""Reading an image at places that are data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Self

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.ops.resize import cubic_kernel
from compiler.tensor import Array, TensorType

MODES = {"bilinear": "linear", "bicubic": "cubic"}  # names of opset 16 that changed in opset 20
CUBIC_A = -0.75


def reflected(at: Array, low: float, high: float) -> Array:
    """Coordinates mirrored at both borders until they lie between them."""
    span = high - low
    if span <= 0:
        return np.full_like(at, low)
    beyond = np.where(at < low, low - at, at - high)
    turns = np.trunc(beyond / span)
    rest = beyond - turns * span
    from_low = (turns % 2 == 0) == (at < low)
    inside = (at >= low) & (at <= high)
    return np.where(inside, at, np.where(from_low, low + rest, high - rest))


@op("grid_sample", onnx="GridSample", since=16)
class GridSample(Op):
    """x [N,C,*D] at the places grid [N,*O,len(D)], whose last axis holds the coordinates of the last axis of D first.

    -1 and 1 are the outermost elements (`align_corners`) or their outer edges. Jaderberg et al., arXiv:1506.02025.
    mode      nearest (halves to even), linear or cubic
    padding   what lies outside: zeros, border (the outermost elements) or reflection
    """

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        expect(self.mode in ("nearest", "linear", "cubic"), f"mode {self.mode!r} is not nearest, linear or cubic")
        known = self.padding in ("zeros", "border", "reflection")
        expect(known, f"padding {self.padding!r} is not zeros, border or reflection")
        expect(x.rank >= 3 and x.dtype.is_real, f"needs a real tensor of rank 3 or more, got {x}")
        expect(grid.rank == x.rank and grid.dtype.is_float, f"needs a float grid of the rank of {x}, got {grid}")
        fits = grid.shape[0] == x.shape[0] and grid.shape[-1] == x.rank - 2
        expect(fits, f"the grid {grid} does not fit {x}")
        return x.with_shape((*x.shape[:2], *grid.shape[1:-1]))

    def evaluate(self, x: Array, grid: Array) -> Array:
        dims = x.shape[2:]
        out = (*x.shape[:2], *grid.shape[1:-1])
        if 0 in out:
            return np.zeros(out, x.dtype)
        wide = widen(x) if x.dtype.kind not in "iu" else x.astype(np.float64)
        places = widen(grid).reshape(x.shape[0], -1, len(dims))
        at = [self._coordinates(places[..., len(dims) - 1 - i], d) for i, d in enumerate(dims)]
        taps = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[self.mode]
        flat = wide.reshape(*x.shape[:2], prod(dims))
        y: Array = np.zeros((*x.shape[:2], places.shape[1]), wide.dtype)
        base = [np.floor(v) for v in at]
        for tap in product(taps, repeat=len(dims)):
            weight: Array = np.ones(places.shape[:2], wide.dtype)
            index: Array = np.zeros(places.shape[:2], np.int64)
            for i, d in enumerate(dims):
                place, inside = self._inside(base[i] + tap[i], d)
                index = index * d + place
                weight = weight * inside * self._weight(at[i] - base[i] - tap[i])
            y += np.take_along_axis(flat, index[:, None], 2) * weight[:, None].astype(wide.dtype)
        return y.reshape(out).astype(x.dtype, copy=False)

    def _coordinates(self, v: Array, d: int) -> Array:
        """Indices, perhaps between elements, along an axis of `d` elements."""
        at = (v + 1) / 2 * (d - 1) if self.align_corners else ((v + 1) * d - 1) / 2
        if self.mode == "nearest":
            at = np.rint(at)
        low, high = self._borders(d)
        if self.padding == "border" and self.mode != "cubic":
            return np.where((at < low) | (at > high), np.clip(at, 0, d - 1), at)
        return reflected(at, low, high) if self.padding == "reflection" else at

    def _borders(self, d: int) -> tuple[float, float]:
        return (0.0, d - 1.0) if self.align_corners else (-0.5, d - 0.5)

    def _inside(self, at: Array, d: int) -> tuple[Array, Array]:
        """Valid indices for whole numbers `at`, and whether they are inside the image or count as if."""
        if self.padding == "reflection":
            at = np.trunc(reflected(at, *self._borders(d)))
        inside = (at >= 0) & (at < d) if self.padding == "zeros" else np.ones(at.shape, bool)
        return np.clip(np.nan_to_num(at), 0, d - 1).astype(np.int64), inside

    def _weight(self, distance: Array) -> Array:
        if self.mode == "nearest":
            return np.ones_like(distance)
        return cubic_kernel(distance, CUBIC_A) if self.mode == "cubic" else 1 - np.abs(distance)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        per_axis = {"nearest": 1, "linear": 2, "cubic": 4}[self.mode]
        return outputs[0].size * int(per_axis ** (outputs[0].rank - 2))

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        mode = node.attr("mode", "linear")
        return cls(
            mode=MODES.get(mode, mode),
            padding=node.attr("padding_mode", "zeros"),
            align_corners=bool(node.attr("align_corners", 0)),
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, 16 if e.outputs[0].rank == 4 else 20, "GridSample")
        older = {new: old for old, new in MODES.items()}
        mode = self.mode if e.opset >= 20 else older.get(self.mode, self.mode)
        corners = int(self.align_corners)
        return e.node("GridSample", *inputs, mode=mode, padding_mode=self.padding, align_corners=corners)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank not in (4, 5) or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        mode = str(rng.choice(["nearest", "linear", "cubic"] if x.rank == 4 else ["nearest", "linear"]))
        padding = str(rng.choice(["zeros", "border", "reflection"]))
        grid = rng.uniform(-1.4, 1.4, (x.dims[0], *rng.integers(1, 4, x.rank - 2), x.rank - 2)).astype(x.dtype.numpy)
        return cls(mode=mode, padding=padding, align_corners=bool(rng.random() < 0.5)), (grid,)


__all__ = ["GridSample"]
