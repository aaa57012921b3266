"""A product in tiles with simdgroup matrices, and a softmax: texts for tests, with what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.targets.metal_source import launch, run

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)

GEMM = """
struct sizes { uint m; uint n; uint k; };

[[max_total_threads_per_threadgroup(128)]]
kernel void gemm(device const half *a [[buffer(0)]], device const half *b [[buffer(1)]], device half *y [[buffer(2)]],
                 constant sizes &s [[buffer(3)]], threadgroup half *ta [[threadgroup(0)]],
                 threadgroup half *tb [[threadgroup(1)]], threadgroup float *ty [[threadgroup(2)]],
                 uint2 group [[threadgroup_position_in_grid]], uint i [[thread_index_in_threadgroup]],
                 uint part [[simdgroup_index_in_threadgroup]]) {
    const uint row = group.y * 32, column = group.x * 32, mi = part / 2 * 16, ni = part % 2 * 16;
    simdgroup_float8x8 sum[2][2];
    for (uint p = 0; p < 4; p++) sum[p / 2][p % 2] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (uint k0 = 0; k0 < s.k; k0 += 32) {
        for (uint j = i; j < 1024; j += 128) {
            const uint r = j / 32, c = j % 32;
            ta[j] = row + r < s.m && k0 + c < s.k ? a[(row + r) * s.k + k0 + c] : 0.0h;
            tb[j] = k0 + r < s.k && column + c < s.n ? b[(k0 + r) * s.n + column + c] : 0.0h;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = 0; k < 32; k += 8) {
            simdgroup_half8x8 x[2], w[2];
            for (uint p = 0; p < 2; p++) {
                simdgroup_load(x[p], ta + (mi + p * 8) * 32 + k, 32);
                simdgroup_load(w[p], tb + k * 32 + ni + p * 8, 32);
            }
            for (uint p = 0; p < 4; p++) {
                simdgroup_multiply_accumulate(sum[p / 2][p % 2], x[p / 2], w[p % 2], sum[p / 2][p % 2]);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);  // of the tiles
    }
    for (uint p = 0; p < 4; p++) simdgroup_store(sum[p / 2][p % 2], ty + (mi + p / 2 * 8) * 32 + ni + p % 2 * 8, 32);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint j = i; j < 1024; j += 128) {
        const uint r = row + j / 32, c = column + j % 32;
        if (r < s.m && c < s.n) y[r * s.n + c] = half(ty[j]);
    }
}
"""
TILES = [2048, 2048, 4096]

SOFTMAX = """
kernel void softmax(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                    threadgroup float *part [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]],
                    uint row [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]],
                    uint g [[simdgroup_index_in_threadgroup]]) {
    const float v = x[row * 128 + i];
    const float high = simd_max(v);
    if (lane == 0) part[g] = high;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const float most = simd_max(part[lane % 4]);
    const float e = precise::exp(v - most);
    const float sum = simd_sum(e);
    threadgroup_barrier(mem_flags::mem_threadgroup);  // before part is used again
    if (lane == 0) part[g] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[row * 128 + i] = e / (part[0] + part[1] + part[2] + part[3]);
}
"""


def gemm(to: Path, compiler: str, text: str = GEMM, checks: bool = True, **changes: Any) -> tuple[Array, Array]:
    """The product of ragged matrices, and what it should be."""
    m, n, k = 50, 45, 37
    a, b = (RANDOM.standard_normal(s).astype(np.float16) for s in ((m, k), (k, n)))
    step = launch("gemm", ["a", "b", "y"], (2, 2), (128,), {"m": m, "n": n, "k": k}, TILES)
    step |= changes
    (y,) = run(to, text, {"a": a, "b": b}, {"y": ("half", (m, n))}, [step], checks, compiler)
    return y, a.astype(np.float32) @ b.astype(np.float32)


def softmax(to: Path, compiler: str, text: str = SOFTMAX, memory: int = 16) -> tuple[Array, Array]:
    x = RANDOM.standard_normal((3, 128)).astype(np.float32)
    steps = [launch("softmax", ["x", "y"], (3,), (128,), memory=[memory])]
    (y,) = run(to, text, {"x": x}, {"y": ("float", (3, 128))}, steps, compiler=compiler)
    e = np.exp(x - x.max(1, keepdims=True))
    return y, e / e.sum(1, keepdims=True)
