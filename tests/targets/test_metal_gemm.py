"""Products as Metal sources: every tile, ragged sizes, tails, few rows, weights in few bits, against numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from codegen.expression import Apply, Expression, Number, Operand
from codegen.metal.batched import BatchedGemm
from codegen.metal.conv import Conv, ConvFew
from codegen.metal.gemm import TILES, Gemm, Tiled, packed_panels
from codegen.metal.gemm_count import inner_loop
from codegen.neon.tailed import RELU
from compiler import ops
from compiler.errors import EmitError
from compiler.graph import Graph, Value
from compiler.tensor import F32, TensorType
from targets.metal import emit
from targets.metal.families import family
from tests.targets.metal_products import BOUND, NUMPY, Case, decibels, kernels_of, run_cases

SIZES = (1, 7, 8, 9, 31, 32, 33, 34, 64, 65)
RAGGED = [*((s, 33, 20) for s in SIZES), *((34, s, 40) for s in SIZES), *((31, 65, s) for s in SIZES)]
RESIDUAL: Expression = Apply("max", (Apply("add", (Operand(0), Operand(1))), Number(0.0)))
TAILS: list[Expression] = [Operand(0), RELU, RESIDUAL]
CUTS: list[dict[str, Any]] = [  # Any: fields of several types
    {"rows": tile.rows, "columns": tile.columns} for tile in TILES
]
OLD = family()._replace(number=6)  # before simdgroups had matrices


def case(at: int, sizes: tuple[int, int, int], ctype: str, *, has_matrices: bool) -> Case:
    """A product of these sizes; tiles, tails and biases take turns."""
    (m, n, k), dtype = sizes, NUMPY[ctype]
    rng = np.random.default_rng(at)
    x, w, r = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (m, n)))
    b, tail, has_bias = rng.standard_normal(n).astype(np.float32), TAILS[at % 3], bool(at % 2)
    kernel = Gemm(
        **CUTS[at % 4],
        ctype=ctype,
        vector=next(v for v in (4, 2, 1) if k % v == 0),
        has_matrices=has_matrices,
        has_bias=has_bias,
        tail=tail,
    )
    exact = x.astype(np.float64) @ w + b * has_bias
    if tail is RESIDUAL:
        exact = exact + r
    if tail is not TAILS[0]:
        exact = np.maximum(exact, 0)
    given = [x, packed_panels(w, kernel), *[b] * has_bias, *[r] * (tail is RESIDUAL)]
    return Case(kernel, given, exact.astype(dtype), (m, n, k))


@pytest.mark.parametrize("ctype", list(NUMPY))
@pytest.mark.parametrize("has_matrices", [True, False], ids=["matrices", "plain"])
def test_ragged_sizes(ctype: str, *, has_matrices: bool) -> None:
    sizes = RAGGED if has_matrices else RAGGED[::4]
    cases = [case(at, s, ctype, has_matrices=has_matrices) for at, s in enumerate(sizes)]
    for (m, n, k), made, got in zip(sizes, cases, run_cases(cases), strict=True):
        assert np.abs(made.exact).max(initial=0) == 0 or decibels(got, made.exact) > BOUND[ctype], (m, n, k)


def test_infinite_and_not_a_number_stay_in_their_row() -> None:
    made = case(0, (5, 6, 9), "float", has_matrices=True)
    made.given[0][1, 2], made.given[0][3, 8] = np.inf, np.nan
    (got,) = run_cases([made])
    assert np.isfinite(got[[0, 2, 4]]).all()
    assert np.isinf(got[1]).all()
    assert np.isnan(got[3]).all()


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
COPY = "i++)\n            *(threadgroup float4 *)(x_to"
FAULTS = {  # what is changed in the text of a product, how often at most, and what the message says
    "beyond the last row": ("s.m - 1)", "s.m)", -1, "reads"),
    "beyond the last column": ("j < s.n;", "j <= s.n;", -1, "writes"),
    "before the tile is full": (BARRIER, "", 1, "race"),
    "before others have read the tile": (f"{BARRIER}\n    }}", "    }", -1, "race"),
    "before the sums lie there": ("simdgroup_barrier(mem_flags::mem_threadgroup);", "", 1, "race"),
    "a tile that is not filled": (f"i < 4; {COPY}", f"i < 3; {COPY}", -1, "never"),
    "weights of another tile": ("w_from += 2048", "w_from += 4096", -1, "reads"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_are_found(fault: str) -> None:
    made = case(0, (70, 61, 68), "float", has_matrices=True)
    assert decibels(run_cases([made])[0], made.exact) > BOUND["float"]
    old, new, most, said = FAULTS[fault]

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, most)

    with pytest.raises(EmitError, match=said):
        run_cases([made], change)


OPERANDS = [
    ((5, 40), (40, 36)),
    ((2, 3, 33, 20), (2, 3, 20, 17)),
    ((2, 3, 33, 20), (3, 20, 64)),
    ((3, 1, 70, 65), (1, 2, 65, 31)),
    ((4, 65), (65,)),
    ((7, 1, 9), (7, 9, 8)),
]
FEATURES = [(9, 20, 33, True), (65, 31, 40, True), (40, 64, 40, False)]  # rows, depth, columns, weights transposed


def computed() -> Graph:
    """Products of two computed operands, every other with a residual."""
    graph, results = Graph("t"), list[Value]()

    def given(*shape: int) -> Value:
        return graph.add_input(TensorType(F32, shape), f"x{len(graph.inputs)}")

    for at, (left, right) in enumerate(OPERANDS):
        (y,) = graph.add(ops.MatMul(), given(*left), given(*right))
        results.append(graph.add(ops.Add(), y, given(*y.type.dims))[0] if at % 2 else y)
    for m, k, n, is_transposed in FEATURES:
        w = given(n, k) if is_transposed else given(k, n)
        results += graph.add(ops.Dense(transposed=is_transposed), given(m, k), w, given(n))
    graph.set_outputs(results, [f"y{at}" for at in range(len(results))])
    return graph


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_computed_operands(precision: str) -> None:
    names = kernels_of(computed(), precision)
    products = [n for n in names if n.startswith("product_")]
    assert len(products) >= 7
    assert any("_transposed" in n for n in products)
    assert sum("_add" in n for n in products) == 3
    assert not any("plain_matmul" in n for n in names)


def test_computed_operands_without_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "family_of", lambda _: OLD)
    names = kernels_of(computed(), "fp32")
    assert names
    assert all("_plain" in n for n in names)


def test_integers_are_multiplied_one_by_one() -> None:
    graph = Graph("t")
    x = graph.add_input(TensorType(F32, (3, 4)), "x")
    (whole,) = graph.add(ops.Cast(to="i32"), x)
    (y,) = graph.add(ops.MatMul(), whole, graph.const(np.arange(20, dtype=np.int32).reshape(4, 5)))
    graph.set_outputs(graph.add(ops.Cast(to="f32"), y), ["y"])
    assert any(n.startswith("plain_matmul") for n in kernels_of(graph, "fp32"))


STORED = {
    "i8": (np.int8, -128, 128),
    "u8": (np.uint8, 0, 256),
    "i4": (ml_dtypes.int4, -8, 8),
    "u4": (ml_dtypes.uint4, 0, 16),
}
MATRICES = [  # rows, depth, columns, type, block, with zeros, transposed -> the kernel
    (1, 96, 70, "i8", 0, False, False, "gemv_1_int8"),
    (2, 128, 37, "u8", 0, True, True, "gemv_2_uint8_zeros_bias"),
    (1, 128, 66, "i4", 32, False, False, "gemv_1_uint4_blocks_32_zeros"),
    (3, 264, 64, "u4", 24, True, True, "gemv_3_uint4_blocks_24_zeros_bias"),
    (4, 100, 80, "i4", 0, True, False, "gemv_4_uint4_zeros"),
    (2, 65, 80, "i4", 0, True, False, "gemv_2_uint4_zeros_odd"),
    (1, 64, 80, "i8", 16, True, False, "gemv_1_int8_blocks_16_zeros"),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_in_few_bits(precision: str) -> None:
    rng, graph, results = np.random.default_rng(5), Graph("t"), list[Value]()
    for at, (m, k, n, kind, block, has_zeros, is_transposed, _) in enumerate(MATRICES):
        dtype, low, high = STORED[kind]
        depth = int(is_transposed)
        shape = (n, k) if is_transposed else (k, n)
        parts = [-(-s // block) if axis == depth else s for axis, s in enumerate(shape)] if block else [n]
        given = [graph.const(rng.integers(low, high, shape).astype(dtype))]
        given.append(graph.const(rng.uniform(0.01, 0.1, parts).astype(np.float32)))
        if has_zeros:
            given.append(graph.const(rng.integers(low, high, parts).astype(dtype)))
        (w,) = graph.add(ops.DequantizeLinear(axis=depth if block else 1 - depth, block_size=block), *given)
        x = graph.add_input(TensorType(F32, (m, k)), f"x{at}")
        bias = [graph.const(rng.standard_normal(n).astype(np.float32))] * is_transposed
        results += graph.add(ops.Dense(transposed=True) if is_transposed else ops.MatMul(), x, w, *bias)
    graph.set_outputs(results, [f"y{at}" for at in range(len(results))])
    names = kernels_of(graph, precision)
    half = "_half_to_float" * (precision == "fp16")
    assert {f"{name}{half}" for *_, name in MATRICES} <= set(names)
    assert not any("sub_mul" in n for n in names)  # nothing is expanded in memory


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_few_rows(precision: str) -> None:
    rng, graph, results = np.random.default_rng(5), Graph("t"), list[Value]()
    for at, (m, k, n) in enumerate([(1, 20, 33), (4, 31, 40), (3, 264, 5), (2, 129, 9), (1, 1, 3), (5, 20, 8)]):
        x = graph.add_input(TensorType(F32, (m, k)), f"x{at}")
        w, b = (graph.const(rng.standard_normal(s).astype(np.float32)) for s in ((n, k), (n,)))
        (y,) = graph.add(ops.Dense(transposed=True), x, w, b)
        residual = graph.add_input(y.type, f"r{at}")
        results.append(graph.add(ops.Add(), y, residual)[0] if at % 2 else y)
    graph.set_outputs(results, [f"y{at}" for at in range(len(results))])
    names = [n for n in kernels_of(graph, precision) if n.startswith(("gemv", "gemm"))]
    assert sum(n.startswith("gemv") for n in names) == 5
    assert sum(n.startswith("gemm") for n in names) == 1


@pytest.mark.parametrize("cut", CUTS, ids=[tile.name for tile in TILES])
def test_operations_of_the_inner_loop(cut: dict[str, Any]) -> None:
    """9 of 10 are multiply-adds, but where elements are copied one by one or there are no matrices."""
    window: dict[str, Any] = {"kernel": (3, 3), "begins": (1, 1), "has_border": True}
    kernels: list[Tiled] = [
        Gemm(**cut),
        Gemm(**cut, vector=2),
        BatchedGemm(**cut),
        BatchedGemm(**cut, is_transposed=True),
        Conv(**cut, **window),
        ConvFew(**cut, **window, depth=8),
    ]
    for kernel in kernels:
        for ctype in NUMPY:
            found = kernel.with_(ctype=ctype).inner_loop()
            assert found.multiply_adds == 1024, kernel.name
            assert found.share >= 0.9, (kernel.name, found)
    for kernel in (Gemm(**cut, vector=1), ConvFew(**cut, **window, depth=3, vector=1), Gemm(**cut, has_matrices=False)):
        assert kernel.inner_loop().multiply_adds == 1024
        assert 0.8 <= kernel.inner_loop().share < 0.92, (kernel.name, kernel.inner_loop())


def test_operations_are_counted_in_the_text() -> None:
    text = """
    for (uint at = 0; at < s.k; at += 32) {
        device const float *x_at = x + at;
        for (uint i = 0; i < 4; i++)
            *(threadgroup float4 *)(x_to + 640 * i) = is_in ? *(device const float4 *)(x_at + from[i]) : float4(0);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint d = 0; d < 16; d += 8) {
            simdgroup_load(a[0], a_tile + 8 * d, 40);
            for (uint j = 0; j < 3; j++)
                simdgroup_multiply_accumulate(sums[j], a[0], b[j], sums[j]);
        }
    }
    y[0] = z[0] * 2;
"""
    found = inner_loop(text)
    assert found.multiply_adds == 2 * 3 * 16
    assert found.all == found.multiply_adds + 2 + 1 + 4 * 4 + 1 + 2
    with pytest.raises(ValueError, match="no loop"):
        inner_loop("y[0] = x[0] * 2;")


def test_threadgroups_fit_every_family() -> None:
    for tile in TILES:
        for ctype in NUMPY:
            kernel = BatchedGemm(rows=tile.rows, columns=tile.columns, ctype=ctype, is_transposed=True)
            assert sum(t.nbytes for t in kernel.tiles) <= 32768
            assert kernel.threads[0] == 32 * tile.simdgroups
