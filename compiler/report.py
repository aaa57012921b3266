"""What a compilation did: sizes before and after, time by stage, the ledger, and how equal the artifact is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from compiler.compare import Comparison
from compiler.doctor.record import Diagnosis
from compiler.errors import CompileError, VerificationError
from compiler.graph import Graph
from compiler.ledger import APPLIED, Ledger
from compiler.pass_base import ErrorClass, pass_class
from compiler.probe import Loss

LOSSY = ErrorClass.LOSSY.value


class Section(Protocol):
    """What a target has to say of an artifact beyond what every target does."""

    def text(self) -> str:
        """Lines of plain text."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""


class Measure(NamedTuple):
    """Size of a graph: layers, elements of its constants, multiply-accumulates and bytes moved of one execution."""

    layers: int
    parameters: int
    macs: int
    bytes_moved: int
    ops: dict[str, int]


def measure(graph: Graph) -> Measure:
    """Count a graph."""
    macs = moved = 0
    for node in graph.nodes:
        outputs, inputs = [v.type for v in node.outputs], node.input_types
        macs += node.op.macs(outputs, *inputs)
        moved += node.op.bytes_moved(outputs, *inputs)
    return Measure(len(graph), sum(v.type.size for v in graph.constants), macs, moved, graph.op_counts)


def approximations(ledger: Ledger) -> list[str]:
    """A warning about the layers that lossy passes computed by others, with the bound of each pass that states one."""
    counts = Counter(e.pass_name for e in ledger.entries if e.status == APPLIED and e.error_class == LOSSY)
    bounds = {name: cls.bound for name in counts if (cls := pass_class(name)) is not None}
    told = [f"{name} x{counts[name]}, each {bound}" for name, bound in bounds.items() if bound]
    return [f"APPROXIMATED: {'; '.join(told)}; --skip leaves a pass out"] if told else []


def inexact_references(report: Report) -> list[str]:
    """A note for every output that passed because ONNX Runtime is further from the model in float64 than it is."""
    return [
        f"output {c.name!r} is {c.psnr_db:.1f} dB from ONNX Runtime, which computes it less exactly: from the model in"
        f" float64 the artifact is {c.exact.result_db:.1f} dB away, ONNX Runtime {c.exact.reference_db:.1f} dB"
        for c in report.verification or ()
        if c.exact is not None and c.meets(report.tolerance_db)
    ]


class Report:
    """Filled in as the compilation goes on."""

    def __init__(self, target: str, model: str) -> None:
        self.target = target
        self.model = model
        self.artifact: Path | None = None  # None where nothing is written
        self.size = 0
        self.notes: Sequence[str] = ()
        self.warnings: Sequence[str] = ()
        self.before = Measure(0, 0, 0, 0, {})
        self.after = self.before
        self.ledger = Ledger()
        self.emitted: tuple[int, int] | None = None  # transposes of the artifact, and the bytes that they move
        self.stages: dict[str, float] = {}
        self.verification: list[Comparison] | None = None
        self.tolerance_db = 0.0
        self.precision: str | None = None  # of the target, if it has a choice
        self.losses: Sequence[Loss] = ()  # where accuracy went, if the verification failed
        self.explanation: Diagnosis | None = None  # of what rounding costs, if it was asked for
        self.placement: Section | None = None  # which processors run the layers, if it was asked for
        self.spectrum: Section | None = None  # of the singular values of layers, if it was asked for
        self.compression: Section | None = None  # what was saved and lost, if the model was compressed
        self.details: Section | None = None  # of the artifact, what its target has to tell

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - started

    @property
    def passed(self) -> bool:
        """Whether every compared output meets the tolerance; True if nothing was compared."""
        return all(c.meets(self.tolerance_db) for c in self.verification or ())

    @property
    def transposes(self) -> dict[str, int] | None:
        """Transposes of the model as it was read (in) and of the artifact (out), the bytes that these move, and what
        no choice of layouts goes below; None if no pass chose. Layouts are chosen while all numbers have 32 bits: of an
        int8 artifact there is no bound in bytes."""
        measured = self.ledger.measured.get("transposes")
        if measured is None:
            return None
        chosen = {k: n for k, n in measured.items() if k != "lower_bound_bytes" or self.precision != "int8"}
        found = {} if self.emitted is None else dict(zip(("out", "bytes_moved"), self.emitted, strict=True))
        return {"in": self.before.ops.get("transpose", 0), **chosen, **found}

    @property
    def failure(self) -> CompileError | None:
        """What to say of a verification that did not pass; None if it did."""
        if self.passed:
            return None
        missed = (c for c in self.verification or () if not c.meets(self.tolerance_db))
        c = min(missed, key=lambda c: c.psnr_db)
        found = f"output {c.name!r} is {c.psnr_db:.1f} dB from ONNX Runtime (max-abs {c.max_abs:.3g})"
        if c.exact is not None:
            found += f" and {c.exact.result_db:.1f} dB from the model in float64"
        rounded = self.precision == "fp16"
        return VerificationError(
            f"verification failed: {found}, {self.tolerance_db:.0f} dB are required",
            where="; ".join(map(str, self.losses[:2])) or None,
            hint="--bisect names the rewrite" + "; --precision fp32 tells rounding from errors" * rounded,
        )

    def as_json(self) -> dict[str, Any]:
        """The object that --json prints."""
        verification: dict[str, Any] = {"passed": self.passed, "tolerance_db": self.tolerance_db, "outputs": []}
        if self.verification is not None:
            verification["outputs"] = [c.as_json() for c in self.verification]
        return {
            "artifact": None if self.artifact is None else str(self.artifact),
            "target": self.target,
            "model": self.model,
            "size_bytes": self.size,
            "stages": [{"name": name, "seconds": round(s, 4)} for name, s in self.stages.items()],
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "transposes": self.transposes,
            "regions": self.ledger.measured.get("regions"),
            "passes": [p.as_json() for p in self.ledger.passes],
            "ledger": self.ledger.as_json(),
            "verification": verification,
            "losses": [loss.as_json() for loss in self.losses],
            "explanation": None if self.explanation is None else self.explanation.as_json(),
            "placement": None if self.placement is None else self.placement.as_json(),
            "spectrum": None if self.spectrum is None else self.spectrum.as_json(),
            "compression": None if self.compression is None else self.compression.as_json(),
            "details": None if self.details is None else self.details.as_json(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
