"""What people see: the summary table and the progress line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from compiler.compare import Comparison
from compiler.doctor.record import Diagnosis
from compiler.ledger import DECLINED, ROLLED_BACK
from compiler.report import Report

HEARD = 0.01  # share of the noise from which a layer without a known cause is spoken of
TAIL = 32  # letters of a layer's name
MANY = 12  # rows of one kind, beyond which the rest is counted


@contextmanager
def live_progress() -> Iterator[Callable[[str, int], None]]:
    """A bar with the current step and the time, on standard error; gone when done. Steps beyond the expected number
    (rounds of a group that is repeated) do not move it."""
    columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(step: str, total: int) -> None:
            progress.update(task, description=step, total=total or None, advance=1)

        yield tell


def summary(report: Report) -> str:
    """What was done and how equal the result is, for standard output as it is (encoding, width, colours)."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for note in report.notes:
            console.print(f"note: {note}", markup=False)
        console.print(_table(report))
        for line in (*_transposes(report), *_regions(report), *_ledger_lines(report)):
            console.print(line, markup=False)
        if report.compression is not None:
            console.print(report.compression.text(), end="", markup=False)
        if report.details is not None:
            console.print(report.details.text(), end="", markup=False)
        for loss in report.losses:
            console.print(f"accuracy is lost by {_plain(str(loss))}", markup=False)
        for warning in report.warnings:
            console.print(f"warning: {warning}", markup=False)
        if report.explanation is not None:
            _explain(console, report.explanation)
        if report.spectrum is not None:
            console.print(_spectrum(report.spectrum.as_json()))
        if report.placement is not None:
            console.print(report.placement.text(), end="", markup=False)
        done = "no artifact is written" if report.artifact is None else f"wrote {_plain(str(report.artifact))}"
        console.print(done, markup=False)
    return captured.get()


def _explain(console: Console, found: Diagnosis) -> None:
    """The layers that cost the most, and below them the causes of each in words."""
    rows = "1 row" if found.rows == 1 else f"{found.rows} rows"
    table = Table(title=Text(f"damage by layer, {rows}"), title_justify="left")
    for column in ("", "layer", "alone", "accumulated", "share of noise", "cause"):
        table.add_column(column, justify="left" if column in ("layer", "cause") else "right")
    worst = found.layers[:MANY]
    for number, p in enumerate(worst, 1):
        share = "" if p.share is None else f"{100 * p.share:.1f} %"
        causes = ", ".join(f.cause for f in p.findings[:2]) or "not known"
        name = _plain(p.name)[-TAIL:]
        cells = (f"{p.op} {name}", f"{p.alone_db:.1f} dB", f"{p.accumulated_db:.1f} dB", share, causes)
        _row(table, str(number), *cells)
    if worst:
        console.print(table)
    for number, p in enumerate(worst, 1):
        for f in p.findings:
            console.print(f"{number}. {f.cause}: {_plain(f.words)}; what helps: {f.remedy}", markup=False)
        if p.known and (p.share is None or p.share >= HEARD):
            console.print(f"{number}. no known cause: {_plain(p.known)}", markup=False)
    for name, db in found.outputs.items():
        console.print(f"output {_plain(name)}: {db:.1f} dB with all layers rounded", markup=False)
    for note in found.notes:
        console.print(f"explain: {note}", markup=False)


def _spectrum(found: Mapping[str, Any]) -> Table:
    """Of each layer its singular values and dimensions, and below them what ranks cost."""
    rows = f", dimensions by {found['rows']} rows" if found["rows"] else ""
    device = f", times of {found['device']}" if found["device"] else ""
    table = Table(title=Text(f"singular values by layer{rows}{device}"), title_justify="left")
    table.add_column("layer")
    for column in ("rank", "parameters", "MACs", *["us"] * bool(found["device"])):
        table.add_column(column, justify="right")
    for p in found["layers"]:
        dims = {"effective rank": p["effective_rank"], "TwoNN": p["two_nn"], "participation": p["participation_ratio"]}
        known = ", ".join(f"{name} {value:.1f}" for name, value in dims.items() if value is not None)
        table.add_section()
        full = min(p["shape"][0], prod(p["shape"][1:]))
        _row(table, f"{_plain(p['layer'])[-TAIL:]} {p['shape']}", str(full), *_costs(p["before"]))
        _row(table, f"  {p['bars']} {known}")
        for cut in p["cuts"]:
            label = f"  {cut['energy']:.1%}: {cut['split'] or 'no split saves work'}"
            rank = "" if cut["matrix_rank"] is None else str(cut["matrix_rank"])
            _row(table, label, rank, *(_costs(cut) if cut["split"] else ()))
    return table


def _costs(work: Mapping[str, Any]) -> list[str]:
    seconds = [] if work["seconds"] is None else [f"{1e6 * work['seconds']:,.2f}"]
    return [f"{work['parameters']:,}", f"{work['macs']:,}", *seconds]


def _ledger_lines(report: Report) -> Iterator[str]:
    for record in report.ledger.passes:
        if record.status.startswith(ROLLED_BACK):
            yield f"pass {record.pass_name} was {record.status}"
    declined = sum(e.status == DECLINED for e in report.ledger.entries)
    if declined:
        noun = "rewrite was" if declined == 1 else "rewrites were"
        yield f"{declined} {noun} declined; --json gives the reasons"


def _transposes(report: Report) -> Iterator[str]:
    found = report.transposes
    if found is not None:
        count = f"{found['in']} in, {found['out']} out (lower bound {found['lower_bound']})"
        bound = f" (lower bound {found['lower_bound_bytes']:,})" if "lower_bound_bytes" in found else ""
        yield f"transposes: {count}, {found['bytes_moved']:,} bytes moved{bound}"


def _regions(report: Report) -> Iterator[str]:
    found = report.ledger.measured.get("regions")
    if found is not None and found["regions"]:
        noun = "region" if found["regions"] == 1 else "regions"
        yield (
            f"{found['regions']} {noun} moved to (B, C, 1, S): {found['products']} dense layers and attentions, with"
            f" {found['convs']} convolutions now; reshapes and transposes: {found['movers_before']} before,"
            f" {found['movers_inside']} inside and {found['movers_at_borders']} at the borders now; estimated time"
            f" {found['ns_before'] / 1000:,.0f} -> {found['ns_after'] / 1000:,.0f} us"
        )


def _table(report: Report) -> Table:
    before, after = report.before, report.after
    table = Table(title=Text(f"{_plain(report.model)} -> {report.target}"), title_justify="left")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    _row(table, "layers", str(before.layers), str(after.layers))
    for op, old, new in _changed_ops(report):
        _row(table, f"  {op}", old, new)
    _row(table, "parameters", f"{before.parameters:,}", f"{after.parameters:,}")
    _row(table, "multiply-accumulates", f"{before.macs:,}", f"{after.macs:,}")
    _row(table, "bytes moved", f"{before.bytes_moved:,}", f"{after.bytes_moved:,}")
    if report.artifact is not None:
        _row(table, "artifact", "", f"{report.size:,} bytes")
    table.add_section()
    for name, times in report.ledger.counts().items():
        _row(table, name, "", f"x{times}")
    table.add_section()
    for c in (report.verification or ())[:MANY]:
        _row(table, f"{_plain(c.name)} vs ONNX Runtime", "", _distance(c))
    hidden = len(report.verification or ()) - MANY
    if hidden > 0:
        _row(table, f"and {hidden} more outputs", "", "see --json")
    table.add_section()
    for stage, seconds in report.stages.items():
        _row(table, f"{stage}, seconds", "", f"{seconds:.2f}")
    return table


def _changed_ops(report: Report) -> list[tuple[str, str, str]]:
    """Operations whose number changed, those that changed most first, and how many there were and are."""
    before, after = report.before.ops, report.after.ops
    names = {name for name in (*before, *after) if before.get(name, 0) != after.get(name, 0)}
    ordered = sorted(names, key=lambda n: (-abs(after.get(n, 0) - before.get(n, 0)), n))
    rows = [(n, str(before.get(n, 0)), str(after.get(n, 0))) for n in ordered[:MANY]]
    return rows if len(ordered) <= MANY else [*rows, (f"and {len(ordered) - MANY} more", "", "")]


def _distance(c: Comparison) -> str:
    label = "identical" if c.max_abs == 0 else f"{c.psnr_db:.1f} dB, max-abs {c.max_abs:.2e}"
    return label if c.top1_agreement is None else f"{label}, top-1 {100 * c.top1_agreement:.0f} %"


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))


def _plain(name: str) -> str:
    """A name on one line, whatever it holds."""
    return name if name.isprintable() else repr(name)[1:-1]
