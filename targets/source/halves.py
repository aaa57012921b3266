"""Models in 16 bits."""

from __future__ import annotations

from collections.abc import Callable

from compiler.graph import Node
from compiler.halves import Limits
from compiler.pass_base import Step
from passes.bound_masks import BoundMasks
from passes.raise_epsilons import RaiseEpsilons
from passes.rescale_values import RescaleValues
from passes.store_halves import StoreHalves
from targets.apple.halves import ORDINARY, SEEDED_MARGIN, Peaks, seeded


def in_halves(takes: Callable[[Node], bool]) -> tuple[Step, ...]:
    """The passes that store numbers in 16 bits, in layers for which `takes` holds, after those that keep them within
    what 16 bits hold."""
    return (
        BoundMasks(),
        RaiseEpsilons(),
        RescaleValues(margin=SEEDED_MARGIN, peaks=Peaks(seeded, Limits().largest / ORDINARY)),
        StoreHalves(takes=takes),
    )
