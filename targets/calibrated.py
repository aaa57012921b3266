"""What quantization to integers needs of data: the ranges of a graph's values, and rows to try changes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice

from compiler.calibrate.record import Calibration
from compiler.calibrate.run import calibrate, ranges_of
from compiler.calibrate.sources import Feeds
from compiler.calibrate.trial import Trial
from compiler.graph import Graph
from compiler.oracle import input_types
from compiler.pass_base import Step
from compiler.tensor import Array
from passes._int8_scheme import Ranges, Scheme
from passes.annotate_int8 import AnnotateInt8

TRIAL_ROWS = 32


class Calibrated:
    """Data and how ranges are chosen from it: see `compiler.calibrate`. `calibration` holds what was seen, once a graph
    was run."""

    def __init__(self, source: object, observer: str) -> None:
        self.source = source
        self.observer = observer
        self.calibration: Calibration | None = None
        self._trial: Trial | None = None

    def steps(self, scheme: Scheme) -> tuple[Step, ...]:
        """The passes that quantize a graph by a target's scheme."""
        return (AnnotateInt8(scheme=scheme, calibrate=self.ranges),)

    def example(self, graph: Graph) -> Mapping[str, Array] | None:
        """The first row of the data; None if there is none."""
        return next(iter(self.trial(graph).feeds), None)

    def trial(self, graph: Graph) -> Trial:
        """The first rows of the data, which a graph with these inputs takes."""
        if self._trial is None:
            taken: list[object] = []
            source = self.source
            if isinstance(source, Iterator):  # which can be read only once
                self.source = chain(taken, source)
                source = _kept(source, taken)
            with Feeds(source, input_types(graph)) as feeds:
                self._trial = Trial(islice(feeds, TRIAL_ROWS))
        return self._trial

    @property
    def notes(self) -> list[str]:
        """What is doubtful about the data."""
        return [] if self.calibration is None else list(self.calibration.notes)

    def ranges(self, graph: Graph) -> Ranges:
        """The smallest and largest number of every float value of a graph. UsageError for data that does not fit it."""
        self.calibration = calibrate(graph, self.source, self.observer)
        return ranges_of(self.calibration, graph)


def _kept(source: Iterator[object], taken: list[object]) -> Iterator[object]:
    """The items of a source, put into `taken` on the way."""
    for item in source:
        taken.append(item)
        yield item
