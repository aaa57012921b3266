"""What people see: the summary table and the progress line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from compiler.report import Report


@contextmanager
def live_progress() -> Iterator[Callable[[str], None]]:
    """A spinner with the current step and the time, on standard error."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("")
        yield lambda step: progress.update(task, description=step)


def summary(report: Report) -> None:
    """Print what was done and how equal the result is."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    console.print(_table(report))
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False)
    declined = sum(e.status == "declined" for e in report.ledger.entries)
    for record in report.ledger.passes:
        if record.status != "applied":
            console.print(f"pass {record.pass_name} was {record.status}", markup=False)
    if declined:
        console.print(f"{declined} rewrites were declined; --json gives the reasons")
    console.print(f"wrote {report.artifact}", markup=False)


def _table(report: Report) -> Table:
    before, after = report.before, report.after
    table = Table(title=f"{report.model} -> {report.target}", title_justify="left")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("layers", str(before.layers), str(after.layers))
    table.add_row("parameters", f"{before.parameters:,}", f"{after.parameters:,}")
    table.add_row("multiply-accumulates", f"{before.macs:,}", f"{after.macs:,}")
    table.add_row("bytes moved", f"{before.bytes_moved:,}", f"{after.bytes_moved:,}")
    table.add_row("artifact", "", f"{report.size:,} bytes")
    table.add_section()
    for name, fired in report.ledger.counts().items():
        table.add_row(name, "", f"x{fired}")
    table.add_section()
    for c in report.verification or ():
        label = "identical" if c.max_abs == 0 else f"{c.psnr_db:.1f} dB, max-abs {c.max_abs:.2e}"
        top1 = "" if c.top1_agreement is None else f", top-1 {100 * c.top1_agreement:.0f} %"
        table.add_row(f"{c.name} vs ONNX Runtime", "", label + top1)
    table.add_section()
    table.add_row("seconds", "", ", ".join(f"{name} {s:.2f}" for name, s in report.stages.items()))
    return table
