"""The ranges of a graph's values, from calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.calibrate.record import Calibration
from compiler.calibrate.run import calibrate, ranges_of
from compiler.calibrate.sources import Feeds
from compiler.graph import Graph
from compiler.oracle import input_types
from compiler.tensor import Array
from passes._int8_scheme import Ranges


class Calibrated:
    """Data and how ranges are chosen from it: see `compiler.calibrate`. `calibration` holds what was seen, once a graph
    was run."""

    def __init__(self, source: object, observer: str) -> None:
        self.source = source
        self.observer = observer
        self.calibration: Calibration | None = None

    def example(self, graph: Graph) -> Mapping[str, Array] | None:
        """The first row of the data; None if it can be read only once."""
        if isinstance(self.source, Iterator):
            return None
        with Feeds(self.source, input_types(graph)) as feeds:
            return next(iter(feeds), None)

    @property
    def notes(self) -> list[str]:
        """What is doubtful about the data."""
        return [] if self.calibration is None else list(self.calibration.notes)

    def ranges(self, graph: Graph) -> Ranges:
        """The smallest and largest number of every float value of a graph. UsageError for data that does not fit it."""
        self.calibration = calibrate(graph, self.source, self.observer)
        return ranges_of(self.calibration, graph)
