"""Writing a model until the file, executed, is within its budget of accuracy."""

from __future__ import annotations

from collections.abc import Callable

from compiler.errors import LegalityError, UsageError, VerificationError
from compiler.graph import Graph
from passes._search import Budget
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.check import check

SHOWN = 8  # units that a warning names


def within_budget(
    budget: Budget, graph: Graph, device: str, strict: bool, write: Callable[[], TfLiteArtifact], is_placed: bool = True
) -> TfLiteArtifact:
    """The file that `write` makes of the graph, in which more and more values get more bits as long as LiteRT's results
    miss the budget; `is_placed` if there are rules for what the device takes. VerificationError if they do so even in
    floats, and LegalityError where `strict` allows none."""
    if not budget.is_planned:
        raise UsageError("--max-drop and --min-psnr need the pass fall-back", hint="leave --passes and --skip away")
    while True:
        if strict and budget.costs:
            raise LegalityError(
                f"{device}: the budget is not met in full int8; it takes more bits for\n  "
                + "\n  ".join(map(str, budget.costs)),
                hint="ask for less, or leave --strict away: then they are stored in more bits",
            )
        artifact = write()
        if budget.keeps(list(artifact.run_rows(budget.feeds))):
            break
        if not budget.tighten(graph):
            artifact.path.unlink(missing_ok=True)
            raise VerificationError(
                f"the budget cannot be met: in float32, executed, the model has {budget.found}",
                hint="ask for less; --precision fp32 shows what the target reaches",
            )
    if budget.costs:
        artifact.warnings.append(account(budget, artifact, device if is_placed else None))
    else:
        artifact.notes.append(f"the budget is met without more bits, {_measured(budget)}")
    return artifact


def _measured(budget: Budget) -> str:
    return f"executed on {len(budget.feeds)} rows: {budget.found}"


def account(budget: Budget, artifact: TfLiteArtifact, device: str | None) -> str:
    """What was given up for the budget, and what is left of it; what a device takes of the file, if one is given."""
    shown, more = budget.costs[:SHOWN], budget.costs[SHOWN:]
    listed = "; ".join(map(str, shown))
    if more:
        nbytes, conversions = sum(c.nbytes for c in more), sum(c.conversions for c in more)
        listed += f"; and {len(more)} more ({nbytes:+,} bytes, {conversions:+} conversions), which --json lists"
    where = f"; {_placement(artifact, device)}" if device else ""
    return f"LEFT INT8 FOR THE BUDGET: {listed}{where}; {_measured(budget)}"


def _placement(artifact: TfLiteArtifact, device: str) -> str:
    report = check(artifact.path, device)
    placed, pieces = sum(p.on_device for p in report.placements), sum(p.on_device for p in report.partitions)
    where = f"{report.device} takes {placed} of {report.operators} operators, in {pieces} piece{'s' * (pieces != 1)}"
    reasons = dict.fromkeys(p.reason for p in report.placements if not p.on_device)
    return where + (f" (not taken: {'; '.join(reasons)})" if reasons else "")
