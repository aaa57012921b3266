"""How many instructions small layers execute, held to stored figures: `pytest --update-golden` writes them anew for the
compiler that is there. Other compilers' code differs, so that only a major version that figures are stored for is held
to them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import neon_count
from benchmarks.building import Builder
from benchmarks.neon_count import CPUS
from compiler.api import compile_model
from targets.neon.build import CROSS, build, emulated
from tests.targets.neon_models import shell

if TYPE_CHECKING:
    import onnx

STORED = Path(__file__).with_name("neon_counts.json")
TOLERANCE = 0.01
RNG_SEED = 3

CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {  # Any: as attributes are
    "gemm": ("Gemm", (50, 33), {}),
    "winograd": ("Conv", (16, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
    "direct": ("Conv", (16, 16, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "depthwise": ("Conv", (16, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 16}),
    "depthwise_5x5": ("Conv", (16, 1, 5, 5), {"pads": [2, 2, 2, 2], "strides": [2, 2], "group": 16}),
}
"""The layer of each case, its weights, and attributes."""
INPUTS = {"Gemm": (37, 50), "Conv": (1, 16, 24, 24)}
FLOATS = ("gemm", "winograd", "direct", "depthwise", "depthwise_5x5")
INTEGERS = ("gemm", "direct", "depthwise")


@cache
def why_not() -> str | None:
    """What keeps this machine from counting."""
    return neon_count.missing()


def model(name: str) -> onnx.ModelProto:
    """The layer with a Relu; images have their channels last, as the library keeps them."""
    op, weights, attributes = CASES[name]
    rng = np.random.default_rng(RNG_SEED)
    b = Builder()
    inputs = ["x", b.constant(rng.standard_normal(weights))]
    inputs.append(b.constant(rng.standard_normal(weights[0] if op == "Conv" else weights[1])))
    if op == "Gemm":
        return b.model(name, {"x": INPUTS[op]}, {b.add("Relu", b.add(op, *inputs)): (INPUTS[op][0], weights[1])})
    n, c, h, w = INPUTS[op]
    stride = 2 if "strides" in attributes else 1
    inputs[0] = b.add("Transpose", "x", perm=[0, 3, 1, 2])
    y = b.add("Transpose", b.add("Relu", b.add(op, *inputs, **attributes)), perm=[0, 2, 3, 1])
    return b.model(name, {"x": (n, h, w, c)}, {y: (n, h // stride, w // stride, weights[0])})


def counted(name: str, numbers: str, folder: Path) -> dict[str, dict[str, int]]:
    """Instructions of one inference by class, for each kind of processor that computes it in another way."""
    given = model(name)
    shape = [d.dim_value for d in given.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(RNG_SEED).standard_normal(shape).astype(np.float32)
    options: dict[str, Any] = {}  # Any: of the target
    if numbers == "int8":
        options = {"precision": "int8", "calibrate": {"x": x}}
    compile_model(given, "neon", folder / "library", verify="off", **options)
    tools = emulated()
    assert tools is not None
    (folder / "built").mkdir()
    program = build(folder / "library", tools, folder / "built")
    (folder / "x.bin").write_bytes((x if numbers == "float" else (x * 32).astype(np.int8)).tobytes())
    command = [str(program), str(folder / "x.bin"), "--weights", str(folder / "library" / "weights.bin")]
    kinds = ("dotprod",) if numbers == "float" else tuple(CPUS)
    found = {kind: neon_count.per_run([*command, "--out-dir", str(folder)], CPUS[kind], 1, 1) for kind in kinds}
    return {kind: {c: round(n) for c, n in counts.items() if n} for kind, counts in found.items()}


@pytest.mark.parametrize(("name", "numbers"), [*((n, "float") for n in FLOATS), *((n, "int8") for n in INTEGERS)])
def test_layers_execute_no_more_than_before(
    name: str, numbers: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if why_not():
        pytest.skip(str(why_not()))
    compiler = f"gcc {neon_count.versions()['gcc for aarch64'].partition('.')[0]}"
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    update = request.config.getoption("--update-golden")
    if not update and compiler not in stored:
        pytest.skip(f"no counts are stored for {CROSS} of version {compiler.removeprefix('gcc ')}")
    found = counted(name, numbers, tmp_path)
    key = f"{name} {numbers}"
    if update:
        stored.setdefault(compiler, {})[key] = found
        STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    for kind, classes in stored[compiler][key].items():
        before, now = sum(classes.values()), sum(found[kind].values())
        assert abs(now - before) <= TOLERANCE * before, (
            f"{key}, {kind}: {now} instructions and not {before}, by class {found[kind]} and not {classes}; "
            "if that is meant, --update-golden stores the new counts"
        )


BLOCK = """
    fmla v0.4s, v1.4s, v2.4s
    fmla v0.4s, v1.4s, v2.s[1]
    fmls v0.4s, v1.4s, v2.s[3]
    fmla v0.8h, v1.8h, v2.h[3]
    sdot v0.4s, v1.16b, v2.4b[1]
    udot v0.4s, v1.16b, v2.16b
    smmla v0.4s, v1.16b, v2.16b
    smlal2 v0.4s, v1.8h, v2.h[1]
    smull v0.8h, v1.8b, v2.8b
    sadalp v0.4s, v1.8h
    tbl v0.16b, {v1.16b}, v2.16b
    zip1 v0.4s, v1.4s, v2.4s
    ext v0.16b, v1.16b, v2.16b, #4
    dup v0.4s, v1.s[0]
    mov v0.16b, v1.16b
    movi v0.4s, #0
    fadd v0.4s, v1.4s, v2.4s
    mul v0.4s, v1.4s, v2.s[1]
    shl v0.4s, v1.4s, #3
    sshll v0.8h, v1.8b, #1
    sqxtn v0.4h, v1.4s
    fcvtn v0.4h, v1.4s
    fmadd s0, s1, s2, s3
    ldr q0, [%0]
    ld1r {v0.4s}, [%0]
    ld1 {v0.s}[1], [%0]
    ldp q0, q1, [%0]
    ld1 {v0.4s-v3.4s}, [%0]
    ld4 {v0.4s-v3.4s}, [%0]
    str q0, [%0]
    stp q0, q1, [%0]
    st1 {v0.4s}, [%0]
"""
CLASSES = {
    "fma": 3, "fma_fp16": 1, "dot": 2, "mmla": 1, "widening": 3, "permute": 6, "simd": 7,
    "vector_load": 3, "vector_loads": 3, "vector_store": 3,
}  # fmt: skip
"""How many of the block are of which class."""
PROGRAM = """
#include <stdlib.h>
static _Alignas(64) char data[256];
int main(int argc, char **argv)
{
    for (long n = atol(argv[argc - 1]); n > 0; n--)
        __asm__ volatile(".arch armv8.6-a+fp16\\n" BLOCK
                         : : "r"(data) : "v0", "v1", "v2", "v3", "memory");
    return 0;
}
"""


def test_classes(tmp_path: Path) -> None:
    if why_not():
        pytest.skip(str(why_not()))
    text = "".join(f'"{line.strip()}\\n"\n' for line in BLOCK.strip().splitlines())
    (tmp_path / "classes.c").write_text(PROGRAM.replace("BLOCK", text), encoding="utf-8")
    shell(CROSS, "-O2", "-static", "-o", "classes", "classes.c", cwd=tmp_path)
    found = neon_count.per_run([str(tmp_path / "classes")], CPUS["i8mm"], 10, 1000)
    assert {name: round(found[name], 1) for name in CLASSES} == CLASSES
    assert 0 < found["branch"] <= 2 and 0 < found["integer"] <= 4
    assert max(found["load"], found["store"]) < 0.1  # what starts the program reads its arguments


def test_functions(tmp_path: Path) -> None:
    """Of two functions of 300 and 500 instructions, of which the second is called twice."""
    if why_not():
        pytest.skip(str(why_not()))
    text = PROGRAM.replace("__asm__", "{ once(); twice(); twice(); } while (0) __asm__").replace("BLOCK", '""')
    nops = '__attribute__((noinline)) static void {}(void) {{ __asm__ volatile(".rept {}\\nnop\\n.endr"); }}\n'
    (tmp_path / "calls.c").write_text(nops.format("once", 299) + nops.format("twice", 499) + text, encoding="utf-8")
    shell(CROSS, "-O2", "-static", "-o", "calls", "calls.c", cwd=tmp_path)
    found = neon_count.by_function([str(tmp_path / "calls")], CPUS["dotprod"], 10, 100)
    assert (round(found["once"]), round(found["twice"])) == (300, 2 * 500)
    assert [*found][:2] == ["twice", "once"]
