"""Sampling, regions, quantized arithmetic and results of unknown size, as LiteRT computes them from a saved file."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler import ops
from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import OPS, Op
from compiler.oracle import run_graph
from compiler.tensor import F16, F32, F64, I8, I32, I64, U8, Array, DType, TensorType
from tests.one_op import layer_inputs, layer_of, one_layer
from tests.targets.tflite_harness import assert_close, emitted

Results = dict[str, Array]
FEATURES = ("col2im", "conv_integer", "deform_conv", "dequantize_linear", "dynamic_quantize_linear", "grid_sample",
            "matmul_integer", "max_roi_pool", "max_unpool", "qlinear_conv", "qlinear_matmul", "quantize_linear",
            "roi_align", "tensor_scatter")  # fmt: skip
INSTANCES = 12


def of(dtype: DType, *shape: int) -> TensorType:
    return TensorType(dtype, shape)


def executed(graph: Graph, feeds: Results, path: Path) -> Results:
    return emitted(graph, path / "m.tflite").run(feeds)


def agree(graph: Graph, feeds: Results, path: Path, tolerance: float = 1e-4) -> Results:
    """What LiteRT computes, which is what the operations mean."""
    expected = evaluate(graph, feeds)
    results = executed(graph, feeds, path)
    for name, array in expected.items():
        assert_close(results[name], array, name, tolerance)
    return results


@pytest.mark.parametrize("name", FEATURES)
def test_random_instances(name: str, tmp_path: Path) -> None:
    ran = 0
    for seed in range(INSTANCES):
        rng = np.random.default_rng(seed)
        graph = one_layer(OPS[name], rng)
        if graph is None or any(v.type.dtype.kind not in "fiu" or v.type.dtype.bits < 8 for v in graph.inputs):
            continue
        if any(0 in v.type.shape for v in (*graph.inputs, *graph.outputs)) or (name, graph_mode(graph)) in UNKNOWN:
            continue
        agree(graph, layer_inputs(rng, graph), tmp_path)
        ran += 1
    assert ran >= 3


UNKNOWN = {("roi_align", ("max", 0))}  # as many points as the region has pixels


def graph_mode(graph: Graph) -> tuple[Any, Any]:
    op = next(graph.nodes).op
    return getattr(op, "mode", None), getattr(op, "sampling", None)


@pytest.mark.parametrize("dtype", [F32, F16])
def test_grid_sample_in_all_modes_is_that_of_onnx_runtime(dtype: DType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grid = np.concatenate([rng.uniform(-1.6, 1.6, (2, 3, 7, 2)), [[[[-1, 1]] * 7] * 2] * 2], 1).astype(dtype.numpy)
    x = rng.standard_normal((2, 3, 4, 5)).astype(dtype.numpy)
    modes = product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (False, True))
    for mode, padding, corners in modes:
        op = ops.GridSample(mode=mode, padding=padding, align_corners=corners)
        graph = layer_of(op, (of(dtype, *grid.shape),), of(dtype, *x.shape))
        feeds = {"x0": x, "x1": grid}
        result = agree(graph, feeds, tmp_path)["y0"]
        if dtype is F32:
            assert_close(result, run_graph(graph, feeds)["y0"], f"{op}")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_grid_sample_of_volumes(mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph = layer_of(ops.GridSample(mode=mode, padding="reflection"), (of(F32, 1, 2, 3, 4, 3),), of(F32, 1, 2, 4, 3, 5))
    feeds = {"x0": layer_inputs(rng, graph)["x0"], "x1": rng.uniform(-1.5, 1.5, (1, 2, 3, 4, 3)).astype(np.float32)}
    agree(graph, feeds, tmp_path)


def test_regions_with_as_many_points_as_pixels_where_they_are_known(tmp_path: Path) -> None:
    rois = np.array([[0, 0, 6.5, 3.2], [-3, 1, 2, 9], [2, 2, 2, 2], [5, 5, 1, 1]], np.float32)
    for half in (False, True):
        op = ops.RoiAlign(size=(3, 2), scale=0.75, half_pixel=half)
        graph = layer_of(op, (rois, np.array([0, 1, 1, 0])), of(F32, 2, 3, 7, 8))
        agree(graph, layer_inputs(np.random.default_rng(2), graph), tmp_path)
    computed = layer_of(op, (of(F32, 4, 4), of(I64, 4)), of(F32, 2, 3, 7, 8))
    with pytest.raises(LegalityError, match="roi_align"):
        emitted(computed, tmp_path / "m.tflite")


def test_sums_of_products_beyond_24_bits_are_exact(tmp_path: Path) -> None:
    """In one sum of floats, 700 x 255 x 255 and a little more would be rounded."""
    rng = np.random.default_rng(3)
    x, y = (np.where(rng.random(s) < 0.95, 255, rng.integers(0, 255, s)).astype(np.uint8) for s in ((3, 701), (701, 4)))
    graph = layer_of(ops.MatMulInteger(), (of(U8, 701, 4),), of(U8, 3, 701))
    result = agree(graph, {"x0": x, "x1": y}, tmp_path)["y0"]
    assert np.array_equal(result, x.astype(np.int64) @ y.astype(np.int64)) and result.max() > 2**25
    window = {"strides": (1, 1), "pads": (0, 1, 0, 0), "dilations": (1, 1)}
    image, kernel = of(U8, 1, 160, 3, 3), of(U8, 2, 80, 3, 2)
    conv = layer_of(ops.ConvInteger(groups=2, **window), (kernel, np.array(3, np.uint8)), image)
    feeds = {n: np.full(t.dims, 255, np.uint8) - (rng.random(t.dims) < 0.1) for n, t in (("x0", image), ("x1", kernel))}
    feeds = {n: a.astype(np.uint8) for n, a in feeds.items()}
    assert agree(conv, feeds, tmp_path)["y0"].max() > 2**24


def test_a_kernel_too_large_for_exact_sums_is_refused(tmp_path: Path) -> None:
    op = ops.ConvInteger(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    graph = layer_of(op, (of(U8, 1, 1, 17, 17),), of(U8, 1, 1, 20, 20))
    with pytest.raises(LegalityError, match="conv_integer"):
        emitted(graph, tmp_path / "m.tflite")


def test_quantization_saturates_and_rounds_halves_to_even(tmp_path: Path) -> None:
    x = np.array([-1000, -0.75, -0.25, 0.25, 0.75, 1.25, 1000, 63.5], np.float32)
    scale, zero = np.array(0.5, np.float32), np.array(-1, np.int8)
    graph = layer_of(ops.QuantizeLinear(dtype="i8"), (scale, zero), of(F32, 8))
    assert executed(graph, {"x0": x}, tmp_path)["y0"].tolist() == [-128, -3, -1, -1, 1, 1, 127, 126]
    wide = layer_of(ops.DequantizeLinear(), (scale, zero), of(I8, 3))
    codes = np.array([-128, 0, 127], np.int8)
    assert executed(wide, {"x0": codes}, tmp_path)["y0"].tolist() == [-63.5, 0.5, 64.0]


def test_no_integers_between_quantization_and_its_inverse(tmp_path: Path) -> None:
    """But for floats that were not rounded, which lose their fractions on the way."""
    scale, zero = np.array(0.1, np.float32), np.array(100, np.uint8)
    graph = layer_of(ops.QuantizeLinear(), (scale, zero), of(F32, 2, 9))
    parameters = [graph.const(scale), graph.const(zero)]
    (y,) = graph.add(ops.DequantizeLinear(), graph.outputs[0], *parameters)
    graph.set_outputs([y], ["y"])
    feeds = {"x0": np.linspace(-20, 30, 18, dtype=np.float32).reshape(2, 9)}
    expected = evaluate(graph, feeds)["y"]
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert np.array_equal(artifact.run(feeds)["y"], expected) and "CAST" not in artifact.operators
    cut = layer_of(ops.Clip(low=0.0, high=255.0), (), of(F32, 5))
    (codes,) = cut.add(ops.Cast(to="u8"), cut.outputs[0])
    (y,) = cut.add(ops.DequantizeLinear(), codes, cut.const(scale), cut.const(zero))
    cut.set_outputs([y], ["y"])
    agree(cut, {"x0": np.array([-3.7, 0.5, 1.5, 99.9, 300], np.float32)}, tmp_path)


def test_a_quotient_of_16_bits_is_rounded_twice(tmp_path: Path) -> None:
    """Among 4000 quotients there are some that float16 rounds to a half, which then goes to the even side."""
    rng = np.random.default_rng(4)
    x, scale = rng.uniform(-60, 60, 4000).astype(np.float16), np.array(0.37, np.float16)
    graph = layer_of(ops.QuantizeLinear(dtype="i8"), (scale, np.array(0, np.int8)), of(F16, 4000))
    agree(graph, {"x0": x}, tmp_path)
    once = np.clip(np.rint(x.astype(np.float32) / scale.astype(np.float32)), -128, 127)
    assert (once != evaluate(graph, {"x0": x})["y0"]).any()


CASES: dict[str, tuple[Op, tuple[TensorType | Array, ...], TensorType]] = {
    "places of windows in the padding": (
        ops.MaxPool(kernel=(3, 2), strides=(2, 1), pads=(2, 1, 1, 0), dilations=(2, 1), indices=True), (),
        of(F32, 2, 2, 5, 4)),
    "places column by column": (
        ops.MaxPool(kernel=(2, 2), strides=(1, 2), pads=(0, 0, 0, 0), dilations=(1, 1), indices=True, storage_order=1),
        (), of(F32, 2, 2, 3, 5)),
    "largest of bytes": (
        ops.MaxPool(kernel=(2, 2), strides=(1, 1), pads=(1, 0, 0, 1), dilations=(1, 1)), (), of(I8, 1, 2, 4, 5)),
    "transposed convolution of volumes": (
        ops.ConvTranspose(strides=(2, 1, 3), pads=(1, 0, 0, 0, 1, 2), dilations=(1, 2, 1), groups=2,
                          output_padding=(1, 0, 0)), (of(F32, 4, 3, 2, 3, 2), of(F32, 6)), of(F32, 2, 4, 3, 4, 2)),
    "transposed convolution with a computed, dilated kernel": (
        ops.ConvTranspose(strides=(2, 2), pads=(0, 1, 1, 0), dilations=(2, 3), output_padding=(0, 0)),
        (of(F32, 2, 3, 3, 2),), of(F32, 1, 2, 4, 3)),
    "patches of volumes": (
        ops.Col2Im(image=(4, 5, 4), block=(2, 1, 3), strides=(2, 1, 1), pads=(0, 0, 1, 0, 1, 1), dilations=(1, 1, 1)),
        (), of(F32, 1, 12, 48)),
    "determinants": (ops.Det(), (), of(F32, 2, 3, 4, 4)),
    "crop that reaches outside": (
        ops.Resize(sizes=(1, 2, 5, 4), scales=(1.0, 1.0, 1.25, 1.0), mode="linear", coordinates="tf_crop_and_resize",
                   roi=(0.0, 0.0, -0.4, 0.1, 1.0, 1.0, 0.8, 1.3), extrapolation_value=7.0), (), of(F32, 1, 2, 4, 4)),
    "cubic along a short and a long axis": (
        ops.Resize(sizes=(1, 2, 9, 300), scales=(1.0, 1.0, 1.5, 1.5), mode="cubic"), (), of(F32, 1, 2, 6, 200)),
    "linear without whole factors along an axis of five": (
        ops.Resize(sizes=(1, 1, 2, 2, 151), scales=(1.0,) * 4 + (151 / 99,), mode="linear"), (),
        of(F32, 1, 1, 2, 2, 99)),
    "nearest integers": (ops.Resize(sizes=(2, 5, 3), scales=(1.0, 5 / 3, 0.75)), (), of(I32, 2, 3, 4)),
    "doubles": (ops.GridSample(), (of(F64, 1, 2, 2, 2),), of(F64, 1, 2, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_forms(what: str, tmp_path: Path) -> None:
    op, others, x = CASES[what]
    graph = layer_of(op, others, x)
    agree(graph, layer_inputs(np.random.default_rng(5), graph), tmp_path)


def test_places_of_windows_that_hold_nothing_but_the_least_there_is(tmp_path: Path) -> None:
    op = ops.MaxPool(kernel=(2, 2), strides=(1, 1), pads=(1, 1, 0, 0), dilations=(1, 1), indices=True)
    graph = layer_of(op, (), of(F32, 1, 2, 3, 3))
    agree(graph, {"x0": np.full((1, 2, 3, 3), -np.inf, np.float32)}, tmp_path)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [F32, I32, I64])
def test_several_updates_of_one_element(reduction: str, dtype: DType, tmp_path: Path) -> None:
    """In order; where none falls, -inf stays."""
    rng = np.random.default_rng(6)
    op = ops.ScatterElements(axis=0, reduction=reduction)
    graph = layer_of(op, (of(I64, 9, 3), of(dtype, 9, 3)), of(dtype, 6, 3))
    x, updates = (rng.integers(-9, 9, s).astype(dtype.numpy) for s in ((6, 3), (9, 3)))
    if dtype is F32:
        x[5] = -np.inf
    feeds = {"x0": x, "x1": rng.integers(-6, 4, (9, 3)), "x2": updates}
    if dtype is I64 and reduction in ("mul", "max", "min"):
        with pytest.raises(LegalityError, match="at most 32 bits"):
            executed(graph, feeds, tmp_path)
    else:
        agree(graph, feeds, tmp_path)


def test_the_last_of_several_unpooled_elements_stays(tmp_path: Path) -> None:
    graph = layer_of(ops.MaxUnpool(shape=(1, 1, 2, 3)), (of(I64, 1, 1, 2, 2),), of(F32, 1, 1, 2, 2))
    feeds = {"x0": np.array([[[[-1, 2], [3, -4]]]], np.float32), "x1": np.array([[[[5, 0], [5, 2]]]])}
    assert executed(graph, feeds, tmp_path)["y0"].tolist() == [[[[2, 0, -4], [0, 0, 3]]]]
