"""Data of GPU families, and the model of dispatches that is fed with them: its limits, and what must not fall when work
grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.metal.gemm import TILES
from codegen.metal.launch import (
    Gpu,
    Tile,
    busy,
    memory,
    occupancy,
    product,
    registers,
    roofline,
    tile_for,
    waves,
)
from compiler.errors import UsageError
from targets import devices
from targets.metal.families import chips, families, family, features, gpu

CONFIDENCES = {"documented", "measured-by-third-party", "inferred", "recalled"}
DATA = Path(devices.__file__).with_name("gpus.json")
M1 = gpu("M1")
sizes = st.integers(1, 3000)


def figures(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every figure of the file, with where it is."""
    if "value" in node:
        return [(path, node)]
    return [f for key, child in node.items() if isinstance(child, dict) for f in figures(child, f"{path}/{key}")]


def test_every_figure_says_where_it_is_from() -> None:
    found = figures(json.loads(DATA.read_text()))
    assert len(found) > 80
    assert [path for path, f in found if not f["source"] or f["confidence"] not in CONFIDENCES] == []
    known = {"value", "source", "confidence", "note"}
    assert [path for path, f in found if set(f) - known] == []
    assert all(
        "recalled" in f["source"] or f["source"].startswith(("https://", "github.com/", "the Metal")) for _, f in found
    )


def test_families_in_order() -> None:
    assert families() == ("apple7", "apple8", "apple9", "apple10")
    assert [family(name).number for name in families()] == [7, 8, 9, 10]
    assert family("Apple9").name == "apple9"
    assert {chip.family for chip in chips().values()} == set(families())
    assert [family(name).chip.family for name in families()] == list(families())
    assert all(
        chip.name in family(chip.family).members or "larger" in family(chip.family).members for chip in chips().values()
    )


@pytest.mark.parametrize("name", families())
def test_limits(name: str) -> None:
    limits = {key: figure.value for key, figure in family(name).limits.items()}
    wanted = ("threads_per_threadgroup", "threadgroup_memory", "threadgroup_memory_alignment", "simd_width", "buffers")
    assert [limits[key] for key in wanted] == [1024, 32768, 16, 32, 31]
    assert limits["memory_per_core"] >= limits["threadgroup_memory"]
    assert limits["fp16"] >= limits["fp32"] > limits["matrix_fp32"]


def test_features() -> None:
    assert {name: [f for f in families() if family(f).has(name)] for name in ("simdgroup_matrix", "atomics_64")} == {
        "simdgroup_matrix": list(families()),
        "atomics_64": ["apple9", "apple10"],
    }
    assert [f for f in families() if family(f).has("simdgroup_async_copy")] == []
    assert [f for f in families() if family(f).has("simd_shuffle_and_fill")] == ["apple8", "apple9", "apple10"]
    assert features()["bfloat"].since == 6
    with pytest.raises(KeyError):
        family().has("textures of four dimensions")


@pytest.mark.parametrize("ask", [family, gpu])
@pytest.mark.parametrize("name", ["apple6", "M99", "", "nvidia"])
def test_what_is_unknown_is_said(ask: Any, name: str) -> None:
    with pytest.raises(UsageError) as raised:
        ask(name)
    assert repr(name) in str(raised.value)
    assert "apple7" in str(raised.value.hint) and "apple10" in str(raised.value.hint)


def test_a_chip_is_its_family_but_for_what_it_says() -> None:
    assert (gpu().name, gpu("apple10").name, gpu("m1 max").name) == ("M1", "M5", "M1 Max")
    assert gpu("A14").fp32 == M1.fp32 / 2
    assert gpu("A14").fp16 == M1.fp16
    assert (M1.cores, M1.clock, M1.bandwidth) == (8, 1.278e9, 68e9)
    assert gpu("M1 Max")._replace(name="M1", cores=8, clock=M1.clock, bandwidth=M1.bandwidth) == M1


@pytest.mark.parametrize("name", [*families(), "A14", "A15"])
def test_peaks_are_those_that_are_published(name: str) -> None:
    """cores x clock x operations a cycle, in GFLOPS; from 1 % off."""
    published = {"apple7": 2617, "apple8": 3579, "apple9": 3760, "apple10": 4450, "A14": 654, "A15": 1713}
    g = gpu(name)
    assert g.cores * g.clock * g.fp32 / 1e9 == pytest.approx(published[name], rel=0.01)


def test_occupancy() -> None:
    assert occupancy(M1, 1024) == (3, 96, 1.0, "threads")
    assert occupancy(M1, 128, 16384) == (3, 12, 384 / 3072, "memory")
    assert occupancy(M1, 128, 1)[0] == 24  # 16 bytes, of which there are many
    assert occupancy(M1, 1024, registers=52) == (1, 32, 1024 / 3072, "registers")
    assert occupancy(M1, 33).share == occupancy(M1, 64).share  # whole simdgroups


@pytest.mark.parametrize(("threads", "memory", "registers"), [(0, 0, 0), (1025, 0, 0), (32, 32769, 0), (1024, 0, 53)])
def test_what_no_core_holds(threads: int, memory: int, registers: int) -> None:
    with pytest.raises(ValueError, match="M1"):
        occupancy(M1, threads, memory, registers)


@given(st.integers(1, 1024), st.integers(0, 32768), st.integers(0, 50), st.integers(0, 5000), st.integers(0, 10))
def test_more_of_anything_lets_no_more_in(threads: int, nbytes: int, used: int, more: int, others: int) -> None:
    found = occupancy(M1, threads, nbytes, used)
    assert 0 < found.share <= 1
    assert found.threadgroups * threads <= M1.threads_per_core
    assert found.threadgroups * nbytes <= M1.memory_per_core
    assert found.threadgroups * threads * used * 4 <= M1.registers_per_core
    if nbytes + more <= 32768:
        assert occupancy(M1, threads, nbytes + more, used).threadgroups <= found.threadgroups
    if used and used + others <= 50:
        assert occupancy(M1, threads, nbytes, used + others).threadgroups <= found.threadgroups


def test_a_busy_core() -> None:
    """The published cycles of an instruction: 11.34, 2.75 and 1.02 with 4, 4 and 88 simdgroups."""
    assert 1 / busy(M1, 4) == pytest.approx(11.34, rel=0.02)
    assert 1 / busy(M1, 4, 4) == pytest.approx(2.75, rel=0.03)
    assert busy(M1, 88) == busy(M1, 88, 4) == 1
    assert busy(M1, 4, 4) == busy(M1, 4, 16)


def test_roofline() -> None:
    much = roofline(1e12, 1, M1)
    assert much.bound == "arithmetic"
    assert much.seconds == pytest.approx(1e12 / 2617e9, rel=0.01)
    read = roofline(1, 68e9, M1)
    assert read.bound == "memory"
    assert read.seconds == pytest.approx(1, rel=0.01)
    assert roofline(1, 1, M1).bound == "launch"
    assert roofline(1, 1, M1).seconds >= M1.dispatch
    assert roofline(1e9, 1e6, M1, 1).seconds > 7 * roofline(1e9, 1e6, M1, 8, 1024).seconds  # one core of eight
    assert roofline(1e9, 1, M1, 9, 1024).arithmetic > roofline(1e9, 1, M1, 16, 1024).arithmetic  # a wave of one
    assert roofline(1e9, 1, gpu("A14"), half=True).arithmetic == roofline(1e9, 1, gpu("A14")).arithmetic / 2


@given(st.floats(0, 1e12), st.floats(0, 1e10), st.floats(1, 4), st.integers(1, 4000), st.integers(1, 1024))
def test_more_work_takes_no_less(flops: float, nbytes: float, times: float, groups: int, threads: int) -> None:
    base = roofline(flops, nbytes, M1, groups, threads).seconds
    assert roofline(flops * times, nbytes, M1, groups, threads).seconds >= base
    assert roofline(flops, nbytes * times, M1, groups, threads).seconds >= base
    assert roofline(flops, nbytes, M1).seconds <= base  # nothing is faster than all of the GPU
    faster = M1._replace(bandwidth=M1.bandwidth * times, clock=M1.clock * times)
    assert roofline(flops, nbytes, faster, groups, threads).seconds <= base


def test_waves() -> None:
    assert [waves(M1, n) for n in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("tile", TILES, ids=lambda t: t.name)
@pytest.mark.parametrize("element", [2, 4])
@pytest.mark.parametrize("name", families())
def test_tiles_fit_every_family(tile: Tile, element: int, name: str) -> None:
    found = occupancy(gpu(name), tile.simdgroups * 32, memory(tile, element), registers(tile, element))
    assert found.threadgroups >= 2  # one copies while another computes
    assert tile.rows % tile.rows_of == tile.columns * tile.rows_of % tile.simdgroups == tile.depth % 8 == 0


@given(
    sizes,
    sizes,
    sizes,
    st.sampled_from(TILES),
    st.sampled_from((2, 4)),
    st.integers(0, 500),
)
def test_a_larger_product_takes_no_less(m: int, n: int, k: int, tile: Tile, element: int, more: int) -> None:
    def seconds(m: int, n: int, k: int, g: Gpu = M1) -> float:
        return product(m, n, k, g, tile, element=element).estimate.seconds * (1 + 1e-12)

    base = product(m, n, k, M1, tile, element=element).estimate
    assert min(seconds(m + more, n, k), seconds(m, n + more, k), seconds(m, n, k + more)) >= base.seconds
    assert seconds(m, n, k, M1._replace(cores=16)) <= base.seconds * (1 + 1e-9)
    assert base.seconds >= 2 * m * n * k / (M1.cores * M1.clock * M1.fp32)  # no more than the peak


@given(sizes, sizes, sizes)
def test_the_choice_is_the_least(m: int, n: int, k: int) -> None:
    chosen = tile_for(m, n, k, M1, TILES)
    assert chosen.estimate.seconds == min(product(m, n, k, M1, tile).estimate.seconds for tile in TILES)
    assert chosen.threadgroups == -(-m // chosen.tile.rows) * -(-n // chosen.tile.columns)


def test_choices() -> None:
    """Large products take large tiles, thin ones thin tiles."""
    assert tile_for(4096, 4096, 4096, M1, TILES).tile.name == "64x64"
    assert tile_for(20, 20, 64, M1, TILES).tile.name == "32x32"
    assert tile_for(20, 4096, 512, M1, TILES).tile.name in ("32x32", "32x64")
    large = tile_for(4096, 4096, 4096, M1, TILES)
    assert large.estimate.bound == "arithmetic"
    assert 2 * 4096**3 / large.estimate.seconds / 1e9 == pytest.approx(
        2 * 102.5 * 8 * 1.278, rel=0.02
    )  # the matrix peak
    one, eight = (product(256, 256, 256, M1, large.tile, batch=batch) for batch in (1, 8))
    assert eight.threadgroups == 8 * one.threadgroups and eight.estimate.seconds > one.estimate.seconds
