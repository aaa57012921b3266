"""Results whose size depends on data, as LiteRT returns them."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.op import Op
from compiler.tensor import BOOL, F32, I8, I32, I64, Array, DType, TensorType
from tests.one_op import layer_of
from tests.targets.tflite_harness import emitted

FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def agree(op: Op, operands: tuple[Array, ...], dtypes: tuple[DType, ...], path: Path) -> list[Array]:
    """The results of a layer, which are exactly what the operation means."""
    x, *others = (TensorType(d, a.shape) for d, a in zip(dtypes, operands, strict=True))
    graph = layer_of(op, tuple(others), x)
    feeds = {f"x{i}": a for i, a in enumerate(operands)}
    expected, results = evaluate(graph, feeds), emitted(graph, path / "m.tflite").run(feeds)
    for name, array in expected.items():
        assert results[name].dtype == array.dtype and results[name].shape == array.shape
        assert np.array_equal(results[name], array), f"{name}: {results[name]} is not {array}"
    return list(results.values())


@FEW
@given(seed=st.integers(0, 2**32), centres=st.booleans(), overlap=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_boxes_that_remain(seed: int, centres: bool, overlap: float, tmp_path: Path) -> None:
    """Corners in whole numbers, so that there are equal boxes and ones without area; scores in tenths, so that there
    are ties."""
    rng = np.random.default_rng(seed)
    n, c, b = (int(v) for v in rng.integers(1, (3, 4, 30)))
    boxes = rng.integers(-2, 8, (n, b, 4)).astype(np.float32)
    scores = np.round(rng.random((n, c, b)), 1).astype(np.float32)
    threshold = float(rng.choice([-inf, 0.3, 2.0]))
    op = ops.NonMaxSuppression(
        limit=int(rng.integers(0, 8)), overlap=overlap, threshold=threshold, centres=centres, dim="kept"
    )
    agree(op, (boxes, scores), (F32, F32), tmp_path)


def test_an_overlap_of_the_threshold_itself_is_kept(tmp_path: Path) -> None:
    boxes = np.array([[[0, 0, 1, 2], [0, 1, 1, 3], [0, 0, 2, 2]]], np.float32)  # two halves, one third
    scores = np.array([[[0.5, 0.4, 0.9]]], np.float32)
    op = ops.NonMaxSuppression(limit=3, overlap=0.5, dim="kept")
    (rows,) = agree(op, (boxes, scores), (F32, F32), tmp_path)
    assert rows.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 1]]


@FEW
@given(seed=st.integers(0, 2**32), ordered=st.booleans(), axis=st.sampled_from([None, 0, 1, 2]))
def test_distinct_elements(seed: int, ordered: bool, axis: int | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    dtype = (F32, I64, I8)[int(rng.integers(3))]
    x = rng.integers(-1, 2, tuple(rng.integers(1, 4, 3))).astype(dtype.numpy)
    agree(ops.Unique(axis=axis, sorted=ordered, dim="distinct"), (x,), (dtype,), tmp_path)


@FEW
@given(seed=st.integers(0, 2**32), axis=st.sampled_from([None, 0, 1]))
def test_chosen_elements(seed: int, axis: int | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 4)).astype(np.float32)
    length = 12 if axis is None else x.shape[axis]
    condition = rng.random(int(rng.integers(1, length + 1))) < rng.choice([0.0, 0.5, 1.0])
    agree(ops.Compress(axis=axis, dim="kept"), (x, condition), (F32, BOOL), tmp_path)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3, 2)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_elements_other_than_0(shape: tuple[int, ...], share: float, tmp_path: Path) -> None:
    x = (np.random.default_rng(0).random(shape) < share).astype(np.float32)
    (places,) = agree(ops.NonZero(dim="found"), (x,), (F32,), tmp_path)
    assert places.shape == (len(shape), np.count_nonzero(x))


@pytest.mark.parametrize("dtype", [I64, I32, I8])
@pytest.mark.parametrize("numbers", [(5, -4, -2), (5, -5, -2), (-3, 9, 1), (4, 2, 1), (2, 4, -1), (3, 3, 1)])
def test_ranges_of_computed_bounds(numbers: tuple[int, int, int], dtype: DType, tmp_path: Path) -> None:
    operands = tuple(np.array(n, dtype.numpy) for n in numbers)
    (y,) = agree(ops.Range(dim="count"), operands, (dtype,) * 3, tmp_path)
    assert y.tolist() == list(range(*numbers))


def test_what_reads_a_result_of_unknown_size_is_refused_with_a_way_out(tmp_path: Path) -> None:
    graph = layer_of(ops.NonZero(dim="found"), (), TensorType(F32, (2, 3)))
    (y,) = graph.add(ops.Cast(to="f32"), graph.outputs[0])
    graph.set_outputs([y], ["y"])
    with pytest.raises(LegalityError, match="compute with a mask of known size instead"):
        emitted(graph, tmp_path / "m.tflite")
    pairs = layer_of(
        ops.NonMaxSuppression(limit=1, dim="kept"), (TensorType(F32, (1, 200, 3)),), TensorType(F32, (1, 3, 4))
    )
    with pytest.raises(LegalityError, match="at most 128 pairs of image and class"):
        emitted(pairs, tmp_path / "m.tflite")
    many = layer_of(ops.Unique(dim="distinct"), (), TensorType(F32, (5000,)))
    with pytest.raises(LegalityError, match="pairs of elements to compare"):
        emitted(many, tmp_path / "m.tflite")
