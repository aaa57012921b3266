"""Images with a border of what stands for zero."""

from __future__ import annotations

from codegen.neon.border import Border
from codegen.program import Pointer
from targets.neon.int8.program import IntegerProgram
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.windows import Window
from targets.tflite.reader import STORED


def bordered(p: IntegerProgram, node: Node, window: Window, source: int = 0) -> tuple[Pointer, tuple[int, int]]:
    """Where an image lies with the border that its windows reach into, and its height and width with it."""
    x = node.tensor(source)
    images, height, width, channels = x.shape
    (top, bottom), (left, right) = window.padding((height, width))
    if not any((top, bottom, left, right)):
        return p.at(x), (height, width)
    tall, wide = height + top + bottom, width + left + right
    unit = STORED[x.dtype].itemsize
    fill = 0 if x.dtype == "FLOAT32" else node.zero_point(source)
    if unit > 1 and fill:
        raise node.refused("has a zero point of 16 bits")
    place = p.scratch(unit * images * tall * wide * channels, "bordered")
    title = f"a border of {top} above, {bottom} below, {left} left, {right} right"
    pixel = unit * channels
    line = (width * pixel, top, bottom, left * pixel, right * pixel)
    p.call(node, Border(), p.at(x), place, images, height, *line, fill, title=title)
    return place, (tall, wide)
