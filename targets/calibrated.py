"""What quantization to integers needs of data: the ranges of a graph's values, and rows to try changes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from compiler.calibrate.fitting import Fitting
from compiler.calibrate.names import fingerprint
from compiler.calibrate.record import Calibration, expect_writable, is_calibration, load_calibration
from compiler.calibrate.run import calibrate, expect_graph, ranges_of
from compiler.calibrate.sources import Data, Feeds, expect_images
from compiler.calibrate.trial import Trial
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.oracle import input_types
from compiler.pass_base import Step, pass_class
from compiler.tensor import Array
from passes._int8_scheme import Ranges, Scheme
from passes._repair import Judge
from passes.annotate_int8 import AnnotateInt8
from passes.widen_activations import WidenActivations

LEAST_ROWS, MOST_ROWS = 6, 128  # of a trial
WORK = 24 << 30  # multiply-accumulates of all rows, about, and what takes as long
ELEMENT = 100  # multiply-accumulates that a number of a value takes as long as
TRIED = ("auto", "minmax", "mse", "percentile")  # observers, where the choice is free
BEFORE = ("equalize-layers", "absorb-bias", "smooth-activations", "split-roots", "choose-ranges")
BEHIND = ("round-weights", "correct-bias")


class Calibrated:
    """Data and how ranges are chosen from it: see `compiler.calibrate`. `calibration` holds what was seen, once a graph
    was run. `ahead` is called before all of the data is read, which an iterator gives only once.

    source  as of `Feeds`, or the path of a saved calibration: without rows, nothing is repaired
    repair  which passes may repair what rounding costs: auto (all that help), off, or their names with commas
    """

    def __init__(self, source: object, observer: str, repair: str = "auto") -> None:
        self.data = source if isinstance(source, Data) else Data(source)
        self.source = self.data.source
        self.saved = self.source if isinstance(self.source, str) and is_calibration(self.source) else None
        _expect_sound(self.data)
        self.observer = observer
        found = repairs(repair)
        self.repair = found if self.saved is None else ()
        self.calibration: Calibration | None = None
        self._of: Graph | None = None
        self._trial: Trial | None = None
        self._judged: Trial | None = None
        self._rows: Fitting | None = None
        self._judge: Judge | None = None
        self.ahead: Callable[[Graph], object] | None = None

    def steps(self, scheme: Scheme, wide: bool = False) -> tuple[Step, ...]:
        """The passes that quantize a graph by a target's scheme; `wide`: activations to 16 bits, whose ranges need no
        repair."""
        self._judge = judge = Judge(scheme, self.judged, self.rows)
        before, behind = (
            [self._made(name, judge) for name in names if name in self.repair] for names in (BEFORE, BEHIND)
        )
        annotate = AnnotateInt8(scheme=scheme, calibrate=self.ranges, saturate=not wide)
        return (annotate, WidenActivations(scheme=scheme), *behind) if wide else (*before, annotate, *behind)

    def _made(self, name: str, judge: Judge) -> Step:
        found = pass_class(name)
        assert found is not None
        return found(judge=judge, observers=self) if "observers" in found.fields else found(judge=judge)

    def example(self, graph: Graph) -> Mapping[str, Array] | None:
        """The first row of the data; None if there is none."""
        return None if self.saved is not None else next(iter(self.trial(graph).feeds), None)

    def trial(self, graph: Graph) -> Trial:
        """Rows of the data, which a graph with these inputs takes: every other one of the first."""
        if self._trial is None:
            self._read(graph)
        assert self._trial is not None
        return self._trial

    def shown(self, graph: Graph) -> Trial | None:
        """The rows of the trial; None of a saved calibration, which holds none."""
        return None if self.saved is not None else self.trial(graph)

    def judged(self, graph: Graph) -> Trial:
        """The rows of the trial for graphs that give other outputs."""
        self.trial(graph)
        assert self._judged is not None
        return self._judged

    def rows(self, graph: Graph) -> Fitting:
        """The rows between those of the trial; the same if there is only one."""
        if self._rows is None:
            self._read(graph)
        assert self._rows is not None
        return self._rows

    @property
    def notes(self) -> list[str]:
        """What is doubtful about the data."""
        return [] if self.calibration is None else list(self.calibration.notes)

    def floats(self) -> Graph | None:
        """The graph before it was annotated."""
        return None if self._judge is None else self._judge.floats

    def ranges(self, graph: Graph) -> Ranges:
        """The smallest and largest number of every float value of a graph. UsageError for data that does not fit it."""
        if self._judge is not None:
            self._judge.annotates(graph)
        self.calibration = self._seen(graph)
        if self.data.save is not None:
            self.calibration.graph = fingerprint(graph)
            self.calibration.save(self.data.save)
        return ranges_of(self.calibration, graph)

    def candidates(self, graph: Graph) -> dict[str, Ranges]:
        """The ranges by several observers, if none was asked for: that of each value's own error first."""
        seen = self._seen(graph)
        found: dict[str, Ranges] = {}
        for name in TRIED if self.observer == "auto" else ():
            seen.observer = name
            found[name] = ranges_of(seen, graph)
        seen.observer = self.observer
        return found

    def choose(self, name: str) -> None:
        """Let another observer choose the ranges of the graph that was calibrated last."""
        assert self.calibration is not None
        self.calibration.observer = name

    def _seen(self, graph: Graph) -> Calibration:
        """What all of the data shows of a graph; looked at once."""
        if self.calibration is None or self._of is not graph:
            self.calibration, self._of = self._calibrated(graph), graph
        return self.calibration

    def _calibrated(self, graph: Graph) -> Calibration:
        if self.saved is not None:
            found = load_calibration(self.saved).copy(self.observer)
            expect_graph(found, graph)
            return found
        if self.ahead is not None:
            self.ahead(graph)
        start = None if self.data.start is None else load_calibration(self.data.start)
        return calibrate(graph, self.data._replace(source=self.source), self.observer, start=start)

    def _read(self, graph: Graph) -> None:
        work = sum(n.macs + ELEMENT * sum(v.type.size for v in n.outputs) for n in graph.nodes)
        feeds = self.first(graph, 2 * min(MOST_ROWS, max(LEAST_ROWS, WORK // max(work, 1))))
        self._trial, self._judged = Trial(feeds[::2]), Trial(feeds[::2])
        self._rows = Fitting(feeds[1::2] or feeds)

    def first(self, graph: Graph, count: int) -> Sequence[Mapping[str, Array]]:
        """The first rows, as inputs of a run each; as many as there are."""
        taken: list[object] = []
        source = self.source
        if isinstance(source, Iterator):  # which can be read only once
            self.source = chain(taken, source)
            source = _kept(source, taken)
        with Feeds(self.data._replace(source=source), input_types(graph)) as feeds:
            return list(islice(feeds, count))


def _expect_sound(data: Data) -> None:
    """UsageError for a calibration that cannot be written, or would be over the data it is made of, and for a rule of
    pixels where there are none."""
    expect_images(data)
    source, save = data.source, data.save
    if save is not None:
        expect_writable(save)
    if save is None or not isinstance(source, str | os.PathLike) or is_calibration(save):
        return
    if Path(save).exists() and Path(source).exists() and Path(save).samefile(source):
        raise UsageError(
            f"the calibration would be written over the data {str(source)!r}", hint="--save-calibration ANOTHER.npz"
        )


def repairs(text: str) -> tuple[str, ...]:
    """The passes that an option names. UsageError for one that is none of them."""
    known = (*BEFORE, *BEHIND)
    if text in ("auto", "off"):
        return known if text == "auto" else ()
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"there is no repair named {', '.join(map(repr, unknown))}",
            hint=f"choose auto, off, or of {', '.join(known)}",
        )
    return names


def _kept(source: Iterator[object], taken: list[object]) -> Iterator[object]:
    """The items of a source, put into `taken` on the way."""
    for item in source:
        taken.append(item)
        yield item
