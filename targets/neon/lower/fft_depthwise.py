"""Which depthwise convolutions are computed by Fourier transforms: those with filters so large that it takes far fewer
instructions. Transformed filters take more memory than filters, so that a little fewer are not enough."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from codegen.expression import Expression
from codegen.neon.fft import Stage
from codegen.neon.fft_depthwise import WIDTH, FftDepthwise, batched, cost
from codegen.program import Split
from compiler.record import Record
from compiler.tensor import Array

if TYPE_CHECKING:
    from compiler.graph import Node, Value
    from targets.neon.program import NeonProgram

Pair = tuple[int, int]
STRIPS, PIXELS = 0.34, 0.73  # instructions of a multiply-add by the direct kernels for large filters, as counted
GAIN = 2.0  # how many times fewer instructions there have to be
LEAST_TAPS = 64  # of a filter for which anything is tried
SIZE = 4  # bytes of a float
LONGEST = 256  # points along an axis


class Large(Record):
    """A depthwise layer with strides and dilations of 1: pairs are [height, width]."""

    images: int
    channels: int
    size: Pair
    out: Pair
    kernel: Pair
    begins: Pair


def chosen(layer: Large, tail: Expression, rate: float) -> FftDepthwise | None:
    """The kernel; None where the direct one is to be taken, which executes so many instructions for a multiply-add."""
    if layer.channels % WIDTH or prod(layer.kernel) < LEAST_TAPS or min(layer.kernel) < 2 or not prod(layer.out):
        return None
    direct = (
        WIDTH
        * rate
        * prod(
            inside(n, out, taps, begin)
            for n, out, taps, begin in zip(layer.size, layer.out, layer.kernel, layer.begins, strict=True)
        )
    )
    best, points, tile = min(_cuts(layer), default=(direct, layer.size, layer.out))
    if best * GAIN > direct:
        return None
    return FftDepthwise(
        height=layer.size[0],
        width=layer.size[1],
        channels=layer.channels,
        out=layer.out,
        kernel=layer.kernel,
        begins=layer.begins,
        tile=tile,
        points=points,
        tail=tail,
    )


def _cuts(layer: Large) -> list[tuple[float, Pair, Pair]]:
    """Costs of four channels of an image, with the points and the tiles that they are of."""
    down, along = (_axis(out, taps) for out, taps in zip(layer.out, layer.kernel, strict=True))
    found = []
    for rows, high in down:
        for columns, wide in along:
            tiles = -(-layer.out[0] // high) * -(-layer.out[1] // wide)
            found.append((-(-tiles // 2) * cost((rows, columns), (high, wide)), (rows, columns), (high, wide)))
    return found


def _axis(out: int, taps: int) -> list[Pair]:
    """Points of a transform, and results that these give, for one to four tiles along an axis."""
    found = []
    for parts in range(1, 5):
        tile = -(-out // parts)
        points = next((n for n in range(tile + taps - 1, LONGEST + 1) if batched(n, WIDTH)), None)
        found += [] if points is None else [(points, tile)]
    return found


def inside(size: int, out: int, taps: int, begin: int) -> int:
    """Taps of all results along an axis that are not in the border."""
    at = np.arange(out)[:, None] - begin + np.arange(taps)
    return int(((at >= 0) & (at < size)).sum())


def spectra(kernel: FftDepthwise, filters: Array) -> Array:
    """Of filters [height, width, channels]: for four channels at a time the real parts beside the imaginary ones, of
    the transform that correlates, divided by the number of points."""
    made = np.conj(np.fft.fft2(filters.astype(np.float64), kernel.points, (0, 1))) / prod(kernel.points)
    parts = np.stack([made.real, made.imag], 2)  # [height, width, part, channels]
    grouped = parts.reshape(*kernel.points, 2, kernel.groups, WIDTH)
    return np.ascontiguousarray(np.moveaxis(grouped, 3, 0)).astype(np.float32)


def factors(kernel: FftDepthwise) -> Array:
    """Of the passes along the width, then of those along the height; the last ones have none."""
    return np.concatenate([turns(stage) for stages in kernel.stages for stage in stages[:-1]]).astype(np.float32)


def turns(stage: Stage) -> Array:
    """e^(-2 pi i p k / n) of a pass, in pairs."""
    n = stage.radix * stage.groups
    powers = np.exp(-2j * np.pi * (np.outer(np.arange(stage.groups), np.arange(1, stage.radix)) % n) / n)
    return np.stack([powers.real, powers.imag], -1).reshape(-1)


def transformed(p: NeonProgram, node: Node, x: Value, kernel: FftDepthwise, filters: Array, bias: Array) -> None:
    """The step of a layer."""
    tail = p.tail(node)
    images = prod(tail.value.type.dims) // kernel.result
    constants = [
        p.constant(made, name)
        for made, name in (
            (spectra(kernel, filters), "spectra"),
            (factors(kernel), "factors"),
            (bias.astype(np.float32), "bias"),
        )
    ]
    others = [p.at(v) for v in tail.others]
    own = SIZE * kernel.room
    places = [p.at(x), *constants, *others, p.result(tail.value), p.scratch(own * p.threads, "tiles")]
    items = images * kernel.groups
    title = (
        f"depthwise {'x'.join(map(str, kernel.kernel))} convolution by Fourier transforms, {kernel.channels} channels"
    )
    split = Split(items, begin="begin", end="end", own={"scratch": own})
    p.call(kernel, *places, 0, items, node=node, title=title, split=split)
