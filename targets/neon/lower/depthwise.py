"""Depthwise convolutions: strips of channels that slide along lines, or any filter pixel by pixel."""

from __future__ import annotations

import numpy as np

from codegen.expression import Expression
from codegen.neon.depthwise import Depthwise, DepthwiseAny
from codegen.neon.depthwise_schedule import WIDEST, Line, passes_of
from codegen.neon.fft_depthwise import FftDepthwise
from codegen.neon.gemm import SIZE, WIDTH
from codegen.program import Pointer, Split
from compiler import ops
from compiler.graph import Node
from compiler.record import Record
from compiler.tensor import Array
from targets.neon.blocking import Core, block
from targets.neon.lower.fft_depthwise import PIXELS, STRIPS, Large, transformed
from targets.neon.lower.fft_depthwise import chosen as large_kernel
from targets.neon.program import NeonProgram
from targets.source.lower.moving import dense, move
from targets.source.lower.products import bias_of

Pair = tuple[int, int]
SUMS = 4  # vectors of results that are summed up at once, so that additions seldom wait for each other


class Plane(Record):
    """A depthwise layer over two axes, each pair [height, width]; `begins` lines and columns of border come first."""

    images: int
    channels: int
    size: Pair
    out: Pair
    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    begins: Pair = (0, 0)

    @property
    def starts(self) -> list[int]:
        """The column of the image that each of the first pixels of a line reads first, as many as taps are apart."""
        spacing = self.dilations[1]
        return [(pixel - self.begins[1]) % spacing for pixel in range(min(spacing, self.out[1]))]

    @property
    def lines(self) -> list[Line]:
        """Along the width, for each of these; none if strips cannot slide there."""
        spacing = self.dilations[1]
        if spacing > 1 and (self.strides[1] > 1 or self.out[1] < spacing):
            return []
        made = [self._line(pixel, start) for pixel, start in enumerate(self.starts)]
        can_slide = all(m.stride <= m.kernel and max(m.left, m.right) < m.kernel and m.steps > 0 for m in made)
        return made if can_slide else []

    def _line(self, pixel: int, start: int) -> Line:
        kernel, stride, spacing = self.kernel[1], self.strides[1], self.dilations[1]
        left = (self.begins[1] - pixel + start) // spacing
        out, size = (-(-(n - first) // spacing) for n, first in ((self.out[1], pixel), (self.size[1], start)))
        right = max(stride * (out - 1) + kernel - left - size, 0)
        return Line(kernel=kernel, stride=stride, left=left, right=right, out=out)


def depthwise(p: NeonProgram, node: Node, op: ops.Conv) -> None:
    """A convolution with as many groups as channels, over one or two axes, of channels-last floats with constant
    filters [groups * many, 1, *K]."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None and w.data is not None
    tail = p.tail(node)
    plane = plane_of(node, op)
    filters = np.moveaxis(np.asarray(w.data)[:, 0].reshape(-1, *plane.kernel), 0, -1)
    large = None if x.type.dims[1] != plane.channels else by_transforms(plane, tail.expression, p.core)
    if large is not None:
        transformed(p, node, x, large, filters, bias_of(b, plane.channels))
        return
    kernel, weights, numbers = chosen(
        plane, filters, bias_of(b, plane.channels), tail.expression, in_order=p.core.is_in_order
    )
    source = p.at(x) if x.type.dims[1] == plane.channels else _repeated(p, node, plane)
    constant = p.constant(weights, w.name or "w")
    others = [p.at(v) for v in tail.others]
    title = f"depthwise {'x'.join(map(str, plane.kernel))} convolution, {plane.channels} channels"
    split = Split(plane.out[0], begin="begin", end="end")
    y = p.result(tail.value)
    p.call(kernel, source, constant, *others, y, *numbers, node=node, title=title, split=split)


def by_transforms(plane: Plane, tail: Expression, core: Core) -> FftDepthwise | None:
    """The kernel for a layer with large filters; None if the direct one is to be taken."""
    if (plane.strides, plane.dilations) != ((1, 1), (1, 1)):
        return None
    lines = plane.lines
    slides = lines and widths(lines[0], plane, tail, in_order=core.is_in_order)
    names = ("images", "channels", "size", "out", "kernel", "begins")
    large = Large(**{name: getattr(plane, name) for name in names})
    return large_kernel(large, tail, STRIPS if slides else PIXELS)


def plane_of(node: Node, op: ops.Conv) -> Plane:
    """What is known of a layer; one axis becomes the width."""
    x, w = node.inputs[:2]
    assert x is not None and w is not None
    n, _, *size = x.type.dims
    axes = len(size)

    def pair(values: tuple[int, ...], fill: int) -> Pair:
        return (fill, values[0]) if axes == 1 else (values[0], values[1])

    return Plane(
        images=n,
        channels=w.type.dims[0],
        size=pair(tuple(size), 1),
        out=pair(node.output.type.dims[2:], 1),
        kernel=pair(w.type.dims[2:], 1),
        strides=pair(op.strides, 1),
        dilations=pair(op.dilations, 1),
        begins=pair(op.pads[:axes], 0),
    )


def chosen(
    plane: Plane, filters: Array, bias: Array, tail: Expression, *, in_order: bool = False
) -> tuple[Depthwise | DepthwiseAny, Array, list[int]]:
    """The kernel of a layer with filters [height, width, channels], its weights, and its arguments that count."""
    numbers = [plane.images, *plane.size, plane.channels, *plane.out, 0, plane.out[0], plane.begins[0]]
    lines = plane.lines
    vectors = widths(lines[0], plane, tail, in_order=in_order) if lines else ()
    if not lines or not vectors:
        steps = [*plane.kernel, *plane.strides, *plane.dilations, plane.begins[1]]
        weights = np.concatenate([bias.reshape(-1), filters.reshape(-1)]).astype(np.float32)
        return DepthwiseAny(tail=tail), weights, [*numbers, *steps]
    kernel = Depthwise(
        lines=tuple(lines),
        starts=tuple(plane.starts),
        passes=tuple(passes_of(lines[0], plane.kernel[0], v, tail, in_order=in_order) for v in vectors),
        vectors=vectors,
        stride=plane.strides[0],
        spacing=plane.dilations[0],
        tail=tail,
        in_order=in_order,
    )
    kernel = kernel.with_(lines=tuple(kernel.shortened(line) for line in lines))
    pitch = SIZE * plane.strides[0] * plane.size[1] * plane.channels
    return kernel, packed(filters, bias, vectors), [*numbers, block(plane.out[0], pitch) if len(lines) == 1 else 1]


def widths(line: Line, plane: Plane, tail: Expression, *, in_order: bool = False) -> tuple[int, ...]:
    """The widths of strips for a layer, in vectors: those that need the fewest passes and that its channels fill. A
    strip that sums up too few results at once waits for them."""
    passes = {v: len(passes_of(line, plane.kernel[0], v, tail, in_order=in_order)) for v in range(WIDEST, 0, -1)}
    possible = [v for v, n in passes.items() if n and plane.channels >= WIDTH * v]
    busy = [v for v in possible if line.live() * v >= SUMS] or possible[:1]
    best = min(busy, key=lambda v: passes[v], default=0)
    narrower = tuple(v for v in possible if v <= best)
    used = {v for v, _ in groups(plane.channels, narrower)} if narrower else set()
    return tuple(v for v in narrower if v in used)


def groups(channels: int, vectors: tuple[int, ...]) -> list[tuple[int, int]]:
    """For each strip its width in vectors and its first channel, as the kernel goes through them; strips of the last
    channels overlap with those before."""
    made: list[tuple[int, int]] = []
    done = 0
    while done < channels:
        left = channels - done
        wide = next((v for v in vectors if left > WIDTH * v // 2 and channels >= WIDTH * v), vectors[-1])
        first = channels - WIDTH * wide if left < WIDTH * wide else done
        made.append((wide, first))
        done = first + WIDTH * wide
    return made


def packed(filters: Array, bias: Array, vectors: tuple[int, ...]) -> Array:
    """[height, width, channels] and [channels] as strips read them: for each its biases, then its taps."""
    flat = np.concatenate([bias.reshape(1, -1), filters.reshape(-1, filters.shape[-1])]).astype(np.float32)
    strips = groups(flat.shape[1], vectors)
    return np.concatenate([flat[:, first : first + WIDTH * v].reshape(-1) for v, first in strips])


def _repeated(p: NeonProgram, node: Node, plane: Plane) -> Pointer:
    """The image with each channel as often as it has filters."""
    x = node.inputs[0]
    assert x is not None
    channels = x.type.dims[1]
    sizes = [x.type.size // channels, channels, plane.channels // channels]
    to = p.scratch(SIZE * x.type.size // channels * plane.channels, f"{x.name or 'image'}_repeated")
    source = (p.at(x), [channels, 1, 0])
    move(p, node, x.type.dtype, source, (to, dense(sizes)), sizes, f"each channel {sizes[2]} times")
    return to
