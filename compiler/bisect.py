"""Finds the first rewrite that breaks a model, and writes it down as a small ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from compiler.errors import UsageError, VerificationError
from compiler.graph import Graph
from compiler.ledger import APPLIED, Entry
from compiler.onnx_export import save_model
from compiler.pass_base import ErrorClass, Fixpoint
from compiler.pass_manager import PassManager
from compiler.subgraph import extract

ROUNDING = ("choose-ranges", "annotate-int8", "widen-activations", "fall-back")  # say how values are rounded


class Culprit(NamedTuple):
    """The first rewrite after which the model is broken: its number from 1, its ledger entry, and the layers it
    consumed and made as graphs of their own, whose inputs of one name are one value."""

    number: int
    entry: Entry
    before: Graph
    after: Graph


class Verdict(NamedTuple):
    """What bisection found: the culprit, if a rewrite breaks the model, and the names of the passes that did not run,
    because another function, or its numbers in integers, is what they are for."""

    culprit: Culprit | None
    left_out: tuple[str, ...] = ()


def without_losses(manager: PassManager) -> tuple[PassManager, tuple[str, ...]]:
    """The manager without the passes that are LOSSY, and without those that only say how values are rounded, and the
    names of both."""
    passes = [p for step in manager.steps for p in (step.passes if isinstance(step, Fixpoint) else (step,))]
    names = {p.pass_name(): p.error_class for p in passes}
    left_out = tuple(n for n, c in names.items() if n in manager.names and (c is ErrorClass.LOSSY or n in ROUNDING))
    return PassManager(manager.steps, skip=(*manager.skip, *left_out)), left_out


def bisect(fresh: Callable[[], Graph], manager: PassManager, broken: Callable[[Graph], bool]) -> Culprit | None:
    """Replay prefixes of the pipeline on fresh copies of a graph, halving the interval each time.

    Assumes that a broken model stays broken. Returns None if the whole pipeline leaves the model sound; raises
    VerificationError if it is broken before any rewrite. Takes log2(number of rewrites) + 2 runs.
    """
    whole = manager.run(fresh())
    if not broken(whole.graph):
        return None
    if broken(fresh()):
        raise VerificationError("the model is broken before any rewrite", hint="the fault lies in its import or export")
    sound, bad = 0, whole.ledger.applied
    while bad - sound > 1:
        middle = (sound + bad) // 2
        if broken(manager.run(fresh(), limit=middle).graph):
            bad = middle
        else:
            sound = middle
    last = manager.run(fresh(), limit=bad)
    entry = [e for e in last.ledger.entries if e.status == APPLIED][-1]
    firing = entry.firing
    assert firing is not None
    before, leaves = extract(firing.old, set(firing.erased))
    after, _ = extract(firing.new, set(firing.added), leaves=leaves)
    return Culprit(bad, entry, before, after)


def reproducer_path(model: str, output: str | None) -> Path:
    """Where the reproducer goes: `output` with the suffix .onnx, or a file named after the model in this folder.

    Raises UsageError if there is no such folder.
    """
    path = Path(output).with_suffix(".onnx") if output else Path(f"{Path(model).stem}.bisect.onnx")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {str(path.parent)!r} does not exist", hint="create it first")
    return path


def write_reproducer(culprit: Culprit, path: Path) -> list[Path]:
    """Write `<path>` (the layers before the rewrite) and `<stem>.after.onnx` (what it made of them)."""
    after = path.with_name(f"{path.stem}.after.onnx")
    return [*save_model(culprit.before, path), *save_model(culprit.after, after)]
