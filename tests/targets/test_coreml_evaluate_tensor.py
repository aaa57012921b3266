"""Operations that move elements, against coremltools' own evaluation of constants, ONNX Runtime, or numpy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.errors import EmitError
from compiler.tensor import Array
from tests.targets.coreml_harness import Case, In, onnx_run, run

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 8, 4, 6)).astype(np.float32)
SEQUENCE = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


def i(*values: int) -> Array:
    return np.array(values, np.int32)


def reversed_sequence() -> Array:
    result = SEQUENCE.copy()
    result[:3, 0] = SEQUENCE[2::-1, 0]
    result[:1, 1] = SEQUENCE[:1, 1]
    return result


SPACE = np.arange(1, 17, dtype=np.float32).reshape(2, 1, 2, 4)
BATCHED = np.array(
    [[0, 1, 3], [0, 9, 11], [0, 2, 4], [0, 10, 12], [0, 5, 7], [0, 13, 15], [0, 6, 8], [0, 14, 16]], np.float32
).reshape(8, 1, 1, 3)
SHAPES = [
    Case("shape", {"x": In(X)}),
    *(Case("reshape", {"x": In(X), "shape": i(*s)}) for s in ((6, 4), (-1, 2), (0, -1, 2))),
    Case("reshape", {"x": In(X), "shape": i(1, 0, -1, 0)}),
    Case(
        "reshape_like",
        {
            "x": In(X[0]),
            "ref_tensors": (In(X.reshape(2, 12)), In(SEQUENCE)),
            "begins": (0, 1),
            "ends": (1, 0),
            "end_masks": (False, True),
        },
        lambda: [X[0].reshape(2, 2, 3)],
    ),
    *(Case("flatten2d", {"x": In(X), "axis": a}) for a in (1, -1)),
    Case("flatten2d", {"x": In(X), "axis": 0}, lambda: [X.reshape(1, 24)], types=[("fp32", (1, 24))]),
    Case("transpose", {"x": In(X), "perm": i(2, 0, 1)}),
    Case("transpose", {"x": In(X), "perm": i(-1, 0, 1)}),
    Case("expand_dims", {"x": In(X), "axes": i(0, -1)}),
    Case("squeeze", {"x": In(X[:1, :, :1]), "axes": i(-1)}),
    Case("squeeze", {"x": In(X[:1, :, :1])}),
    *(Case("concat", {"values": (In(X), In(X[:, :2])), "axis": a, "interleave": False}) for a in (1, -2)),
    Case(
        "concat",
        {"values": (In(X), In(X * 2)), "axis": 1, "interleave": True},
        lambda: [np.stack([X, X * 2], 2).reshape(2, 6, 4)],
    ),
    *(Case("stack", {"values": (In(X), In(X * 2)), "axis": a}) for a in (0, 2, -1)),
    Case("split", {"x": In(X), "num_splits": 2, "axis": 2}),
    Case("split", {"x": In(X), "split_sizes": i(1, 3), "axis": -1}),
    Case("tile", {"x": In(X), "reps": i(1, 2, 3)}),
    Case("pad", {"x": In(X), "pad": i(1, 2, 0, 3), "mode": "constant", "constant_val": np.float32(9)}),
    *(Case("pad", {"x": In(IMAGE), "pad": i(1, 2, 3, 1), "mode": m}) for m in ("reflect", "replicate")),
    Case("crop", {"x": In(IMAGE), "crop_height": i(1, 0), "crop_width": i(2, 1)}, lambda: [IMAGE[:, :, 1:, 2:-1]]),
    Case("reverse", {"x": In(X), "axes": i(0, -1)}),
    Case("reverse", {"x": In(X)}),
    Case(
        "reverse_sequence",
        {"x": In(SEQUENCE), "lengths": i(3, 1), "seq_axis": 0, "batch_axis": 1},
        lambda: [reversed_sequence()],
    ),
    Case(
        "sliding_windows",
        {"x": In(np.arange(10, dtype=np.float32).reshape(5, 2)), "axis": 0, "size": 3, "stride": 2},
        lambda: [np.arange(10, dtype=np.float32).reshape(5, 2)[[[0, 1, 2], [2, 3, 4]]]],
    ),
    Case(
        "pixel_shuffle",
        {"x": In(IMAGE), "upscale_factor": 2},
        lambda: onnx_run("DepthToSpace", {"x": IMAGE}, blocksize=2, mode="CRD"),
    ),
    Case(
        "depth_to_space", {"x": In(IMAGE), "block_size": 2}, lambda: onnx_run("DepthToSpace", {"x": IMAGE}, blocksize=2)
    ),
    Case(
        "space_to_depth", {"x": In(IMAGE), "block_size": 2}, lambda: onnx_run("SpaceToDepth", {"x": IMAGE}, blocksize=2)
    ),
    Case(
        "pixel_unshuffle",
        {"x": In(onnx_run("DepthToSpace", {"x": IMAGE}, blocksize=2, mode="CRD")[0]), "downscale_factor": np.uint32(2)},
        lambda: [IMAGE],
    ),
    Case(
        "space_to_batch",
        {"x": In(SPACE), "block_shape": i(2, 2), "paddings": np.array([[0, 0], [2, 0]])},
        lambda: [BATCHED],
    ),
    Case(
        "batch_to_space",
        {"x": In(BATCHED), "block_shape": i(2, 2), "crops": np.array([[0, 0], [2, 0]])},
        lambda: [SPACE],
    ),
]
WHOLE = np.array([False, False, True])
INDICES = i(2, 0, 1).reshape(1, 3, 1).repeat(2, 0).repeat(4, 2)
UPDATES = np.ones((2, 2, 4), np.float32)
JOINED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum}


def scattered(mode: str) -> list[Array]:
    result, update = X.copy(), np.full((2, 2, 4), 3, np.float32)
    result[:, [2, 0]] = JOINED[mode](X[:, [2, 0]], update) if mode in JOINED else update
    return [result]


INDEXING = [
    Case("slice_by_index", {"x": In(X), "begin": i(0, 2, 1), "end": i(2, 0, 4), "stride": i(1, -1, 2)}),
    Case(
        "slice_by_index", {"x": In(X), "begin": i(0, 1, 9), "end": i(1, -1, 9), "begin_mask": WHOLE, "end_mask": WHOLE}
    ),
    Case(
        "slice_by_index",
        {"x": In(X), "begin": i(0, -1, 0), "end": i(2, 0, 4), "squeeze_mask": np.array([False, True, False])},
    ),
    Case("slice_by_size", {"x": In(X), "begin": i(0, 1, -2), "size": i(2, -1, 1)}),
    Case("slice_update", {"x": In(X), "update": In(UPDATES), "begin": i(0, 1, 0), "end": i(2, 3, 4)}),
    *(Case("gather", {"x": In(X), "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": a}) for a in (1, -1)),
    Case("gather", {"x": In(X), "indices": 1, "axis": 1}),
    Case("gather", {"x": In(X), "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": 1, "batch_dims": 1}),
    Case("gather", {"x": In(X), "indices": i(-1), "axis": 1}, ios="iOS16"),
    Case("gather_along_axis", {"x": In(X), "indices": INDICES, "axis": 1}),
    Case("gather_nd", {"x": In(X), "indices": np.array([[1, 2], [0, 0]], np.int32)}, lambda: [X[[1, 0], [2, 0]]]),
    Case(
        "gather_nd",
        {"x": In(X), "indices": np.array([[[1, 2]], [[0, 3]]], np.int32), "batch_dims": 1},
        lambda: onnx_run("GatherND", {"x": X, "i": np.array([[[1, 2]], [[0, 3]]])}, batch_dims=1),
    ),
    *(
        Case(
            "scatter",
            {"data": In(X), "indices": i(2, 0), "updates": In(UPDATES * 3), "axis": 1, "mode": mode},
            partial(scattered, mode),
        )
        for mode in (*JOINED, "update")
    ),
    Case(
        "scatter",
        {"data": In(X), "indices": i(1, 1), "updates": In(UPDATES), "axis": 1, "mode": "add"},
        lambda: [X + np.array([0, 2, 0], np.float32)[:, None]],
    ),
    *(
        Case(
            "scatter_along_axis",
            {"data": In(X), "indices": INDICES[:, :2], "updates": In(UPDATES), "axis": 1, "mode": mode},
            partial(
                onnx_run, "ScatterElements", {"x": X, "i": INDICES[:, :2], "u": UPDATES}, axis=1, reduction=reduction
            ),
        )
        for mode, reduction in (("update", "none"), ("add", "add"), ("max", "max"))
    ),
    *(
        Case(
            "scatter_nd",
            {"data": In(X), "indices": np.array([[1, 2], [0, 0]], np.int32), "updates": In(X[:, 1]), "mode": mode},
            partial(
                onnx_run, "ScatterND", {"x": X, "i": np.array([[1, 2], [0, 0]]), "u": X[:, 1]}, reduction=reduction
            ),
        )
        for mode, reduction in (("update", "none"), ("mul", "mul"))
    ),
]
CASES = [*SHAPES, *INDEXING]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


@pytest.mark.parametrize("kind", ["gather", "gather_along_axis", "scatter"])
def test_negative_indices_are_undefined_since_ios_17(kind: str, tmp_path: Path) -> None:
    x, index = In(X[0]), np.full((1, 4), -1, np.int32)
    operands: dict[str, Any] = {
        "gather": {"x": x, "indices": In(index[0])},
        "gather_along_axis": {"x": x, "indices": In(index)},
        "scatter": {"data": x, "indices": In(index[0, :1]), "updates": In(X[0, :1]), "mode": "update"},
    }
    run(tmp_path / "old.mlpackage", kind, operands[kind], "iOS16")
    with pytest.raises(EmitError, match="negative index"):
        run(tmp_path / "new.mlpackage", kind, operands[kind], "iOS17")
