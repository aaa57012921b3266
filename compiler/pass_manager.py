"""Runs passes in order, keeps the ledger, and holds every pass to what it promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from compiler.errors import PassError, UsageError
from compiler.graph import Graph, Node
from compiler.ledger import APPLIED, DECLINED, ROLLED_BACK, Entry, Ledger, PassRecord
from compiler.pass_base import LATER, PASSES, ErrorClass, Fixpoint, Pass, Step, check_conditions, parse_pipeline
from compiler.rewrite import Firing
from compiler.rewrite_check import RewriteChecker

DOUBLED_DB = 6.0  # an error twice as large
Dump = Callable[[int, Pass, Graph], None]


class Outcome(NamedTuple):
    """The rewritten graph (the one given, unless a pass was rolled back) and what happened to it."""

    graph: Graph
    ledger: Ledger


class PassManager:
    """A pipeline: `PassManager([FoldConstants(), FuseGelu()])` or `PassManager("fold,low-rank(energy=0.99)")`.

    skip  names of passes to leave out
    """

    def __init__(self, steps: str | Sequence[Step], *, skip: Sequence[str] = ()) -> None:
        self.steps = parse_pipeline(steps) if isinstance(steps, str) else tuple(steps)
        known = {*PASSES, *LATER}
        unknown = [name for name in skip if name not in known]
        if unknown:
            raise UsageError(
                f"there is no pass named {', '.join(map(repr, unknown))}", hint=f"known: {', '.join(sorted(known))}"
            )
        self.skip = frozenset(skip)

    def __str__(self) -> str:
        return ",".join(map(str, self.steps))

    @property
    def names(self) -> frozenset[str]:
        """Of the passes that run."""
        passes = (p for step in self.steps for p in (step.passes if isinstance(step, Fixpoint) else (step,)))
        return frozenset(p.pass_name() for p in passes) - self.skip

    def run(
        self,
        graph: Graph,
        *,
        checker: RewriteChecker | None = None,
        strict: bool = False,
        debug: bool = False,
        limit: int | None = None,
        dump: Dump | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Apply the pipeline to `graph` in place.

        checker   measures every rewrite and every pass; a pass that breaks its class is taken back
        strict    such a pass ends the run with PassError instead
        debug     verify the graph after every pass
        limit     stop after this many rewrites (how --bisect replays a prefix)
        dump      called after every pass that fired
        progress  told the name of every pass
        """
        run = _Run(graph, checker, strict, debug, limit, dump, progress, self.skip)
        run.steps(self.steps)
        return Outcome(run.graph, run.ledger)


class _Run:
    """One execution of a pipeline; also the Observer of its passes, and their Meter."""

    def __init__(
        self,
        graph: Graph,
        checker: RewriteChecker | None,
        strict: bool,
        debug: bool,
        limit: int | None,
        dump: Dump | None,
        progress: Callable[[str], None] | None,
        skip: frozenset[str],
    ) -> None:
        self.graph = graph
        self.checker = checker
        self.strict = strict
        self.debug = debug
        self.limit = limit
        self.dump = dump
        self.progress = progress
        self.skip = skip
        self.ledger = Ledger()
        self.firings = 0
        self._pass: Pass = Pass()
        self._broken: Entry | None = None
        self._rejected: set[Pass] = set()  # taken back once, not tried again
        self._spent: tuple[Node, ...] = ()
        self._start: dict[str, float] = {}  # distance of each output that no pass after this is to blame for
        if checker is not None:
            checker.start(graph)
            self._start = {c.name: c.psnr_db for c in checker.outputs(graph)}
        self._declined: set[tuple[str, int]] = set()
        self._measured: set[str] = set()  # by the pass that runs

    def steps(self, steps: Sequence[Step]) -> int:
        """Run steps in order; returns the number of rewrites in force."""
        total = 0
        for step in steps:
            if isinstance(step, Fixpoint):
                for _ in range(step.rounds):
                    fired = self.steps(step.passes)
                    total += fired
                    if not fired:
                        break
            elif step.pass_name() not in self.skip and step not in self._rejected:
                total += self._run_pass(step)
        return total

    def _run_pass(self, p: Pass) -> int:
        name = p.pass_name()
        if self.progress is not None:
            self.progress(name)
        check_conditions(p.requires, self.graph, name, "requires")
        snapshot = self.graph.clone() if self.checker is not None else None
        first = len(self.ledger.entries)
        self._pass, self._broken, self._measured = p, None, set()
        started = time.perf_counter()
        fired = p.run(self.graph, self)
        self._forget()
        record = PassRecord(name, fired, len(self.graph), time.perf_counter() - started)
        if self.debug:
            self.graph.verify()
        if fired:
            self.ledger.passes.append(record)
            if self.checker is not None and snapshot is not None and not self._accept(p, record):
                self._roll_back(p, snapshot, first, record)
                return 0
            if self.dump is not None:
                self.dump(len(self.ledger.passes), p, self.graph)
        if self.limit is None:
            check_conditions(p.ensures, self.graph, name, "ensures")
        return fired

    def _accept(self, p: Pass, record: PassRecord) -> bool:
        """Whether the pass kept its promise at every rewrite and at the model's outputs."""
        assert self.checker is not None
        record.outputs = self.checker.outputs(self.graph)
        reason = None
        if p.error_class is ErrorClass.LOSSY:
            self._start = {c.name: c.psnr_db for c in record.outputs}
        if self._broken is not None:
            e = self._broken
            assert e.damage is not None
            at = ", ".join(sorted(e.origin)) or "a layer"
            reason = f"rewrite {e.rule} at {at} gives {e.damage.psnr_db:.1f} dB (max-abs {e.damage.max_abs:.3g})"
        else:
            for c in record.outputs:
                if c.psnr_db < min(c.limit_db, self._start[c.name] - DOUBLED_DB):
                    reason = f"output {c.name!r} is {c.psnr_db:.1f} dB (max-abs {c.max_abs:.3g}) from ONNX Runtime"
                    break
        if reason is None:
            return True
        if self.strict:
            raise PassError(
                f"pass {p.pass_name()} is {p.error_class.value}, but {reason}",
                hint="--bisect names the rewrite; --skip leaves the pass out",
            )
        record.status = f"{ROLLED_BACK}: {reason}"
        return False

    def _roll_back(self, p: Pass, snapshot: Graph, first: int, record: PassRecord) -> None:
        self._rejected.add(p)
        self.graph = snapshot
        record.layers = len(snapshot)
        for entry in self.ledger.entries[first:]:
            if entry.status == APPLIED:
                entry.status = ROLLED_BACK
        for what in self._measured:
            del self.ledger.measured[what]
        assert self.checker is not None
        self.checker.start(snapshot)

    def _forget(self) -> None:
        """Let go of the operands of layers erased by the rewrite before: they hold on to weights that nobody needs."""
        for node in self._spent:
            node.inputs = ()
        self._spent = ()

    # -- Observer --------------------------------------------------------------------------------------------

    def allow(self) -> bool:
        """Whether the limit admits one more rewrite."""
        return self.limit is None or self.firings < self.limit

    def fired(self, firing: Firing) -> None:
        """Enter a rewrite into the ledger, measured if there is a checker."""
        self.firings += 1
        self._forget()
        self._spent = firing.erased if self.limit is None else ()
        entry = Entry(self._pass, firing.rule, APPLIED, firing.erased, firing.added)
        if self.limit is not None:
            entry.firing = firing
        if self.checker is not None:
            entry.damage = self.checker.fired(firing)
            broken = entry.damage is not None and self.checker.broken(self._pass.error_class, entry.damage)
            if broken and self._pass.error_class is ErrorClass.EXACT:
                self.checker.start(self.graph)  # what it reads may be of layers that others, which round, replaced
                entry.damage = self.checker.fired(firing)
                broken = entry.damage is not None and self.checker.broken(self._pass.error_class, entry.damage)
            if broken and self._broken is None:
                self._broken = entry
        self.ledger.entries.append(entry)

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        """Enter a declined rewrite, once for each layer and rule."""
        key = (rule, id(node))
        if key in self._declined:
            return
        self._declined.add(key)
        entry = Entry(self._pass, rule, DECLINED, (node,), ())
        entry.reason = reason
        self.ledger.entries.append(entry)

    def measured(self, what: str, numbers: Mapping[str, int]) -> None:
        """Note what a pass counted."""
        self._measured.add(what)
        self.ledger.measured[what] = dict(numbers)
