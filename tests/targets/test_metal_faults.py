"""Faults of kernels and plans that a run on the processor finds, each planted in a text that is right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compiler.errors import CompileError
from targets.metal.execute import Executor
from tests.targets.metal_examples import GEMM, SOFTMAX, gemm, softmax
from tests.targets.metal_source import HEADER, Result, folder, launch, run

Array = npt.NDArray[Any]
COMPILERS = [c for c in ("g++", "clang++") if shutil.which(c)]
pytestmark = [
    pytest.mark.skipif(not COMPILERS, reason="there is no C++ compiler"),
    pytest.mark.parametrize("compiler", COMPILERS),
]

PLAIN = """
kernel void copy(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
    y[i] = x[i];
}
"""
COPY = launch("copy", ["x", "y"], (2,), (32,))
TO_HEAP, FROM_HEAP = launch("copy", ["x", "t"], (2,), (32,)), launch("copy", ["t", "y"], (2,), (32,))
CHANGES = [
    (
        "y[i] = x[i];",
        "y[i] = x[i + 1];",
        "reads 4 bytes of parameter x (buffer x) at byte 256, 4 beyond its end at 256",
    ),
    ("y[i] = x[i];", "y[i + 1] = x[i];", "writes 4 bytes of parameter y (buffer y) at byte 256, 4 beyond its end"),
    ("y[i] = x[i];", "y[i] = x[int(i) - 1];", "parameter x (buffer x), 4 bytes before its beginning"),
    ("y[i] = x[i];", "if (i != 3) y[i] = x[i];", "byte 12 of output y was never written"),
    (
        "y[i] = x[i];",
        "y[i] = x[i]; ((device float *)x)[i] = 1.0f;",
        "writes 4 bytes of parameter x (buffer x), which is const",
    ),
    (
        "y[i] = x[i];",
        "y[i / 2] = x[i]; y[i / 2 + 32] = 0.0f;",
        "race: it writes parameter y (buffer y) (device memory)",
    ),
    ("y[i] = x[i];", "y[i] = x[i]; y[i] += y[63 - i];", "which was never written"),
    (
        "y[i] = x[i];",
        "y[i] = x[i]; threadgroup_barrier(mem_flags::mem_device); if (i > 31) y[i] = y[i - 32];",
        "which another threadgroup",
    ),
    ("y[i] = x[i];", "y[i] = ((device const float4 *)(x + 1))[i / 8].x;", "no multiple of the alignment of its type"),
    ("y[i] = x[i];", "float v[4]; v[i] = x[i]; y[i] = v[i % 4];", "index 4 is beyond the end of an array"),
    ("y[i] = x[i];", "y[i] = x[i] + 7 / (i - 5);", "divides an integer by zero"),
    ("y[i] = x[i];", "y[i] = simd_shuffle(x[i], ushort(i + 1));", "takes the value of a thread that takes no part"),
]


@pytest.mark.parametrize("change", CHANGES, ids=[str(i) for i in range(len(CHANGES))])
def test_faults_in_device_memory(tmp_path: Path, compiler: str, change: tuple[str, str, str]) -> None:
    old, new, said = change
    x = np.ones(64, np.float32)
    with pytest.raises(CompileError) as caught:
        run(tmp_path, PLAIN.replace(old, new), {"x": x}, {"y": ("float", (64,))}, [COPY], True, compiler)
    assert said in str(caught.value)
    if "output" not in said:
        assert "kernel copy in dispatch 0, thread (" in str(caught.value) and "(line 8 of model.metal)" in str(
            caught.value
        )


SPLIT = """
    if (g == 0) threadgroup_barrier(mem_flags::mem_none);
    else threadgroup_barrier(mem_flags::mem_none);
    """
SOFTMAX_CHANGES = [
    ("    threadgroup_barrier(mem_flags::mem_threadgroup);  // before part is used again\n", "", "race: it "),
    (
        "    if (lane == 0) part[g] = high;\n    threadgroup_barrier(mem_flags::mem_threadgroup);",
        "    if (lane == 0) part[g] = high;",
        "race: it ",
    ),
    (
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    const float most",
        SPLIT + "const float most",
        "waits at a threadgroup_barrier while 32 threads of the group wait at that of line 14",
    ),
    ("    const float v", "    if (i == 7) return;\n    const float v", "others never reach"),
    (
        "if (lane == 0) part[g] = high",
        "if (lane == 0 && g < 3) part[g] = high",
        "reads byte 12 of parameter part, which was never written",
    ),
    ("part[lane % 4]", "part[lane % 5]", "parameter part at byte 16, 4 beyond its end at 16"),
    ("mem_threadgroup);  // before", "mem_none);  // before", "race: it "),
]


@pytest.mark.parametrize("change", SOFTMAX_CHANGES, ids=[str(i) for i in range(len(SOFTMAX_CHANGES))])
def test_faults_in_threadgroup_memory(tmp_path: Path, compiler: str, change: tuple[str, str, str]) -> None:
    old, new, said = change
    assert old in SOFTMAX
    with pytest.raises(CompileError) as caught:
        softmax(tmp_path, compiler, SOFTMAX.replace(old, new))
    assert said in str(caught.value)
    assert "kernel softmax" in str(caught.value) and "of model.metal)" in str(caught.value)


GEMM_CHANGES = [
    ("        threadgroup_barrier(mem_flags::mem_threadgroup);  // of the tiles\n", "", "race: it "),
    ("tb + k * 32", "tb + 32 + k * 32", "bytes of parameter tb"),
    ("ta[j] = row", "if (j < 1000) ta[j] = row", "parameter ta, which was never written"),
    ("for (uint p = 0; p < 4; p++) sum[p", "for (uint p = 1; p < 4; p++) sum[p", "was never given a value"),
    (
        "            for (uint p = 0; p < 4; p++) {",
        "            for (uint p = i % 32 == 5; p < 4; p++) {",
        "the matrix operations of thread (5, 0, 0)",
    ),
]


@pytest.mark.parametrize("change", GEMM_CHANGES, ids=[str(i) for i in range(len(GEMM_CHANGES))])
def test_faults_with_matrices(tmp_path: Path, compiler: str, change: tuple[str, str, str]) -> None:
    old, new, said = change
    assert old in GEMM
    with pytest.raises(CompileError) as caught:
        gemm(tmp_path, compiler, GEMM.replace(old, new))
    assert said in str(caught.value)


def test_a_wrong_size_of_the_threadgroup(tmp_path: Path, compiler: str) -> None:
    with pytest.raises(CompileError, match="256 threads per threadgroup, at most 128 are allowed"):
        gemm(tmp_path, compiler, threads=[256, 1, 1])
    with pytest.raises(CompileError, match=r"race: it|never written"):
        gemm(tmp_path, compiler, threads=[96, 1, 1])
    with pytest.raises(CompileError, match="40960 bytes of threadgroup memory, at most 32768"):
        gemm(tmp_path, compiler, threadgroup_memory=[20480, 20480, 0])
    with pytest.raises(CompileError, match="the plan's numbers are"):
        gemm(tmp_path, compiler, numbers=[{"name": "m", "type": "uint", "value": 1}])
    numbers = [{"name": n, "type": "uint", "value": 1 << 32} for n in "mnk"]
    with pytest.raises(CompileError, match="number m of kernel gemm: 4294967296 is no uint of 4 bytes"):
        gemm(tmp_path, compiler, numbers=numbers)


def hazards(to: Path, compiler: str, steps: list[dict[str, Any]], heap: dict[str, int]) -> Array:
    x = np.arange(64, dtype=np.float32)
    outputs: dict[str, Result] = {"y": ("float", (64,))}
    return run(to, PLAIN, {"x": x}, outputs, steps, True, compiler, heap)[0]


def test_hazards_between_dispatches(tmp_path: Path, compiler: str) -> None:
    np.testing.assert_array_equal(hazards(tmp_path, compiler, [TO_HEAP, FROM_HEAP], {"t": 256}), np.arange(64))
    with pytest.raises(CompileError, match=r"dispatch 1: reads parameter x \(buffer t\) that dispatch 0 writes"):
        hazards(tmp_path, compiler, [TO_HEAP, FROM_HEAP | {"barrier": False}], {"t": 256})
    with pytest.raises(CompileError, match=r"dispatch 1: writes .* where dispatch 0 writes"):
        hazards(tmp_path, compiler, [TO_HEAP, TO_HEAP | {"barrier": False}, FROM_HEAP], {"t": 256})
    with pytest.raises(CompileError, match=r"dispatch 2: writes .* where dispatch 1 reads"):
        hazards(tmp_path, compiler, [TO_HEAP, FROM_HEAP, TO_HEAP | {"barrier": False}], {"t": 256})
    with pytest.raises(CompileError, match=r"reads byte 0 of parameter x \(buffer t\), which was never written"):
        hazards(tmp_path, compiler, [FROM_HEAP], {"t": 256})


def test_a_barrier_of_the_simdgroup_orders_its_threads_alone(tmp_path: Path, compiler: str) -> None:
    text = """
kernel void turn(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                 threadgroup float *t [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]]) {
    t[i] = x[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = t[i ^ 1];
}
"""
    x = np.arange(64, dtype=np.float32)
    steps = [launch("turn", ["x", "y"], threads=(64,), memory=[256])]
    (y,) = run(tmp_path, text, {"x": x}, {"y": ("float", (64,))}, steps, True, compiler)
    np.testing.assert_array_equal(y, x[np.arange(64) ^ 1])
    for old, new in (("    simdgroup_barrier(mem_flags::mem_threadgroup);\n", ""), ("i ^ 1", "i ^ 32")):
        with pytest.raises(CompileError, match=r"race: it .* parameter t \(threadgroup memory\)"):
            run(tmp_path, text.replace(old, new), {"x": x}, {"y": ("float", (64,))}, steps, True, compiler)


def test_atomics_beside_plain_accesses(tmp_path: Path, compiler: str) -> None:
    text = """
kernel void add(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    if (i == 0) y[0] = 0.0f;
    threadgroup_barrier(mem_flags::mem_device);
    atomic_fetch_add_explicit((device atomic_float *)y, 1.0f, memory_order_relaxed);
}
"""
    steps = [launch("add", ["y"], threads=(64,))]
    (y,) = run(tmp_path, text, {}, {"y": ("float", (1,))}, steps, True, compiler)
    assert y == [64]
    with pytest.raises(CompileError, match="race: it writes"):
        run(tmp_path, text.replace("i == 0", "i % 2 == 0"), {}, {"y": ("float", (1,))}, steps, True, compiler)
    plain = text.replace("relaxed);", "relaxed);\n    if (y[0] > 1e9f) y[0] = 1.0f;")
    with pytest.raises(CompileError, match=r"race: it writes .* which thread .* read"):
        run(tmp_path, plain, {}, {"y": ("float", (1,))}, steps, True, compiler)


def test_buffers_that_share_memory(tmp_path: Path, compiler: str) -> None:
    """What another buffer left behind is no value of this one."""
    x = np.arange(64, dtype=np.float32)
    steps = [TO_HEAP, FROM_HEAP | {"buffers": [{"buffer": "u", "offset": 0}, {"buffer": "y", "offset": 0}]}]
    made = folder(tmp_path, PLAIN, {"x": x}, {"y": ("float", (64,))}, steps, {"t": 256, "u": 256})
    plan = json.loads((made / "plan.json").read_text(encoding="utf-8"))
    plan["buffers"][1]["offset"] = 0
    (made / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(CompileError, match=r"reads byte 0 of parameter x \(buffer u\), which was never written"):
        Executor(made, True, compiler).run([x])


def test_arrays_and_texts_that_do_not_fit(tmp_path: Path, compiler: str) -> None:
    made = folder(tmp_path, PLAIN, {"x": np.ones(64, np.float32)}, {"y": ("float", (64,))}, [COPY])
    with pytest.raises(CompileError, match=r"input x: float64\[64\] given for float\[64\]"):
        Executor(made, True, compiler).run([np.ones(64)])
    with pytest.raises(CompileError, match="0 arrays for 1 inputs"):
        Executor(made, True, compiler).run([])
    (made / "model.metal").write_text(HEADER + PLAIN.replace("x[i]", "erf(x[i])"), encoding="utf-8")
    with pytest.raises(CompileError, match=r"the text of the kernels is not accepted: model.metal:8"):
        Executor(made, True, compiler).run([np.ones(64, np.float32)])


@pytest.mark.parametrize(
    "expression",
    [
        "simd_sum(x[i] > 0)",
        "simd_shuffle_xor(long(i), 1)",
        "clamp(x[i], 0, 1.0f)",
        "float(exp(bfloat(x[i])))",
        "cut(x[i])",
    ],
)
def test_what_has_no_form_for_a_type(expression: str, tmp_path: Path, compiler: str) -> None:
    """There is no such function for it, or no conversion but one that the text writes."""
    inputs: dict[str, Array] = {"x": np.ones(64, np.float32)}
    outputs: dict[str, Result] = {"y": ("float", (64,))}
    text = "inline bfloat cut(float v) { return v; }\n" if "cut" in expression else ""
    with pytest.raises(CompileError, match="the text of the kernels is not accepted"):
        run(tmp_path, text + PLAIN.replace("x[i]", expression), inputs, outputs, [COPY], True, compiler)
    text = "inline bfloat cut(float v) { return bfloat(v); }\n"
    (y,) = run(tmp_path, text + PLAIN.replace("x[i]", "float(cut(x[i]))"), inputs, outputs, [COPY], True, compiler)
    assert (y == 1).all()
