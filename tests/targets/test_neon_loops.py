"""Inner loops by llvm-mca: shares of what cores multiply and issue at most, for every kind of loop with a bar."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path
from shutil import which

import pytest

from benchmarks import neon_mca
from benchmarks.neon_report import LEAST_IN_ORDER, LEAST_PEAK
from benchmarks.neon_results import Loop
from codegen.expression import Apply, Expression, Number, Operand
from codegen.library import Library, sources
from codegen.neon.depthwise_schedule import Slide, passes_of
from codegen.neon.gemm_half import HALF
from codegen.neon.gemm_model import schedule
from codegen.neon.gemm_schedule import FMLA, Instruction
from codegen.neon.in_order import ordered
from codegen.neon.int8_tiles import SDOT, DotTile
from codegen.neon.tailed import RELU
from codegen.neon.winograd import Input, Output
from codegen.neon.winograd_in_order import PATCHES, PRODUCTS, Part
from codegen.neon.winograd_in_order import loop as transform
from codegen.program import Kernel
from targets.neon.build import CROSS
from targets.neon.lower.depthwise import Plane, widths

pytestmark = pytest.mark.skipif(neon_mca.missing() is not None, reason="needs llvm-mca 19 and binutils for aarch64")

LAYERS = [*product((3, 5), (1, 2))]  # depthwise: kernel, stride
TILES = [(4, 4), (4, 6), (5, 4), (3, 6), (6, 3)]
TAILS: dict[str, Expression] = {
    "plain": Operand(0),
    "relu6": Apply("min", (RELU, Number(6.0))),
    "add": Apply("add", (Operand(0), Operand(1))),
}


def loop(lines: list[str], core: str) -> Loop:
    """A turn of a loop, with registers in the place of operands."""
    names: dict[str, str] = {}
    for name in re.findall(r"%\[(\w+)\]", "\n".join(lines)):
        names.setdefault(name, f"x{len(names) + 1}")
    body = [re.sub(r"%\[(\w+)\]", lambda found: names[found[1]], line) for line in lines]
    return neon_mca.measured("loop", [*body, "b.ne #-64"], core)


def turn(rows: int, vectors: int, instruction: Instruction, *, in_order: bool = False) -> list[str]:
    """That of a product of matrices."""
    if instruction == SDOT:
        return DotTile(rows, vectors, in_order).turn()
    made = schedule(rows, vectors, instruction, in_order=in_order)
    assert made is not None
    return made.turn()


@pytest.mark.parametrize(("tile", "instruction"), [*((tile, FMLA) for tile in TILES), (TILES[0], HALF)], ids=str)
@pytest.mark.parametrize("core", neon_mca.CORES)
def test_products_multiply_all_the_time(tile: tuple[int, int], instruction: Instruction, core: str) -> None:
    assert loop(turn(*tile, instruction), core).peak >= LEAST_PEAK


@pytest.mark.parametrize("core", neon_mca.CORES)
def test_products_of_bytes_multiply_all_the_time(core: str) -> None:
    assert loop(turn(4, 4, SDOT), core).peak >= LEAST_PEAK


@pytest.mark.parametrize(
    ("tile", "instruction"),
    [((8, 2), FMLA), ((7, 2), FMLA), ((8, 2), HALF), *(((n, 2), SDOT) for n in (5, 6, 7, 8))],
    ids=str,
)
def test_products_in_order(tile: tuple[int, int], instruction: Instruction) -> None:
    assert loop(turn(*tile, instruction, in_order=True), neon_mca.IN_ORDER).peak >= LEAST_IN_ORDER


def strips(kernel: int, stride: int, tail: Expression, *, in_order: bool) -> list[list[str]]:
    """The loops of each pass of a depthwise layer."""
    size, half = 56, (kernel - 1) // 2
    begins, out = (half if stride == 1 else half // 2, size // stride)
    plane = Plane(
        images=1,
        channels=64,
        size=(size, size),
        out=(out, out),
        kernel=(kernel, kernel),
        strides=(stride, stride),
        begins=(begins, begins),
    )
    (line,) = plane.lines
    loops: list[list[str]] = []
    for vectors in widths(line, plane, tail, in_order=in_order):
        cuts = passes_of(line, kernel, vectors, tail, in_order=in_order)
        for i, cut in enumerate(cuts):
            end = tail if i == len(cuts) - 1 else Operand(0)
            slide = Slide(line=line, vectors=vectors, tail=end, is_first=not i, in_order=in_order, **cut._asdict())
            loops.append([*slide.with_(line=slide.shortened).parts()[1], "subs %[count], %[count], #1"])
    return loops


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("kernel", "stride"), LAYERS)
def test_depthwise_strips_are_full(kernel: int, stride: int, tail: str) -> None:
    """Of multiply-accumulates and the other work of the same units, or of loads."""
    found = [loop(t, c) for t in strips(kernel, stride, TAILS[tail], in_order=False) for c in neon_mca.CORES]
    assert found and all(one.bound >= LEAST_PEAK for one in found), found


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("kernel", "stride"), LAYERS)
def test_depthwise_strips_in_order_are_full(kernel: int, stride: int, tail: str) -> None:
    """Of instructions: there are loads and stores to issue beside those that multiply."""
    found = [loop(t, neon_mca.IN_ORDER) for t in strips(kernel, stride, TAILS[tail], in_order=True)]
    assert found and all(one.bound >= LEAST_IN_ORDER for one in found), found


@pytest.mark.skipif(which(CROSS) is None, reason="needs gcc for aarch64")
@pytest.mark.parametrize("out", [2, 4])
def test_transforms_are_full(out: int, tmp_path: Path) -> None:
    """Those of Winograd's convolution, as gcc builds them: of additions and multiplications."""
    kernels: list[Kernel] = [
        Input(out=out, tiles=14, width=58, channels=64),
        Output(out=out, tiles=14, width=56, filters=64, tail=RELU),
    ]
    needed = [n for k in kernels for n in k.needs]
    library = Library("t", "t", [], [*needed, *kernels], [], [], [], 0, [], 0)
    for name, text in sources(library).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    built = [CROSS, "-O3", "-c", "kernels_winograd.c", "-o", "kernels.o"]
    subprocess.run(built, check=True, cwd=tmp_path)
    for kernel in kernels:
        lines = neon_mca.disassembled(tmp_path / "kernels.o", f"t_{kernel.name}")
        for core in neon_mca.CORES:
            found = neon_mca.simulated(tuple(largest(lines)), core)
            assert found.least >= LEAST_PEAK * found.cycles, (kernel.name, core, found)


@pytest.mark.parametrize("parts", [PATCHES, PRODUCTS], ids=["patches", "products"])
def test_transforms_in_order_are_full(parts: dict[int, list[Part]]) -> None:
    """The large ones, which layers use where they can; those of 4 x 4 places are too short for that."""
    found = neon_mca.simulated((*transform(parts[4], 6), "subs x1, x1, #1", "b.ne #-64"), neon_mca.IN_ORDER)
    assert found.least >= LEAST_IN_ORDER * found.cycles, found


def largest(lines: list[neon_mca.Line]) -> list[str]:
    """The inner loop with the most instructions: the smaller transforms have no multiplications."""
    return max(neon_mca.inner_loops(lines, least=0), key=len)


def test_order_keeps_what_instructions_need_of_each_other() -> None:
    lines = [
        "ldr q0, [%[x], #0]",
        "add %[x], %[x], %[step]",
        "fmla v1.4s, v0.4s, v2.4s",
        "fmax v1.4s, v1.4s, v3.4s",
        "str q1, [%[y], #0]",
        "ldr q1, [%[w], #0]",
        "ldr q4, [%[x], #0]",
        "fmla v5.4s, v4.4s, v2.4s",
    ]
    made = ordered(lines)
    assert sorted(made) == sorted(lines)
    chains = ([0, 1, 6, 7], [0, 2, 3, 4, 5])
    assert all(sorted(chain, key=lambda i: made.index(lines[i])) == chain for chain in chains)
    assert made.index(lines[6]) < made.index(lines[3]), "what waits is overtaken"
