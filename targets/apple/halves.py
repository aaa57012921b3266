"""16-bit floats on a chip: what is rescaled so that they hold it, and what stays risky."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from compiler.errors import OnnxError, VerificationError
from compiler.graph import Graph, Value
from compiler.halves import Limits, Risk, risks
from compiler.magnitudes import magnitudes
from compiler.pass_base import Step
from compiler.probe import intermediate_values
from compiler.seeds import inputs_for
from compiler.tensor import Array
from passes._masks import hiding
from passes.bound_masks import BoundMasks
from passes.raise_epsilons import RaiseEpsilons
from passes.rescale_norms import RescaleNorms
from passes.rescale_values import RescaleValues
from passes.scale_probabilities import ScaleProbabilities
from passes.scale_scores import ScaleScores
from targets.apple.engine import Chip, load

Rows = Callable[[Graph], Sequence[Mapping[str, Array]]]  # of data, for a graph with the model's inputs
LOOKED_AT = 4  # rows of data
LIGHT = 1 << 30  # multiply-accumulates of a run that takes little time
MOST_WORK = 1 << 35  # multiply-accumulates of a random row beyond which nothing is looked at: about a second
MOST_BYTES = 2 << 30  # of all values of a graph, beyond which no run is made
ORDINARY = 2.0  # how far below what halves hold a guess must stay to be left at that
MARGIN, SEEDED_MARGIN = 4.0, 16.0  # room over what data shows, and over what random inputs show


def limits(chip: Chip) -> Limits:
    """What the chip's engine holds. Where its family was not measured, the bounds of those that were are taken: they
    are the same wherever somebody looked."""
    numerics = load("rules")["numerics"]
    sums = [numerics[key]["max_abs"] for key in ("mac_accumulator_fixed_point", "mac_saturation_m1")]
    rows = load("limits")["limits"]["width_slice_clamp"]
    return Limits(
        accumulator=float(min(sums)),
        product_exponent=numerics["mac_product_drop"]["exponent"],
        exponential=float(numerics["exp_overflow"]["max"]),
        sliced=float(rows["max_abs"]) if chip.family in rows["families"] else Limits().sliced,
    )


def steps(chip: Chip, rows: Rows | None = None) -> tuple[Step, ...]:
    """The passes, with the chip's limits. `rows`: data that shows how large values become; without it, random inputs
    are looked at where a guess says that something may not fit."""
    held, square = limits(chip), float(load("rules")["numerics"]["square_overflow"]["max_abs"])
    shown = None if rows is None else Peaks(rows)
    return (
        BoundMasks(largest=held.largest),
        ScaleScores(),
        ScaleProbabilities(keys=held.keys),
        RescaleValues(
            largest=held.largest,
            accumulator=held.accumulator,
            margin=MARGIN if shown is not None else SEEDED_MARGIN,
            peaks=shown or Peaks(seeded, held.accumulator / ORDINARY),
        ),
        RescaleNorms(square=square, margin=MARGIN, peaks=shown),
        RaiseEpsilons(),
    )


def found(graph: Graph, chip: Chip, rows: Rows | None = None, looks: bool = False) -> list[Risk]:
    """What stays risky in a graph: on the first row of data, or, without data, what is proved or possible. With `looks`
    a random row stands for data, if a run of it takes little time."""
    if rows is None and looks and sum(node.macs for node in graph.nodes) <= LIGHT:
        rows = seeded
    seen: Mapping[Value, Array] | None = None
    if rows is not None and _fits(graph):
        try:
            seen = intermediate_values(graph, rows(graph)[0])
        except (VerificationError, OnnxError):  # ONNX Runtime has no kernel for some layer
            seen = None
    return risks(graph, limits(chip), seen)


class Peaks:
    """The largest magnitudes of a graph's values on rows of data; the last result is kept for the next pass.

    ordinary  the data is not looked at while no guess is larger than this, nor if a run takes long; None: it always is
    """

    def __init__(self, rows: Rows, ordinary: float | None = None) -> None:
        self._rows, self._ordinary = rows, ordinary
        self._known: dict[Value, float] = {}

    def __call__(self, graph: Graph) -> Mapping[Value, float]:
        if all(v in self._known for node in graph.nodes for v in node.outputs if v.type.dtype.is_float):
            return self._known
        if not _fits(graph) or (self._ordinary is not None and self._is_idle(graph, self._ordinary)):
            return {}
        self._known = {}
        try:
            for feed in self._rows(graph)[:LOOKED_AT]:
                self._look(intermediate_values(graph, feed))
        except (VerificationError, OnnxError):  # ONNX Runtime has no kernel for some layer
            return {}
        return self._known

    def _is_idle(self, graph: Graph, ordinary: float) -> bool:
        """Whether no guess is large, or a run takes long."""
        if sum(node.macs for node in graph.nodes) > MOST_WORK:
            return True
        hidden = hiding(graph, compared=True)
        guesses = (guess.size for v, guess in magnitudes(graph).items() if v not in hidden)
        return max(guesses, default=0.0) < ordinary

    def _look(self, values: Mapping[Value, Array]) -> None:
        for v, array in values.items():
            if v.type.dtype.is_float and array.size:
                sizes = np.abs(array)
                largest = float(sizes.max())
                if not np.isfinite(largest):
                    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0))
                self._known[v] = max(largest, self._known.get(v, 0.0))


def seeded(graph: Graph) -> Sequence[Mapping[str, Array]]:
    """A row of random inputs."""
    return [inputs_for(graph, 0)]


def _fits(graph: Graph) -> bool:
    static = all(v.type.is_static for v in graph.inputs)
    return static and sum(v.type.nbytes for node in graph.nodes for v in node.outputs) <= MOST_BYTES
