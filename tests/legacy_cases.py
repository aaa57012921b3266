"""Nodes of operators whose meaning or form changed between opsets, each at opsets of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.tensor import Array

Attributes = dict[str, Any]  # Any: handed to onnx
RNG = np.random.default_rng(11)


class Case(NamedTuple):
    """One node at an opset.

    newer     an opset at which the same node means something else or is no valid node
    inputs    arrays, the first `live` of them given at run time, the others initializers; None if absent
    refused   targets that refuse the model
    """

    op: str
    opset: int
    inputs: tuple[Array | None, ...]
    attributes: Attributes
    live: int = 1
    results: int = 1
    newer: int | None = None
    refused: frozenset[str] = frozenset()

    def __str__(self) -> str:
        told = "-".join(f"{k}={v}" for k, v in self.attributes.items())
        shapes = "-".join("x".join(map(str, a.shape)) for a in self.inputs if a is not None)
        return f"{self.op}-{self.opset}-{shapes}-{told}"

    def model(self, opset: int) -> onnx.ModelProto:
        """The node in a model of an opset."""
        names = ["" if a is None else f"i{i}" for i, a in enumerate(self.inputs)]
        outputs = [f"y{i}" for i in range(self.results)]
        nodes = [helper.make_node(self.op, names, outputs, "n", **self.attributes)]
        given = [(n, a) for n, a in zip(names, self.inputs, strict=True) if a is not None]
        ports = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given[: self.live]
        ]
        weights = [numpy_helper.from_array(a, n) for n, a in given[self.live :]]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "g", ports, results, weights)
        imports = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10)
        return onnx.shape_inference.infer_shapes(model)

    @property
    def feeds(self) -> dict[str, Array]:
        given = [(f"i{i}", a) for i, a in enumerate(self.inputs) if a is not None]
        return dict(given[: self.live])


def f(*shape: int) -> Array:
    """Numbers of which no two are alike."""
    return np.asarray(RNG.standard_normal(shape)).astype(np.float32)


def pos(*shape: int) -> Array:
    """Positive ones."""
    return (np.abs(f(*shape)) + np.float32(0.5)).astype(np.float32)


def n(*values: int) -> Array:
    """A vector of int64."""
    return np.array(values, np.int64)


def ints(low: int, high: int, *shape: int, dtype: Any = np.int64) -> Array:  # Any: what numpy takes
    return RNG.integers(low, high, shape).astype(dtype)


def s(value: float, dtype: Any = np.float32) -> Array:  # Any: what numpy takes
    """A scalar."""
    return np.array(value, dtype)


NONE: frozenset[str] = frozenset()
OTHER, ANE = frozenset(("ane", "nnapi")), frozenset(("ane",))


def cases(
    op: str,
    opsets: tuple[int, ...],
    *inputs: Array | None,
    live: int = 1,
    results: int = 1,
    newer: int | None = None,
    refused: frozenset[str] = NONE,
    **attributes: Any,  # Any: handed to onnx
) -> Iterator[Case]:
    """The same node at several opsets."""
    for opset in opsets:
        yield Case(op, opset, inputs, attributes, live, results, newer, refused)


def moved_between_attributes_and_inputs() -> Iterator[Case]:
    x = f(2, 3, 4, 5)
    yield from cases("Clip", (7, 10), x, min=-0.5, max=0.5, newer=11)
    yield from cases("Clip", (7, 10), x, min=0.25, newer=11)
    yield from cases("Clip", (11, 12, 13), x, s(-0.5), s(0.5), newer=10)
    yield from cases("Clip", (11, 13), x, None, s(0.5), newer=10)
    yield from cases("Clip", (12, 13), ints(-9, 9, 3, 4, dtype=np.int32), s(-2, np.int32), None, newer=11)
    yield from cases("Pad", (7, 10), x, pads=[0, 1, 0, 2, 1, 0, 2, 0], value=1.5, newer=11)
    yield from cases("Pad", (7, 10), x, pads=[0, 0, 1, 2, 0, 0, 2, 1], mode="reflect", newer=11)
    yield from cases("Pad", (7,), x, pads=[0, 0, 1, -1, 0, 0, -2, 1], mode="edge", newer=11)
    yield from cases("Pad", (11, 13, 18), x, n(0, 1, 0, 2, 1, 0, 2, 0), s(1.5), newer=10)
    yield from cases("Pad", (18, 19), x, n(1, 2, 0, 1), None, n(3, -2), newer=13)
    yield from cases("Pad", (19, 21), x, n(0, 0, 1, 2, 0, 0, 2, 1), mode="wrap")
    yield from cases("Slice", (7, 9), x, starts=[1, -3], ends=[3, 1000], axes=[1, 3], newer=10)
    yield from cases("Slice", (7,), x, starts=[0, 1, -2], ends=[2, -1, 4], newer=10)
    yield from cases("Slice", (10, 11, 13), x, n(3, 0), n(-100, 4), n(2, 3), n(-2, 3), newer=9)
    yield from cases("Slice", (11, 13), x, n(1), n(3), n(-2), newer=9)
    yield from cases("TopK", (7, 9), f(3, 7), results=2, k=3, axis=1, newer=10)
    yield from cases("TopK", (7,), f(5, 3), results=2, k=2, axis=0, newer=10)
    yield from cases("TopK", (10, 11), f(3, 7), n(3), results=2, newer=9)
    yield from cases("TopK", (11,), f(3, 7), n(4), results=2, largest=0, axis=-1, newer=10)
    yield from cases("Squeeze", (7, 11), f(1, 3, 1, 4), axes=[0, 2], newer=13)
    yield from cases("Squeeze", (11,), f(1, 3, 1, 4), axes=[-2], newer=13)
    yield from cases("Squeeze", (7, 13), f(1, 3, 1, 4))
    yield from cases("Squeeze", (13, 21), f(1, 3, 1, 4), n(-2), newer=11)
    yield from cases("Unsqueeze", (7, 11), f(3, 4), axes=[0, 3], newer=13)
    yield from cases("Unsqueeze", (11,), f(3, 4), axes=[-1, 1], newer=13)
    yield from cases("Unsqueeze", (13, 21), f(3, 4), n(-1, 1), newer=11)
    yield from cases("Split", (7, 11), f(7, 4), results=2, split=[3, 4], newer=13)
    yield from cases("Split", (11,), f(4, 6), results=3, axis=-1, newer=None)
    yield from cases("Split", (13, 18), f(7, 4), n(3, 4), results=2, newer=11)
    yield from cases("Split", (18,), f(7, 4), results=3, num_outputs=3, newer=13)
    yield from cases("Dropout", (7, 10), x, ratio=0.7, newer=12)
    yield from cases("Dropout", (12, 13, 22), x, s(0.7), newer=10)
    yield from cases("Dropout", (10, 12, 13), x, results=2)
    yield from cases("Upsample", (7, 8), f(1, 2, 3, 4), scales=[1.0, 1.0, 2.0, 3.0], newer=9)
    yield from cases("Upsample", (9,), f(1, 2, 3, 4), np.array([1, 1, 2, 3], np.float32), newer=10)
    yield from cases("Upsample", (9,), f(1, 2, 3, 4), np.array([1, 1, 2, 2], np.float32), mode="linear", newer=10)
    yield from cases("DFT", (17,), f(1, 6, 2), axis=1, newer=20)
    yield from cases("DFT", (17,), f(1, 5, 6, 1), newer=20)  # along axis 1, in 20 along the last but one
    yield from cases("DFT", (20,), f(1, 6, 2), None, s(1, np.int64), newer=17)
    yield from cases("DFT", (20,), f(1, 5, 6, 1), newer=17)


def axes_of_reductions() -> Iterator[Case]:
    for op in (
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
    ):
        first = 13 if op == "ReduceSum" else 18
        y = pos(2, 3, 4)
        yield from cases(op, (7, 11), y, axes=[0, 2], keepdims=0, newer=first)
        yield from cases(op, (11, *(() if first == 13 else (13,))), y, axes=[-2], newer=first)
        yield from cases(op, (7, 13, 18), y, keepdims=0)
        yield from cases(op, (first, 20), y, n(0, -1), newer=first - 1)
        yield from cases(op, (first,), y, n(), noop_with_empty_axes=1, newer=first - 1)
    yield from cases("ReduceLogSumExp", (13,), f(2, 3), axes=[1], newer=18)
    yield from cases("ReduceSumSquare", (13,), f(2, 3), axes=[1], newer=18)
    yield from cases("ReduceMax", (20,), f(2, 3) > 0, n(1), newer=18)


def flattened_axes() -> Iterator[Case]:
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield from cases(op, (7, 9, 11, 12), f(2, 3, 4), newer=13)
        yield from cases(op, (7, 9, 11), f(1, 1000, 1, 1), newer=13)
        yield from cases(op, (9, 11), f(2, 3, 4), axis=0, newer=13)
        yield from cases(op, (11,), f(2, 3, 4, 5), axis=2, newer=13)
        yield from cases(op, (11,), f(2, 3, 4, 5), axis=-3, newer=13)
        yield from cases(op, (13, 22), f(2, 3, 4), newer=11)
        yield from cases(op, (13,), f(1, 10, 1, 1), axis=1)
        yield from cases(op, (13,), f(2, 3, 4), axis=0, newer=11)
    yield from cases("Flatten", (7, 9, 11), f(2, 3, 4))
    yield from cases("Flatten", (11, 13, 21), f(2, 3, 4), axis=-1)


def resizing() -> Iterator[Case]:
    image = f(1, 2, 4, 5)
    scales = np.array([1, 1, 2, 2.5], np.float32)
    yield from cases("Resize", (10,), image, scales, newer=11)
    yield from cases("Resize", (10,), image, scales, mode="linear", newer=11)
    yield from cases("Resize", (10,), image, np.array([1, 1, 0.5, 0.6], np.float32), newer=11)
    for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        linear: Attributes = {"mode": "linear", "coordinate_transformation_mode": mode}
        yield from cases("Resize", (11, 13, 18, 19), image, f(0), scales, newer=10, **linear)
    yield from cases("Resize", (11,), image, f(0), scales, coordinate_transformation_mode="tf_half_pixel_for_nn")
    yield from cases("Resize", (11, 13), image, f(0), f(0), n(1, 2, 7, 3), mode="linear", newer=10)
    yield from cases("Resize", (11, 19), image, f(0), scales, mode="cubic", newer=10)
    yield from cases("Resize", (13,), image, None, scales, nearest_mode="floor", newer=10)
    yield from cases("Resize", (18,), image, None, scales[2:], axes=[2, 3], mode="linear", newer=13)
    yield from cases(
        "Resize", (18,), image, None, None, n(6, 6), axes=[2, 3], mode="linear", newer=13,
        keep_aspect_ratio_policy="not_larger",
    )  # fmt: skip
    yield from cases(
        "Resize", (19,), image, None, scales, mode="linear", coordinate_transformation_mode="half_pixel_symmetric",
    )  # fmt: skip
    region = np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 0.8], np.float32)
    crop: Attributes = {
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 9.0,
        "mode": "linear",
    }
    yield from cases("Resize", (11, 18), image, region, f(0), n(1, 2, 3, 3), newer=10, **crop)
    yield from cases("Resize", (18,), image, region[[2, 3, 6, 7]], None, n(3, 3), axes=[2, 3], newer=13, **crop)
    shrunk = np.array([1, 1, 0.5, 0.6], np.float32)
    yield from cases("Resize", (18, 19), image, None, shrunk, mode="linear", antialias=1)
    yield from cases("Resize", (11, 13), image, f(0), scales, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)


def sampling() -> Iterator[Case]:
    image = f(1, 2, 4, 5)
    boxes = np.array([[0.3, 0.2, 4.7, 4.1], [1, 1, 3, 2.6]], np.float32)
    where = (f(1, 2, 6, 6), boxes, n(0, 0))
    for mode in ("avg", "max"):
        size: Attributes = {"output_height": 2, "output_width": 3, "refused": OTHER if mode == "max" else NONE}
        yield from cases("RoiAlign", (10,), *where, mode=mode, newer=16, **size)
        yield from cases("RoiAlign", (16, 22), *where, mode=mode, newer=10, **size)
    places = RNG.uniform(-1.1, 1.1, (1, 3, 3, 2)).astype(np.float32)
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        yield from cases("GridSample", (16,), image, places, mode=old, newer=None if old == new else 20)
        yield from cases("GridSample", (20,), image, places, mode=new, newer=None if old == new else 16)


def normalisation_and_search() -> Iterator[Case]:
    slopes = f(3)
    yield from cases("PRelu", (7,), f(2, 4, 3), slopes)
    yield from cases("PRelu", (7, 9, 16), f(2, 3, 4, 5), f(3, 1, 1))
    scale, bias = pos(2), f(2)
    yield from cases("GroupNormalization", (18,), f(2, 4, 5), scale, bias, num_groups=2, newer=21)
    yield from cases("GroupNormalization", (21,), f(2, 4, 5), pos(4), f(4), num_groups=2, newer=18)
    normal = (f(2, 3, 4), pos(3), f(3), f(3), pos(3))
    yield from cases("BatchNormalization", (7, 8), *normal, epsilon=0.1, spatial=1, newer=9)
    yield from cases("BatchNormalization", (9, 14, 15), *normal, epsilon=0.1)
    yield from cases("BatchNormalization", (14, 15), *normal, training_mode=0, newer=9)
    yield from cases("BatchNormalization", (14, 15), *normal, results=3, training_mode=1, newer=9)
    tie = np.array([[2, 7, 7], [5, 5, 1]], np.float32)
    for op in ("ArgMax", "ArgMin"):
        yield from cases(op, (7, 11, 13), tie, axis=1, keepdims=0)
        yield from cases(op, (11,), tie, axis=-1)
        yield from cases(op, (12, 13), tie, axis=1, select_last_index=1, newer=11)


def pooling() -> Iterator[Case]:
    for kind in ("MaxPool", "AveragePool"):
        for ceil in (0, 1):
            window: Attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": ceil}
            yield from cases(kind, (10, 11, 19, 22), f(1, 2, 6, 7), newer=7, **window)
        yield from cases(kind, (7,), f(1, 2, 6, 6), kernel_shape=[2, 3], auto_pad="SAME_UPPER")
        yield from cases(kind, (7,), f(1, 2, 6, 6), kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    yield from cases("MaxPool", (10, 11, 12), f(1, 2, 8, 8), kernel_shape=[2, 2], dilations=[2, 3], newer=7)
    yield from cases("AveragePool", (19, 22), f(1, 2, 8, 8), kernel_shape=[2, 2], dilations=[2, 3], newer=11)
    for included in (0, 1):
        padded: Attributes = {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "count_include_pad": included}
        yield from cases("AveragePool", (7, 11, 19), f(1, 2, 6, 6), **padded)
    rounded: Attributes = {
        "kernel_shape": [3, 3],
        "strides": [2, 2],
        "pads": [1, 1, 1, 1],
        "ceil_mode": 1,
        "count_include_pad": 1,
    }
    yield from cases("AveragePool", (10, 11, 19, 22), f(1, 2, 6, 7), newer=7, **rounded)
    yield from cases("MaxPool", (8, 10, 12), f(1, 2, 6, 7), results=2, kernel_shape=[3, 2], storage_order=1)
    yield from cases("LpPool", (11, 18), f(1, 2, 6, 6), kernel_shape=[2, 2])
    yield from cases("LpPool", (18,), f(1, 2, 7, 7), kernel_shape=[2, 2], dilations=[2, 1], newer=11)


def indices_and_shapes() -> Iterator[Case]:
    x, picked = f(3, 4), np.array([[0, 2, 1, 0], [2, 0, 0, 1]])
    updates = f(2, 4)
    yield from cases("Scatter", (9, 10), x, picked, updates, axis=0, newer=11)
    yield from cases("ScatterElements", (11, 13, 16, 18), x, np.array([[1, 0, 2, 0]]), f(1, 4))
    yield from cases("ScatterElements", (11,), x, np.array([[-1], [0], [1]]), f(3, 1), axis=-1)
    for reduction, first in (("add", 16), ("mul", 16), ("max", 18), ("min", 18)):
        more: Attributes = {"newer": first - 3, "reduction": reduction}
        yield from cases("ScatterElements", (first,), x, picked, updates, **more)
        yield from cases("ScatterND", (first,), x, np.array([[0], [2], [0]]), f(3, 4), **more)
    yield from cases("ScatterND", (11, 13, 16), x, np.array([[2], [0]]), f(2, 4))
    yield from cases("GatherElements", (11, 13), x, picked, axis=0)
    yield from cases("Gather", (7, 11, 13), x, n(2, 0), axis=0)
    yield from cases("Gather", (11, 13), x, n(-1, 1), axis=1)
    yield from cases("GatherND", (11, 12, 13), f(2, 3, 4), np.array([[0, 1], [1, 2]]))
    yield from cases("GatherND", (12, 13), f(2, 3, 4), np.array([[2], [0]]), batch_dims=1, newer=11)
    yield from cases("OneHot", (9, 11), n(0, 2, 1), s(3, np.int64), np.array([-1, 4], np.float32))
    yield from cases("OneHot", (11,), n(0, -2, 5), s(3, np.int64), np.array([-1, 4], np.float32), axis=-2)
    yield from cases("OneHot", (9,), n(0, 2), s(3, np.float32), np.array([0, 1], np.int32), axis=0)
    for exclusive, reverse in ((0, 0), (1, 0), (0, 1), (1, 1)):
        yield from cases("CumSum", (11, 14), x, s(1, np.int64), exclusive=exclusive, reverse=reverse)
    yield from cases("CumSum", (11, 14), x, s(-2, np.int32))
    yield from cases("Shape", (7, 13, 15), f(2, 3, 4))
    yield from cases("Shape", (15, 19), f(2, 3, 4), start=-2, newer=13)
    yield from cases("Shape", (15,), f(2, 3, 4), start=1, end=-1, newer=13)
    yield from cases("Reshape", (7, 13, 14), f(2, 3, 4), n(0, -1))
    yield from cases("Reshape", (14,), f(0, 3), n(3, 0), allowzero=1, newer=13, refused=ANE)
    yield from cases("Expand", (8, 13), f(3, 1), n(2, 1, 4))
    yield from cases("Concat", (7, 11), f(2, 3), f(2, 4), live=2, axis=1)
    yield from cases("Concat", (11, 13), f(2, 3), f(2, 4), live=2, axis=-1)
    yield from cases("DepthToSpace", (7, 11, 13), f(1, 8, 2, 3), blocksize=2)
    yield from cases("DepthToSpace", (11, 13), f(1, 8, 2, 3), blocksize=2, mode="CRD", newer=7)
    yield from cases("Tile", (7, 13), f(2, 3), n(2, 3))
    yield from cases("Trilu", (14,), f(2, 4, 5), s(-1, np.int64), upper=0)
    yield from cases("CenterCropPad", (18,), f(4, 7), n(5, 3))
    yield from cases("ReverseSequence", (10,), f(4, 3, 2), n(1, 4, 2))
    suppressed = (RNG.uniform(0, 1, (1, 6, 4)).astype(np.float32), pos(1, 2, 6), s(2, np.int64), s(0.4), s(0.3))
    yield from cases("NonMaxSuppression", (10, 11), *suppressed, live=2, refused=ANE)


def arithmetic() -> Iterator[Case]:
    x = f(2, 3, 4)
    for op in ("Add", "Sub", "Mul", "Div"):
        yield from cases(op, (7, 13, 14), x, f(3, 1))
        yield from cases(op, (7,), f(3, 1), x, live=2)
    yield from cases("Div", (7, 14), ints(-20, 20, 9, dtype=np.int32), np.full(9, 3, np.int32))
    for op in ("Max", "Min", "Sum", "Mean"):
        yield from cases(op, (8, 13), x, f(3, 1), f(4), live=3)
    yield from cases("Pow", (7, 13), pos(2, 3), f(3))
    yield from cases("Pow", (12, 13, 15), pos(2, 3), n(2), newer=7)
    wide: Attributes = {"alpha": 0.5, "beta": 2.0}
    yield from cases("Gemm", (7, 9, 11, 13), f(2, 3), f(3, 4), f(4), **wide)
    yield from cases("Gemm", (7, 11), f(3, 2), f(4, 3), f(2, 1), transA=1, transB=1)
    yield from cases("Gemm", (11, 13), f(2, 3), f(3, 4), newer=9)
    yield from cases("Mod", (10, 13), ints(-9, 9, 8, dtype=np.int32), np.full(8, 4, np.int32))
    yield from cases("Mod", (10, 13), f(8), np.full(8, 0.7, np.float32), fmod=1)
    yield from cases("Equal", (7, 11, 13), ints(0, 3, 9), ints(0, 3, 9), live=2)
    yield from cases("Equal", (11, 13, 19), np.round(f(9)), np.round(f(9)), live=2, newer=7)
    for op in ("Greater", "Less"):
        yield from cases(op, (7, 9, 13), x, f(4), live=2)
        yield from cases(op, (9, 13), ints(0, 3, 9), ints(0, 3, 9), live=2, newer=7)
    yield from cases("LessOrEqual", (12, 16), x, f(4), newer=11)
    yield from cases("Cast", (7, 9, 13, 19), f(3, 4) * 9, to=TensorProto.INT32)
    yield from cases("Cast", (9, 13), np.array([0, -2, 0.4], np.float32), to=TensorProto.BOOL)
    yield from cases("IsInf", (10, 20), np.array([1, np.inf, -np.inf, np.nan], np.float32))
    yield from cases("IsInf", (10,), np.array([1, np.inf, -np.inf], np.float32), detect_negative=0)
    yield from cases("IsNaN", (9, 13), np.array([1, np.inf, np.nan], np.float32))
    yield from cases("Where", (9, 16), f(2, 3) > 0, f(2, 3), f(3), live=3)
    for direction in ("LEFT", "RIGHT"):
        yield from cases(
            "BitShift", (11,), ints(0, 99, 6, dtype=np.uint8), ints(0, 5, 6, dtype=np.uint8), direction=direction
        )
    yield from cases("Einsum", (12,), f(2, 3), f(3, 4), equation="ij,jk->ki")
    yield from cases("Round", (11, 22), np.array([0.5, 1.5, -2.5, 2.3], np.float32))
    for op in ("HardSwish", "Mish", "Softplus", "Softsign", "Selu", "Elu", "HardSigmoid", "LeakyRelu", "Erf", "Sign"):
        first = {"HardSwish": 14, "Mish": 18, "Erf": 9, "Sign": 9}.get(op, 7)
        yield from cases(op, (first, 22), x)
    yield from cases("ThresholdedRelu", (10, 22), x, alpha=0.4)
    yield from cases("Celu", (12,), x, alpha=0.7)
    yield from cases("Shrink", (9,), x, lambd=0.4, bias=0.1)
    for form in ("none", "tanh"):
        yield from cases("Gelu", (20,), x, approximate=form, newer=18)
    yield from cases("Swish", (24,), x, alpha=1.5, newer=22)


def blocks() -> Iterator[Case]:
    x = f(2, 3, 4)
    yield from cases("LayerNormalization", (17,), x, pos(4), f(4))
    yield from cases("LayerNormalization", (17,), x, pos(3, 4), None, axis=1)
    yield from cases("RMSNormalization", (23,), x, pos(4), newer=22)
    yield from cases("InstanceNormalization", (7, 22), f(2, 3, 4, 5), pos(3), f(3), epsilon=0.01)
    yield from cases("MeanVarianceNormalization", (9, 13), f(2, 3, 4, 5))
    yield from cases("LpNormalization", (7, 22), x, axis=1, p=1)
    yield from cases("LRN", (7, 13), f(1, 5, 3, 3), size=3)
    yield from cases(
        "Conv", (7, 11, 22), f(1, 4, 6, 6), f(6, 2, 3, 3), f(6), group=2, auto_pad="SAME_LOWER", strides=[2, 2]
    )
    wider: Attributes = {"strides": [2, 2], "output_shape": [9, 8], "auto_pad": "SAME_UPPER"}
    yield from cases("ConvTranspose", (7, 11, 22), f(1, 2, 4, 4), f(2, 3, 3, 3), **wider)
    yield from cases("ConvTranspose", (11,), f(1, 2, 4, 4), f(2, 3, 3, 3), strides=[2, 2], output_padding=[1, 0])
    heads = (f(1, 2, 3, 4), f(1, 2, 5, 4), f(1, 2, 5, 4))
    for opset in (23, 24):
        yield from cases("Attention", (opset,), *heads, live=3, newer=22)
        yield from cases("Attention", (opset,), *heads, live=3, is_causal=1, scale=0.3, softcap=2.0, newer=22)
    yield from cases("Attention", (24,), *heads, None, None, None, n(4), live=3, newer=23)
    yield from cases("DequantizeLinear", (10, 13), ints(-99, 99, 5, dtype=np.int32), s(0.1))
    scale, zero = s(0.05), s(120, np.uint8)
    yield from cases("QuantizeLinear", (10, 13, 19, 21), x, scale, zero)
    yield from cases("QuantizeLinear", (13, 21), x, pos(3) / 20, ints(0, 200, 3, dtype=np.uint8), axis=1, newer=10)
    yield from cases("QuantizeLinear", (21,), f(2, 6), pos(2, 3) / 20, axis=1, block_size=2, newer=19)
    q = ints(0, 255, 2, 3, 4, dtype=np.uint8)
    yield from cases("DequantizeLinear", (10, 13, 19, 21), q, scale, zero)
    yield from cases("DequantizeLinear", (13, 21), q, pos(3), ints(0, 200, 3, dtype=np.uint8), axis=1, newer=10)
    yield from cases(
        "DequantizeLinear", (21,), ints(0, 255, 2, 6, dtype=np.uint8), pos(2, 3), axis=1, block_size=2, newer=19
    )
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        weights = (f(1, 5 * gates, 4), f(1, 5 * gates, 5), f(1, 10 * gates))
        yield from cases(op, (7, 14, 22), f(3, 2, 4), *weights, results=2, hidden_size=5)
        yield from cases(op, (14,), f(3, 2, 4), *weights, results=2, hidden_size=5, layout=0, newer=7)
        yield from cases(op, (7, 14), f(3, 2, 4), *weights, results=2, hidden_size=5, direction="reverse")
    yield from cases(
        "GRU", (7, 14), f(3, 2, 4), f(1, 15, 4), f(1, 15, 5), results=2, hidden_size=5, linear_before_reset=1
    )


CASES = [
    *moved_between_attributes_and_inputs(),
    *axes_of_reductions(),
    *flattened_axes(),
    *resizing(),
    *sampling(),
    *normalisation_and_search(),
    *pooling(),
    *indices_and_shapes(),
    *arithmetic(),
    *blocks(),
]
