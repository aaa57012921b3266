"""Metal's source runs on the processor: what kernels compute, and what they may not do to memory."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from compiler.errors import CompileError
from targets.metal.execute import Executor, build
from targets.metal.execute.executor import DTYPES
from tests.targets.metal_examples import RANDOM, gemm, softmax
from tests.targets.metal_source import folder, launch, run

Array = npt.NDArray[Any]
COMPILERS = [c for c in ("g++", "clang++") if shutil.which(c)]
pytestmark = [
    pytest.mark.skipif(not COMPILERS, reason="there is no C++ compiler"),
    pytest.mark.parametrize("compiler", COMPILERS),
]


def each(to: Path, compiler: str, body: str, inputs: dict[str, Array], result: str, checks: bool = True) -> Array:
    """y[i] = body for every element of the inputs, by name."""
    types = {n: DTYPES.items() for n in inputs}
    names = {n: next(k for k, v in types[n] if v == a.dtype) for n, a in inputs.items()}
    n = next(iter(inputs.values())).size
    parameters = "".join(f"device const {t} *{x} [[buffer({i})]], " for i, (x, t) in enumerate(names.items()))
    text = f"""
kernel void each({parameters}device {result} *y [[buffer({len(inputs)})]], uint i [[thread_position_in_grid]]) {{
    if (i < {n}) y[i] = {body};
}}
"""
    steps = [launch("each", [*inputs, "y"], (-(-n // 256),), (256,))]
    return run(to, text, inputs, {"y": (result, (n,))}, steps, checks, compiler)[0]


@pytest.mark.parametrize("checks", [True, False])
def test_a_product_in_tiles(tmp_path: Path, compiler: str, checks: bool) -> None:
    y, expected = gemm(tmp_path, compiler, checks=checks)
    np.testing.assert_allclose(y, expected, rtol=2e-3, atol=2e-3)


def test_softmax(tmp_path: Path, compiler: str) -> None:
    np.testing.assert_allclose(*softmax(tmp_path, compiler), rtol=1e-6)


def test_longs(tmp_path: Path, compiler: str) -> None:
    x = RANDOM.integers(-(2**62), 2**62, 1000)
    z = RANDOM.integers(1, 99, 1000)
    y = each(tmp_path, compiler, "x[i] / z[i] + max(x[i] % z[i], 5l) * 3", {"x": x, "z": z}, "long")
    quotient = np.array([abs(int(a)) // int(b) * (1 if a >= 0 else -1) for a, b in zip(x, z, strict=True)])
    np.testing.assert_array_equal(y, quotient + np.maximum(x - quotient * z, 5) * 3)


OPERATIONS = {
    "+": "x[i] + z[i]",
    "-": "x[i] - z[i]",
    "*": "x[i] * z[i]",
    "/": "x[i] / z[i]",
    "sqrt": "sqrt(x[i])",
    "neg": "-x[i]",
    "min": "min(x[i], z[i])",
    "int": "T(short(i)) + x[i]",
    "narrow": "T(float(x[i]) * 1.2345f + float(z[i]))",
    "changed": "[](T a, T b) { a *= b; a += 1; return a; }(x[i], z[i])",
}


@pytest.mark.parametrize("ctype", ["half", "bfloat"])
@pytest.mark.parametrize("portable", [False, True])
def test_floats_of_16_bits(
    tmp_path: Path, compiler: str, ctype: str, portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation at random bits, with the processor's conversions and with ours."""
    if portable:
        monkeypatch.setattr(build, "native", lambda _: ())
    n = 20000
    dtype = np.float16 if ctype == "half" else ml_dtypes.bfloat16
    x, z = (RANDOM.integers(0, 65536, n).astype(np.uint16).view(dtype) for _ in range(2))
    bodies = "".join(f"    y[{j * n} + i] = {b};\n" for j, b in enumerate(OPERATIONS.values())).replace(
        "T(", f"{ctype}("
    )
    if ctype == "bfloat":  # of which there are no functions
        bodies = re.sub(r"(sqrt|min)\((.*)\);", r"bfloat(\1(\2));", bodies)
        bodies = re.sub(r"(?<=[( ])([xz]\[i\])(?=.*\)\);)", r"float(\1)", bodies)
    text = f"""
kernel void all(device const {ctype} *x [[buffer(0)]], device const {ctype} *z [[buffer(1)]],
                device {ctype} *y [[buffer(2)]], uint i [[thread_position_in_grid]]) {{
    if (i >= {n}) return;
{bodies}}}
""".replace("(T a, T b)", f"({ctype} a, {ctype} b)")
    steps = [launch("all", ["x", "z", "y"], (-(-n // 256),), (256,))]
    (y,) = run(tmp_path, text, {"x": x, "z": z}, {"y": (ctype, (len(OPERATIONS), n))}, steps, False, compiler)
    i = np.arange(n).astype(np.int16)
    wide = [a.astype(np.float32) for a in (x, z)]
    with np.errstate(all="ignore"):
        expected = [x + z, x - z, x * z, x / z, np.sqrt(x), -x, np.fmin(*wide).astype(dtype), i.astype(dtype) + x]
        expected += [(wide[0] * np.float32(1.2345) + wide[1]).astype(dtype), (x * z) + dtype(1)]
    for name, got, value in zip(OPERATIONS, y, expected, strict=True):
        is_number = ~np.isnan(value.astype(np.float32))
        assert value.dtype == dtype
        np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), ~is_number, name)
        np.testing.assert_array_equal(got.astype(np.float32)[is_number], value.astype(np.float32)[is_number], name)


def test_vectors(tmp_path: Path, compiler: str) -> None:
    x = RANDOM.standard_normal(64).astype(np.float16)
    text = """
kernel void turn(device const half4 *x [[buffer(0)]], device packed_half4 *y [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
    half4 v = x[i].wzyx;
    v.xy *= half2(float2(x[i].zw) * 0.0f + 2.0f);
    v.zw = v.xy + half2(1.0h, v.w);
    const bool4 is = v > half4(0.0h);
    y[i] = select(v, -v, is) + half4(dot(float4(v), float4(1.0f)) > 0.0f ? 1.0h : 0.0h);
}
"""
    (y,) = run(
        tmp_path, text, {"x": x}, {"y": ("half", (64,))}, [launch("turn", ["x", "y"], threads=(16,))], True, compiler
    )
    v = x.reshape(16, 4)[:, ::-1].copy()
    v[:, :2] *= 2
    v[:, 2:] = v[:, :2] + np.stack([np.ones(16, np.float16), v[:, 3]], 1)
    one = (v.astype(np.float32).sum(1, keepdims=True) > 0).astype(np.float16)
    np.testing.assert_array_equal(y, (np.where(v > 0, -v, v) + one).ravel())


def test_operations_of_a_simdgroup(tmp_path: Path, compiler: str) -> None:
    """Some of them by half of the threads alone."""
    x = RANDOM.integers(0, 100, 32).astype(np.int32)
    text = """
kernel void lanes(device const int *x [[buffer(0)]], device int *y [[buffer(1)]],
                  uint i [[thread_index_in_simdgroup]]) {
    const int v = x[i];
    y[i] = simd_prefix_inclusive_sum(v);
    y[32 + i] = simd_prefix_exclusive_sum(v);
    y[64 + i] = simd_shuffle_xor(v, 5);
    y[96 + i] = simd_shuffle_down(v, 3);
    y[128 + i] = simd_broadcast(v, 7);
    y[160 + i] = i % 2 ? simd_sum(v) : simd_max(v);
    y[192 + i] = simd_any(v > 98) + 2 * simd_all(v >= 0) + popcount(uint(ulong(simd_ballot(v > 50))));
    y[224 + i] = quad_sum(v);
    for (uint j = 0; j < i; j++) y[224 + i] += simd_sum(1);
}
"""
    (y,) = run(tmp_path, text, {"x": x}, {"y": ("int", (8, 32))}, [launch("lanes", ["x", "y"])], True, compiler)
    i = np.arange(32)
    sums = np.cumsum(x)
    expected = [sums, sums - x, x[i ^ 5], np.where(i < 29, x[np.minimum(i + 3, 31)], x), np.full(32, x[7])]
    expected += [np.where(i % 2, x[1::2].sum(), x[::2].max())]
    expected += [np.full(32, int((x > 98).any()) + 2 + (x > 50).sum())]
    expected += [np.repeat(x.reshape(8, 4).sum(1), 4) + np.array([sum(31 - j for j in range(k)) for k in i])]
    np.testing.assert_array_equal(y, np.stack(expected))


def test_elements_of_a_matrix(tmp_path: Path, compiler: str) -> None:
    x = RANDOM.standard_normal((8, 8)).astype(np.float32)
    text = """
kernel void change(device const float *x [[buffer(0)]], device float *y [[buffer(1)]]) {
    simdgroup_float8x8 m, n;
    simdgroup_load(m, x);
    for (uint j = 0; j < 2; j++) m.thread_elements()[j] = max(m.thread_elements()[j], 0.0f);
    simdgroup_load(n, x, 8, ulong2(0, 0), true);
    simdgroup_multiply(m, m, n);
    simdgroup_store(m, y);
}
"""
    (y,) = run(tmp_path, text, {"x": x}, {"y": ("float", (8, 8))}, [launch("change", ["x", "y"])], True, compiler)
    np.testing.assert_allclose(y, np.maximum(x, 0) @ x.T, rtol=1e-5, atol=1e-5)


def test_atomics(tmp_path: Path, compiler: str) -> None:
    x = RANDOM.integers(0, 8, 1000).astype(np.uint32)
    text = """
kernel void clear(device uint *y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] = 0; }
kernel void count(device const uint *x [[buffer(0)]], device atomic_uint *y [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
    if (i < 1000) atomic_fetch_add_explicit(y + x[i], 1u, memory_order_relaxed);
}
"""
    steps = [launch("clear", ["y"], threads=(8,)), launch("count", ["x", "y"], (8,), (128,))]
    (y,) = run(tmp_path, text, {"x": x}, {"y": ("uint", (8,))}, steps, True, compiler)
    np.testing.assert_array_equal(y, np.bincount(x, minlength=8))


def test_weights_and_sizes_that_the_data_decide(tmp_path: Path, compiler: str) -> None:
    """The first elements of x that are positive, times a weight; a kernel in place."""
    text = """
kernel void choose(device const float *x [[buffer(0)]], device const float *w [[buffer(1)]],
                   device float *y [[buffer(2)]], device long *sizes [[buffer(3)]]) {
    long n = 0;
    for (ushort i = 0; i < 8; i++) if (x[i] > 0) y[n++] = x[i] * w[i];
    sizes[0] = n;
}
kernel void twice(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                  device const long *sizes [[buffer(2)]], ushort2 i [[thread_position_in_grid]]) {
    if (i.x < sizes[0]) y[i.x] = x[i.x] * 2;
}
"""
    x, w = (RANDOM.standard_normal(8).astype(np.float32) for _ in range(2))
    steps = [launch("choose", ["x", "w", "y", "n"], threads=(1,)), launch("twice", ["y", "y", "n"], threads=(8,))]
    made = folder(tmp_path, text, {"x": x}, {"y": ("float", (8,))}, steps, {"n": 8}, {"w": w})
    plan = json.loads((made / "plan.json").read_text(encoding="utf-8"))
    plan["outputs"][0]["sizes"] = "n"
    (made / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    for checks in (True, False):
        (y,) = Executor(made, checks, compiler).run([x])
        np.testing.assert_array_equal(y, (x * w * 2)[x > 0])
    (made / "model.metal").write_text((made / "model.metal").read_text().replace("y[n++]", "((device float *)w)[n++]"))
    with pytest.raises(CompileError, match=r"writes 4 bytes of parameter w \(buffer w\), which is const"):
        Executor(made, True, compiler).run([x])
