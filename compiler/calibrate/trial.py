"""A few rows of data on which quantized graphs are compared with the floats that they stand for.

    Trial(feeds).snr(graph) -> dB

The signal-to-noise ratio of an output is 10 log10(sum of squares / sum of squared differences) over all rows; that of
a graph is the mean over its outputs of floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log10

import numpy as np

from compiler.calibrate.run import calibrate, ranges_of
from compiler.graph import Graph, Value
from compiler.onnx_export import export_bytes
from compiler.oracle import open_session, run_session
from compiler.simulate import simulated
from compiler.tensor import Array

SILENT, EXACT = -100.0, 200.0  # dB of an output that is all noise, and of one without any
Outputs = list[dict[str, Array]]  # by name, for each row


class Trial:
    """`feeds` are the inputs of each run. What the graph gives in floats is computed once, for the first graph that is
    asked about: all graphs are to be the same function."""

    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self.feeds: Sequence[Mapping[str, Array]] = list(feeds)
        self._reference: Outputs | None = None

    def reference(self, graph: Graph) -> Outputs:
        """The outputs in floats."""
        if self._reference is None:
            self._reference = self.run(simulated(graph, only=()).graph)
        return self._reference

    def run(self, graph: Graph) -> Outputs:
        """The outputs of a graph as it is, whatever its annotations say."""
        session = open_session(export_bytes(graph))
        return [run_session(session, feed) for feed in self.feeds]

    def snr(self, graph: Graph) -> float:
        """Signal-to-noise ratio in dB, the mean over the outputs, rounded where the graph is annotated."""
        return mean_snr(self.reference(graph), self.run(simulated(graph).graph))

    def snrs(self, graph: Graph) -> list[float]:
        """That of each output of floats."""
        return output_snrs(self.reference(graph), self.run(simulated(graph).graph))

    def ranges(self, graph: Graph) -> dict[Value, tuple[float, float]]:
        """The smallest and the largest number of every value of floats in these rows."""
        return ranges_of(calibrate(graph, list(self.feeds), "minmax"), graph)


def mean_snr(reference: Outputs, results: Outputs) -> float:
    """The mean over all outputs of floats; EXACT for a graph without any."""
    found = output_snrs(reference, results)
    return sum(found) / len(found) if found else EXACT


def output_snrs(reference: Outputs, results: Outputs) -> list[float]:
    """Signal-to-noise ratio in dB of each output of floats."""
    names = [name for name, array in reference[0].items() if array.dtype.kind == "f"]
    return [snr([r[n] for r in reference], [r[n] for r in results]) for n in names]


def snr(reference: Sequence[Array], results: Sequence[Array]) -> float:
    """Signal-to-noise ratio in dB of one value over several rows; from SILENT to EXACT. What is not finite in the
    reference does not count."""
    signal = noise = 0.0
    for a, b in zip(reference, results, strict=True):
        finite = np.isfinite(a)
        kept, given = a[finite].astype(np.float64), b[finite].astype(np.float64)
        signal += float(np.square(kept).sum())
        noise += float(np.square(kept - given).sum())
    if noise == 0.0:
        return EXACT
    if signal == 0.0 or not np.isfinite(noise):
        return SILENT
    return min(max(10 * log10(signal / noise), SILENT), EXACT)
