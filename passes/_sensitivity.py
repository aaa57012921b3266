"""What compressing one layer does to the outputs of a model, measured once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from math import exp, log
from pathlib import Path
from typing import NamedTuple

from compiler.errors import UsageError
from passes._allocate import Amount, Option
from passes._compression import Candidate

LEAST = 1e-12  # of errors and noise, below which nothing is worth telling apart
Measure = Callable[[Candidate], float]  # relative noise power at the outputs
Key = tuple[str, str, str]


class Store:
    """Measured noise, a line of JSON each, written as soon as it is known: a run that was interrupted goes on where it
    was. Lines of other models, data or seeds have another key, and what was cut off is ignored. Without a path nothing
    is kept.

    measured   how many had to be measured
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.key = key
        self.measured = 0
        self._known: dict[Key, float] = {}
        self._ends_line = True
        if path is not None and path.exists():
            self._read(path)

    def noise(self, candidate: Candidate, measure: Measure) -> float:
        """The noise of a candidate, as it is known or else measured."""
        key = _key(candidate.layer, candidate.technique, candidate.setting)
        if key not in self._known:
            self._known[key] = float(f"{measure(candidate):.6g}")
            self.measured += 1
            self._append(candidate, self._known[key])
        return self._known[key]

    def _append(self, c: Candidate, noise: float) -> None:
        if self.path is None:
            return
        line = {"key": self.key, "layer": c.layer, "technique": c.technique, "setting": dict(c.setting), "noise": noise}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("" if self._ends_line else "\n") + json.dumps(line) + "\n")
        except OSError as e:
            reason = (e.strerror or str(e)).lower()
            raise UsageError(f"sensitivities cannot be kept in {str(self.path)!r}: {reason}") from None
        self._ends_line = True

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"sensitivities cannot be read from {str(path)!r}", hint="give another file") from None
        self._ends_line = text.endswith("\n") or not text
        for line in text.splitlines():
            try:
                e = json.loads(line)
                if e["key"] == self.key:
                    self._known[_key(e["layer"], e["technique"], e["setting"])] = float(e["noise"])
            except (ValueError, KeyError, TypeError):
                continue


class Point(NamedTuple):
    """A predicted error of a layer, and the noise that was measured for it."""

    error: float
    noise: float


class Rated(NamedTuple):
    """A candidate, and the noise at the outputs that it makes."""

    candidate: Candidate
    noise: float


def rated(menu: Sequence[Candidate], measure: Measure, store: Store) -> list[Rated]:
    """The candidates of one layer and technique, from small to large savings, with the noise of each: of the middle one
    and the last as measured, of others in proportion to their predicted errors."""
    samples = [menu[i] for i in sorted({(len(menu) - 1) // 2, len(menu) - 1})]
    points = [Point(max(c.error, LEAST), store.noise(c, measure)) for c in samples]
    return [Rated(c, noise_at(points, max(c.error, LEAST))) for c in menu]


def options_of(menu: Iterable[Rated], amount: Amount) -> list[Option]:
    """What they save and lose."""
    return [Option(c.layer, c.technique, c.setting, amount(c.saved), noise) for c, noise in menu]


def noise_at(points: Sequence[Point], error: float) -> float:
    """Noise for a predicted error: along a power between two measured points, in proportion outside of them."""
    ordered = sorted(points)
    first, last = ordered[0], ordered[-1]
    if error <= first.error or first.error == last.error:
        return first.noise * error / first.error
    if error >= last.error:
        return last.noise * error / last.error
    low, high = (log(max(p.noise, LEAST)) for p in (first, last))
    share = (log(error) - log(first.error)) / (log(last.error) - log(first.error))
    return exp(low + share * (high - low))


def _key(layer: str, technique: str, setting: object) -> Key:
    return layer, technique, json.dumps(setting, sort_keys=True, default=dict)
