"""The judge of passes that repair what rounding to integers costs: a change stays only where rows of data say so."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Protocol

from compiler.graph import Graph, Node, Value
from compiler.rewrite import Firing, Observer, Unobserved
from compiler.tensor import Array
from passes._int8_scheme import Ranges, Scheme
from passes._logits import with_logits
from passes.annotate_int8 import AnnotateInt8

LEAST_DB = 0.3  # by which a change has to help: less was seen to turn into a loss on other rows
LAYER_DB = 1.0  # by which one has to help that adds layers
Change = Callable[[Graph], object]


class Trial(Protocol):
    """Rows on which graphs are compared with what they stand for."""

    feeds: Sequence[Mapping[str, Array]]

    def snrs(self, graph: Graph) -> Sequence[float]:
        """Signal-to-noise ratio of each output of floats in dB, rounded where the graph is annotated."""

    def ranges(self, graph: Graph) -> Ranges:
        """The smallest and the largest number of every value of floats."""


class Channels(Protocol):
    """The smallest and the largest number at each place along an axis."""

    @property
    def axis(self) -> int:
        """That has the places."""

    @property
    def low(self) -> Array:
        """At each place."""

    @property
    def high(self) -> Array:
        """At each place."""


class Rows(Protocol):
    """Rows to which weights are fitted; other ones than those of the trial, if there are enough."""

    feeds: Sequence[Mapping[str, Array]]

    def channels(self, graph: Graph) -> Mapping[Value, Channels]:
        """The ranges of each channel of what convolutions, dense layers and normalisations read and compute."""

    def each(self, graph: Graph, values: Sequence[Value]) -> Iterator[list[Array]]:
        """The values in floats, row by row."""

    def stages(self, graph: Graph, cuts: Sequence[Value]) -> Generator[list[Array], list[Array] | None, None]:
        """The values on all rows, one after the other; what is sent back is what later layers read."""


class Observers(Protocol):
    """Ways to choose ranges from the same data."""

    def candidates(self, graph: Graph) -> Mapping[str, Ranges]:
        """The ranges by each way, the usual one first."""

    def choose(self, name: str) -> None:
        """Let this way be the one by which the graph is annotated."""


class Judge:
    """Of one model and scheme.

    floats   the graph as it was when it was annotated, with the weights that the passes behind may round
    """

    def __init__(self, scheme: Scheme, trial: Callable[[Graph], Trial], rows: Callable[[Graph], Rows]) -> None:
        self.scheme = scheme
        self.trial = trial
        self.rows = rows
        self.floats: Graph | None = None
        self.given = False
        self._known: tuple[tuple[object, ...], Sequence[float]] | None = None
        self._seen: tuple[Graph, tuple[object, ...], Mapping[Value, Channels]] | None = None

    def admits(self, graph: Graph) -> bool:
        """Whether anything may change: not in a model that brought its own integers, nor one without layers."""
        if self.floats is None and is_annotated(graph):
            self.given = True
        return not self.given and len(graph) > 0

    def annotates(self, graph: Graph) -> None:
        """Called with the graph that is to be annotated."""
        self.given = self.given or is_annotated(graph)
        self.floats = graph.clone()

    def channels(self, graph: Graph) -> Mapping[Value, Channels]:
        """The ranges of each channel on the rows that are fitted to."""
        key = _key(graph)
        if self._seen is None or self._seen[0] is not graph or not _same(self._seen[1], key):
            self._seen = graph, key, self.rows(graph).channels(graph)
        return self._seen[2]

    def score(self, graph: Graph) -> float:
        """The SNR of a graph on the rows of the trial, the mean over its outputs."""
        return mean(self.scores(graph))

    def scores(self, graph: Graph) -> Sequence[float]:
        """The SNR of each output on the rows of the trial; a graph that is not annotated yet is by what they show."""
        key = _key(graph)
        if self._known is not None and _same(self._known[0], key):
            return self._known[1]
        trial = self.trial(graph)
        if is_annotated(graph):
            return trial.snrs(with_logits(graph))
        return self._annotated(trial, graph, trial.ranges(graph))

    def scores_by(self, graph: Graph, ranges: Ranges) -> Sequence[float]:
        """The SNR of each output of a graph that is not annotated yet by these ranges."""
        return self._annotated(self.trial(graph), graph, ranges)

    def settle(self, graph: Graph, rule: str, choices: Mapping[str, Change], where: Node, observer: Observer) -> int:
        """Make the change that helps most, if one helps enough and costs no output much; the observer is told either
        way. Returns 1 or 0."""
        if not choices or not observer.allow():
            return 0
        ratios = self.scores(graph)
        self._known = _key(graph), ratios
        before = mean(ratios)
        count = f"{len(self.trial(graph).feeds)} rows"
        after, due = {}, {}
        for name, change in choices.items():
            twin = graph.clone()
            change(twin)
            after[name] = self.scores(twin)
            due[name] = LEAST_DB if len(twin) <= len(graph) else LAYER_DB
        found = {name: mean(a) for name, a in after.items()}
        fair = [name for name, a in after.items() if worst_loss(ratios, a) <= LEAST_DB]
        best = max(fair, key=lambda name: found[name] - due[name], default=None)
        if best is None or not found[best] >= before + due[best]:
            told = ", ".join(
                f"{name} {db - before:+.2f} dB{_traded(ratios, after[name])}" for name, db in found.items()
            )
            observer.skipped(rule, where, f"{told} on {count}, from {before:.2f} dB")
            return 0
        choices[best](graph)
        self._known = _key(graph), after[best]
        text = f"{best}: {before:.2f} to {found[best]:.2f} dB on {count}"
        observer.fired(Firing(text, (), (), (), (), ()))
        return 1

    def _annotated(self, trial: Trial, graph: Graph, ranges: Ranges) -> Sequence[float]:
        twin = graph.clone()
        pairs = zip(_values(graph), _values(twin), strict=True)
        told = {b: ranges[a] for a, b in pairs if a in ranges}
        AnnotateInt8(scheme=self.scheme, calibrate=lambda _: told).run(twin, Unobserved())
        return trial.snrs(with_logits(twin))


def mean(ratios: Sequence[float]) -> float:
    """The mean of what outputs have; 0 without any."""
    return sum(ratios) / max(len(ratios), 1)


def worst_loss(before: Sequence[float], after: Sequence[float]) -> float:
    """The most dB that an output loses; 0 if none does."""
    return max((a - b for a, b in zip(before, after, strict=True)), default=0.0)


def _traded(before: Sequence[float], after: Sequence[float]) -> str:
    """That one output loses what others gain, if it is so."""
    loss = worst_loss(before, after)
    return f" ({-loss:+.2f} dB for one output)" if loss > LEAST_DB and mean(after) > mean(before) else ""


def is_annotated(graph: Graph) -> bool:
    """Whether some value says in which integers it is stored."""
    return any(v.type.quant is not None for v in _values(graph))


def _values(graph: Graph) -> tuple[Value, ...]:
    return (*graph.inputs, *(v for n in graph.nodes for v in n.outputs))


def _key(graph: Graph) -> tuple[object, ...]:
    """What a score depends on: the layers and the constants, which are never changed in place, and the annotations."""
    return (len(graph), is_annotated(graph), *(v.data for v in graph.constants))


def _same(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    return len(a) == len(b) and a[:2] == b[:2] and all(x is y for x, y in zip(a[2:], b[2:], strict=True))
