"""Matrix products: batched, dense layers, Einstein sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from compiler.errors import ShapeError
from compiler.op import Emitter, OnnxNode, Op, broadcast, expect, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.tensor import Array, Dim, Shape, TensorType


def matmul_shape(x: Shape, y: Shape) -> Shape:
    """Shape of numpy's matmul; ShapeError if the operands do not fit."""
    expect(x and y, "needs operands of rank 1 or more")
    left = x if len(x) > 1 else (1, *x)
    right = y if len(y) > 1 else (*y, 1)
    expect(left[-1] == right[-2], f"inner dimensions {left[-1]} and {right[-2]} differ")
    rows: Shape = left[-2:-1] if len(x) > 1 else ()
    columns: Shape = right[-1:] if len(y) > 1 else ()
    return (*broadcast(left[:-2], right[:-2]), *rows, *columns)


@op("matmul", onnx="MatMul")
class MatMul(Op):
    """numpy.matmul(x, y): matrices in the last two axes, leading axes broadcast, vectors promoted."""

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        expect(x.dtype is y.dtype and x.dtype.is_real, f"needs one real element type, got {x} and {y}")
        return TensorType(x.dtype, matmul_shape(x.shape, y.shape))

    def evaluate(self, x: Array, y: Array) -> Array:
        return np.asarray(np.matmul(widen(x), widen(y))).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return inner_macs(outputs, inputs[0])

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if not x.rank or not x.dtype.is_float:
            return None
        batch = x.shape[:-2] if rng.random() < 0.5 else ()
        return cls(), (x.with_shape((*batch, x.shape[-1], int(rng.integers(1, 5)))),)


def inner_macs(outputs: Sequence[TensorType], x: TensorType | None) -> int:
    """Elements of the result times the length of the inner axis, the last of `x`."""
    assert x is not None
    return outputs[0].size * x.with_shape(x.shape[-1:]).size


@op("dense")
class Dense(Op):
    """x [...,K] times w [K,N], or w [N,K] if `transposed`, plus b [N]."""

    transposed: bool = False

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> TensorType:
        expect(x.dtype is w.dtype and x.dtype.is_real, f"needs one real element type, got {x} and {w}")
        expect(x.rank >= 1 and w.rank == 2, f"needs an input of rank >= 1 and a weight of rank 2, got {x} and {w}")
        inner, columns = w.shape[::-1] if self.transposed else w.shape
        expect(x.shape[-1] == inner, f"inner dimensions {x.shape[-1]} and {inner} differ")
        if b is not None:
            expect(b.shape == (columns,) and b.dtype is x.dtype, f"needs a bias {x.dtype}[{columns}], got {b}")
        return x.with_shape((*x.shape[:-1], columns))

    def evaluate(self, x: Array, w: Array, b: Array | None = None) -> Array:
        y = np.matmul(widen(x), widen(w.T if self.transposed else w))
        return np.asarray(y if b is None else y + b.astype(y.dtype, copy=False)).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return inner_macs(outputs, inputs[0])

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x, w, b = (*inputs, None)[:3]
        x_type = e.types[0]
        assert x_type is not None
        if x_type.rank == 2 and (b is not None or self.transposed):
            return e.node("Gemm", x, w, b, transB=int(self.transposed))
        if self.transposed:
            (w,) = e.node("Transpose", w, perm=(1, 0))
        product = e.node("MatMul", x, w)
        return product if b is None else e.node("Add", *product, b)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if not x.rank or not x.dtype.is_float:
            return None
        columns, transposed = int(rng.integers(1, 5)), bool(rng.random() < 0.5)
        w = (columns, x.shape[-1]) if transposed else (x.shape[-1], columns)
        bias = (x.with_shape((columns,)),) if rng.random() < 0.7 else ()
        return cls(transposed=transposed), (x.with_shape(w), *bias)


@op("einsum", onnx="Einsum", since=12)
class Einsum(Op):
    """Einstein summation; `equation` has an explicit right-hand side and no spaces. Ellipses broadcast."""

    equation: str

    def validate(self) -> None:
        if "->" not in self.equation:
            raise ValueError(f"einsum equation {self.equation!r} has no right-hand side")

    def infer(self, *xs: TensorType) -> TensorType:
        expect(xs, "needs an operand")
        expect(all(x.dtype is xs[0].dtype and x.dtype.is_real for x in xs), "operands differ in element type")
        sizes, wide = self._sizes(xs)
        result = self.equation.split("->")[1]
        before, dots, after = result.partition("...")
        kept = before + after
        known = set(kept) <= sizes.keys() and len(set(kept)) == len(kept)
        expect(known, f"{result!r} names unknown or double axes")
        expect(dots or not wide, f"{self.equation!r} sums over an ellipsis")
        return TensorType(
            xs[0].dtype, (*(sizes[c] for c in before), *(wide if dots else ()), *(sizes[c] for c in after))
        )

    def _sizes(self, xs: Sequence[TensorType]) -> tuple[dict[str, Dim], Shape]:
        """The extent of each letter, and of the axes under the ellipsis."""
        terms = self.equation.split("->")[0].split(",")
        expect(len(terms) == len(xs), f"{self.equation!r} does not take {len(xs)} operands")
        sizes: dict[str, Dim] = {}
        wide: Shape = ()
        for term, x in zip(terms, xs, strict=True):
            before, dots, after = term.partition("...")
            hidden = x.rank - len(before) - len(after)
            expect(hidden >= 0 and (dots or not hidden), f"{term!r} does not fit {x}")
            wide = broadcast(wide, x.shape[len(before) : len(before) + hidden])
            for letter, d in zip(before + after, x.shape[: len(before)] + x.shape[len(before) + hidden :], strict=True):
                known = sizes.setdefault(letter, d)
                if known == 1:
                    sizes[letter] = d
                elif d not in (1, known):
                    raise ShapeError(f"axis {letter!r} of {self.equation!r} is both {known} and {d}")
        return sizes, wide

    def evaluate(self, *xs: Array) -> Array:
        y = np.einsum(self.equation, *[widen(x) for x in xs], optimize=len(xs) > 1)
        return np.asarray(y).astype(xs[0].dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        sizes, wide = self._sizes([x for x in inputs if x is not None])
        return outputs[0].with_shape((*sizes.values(), *wide)).size if len(inputs) > 1 else 0

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(equation=explicit_equation(node.attr("equation")))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if not x.dtype.is_float or not 2 <= x.rank <= 4:
            return None
        letters = "abcd"[: x.rank]
        return cls(equation=f"{letters},{letters[-1]}z->{letters[:-1]}z"), (x.with_shape((x.shape[-1], 3)),)


def explicit_equation(equation: str) -> str:
    """The equation without spaces and with a right-hand side: letters seen once, in alphabetical order."""
    equation = equation.replace(" ", "")
    if "->" in equation:
        return equation
    letters = equation.replace("...", "").replace(",", "")
    once = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return f"{equation}->{'...' if '...' in equation else ''}{once}"


__all__ = ["Dense", "Einsum", "MatMul"]
