"""What targets share whose files may hold integers that stand for real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compiler.graph import Graph
from compiler.target import Target
from compiler.tensor import Array
from passes._qdq import random_bytes

if TYPE_CHECKING:
    from compiler.calibrate.trial import Trial
    from targets.calibrated import Calibrated


class QuantizingTarget(Target):
    """Of models of integers, and of floats with data to quantize them by.

    calibrated    the data that ranges come from; None if nothing is to be quantized, or by its own scales
    keeps_scales  whether the model that is compiled brought scales, which stay
    """

    calibrated: Calibrated | None = None
    keeps_scales: bool = False

    def examples(self, graph: Graph) -> Mapping[str, Array] | None:
        if self.calibrated is None:
            return random_bytes(graph) if self.keeps_scales else None
        return self.calibrated.example(graph)

    def trial(self, graph: Graph) -> Trial | None:
        return None if self.calibrated is None else self.calibrated.shown(graph)

    def floats(self) -> Graph | None:
        return None if self.calibrated is None else self.calibrated.floats()


def calibrated(source: object, observer: str | None, repair: str | None) -> Calibrated:
    """The data, with how ranges are chosen and what may be repaired; see `targets.calibrated`."""
    from targets.calibrated import Calibrated  # with all that reads data: for int8 only

    return Calibrated(source, "auto" if observer is None else observer, "auto" if repair is None else repair)
