"""Windows and filter banks of signal processing, which are constants."""

from __future__ import annotations

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.op import OnnxNode
from compiler.tensor import F32, Array, DType

COSINES = {  # weights of cos(0), cos(t), cos(2 t), with t running from 0 to 2 pi over the window
    "HannWindow": (0.5, -0.5, 0.0),
    "HammingWindow": (25 / 46, -21 / 46, 0.0),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


LARGEST = 1 << 26  # elements; nothing real comes near


def expect_bounded(elements: int, what: str) -> None:
    """Raise OnnxError if a constant that a few numbers describe would have an absurd number of elements."""
    if not 0 <= elements <= LARGEST:
        raise OnnxError(f"{what} of {elements} elements is not supported")


@importer(*COSINES)
def window(node: OnnxNode, b: LayerBuilder) -> Value:
    """A generalized cosine window; a periodic one is the symmetric one that is longer by 1, without its last point."""
    size = int(node.scalar("", 0))
    expect_bounded(size, "a window")
    steps = size if node.attr("periodic", 1) else size - 1
    angle = 2 * np.pi * np.arange(size) / max(steps, 1)
    values = sum(weight * np.cos(i * angle) for i, weight in enumerate(COSINES[node.op_type]))
    dtype: DType = node.attr("output_datatype", F32)
    return b.const(np.asarray(values).astype(dtype.numpy))


@importer("MelWeightMatrix")
def mel_weight_matrix(node: OnnxNode, b: LayerBuilder) -> Value:
    """Triangular filters [dft_length // 2 + 1, bins], evenly spaced on the mel scale."""
    bins, length, rate = (int(node.scalar("", i)) for i in range(3))
    low, high = (2595 * np.log10(1 + float(node.scalar("", i)) / 700) for i in (3, 4))
    if bins < 1 or length < 1 or rate < 1:
        raise OnnxError(f"a mel matrix needs positive sizes, got {bins} bins, length {length}, rate {rate}")
    expect_bounded(bins * length, "a mel matrix")
    mels = np.arange(bins + 2) * (high - low) / (bins + 2) + low
    edges = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate).astype(int)
    if edges[-1] > length // 2 + 1 or edges[0] < 0:
        raise OnnxError("the edges of the mel filters are not between 0 and half of the sample rate")
    dtype: DType = node.attr("output_datatype", F32)
    filters = [_triangle(length // 2 + 1, *(int(v) for v in edges[i : i + 3])) for i in range(bins)]
    return b.const(np.stack(filters, 1).astype(dtype.numpy))


def _triangle(size: int, left: int, centre: int, right: int) -> Array:
    """A filter that rises from 0 at `left` to 1 at `centre` and falls to 0 at `right`."""
    at = np.arange(size)
    rise = (at - left) / max(centre - left, 1)
    fall = (right - at) / max(right - centre, 1)
    rising = (at >= left) & (at <= centre) if centre > left else np.zeros(size, bool)
    falling = (at >= centre) & (at < right)
    return np.where(falling, fall, np.where(rising, rise, at == centre))
