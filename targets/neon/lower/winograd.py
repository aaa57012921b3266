"""Convolutions by Winograd's transforms, where these take fewer instructions than the direct way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codegen.neon.conv import Geometry
from codegen.neon.gemm import SIZE, WIDTH, Gemm
from codegen.neon.gemm_model import Tiles, tiles
from codegen.neon.winograd import Winograd, accuracy, transformed
from codegen.program import Pointer, Split
from compiler.graph import Node
from compiler.tensor import Array
from targets.neon.blocking import Core
from targets.neon.lower.matmul import OVERREAD, gemm, packed
from targets.neon.program import NeonProgram

INPUT = {2: 85, 4: 265}  # instructions to transform a patch of four channels
OUTPUT = {2: 55, 4: 180}  # and products of four filters
LEAST_DB = 80.0  # of the results of a layer against exact ones
FETCH = 8  # bytes of weights beyond the second-level cache that take as long as an instruction


class Choice(NamedTuple):
    """A way to compute a layer: pixels of a tile's side, lines of tiles at a time, what it costs in instructions."""

    out: int
    block: int
    cost: float


def choice(shape: Geometry, direct: Tiles, core: Core) -> Choice | None:
    """The way that takes the fewest instructions; None if that is the direct one."""
    is_square = shape.kernel == (3, 3) and shape.strides == shape.dilations == (1, 1) and shape.groups == 1
    if not is_square or shape.channels % WIDTH or shape.filters % WIDTH:
        return None
    size = shape.channels * shape.filters
    least = direct.cost * shape.images + fetched(9 * size, core)
    found = min((_planned(shape, out, core) for out in (2, 4)), key=lambda c: c.cost)
    return found if found.cost < least else None


def fetched(weights: int, core: Core) -> float:
    """What it takes to read weights that no cache near the core holds."""
    return SIZE * weights / FETCH if SIZE * weights > core.l2 else 0.0


def _planned(shape: Geometry, out: int, core: Core) -> Choice:
    """The best number of lines of tiles at a time: their patches and products are to stay in the second level, unless
    that leaves too few rows for good tiles."""
    lines, across = (-(-n // out) for n in shape.out)
    places = (out + 2) ** 2
    ends = lines * across * (INPUT[out] * shape.channels + OUTPUT[out] * shape.filters) / WIDTH
    weights = places * shape.channels * shape.filters
    best: Choice | None = None
    for block in range(1, lines + 1):
        nbytes = SIZE * block * across * places * (shape.channels + shape.filters)
        if best is not None and nbytes > core.l2 * 2:
            break
        many, left = divmod(lines, block)
        cost = ends + many * _products(block * across, shape, places, core)
        cost += _products(left * across, shape, places, core) if left else 0.0
        cost = shape.images * (cost + fetched(weights, core) * (many + bool(left)))
        if best is None or cost < best.cost:
            best = Choice(out, block, cost)
    assert best is not None
    return best


def _products(rows: int, shape: Geometry, places: int, core: Core) -> float:
    return places * tiles(rows, shape.filters, shape.channels, in_order=core.is_in_order).cost


def winograd(shape: Geometry, chosen: Choice, core: Core) -> tuple[Winograd, Tiles]:
    """The kernel of a layer, and how its products are cut."""
    lines, across = (-(-n // chosen.out) for n in shape.out)
    in_order = core.is_in_order
    cut = tiles(chosen.block * across, shape.filters, shape.channels, in_order=in_order)
    made, counts = _gemm(cut, shape.channels, in_order)
    last: Gemm | None = None
    last_counts: tuple[int, ...] = ()
    if left := lines % chosen.block:
        rows = tiles(left * across, shape.filters, shape.channels, vectors=cut.vectors, in_order=in_order)
        last, last_counts = _gemm(rows, shape.channels, in_order)
    kernel = Winograd(
        out=chosen.out,
        images=shape.images,
        height=shape.height,
        width=shape.width,
        channels=shape.channels,
        filters=shape.filters,
        out_height=shape.out[0],
        out_width=shape.out[1],
        block=chosen.block,
        gemm=made,
        counts=counts,
        last_gemm=last,
        last_counts=last_counts,
    )
    return kernel, cut


def _gemm(cut: Tiles, k: int, in_order: bool) -> tuple[Gemm, tuple[int, ...]]:
    counts = (cut.count, cut.last_count) if cut.last_rows else (cut.count,)
    return gemm(cut, k, in_order=in_order).with_(is_strided=True), counts


def border(shape: Geometry, out: int) -> tuple[int, int]:
    """Lines and columns that the last tiles reach beyond the image."""
    lines, across = ((-n) % out for n in shape.out)
    return lines, across


def packed_transformed(w: Array, bias: Array, out: int, cut: Tiles) -> Array:
    """The matrices of all places, of which one has the biases."""
    u = transformed(w, out).astype(np.float32)
    places = [packed(m, bias if i == out + 3 else np.zeros_like(bias), cut)[:-OVERREAD] for i, m in enumerate(u)]
    return np.concatenate([*places, np.zeros(OVERREAD, np.float32)])


def lower(p: NeonProgram, node: Node, x: Pointer, shape: Geometry, chosen: Choice, w: Array, bias: Array) -> None:
    """Write the calls of a layer whose image has its borders."""
    tail = p.tail(node)
    kernel, cut = winograd(shape, chosen, p.core)
    kernel = kernel.with_(tail=tail.expression)
    name = node.inputs[1].name if node.inputs[1] is not None else "w"
    weights = p.constant(packed_transformed(w, bias, chosen.out, cut), name or "w")
    others = [p.at(v) for v in tail.others]
    own = {"v": kernel.scratch(shape.channels), "z": kernel.scratch(shape.filters)}
    scratch = [p.scratch(p.threads * own[at], f"{name}_{what}") for at, what in (("v", "patches"), ("z", "products"))]
    y = p.result(tail.value)
    title = f"3x3 convolution, {shape.channels} to {shape.filters} channels, F({chosen.out}x{chosen.out}, 3x3)"
    split = Split(kernel.lines, begin="begin", end="end", own=own, grain=kernel.block)
    p.call(kernel, x, weights, *others, y, *scratch, 0, kernel.lines, node=node, title=title, split=split)


def is_accurate(w: Array, out: int) -> bool:
    """Whether results for random images have so few errors as they are to have; some filters are looked at."""
    return accuracy(w[:: max(1, len(w) // 64)], out) >= LEAST_DB
