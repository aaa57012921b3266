"""How far a compressed model is from the one it was made of, on rows of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10, sqrt
from typing import NamedTuple, Protocol

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.simulate import simulated
from compiler.tensor import Array
from passes._budget import Limits, Outputs, Standing
from passes._logits import with_logits

MOST = 1e10  # relative noise power of outputs that are all noise, or no numbers
LEAST = 1e-20


class Trial(Protocol):
    """Rows on which graphs are run."""

    feeds: Sequence[Mapping[str, Array]]

    def run(self, graph: Graph) -> Outputs:
        """The outputs of a graph as it is."""


class Loss(NamedTuple):
    """What was measured: the share of rows lost (None: the outputs have no classes), the least PSNR of an output and
    the signal-to-noise ratio of the scores behind them, in dB."""

    drop: float | None
    psnr: float
    snr: float

    @property
    def standing(self) -> Standing:
        """For `Limits.admit`."""
        return Standing(self.drop, self.psnr)

    def __str__(self) -> str:
        return f"{self.standing}, SNR {self.snr:.1f} dB"

    def as_json(self) -> dict[str, float | None]:
        """Plain values, rounded."""
        drop = None if self.drop is None else round(self.drop, 6)
        return {"drop": drop, "psnr_db": round(self.psnr, 2), "snr_db": round(self.snr, 2)}


def loosened(limits: Limits) -> Limits:
    """What a model may lose before it is trained: recoveries are expected to win back two thirds of the rows, and two
    hundredths of all more, or 10 dB."""
    drop, psnr = limits
    return Limits(None if drop is None else 3 * drop + 0.02, None if psnr is None else psnr - 10)


class Judge:
    """Compares graphs with the first one that it is shown.

    few     rows on which the noise of a single layer is measured
    trial   rows on which a model is measured end to end, with the right class of each if it is known
    """

    def __init__(self, few: Trial, trial: Trial, limits: Limits, labels: Array | None = None) -> None:
        self.limits = limits
        self._few, self._trial, self._labels = few, trial, labels
        self._scores: Outputs = []
        self._outputs: Outputs = []

    @property
    def rows(self) -> int:
        """How many runs an end-to-end measurement takes."""
        return len(self._trial.feeds)

    @property
    def example(self) -> Mapping[str, Array]:
        """The first of them."""
        return self._trial.feeds[0]

    def start(self, graph: Graph) -> None:
        """Let this be the original."""
        self._scores, self._outputs = self._few.run(with_logits(graph)), self._trial.run(graph)

    def prefers(self, new: Loss, old: Loss) -> bool:
        """Whether a loss is no worse than another: within the limits if that is, and with less noise if no more rows
        are lost than chance explains, else with fewer rows lost."""
        if self.limits.admit(old.standing) and not self.limits.admit(new.standing):
            return False
        if new.drop is None or old.drop is None:
            return new.snr >= old.snr
        return new.drop <= old.drop + self._chance(old.drop) if new.snr >= old.snr else new.drop < old.drop

    def best(self, losses: Sequence[Loss]) -> int:
        """Which loss has the least noise, of those that keep the limits, if any do, and lose no more rows than the
        fewest and what chance explains."""
        kept = [i for i, loss in enumerate(losses) if self.limits.admit(loss.standing)] or list(range(len(losses)))
        fewest = max(min(losses[i].drop or 0.0 for i in kept), 0.0)
        most = fewest + self._chance(fewest)
        return max((i for i in kept if (losses[i].drop or 0.0) <= most), key=lambda i: losses[i].snr)

    def _chance(self, drop: float) -> float:
        """The deviation of a share of lost rows; that of one row at least."""
        return sqrt(max(drop, 1 / self._count) / self._count)

    @property
    def _count(self) -> int:
        """How many rows, not runs, an end-to-end measurement takes."""
        return max(sum(len(next(iter(row.values()))) for row in self._outputs if row), 1)

    def noise(self, graph: Graph) -> float:
        """Noise power of what the outputs decide by, relative to its own; the mean over the outputs."""
        return _noise(self._scores, self._few.run(with_logits(simulated(graph).graph)))

    def loss(self, graph: Graph) -> Loss:
        """End to end. UsageError if a drop is limited and no output has classes."""
        results = self._trial.run(simulated(graph).graph)
        snr = -10 * log10(max(_noise(self._outputs, results), LEAST))
        try:
            found = Limits(1.0).measure(self._outputs, results, self._labels)
        except UsageError:
            if self.limits.drop is not None:
                raise
            found = Limits().measure(self._outputs, results)
        return Loss(found.drop, found.psnr, snr)


def _noise(reference: Outputs, results: Outputs) -> float:
    names = [name for name, array in reference[0].items() if array.dtype.kind == "f"]
    found = [_relative([r[n] for r in reference], [r[n] for r in results]) for n in names]
    return sum(found) / max(len(found), 1)


def _relative(reference: Sequence[Array], results: Sequence[Array]) -> float:
    signal = noise = 0.0
    for a, b in zip(reference, results, strict=True):
        finite = np.isfinite(a)
        kept, given = a[finite].astype(np.float64), b[finite].astype(np.float64)
        signal += float(np.square(kept).sum())
        noise += float(np.square(kept - given).sum())
    if noise == 0.0:
        return 0.0
    return min(noise / signal, MOST) if signal > 0 and np.isfinite(noise) else MOST
