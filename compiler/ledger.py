"""The ledger: one line for every rewrite that was applied, declined or taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from compiler.compare import Comparison
from compiler.graph import Node
from compiler.pass_base import Pass
from compiler.rewrite import Firing

APPLIED, DECLINED, ROLLED_BACK = "applied", "declined", "rolled back"


class Entry:
    """One rewrite: which pass and pattern, what it consumed and made, and, if measured, the damage where it is done."""

    __slots__ = (
        "after",
        "before",
        "damage",
        "error_class",
        "firing",
        "origin",
        "pass_name",
        "reason",
        "rule",
        "status",
    )

    def __init__(self, p: Pass, rule: str, status: str, before: Sequence[Node], after: Sequence[Node]) -> None:
        self.pass_name = p.pass_name()
        self.rule = rule
        self.status = status
        self.error_class = p.error_class.value
        self.before = tuple(n.op.name for n in before)
        self.after = tuple(n.op.name for n in after)
        self.origin = before[0].origin if len(before) == 1 else frozenset().union(*(n.origin for n in before))
        self.reason: str | None = None
        self.damage: Comparison | None = None
        self.firing: Firing | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        line: dict[str, Any] = {
            "pass": self.pass_name,
            "pattern": self.rule,
            "status": self.status,
            "error_class": self.error_class,
            "before": list(self.before),
            "after": list(self.after),
            "origin": sorted(self.origin),
        }
        if self.reason is not None:
            line["reason"] = self.reason
        if self.damage is not None:
            measured = self.damage.as_json()
            line["max_abs"], line["psnr_db"] = measured["max_abs"], measured["psnr_db"]
        return line


class PassRecord:
    """One run of a pass: how often it fired, the seconds it took, and the distance of the model's outputs after it."""

    __slots__ = ("fired", "layers", "outputs", "pass_name", "seconds", "status")

    def __init__(self, pass_name: str, fired: int, layers: int, seconds: float) -> None:
        self.pass_name = pass_name
        self.fired = fired
        self.layers = layers
        self.seconds = seconds
        self.status = APPLIED
        self.outputs: list[Comparison] = []

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        line: dict[str, Any] = {
            "pass": self.pass_name,
            "fired": self.fired,
            "layers": self.layers,
            "status": self.status,
        }
        if self.outputs:
            line["outputs"] = [c.as_json() for c in self.outputs]
        return line


class Ledger:
    """All entries in order, one record for every pass that fired, and what passes measured, by what it is."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.passes: list[PassRecord] = []
        self.measured: dict[str, dict[str, int]] = {}

    @property
    def applied(self) -> int:
        """How many rewrites are in force."""
        return sum(e.status == APPLIED for e in self.entries)

    def counts(self) -> dict[str, int]:
        """Applied rewrites by pass."""
        return dict(Counter(e.pass_name for e in self.entries if e.status == APPLIED))

    def followed_by(self, other: Ledger) -> Ledger:
        """What happened here and then there."""
        both = Ledger()
        both.entries, both.passes = [*self.entries, *other.entries], [*self.passes, *other.passes]
        both.measured = {**self.measured, **other.measured}
        return both

    def as_json(self) -> list[dict[str, Any]]:
        """Plain values for --json."""
        return [e.as_json() for e in self.entries]
