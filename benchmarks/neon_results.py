"""What the suite `neon` finds out about a library or a peer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Loop:
    """The inner loop of a function by llvm-mca's model of a core.

    cycles   of one turn
    peak     share of the multiply-accumulates that the core could issue at most
    bound    share of its cycles that the same instructions take at least, were none to wait for another
    limit    what is full then: loads, stores, arithmetic, issue, or a mix of these
    """

    function: str
    core: str
    instructions: int
    cycles: float
    peak: float
    bound: float
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """Executed instructions of one inference.

    classes     by class
    spread      the relative difference between the least and the most of several measurements
    macs        multiply-accumulates of the model
    functions   of our libraries, in functions that have a share worth telling
    """

    classes: dict[str, float]
    spread: float = 0.0
    macs: int = 0
    functions: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.classes.values())
