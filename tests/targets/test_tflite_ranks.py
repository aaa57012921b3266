"""Layers of more axes than kernels have: what stays together is merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.op import Op
from compiler.ops import (
    Add,
    BitwiseAnd,
    Concat,
    LogSoftmax,
    Mul,
    Pad,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Reshape,
    Slice,
    Softmax,
    Split,
    Transpose,
    Where,
)
from compiler.tensor import BOOL, DTYPES, F32, I64, DType, TensorType
from tests.one_op import layer_inputs, layer_of
from tests.targets.tflite_harness import assert_close, emitted

SEVEN, EIGHT = (2, 3, 1, 2, 2, 3, 2), (2, 1, 3, 2, 2, 1, 2, 3)


def typed(dtype: DType, shape: tuple[int, ...]) -> TensorType:
    return TensorType(dtype, shape)


X7, X8 = typed(F32, SEVEN), typed(F32, EIGHT)
CASES: dict[str, tuple[Op, TensorType, tuple[TensorType, ...]]] = {
    "alternating broadcast": (Add(), X8, (typed(F32, (1, 4, 1, 2, 1, 3, 2, 1)),)),
    "a scalar": (Mul(), X8, (typed(F32, ()),)),
    "a choice": (Where(), typed(BOOL, SEVEN), (X7, typed(F32, (2,)))),
    "one axis reduced": (ReduceSum(axes=(3,), keepdims=False), X7, ()),
    "alternate axes reduced": (ReduceMean(axes=(0, 2, 4, 6)), X8, ()),
    "neighbours reduced": (ReduceMax(axes=(1, 2, 3, 7), keepdims=False), X8, ()),
    "all reduced": (ReduceSum(axes=tuple(range(8))), X8, ()),
    "joined": (Concat(axis=4), X8, (X8, X8)),
    "cut": (Split(axis=2, sizes=(1, 2)), X8, ()),
    "a slice": (Slice.of(X8, [2, 7], [1, 1], [3, 9]), X8, ()),
    "padded": (Pad(pads=(0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0), value=2.0), X7, ()),
    "softmax": (Softmax(axis=2), X8, ()),
    "log of a softmax": (LogSoftmax(axis=7), X8, ()),
    "moved in groups": (Transpose(perm=(4, 5, 6, 7, 0, 1, 2, 3)), X8, ()),
    "reversed": (Transpose(perm=(7, 6, 5, 4, 3, 2, 1, 0)), typed(F32, (2, 3, 2, 2, 3, 2, 2, 3)), ()),
    "bits": (BitwiseAnd(), typed(I64, EIGHT), (typed(I64, (3, 2, 2, 1, 2, 1)),)),
}


@pytest.mark.parametrize("name", CASES)
def test_many_axes(name: str, tmp_path: Path) -> None:
    op, x, others = CASES[name]
    graph = layer_of(op, others, x)
    feeds = layer_inputs(np.random.default_rng(3), graph)
    results = emitted(graph, tmp_path / "m.tflite").run(feeds)
    for output, expected in evaluate(graph, feeds).items():
        assert_close(results[output], expected, name)


@pytest.mark.parametrize("dtype", ["f32", "i64"])
def test_nine_axes_are_refused(dtype: str, tmp_path: Path) -> None:
    graph = layer_of(Reshape(shape=(1, 2, 1, 3, 1, 2, 1, 2, 1)), (), typed(DTYPES[dtype], (24,)))
    with pytest.raises(LegalityError, match="at most 8 axes"):
        emitted(graph, tmp_path / "m.tflite")
