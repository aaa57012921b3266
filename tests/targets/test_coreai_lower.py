"""Every lowering, over the registry of operations: what Apple's runtime computes is what the operations mean."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import OPS, Op
from compiler.tensor import BOOL, DTYPES, F32, I32, I64, U8, U32, U64, Array, TensorType, type_of
from passes.decompose import DECOMPOSED
from targets.coreai.lower import TABLE
from targets.coreai.lower.refused import REASONS
from tests.strategies import graphs, seeds
from tests.targets.coreai_harness import compiled, fault
from tests.targets.coreml_layers import Feeds, layers, random_data, rounded_to_fp16

LOWERED = sorted(cls.name for cls in TABLE.entries if cls not in REASONS or cls in DECOMPOSED)
SAMPLES = {"fp32": 5, "fp16": 2}
UNSAMPLED = ("constant_of_shape", "range")  # without an operand, or without a known number of results
STEEP = ("tan", "grid_sample")  # near poles, and at places in an image, rounding gives another number
OFF_BY_ONE = ("dynamic_quantize_linear", "quantize_linear", "qlinear_conv", "qlinear_matmul")  # scales are rounded
INTEGERS = ("i8", "u8", "i16", "u16", "i32", "u32", "i64")


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_operation_is_lowered_or_refused_with_a_reason(name: str) -> None:
    assert OPS[name] in TABLE.entries


@pytest.mark.parametrize("name", LOWERED)
def test_fp32_asset_computes_the_operation(name: str, tmp_path: Path) -> None:
    ran, refusals = 0, []
    for layer in layers(name, SAMPLES["fp32"]):
        try:
            assert fault(*layer, tmp_path) is None
            ran += 1
        except LegalityError as e:
            refusals.append(e.message)
    assert all(" -- needs " in message for message in refusals)
    assert ran or name in UNSAMPLED, f"all {len(refusals)} samples are refused: {refusals[:1]}"


@pytest.mark.parametrize("name", [name for name in LOWERED if name not in STEEP])
def test_fp16_asset_computes_the_operation(name: str, tmp_path: Path) -> None:
    for layer in layers(name, SAMPLES["fp16"]):
        try:
            assert fault(*rounded_to_fp16(layer), tmp_path, "fp16", slack=name in OFF_BY_ONE) is None
        except LegalityError:
            continue


@settings(max_examples=40)
@given(graph=graphs(8), seed=seeds())
def test_random_graphs_compute_what_they_mean(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    feeds = {v.name: random_data(rng, v.type) for v in graph.inputs}
    with tempfile.TemporaryDirectory() as folder:
        try:
            wrong = fault(graph, feeds, Path(folder))
        except LegalityError:
            return
    assert wrong is None


def one(op: Op, *arrays: Array) -> tuple[Graph, Feeds]:
    """A graph of one layer whose operands are all inputs."""
    graph = Graph(op.name)
    values = [graph.add_input(type_of(a), f"x{i}") for i, a in enumerate(arrays)]
    results = graph.add(op, *values, origin=frozenset((op.name,)))
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph, {f"x{i}": a for i, a in enumerate(arrays)}


@settings(max_examples=60)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_slices_in_any_direction(shape: list[int], data: st.DataObject) -> None:
    """Those that reverse a whole axis keep the shape, which Apple's compiler takes for nothing to do."""
    parts = []
    for n in shape:
        step = data.draw(st.sampled_from([-3, -2, -1, 1, 2]))
        first = data.draw(st.integers(0, n - 1))
        start, stop = (first, n) if step > 0 else (n - 1 - first, -1)
        parts.append((start, stop, step))
    starts, ends, steps = zip(*parts, strict=True)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        assert fault(*one(ops.Slice(starts=starts, ends=ends, steps=steps), x), Path(folder)) is None


@settings(max_examples=60)
@given(source=st.sampled_from(INTEGERS), to=st.sampled_from(INTEGERS), seed=seeds())
def test_integers_wrap_around(source: str, to: str, seed: int) -> None:
    """From 32 bits to fewer, and between signed and unsigned; to u32 from signed ones is refused or right."""
    dtype = DTYPES[source]
    info = np.iinfo(dtype.numpy)
    low, high = max(info.min, -(2**31)), min(info.max, 2**31 - 1 if source == "i64" else info.max)
    x = np.random.default_rng(seed).integers(low, high, 12, dtype.numpy, endpoint=True)
    graph, feeds = one(ops.Cast(to=to), x)
    with tempfile.TemporaryDirectory() as folder:
        if source == "u32" and to == "i64" and (x > 2**31 - 1).any():
            return  # beyond the 32 bits in which i64 is held
        assert fault(graph, feeds, Path(folder)) is None


@settings(max_examples=40)
@given(name=st.sampled_from(("add", "mul", "sub")), dtype=st.sampled_from(INTEGERS[:-1]), seed=seeds())
def test_arithmetic_of_narrow_integers_wraps_around(name: str, dtype: str, seed: int) -> None:
    info = np.iinfo(DTYPES[dtype].numpy)
    draw = np.random.default_rng(seed).integers
    x, y = (draw(info.min, info.max, (2, 3), DTYPES[dtype].numpy, endpoint=True) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        assert fault(*one(OPS[name](), x, y), Path(folder)) is None


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("length", [1, 4])
def test_running_sums(length: int, backward: bool, exclusive: bool, tmp_path: Path) -> None:
    x = np.arange(1, 2 * length + 1, dtype=np.float32).reshape(2, length)
    assert fault(*one(ops.CumSum(axis=1, reverse=backward, exclusive=exclusive), x), tmp_path) is None


def test_refusals_name_layer_and_reason(tmp_path: Path) -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, (2, 3)), "x")
    (found,) = graph.add(ops.NonZero(dim="n"), x, origin=frozenset(("where",)))
    graph.set_outputs([found], ["y"])
    with pytest.raises(LegalityError, match=r"how many elements are not 0 is not"):
        compiled(graph, tmp_path)


def test_64_bit_constants_are_held_in_32_bits_or_refused(tmp_path: Path) -> None:
    for dtype, number, fits in (
        (I64, 2**31 - 1, True),
        (I64, 2**31, False),
        (U64, 2**32 - 1, True),
        (U32, 2**32 - 1, True),
    ):
        graph = Graph("g")
        x = graph.add_input(TensorType(dtype, (1,)), "x")
        (y,) = graph.add(ops.Max(), x, graph.const(np.array([number], dtype.numpy)), origin=frozenset(("max",)))
        graph.set_outputs([y], ["y"])
        if fits:
            assert fault(graph, {"x": np.array([1], dtype.numpy)}, tmp_path) is None
        else:
            with pytest.raises(LegalityError, match="within 32 bits"):
                compiled(graph, tmp_path)


def test_booleans_and_bytes_are_ports(tmp_path: Path) -> None:
    graph = Graph("g")
    condition, x = graph.add_input(TensorType(BOOL, (3,)), "c"), graph.add_input(TensorType(U8, (3,)), "x")
    (y,) = graph.add(ops.Where(), condition, x, graph.const(np.array([7, 8, 9], np.uint8)), origin=frozenset(("w",)))
    (z,) = graph.add(ops.Cast(to="i32"), y, origin=frozenset(("z",)))
    graph.set_outputs([y, z, condition], ["y", "z", "c_out"])
    feeds = {"c": np.array([True, False, True]), "x": np.array([250, 251, 252], np.uint8)}
    assert fault(graph, feeds, tmp_path) is None
    assert evaluate(graph, feeds)["z"].dtype == I32.numpy
