"""The lines of a placement report for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from compiler.halves import listed
from targets.apple.placement.eligible import ANE, Rule
from targets.apple.placement.memory import Extent
from targets.apple.placement.plan import Score
from targets.apple.placement.predict import Placed, Prediction

if TYPE_CHECKING:
    from targets.apple.placement.report import PlacementReport

SHOWN = 12  # groups of operations, and mismatches, that are listed
PLACES = 4  # layers that are named for each group
NAME = 40  # letters of a name
WORDS = {"ane": "Neural Engine", "gpu": "GPU", "cpu": "CPU"}
Row = tuple[str, ...]


def lines(report: PlacementReport) -> Iterator[str]:
    """All of them."""
    chip = f"{report.chip.name} (engine family {report.chip.family})"
    yield f"placement on {chip}, {report.system.name}, units {report.units}: predicted, not measured"
    yield "  eligible is what the rules allow, selected what a model of Core ML's segmenter chooses; what is executed"
    yield "  only a device answers: --compute-plan FILE.json reads back what it plans"
    yield from _table(_counts(report.before, report.after))
    yield from _off_engine(report.after)
    yield from _brought(report)
    yield from _kept_off(report)
    yield from _remarks(report.after)
    yield from _memory(report)
    yield from _rooflines(report)
    if report.score is not None:
        yield from _score(report.score)
    yield from (f"  {line}" for line in listed(report.risks) if report.risks)
    for warning in (*report.memory.warnings, *report.warnings):
        yield f"  note: {warning.says} ({warning.confidence})"


def _counts(before: Prediction | None, after: Prediction) -> list[Row]:
    columns = [_figures(p) for p in (before, after) if p is not None]
    head: Row = ("", "before", "after") if before is not None else ("", "")
    return [head, *((label, *(c[label] for c in columns)) for label in columns[0])]


def _figures(p: Prediction) -> dict[str, str]:
    total = len(p.placed)
    return {
        "operations": f"{total:,}",
        "  eligible for the engine": f"{total - len(p.off_engine):,}",
        "  selected for the engine": f"{sum(x.selected == ANE for x in p.placed):,}",
        "multiply-accumulates": f"{p.macs:,}",
        "  eligible": f"{100 * p.macs_eligible:.1f} %",
        "  in the largest eligible segment": f"{100 * p.macs_in_largest:.1f} %",
        "  selected": f"{100 * p.macs_selected:.1f} %",
        "eligible segments": f"{len(p.pieces.on_engine):,} of {len(p.pieces.segments):,}",
        "  bytes across their borders": f"{p.pieces.crossing_bytes:,}",
        "selected segments": f"{len(p.chosen.on_engine):,} of {len(p.chosen.segments):,}",
        "  bytes across their borders ": f"{p.chosen.crossing_bytes:,}",
        "time by the segmenter's model": f"{p.path.cost_ms:.3f} ms",
    }


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """Rows with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
        yield ("  " + "  ".join(cells)).rstrip()


def _off_engine(p: Prediction) -> Iterator[str]:
    if not p.off_engine:
        yield "  every operation may run on the engine"
        return
    yield f"  off the engine, {len(p.off_engine):,} of {len(p.placed):,} operations:"
    yield from _groups((x, x.verdict.rule) for x in p.off_engine)


def _brought(report: PlacementReport) -> Iterator[str]:
    """What was off the engine for a reason that no operation has any more."""
    if report.before is None:
        return
    left = {(x.operation.kind, x.verdict.rule) for x in report.after.off_engine}
    gone = [x for x in report.before.off_engine if (x.operation.kind, x.verdict.rule) not in left]
    if gone:
        yield f"  off the engine before, {_count(gone)}, and written in another way now:"
        yield from _groups(((x, x.verdict.rule) for x in gone), told=False)


def _remarks(p: Prediction) -> Iterator[str]:
    if p.remarks:
        yield "  runs on the engine, but:"
        yield from _groups(p.remarks)


def _groups(found: Iterable[tuple[Placed, Rule]], told: bool = True) -> Iterator[str]:
    """Operations for which one reason is given share their lines; what would help is `told`."""
    alike: dict[tuple[str, str, str], tuple[Rule, list[Placed]]] = {}
    for placed, rule in found:
        alike.setdefault((rule.says, rule.source, rule.fix), (rule, []))[1].append(placed)
    for rule, members in list(alike.values())[:SHOWN]:
        kinds = Counter(x.operation.kind for x in members)
        counted = ", ".join(kind if n == 1 else f"{kind} x{n}" for kind, n in kinds.items())
        yield f"    {counted} of {_places(members)}: {rule.says}"
        yield f"      rule {rule.name}, {rule.confidence}, {rule.source}"
        if rule.fix and told:
            yield f"      instead: {rule.instead or rule.fix} ({rule.fix}; {_by(rule)})"
    if len(alike) > SHOWN:
        yield f"    and {len(alike) - SHOWN} more kinds; --json lists them all"


def _count(members: Sequence[Placed]) -> str:
    return f"{len(members):,} operation{'' if len(members) == 1 else 's'}"


def _by(rule: Rule) -> str:
    if not rule.pass_name:
        return "by no pass"
    asked = f", on request: --approximate {rule.pass_name}" if rule.on_request else ""
    return f"by pass {rule.pass_name} where it applies{asked}"


def _places(members: Sequence[Placed]) -> str:
    names = list(dict.fromkeys(_place(x) for x in members))
    more = f" and {len(names) - PLACES} more" if len(names) > PLACES else ""
    return ", ".join(names[:PLACES]) + more


def _place(x: Placed) -> str:
    """The node of the model that the layer came from, or the layer where it came from none."""
    op = x.operation
    kind = op.onnx or op.layer.partition(" ")[0]
    return f"{kind} {_short(op.origin[0])}" if op.origin else _short(op.layer) or "the inputs and outputs"


def _short(name: str) -> str:
    plain = name if name.isprintable() else repr(name)[1:-1]
    return plain if len(plain) <= NAME else f"...{plain[-NAME:]}"


def _kept_off(report: PlacementReport) -> Iterator[str]:
    """Operations that may run on the engine and are predicted elsewhere."""
    after = report.after
    kept = [x for x in after.placed if x.verdict.ane and x.selected != ANE]
    if kept and report.units != "cpu-and-gpu":
        where = ", ".join(f"{n} on the {WORDS[u]}" for u, n in _tally(kept).items())
        saved = "what they would save there is less than what starting, switching and ending a segment costs"
        yield f"  eligible but selected elsewhere: {where}; {saved}"
    if after.path.ties:
        yield f"  {after.path.ties} operations cost the same elsewhere: there Core ML's choice is open"


def _tally(members: Sequence[Placed]) -> dict[str, int]:
    return {u: n for u in WORDS if (n := sum(x.selected == u for x in members))}


def _memory(report: PlacementReport) -> Iterator[str]:
    m = report.memory
    total = f"{m.real:,} bytes, {m.padded:,} with rows of 64 bytes"
    yield f"  memory: all values {total}; weights {m.weights:,} bytes"
    rows = [_extent(e) for e in m.extents]
    if rows:
        yield from ("  " + line for line in _table(rows))
    if m.beyond_chip:
        yield f"    {len(m.beyond_chip):,} values have more than 2 MB and leave the memory on the chip"


def _extent(e: Extent) -> Row:
    shape = "x".join(map(str, e.shape)) or "scalar"
    return f"{e.role} {_short(e.name)}", f"{e.dtype} {shape}", f"{e.real:,}", f"{e.padded:,}", f"{e.factor:.2f}x"


def _rooflines(report: PlacementReport) -> Iterator[str]:
    own = report.roofline
    top = own.ceiling
    yield f"  roofline, an estimate if all of it ran on the engine: {own.fp16_ms:.3f} ms on {top.chip}"
    rates = f"{top.fp16.value:.1f} TFLOP/s fp16, {top.int8.value:.1f} TOPS int8, {top.bandwidth.value:.0f} GB/s"
    rates += f", {top.dispatch.value:.2f} ms for each call"
    inferred = f"; {', '.join(top.inferred)}" if top.inferred else ""
    yield f"    {rates}{inferred}; {100 * own.memory_share:.0f} % of the time is spent on memory"
    others = [f"{e.ceiling.chip} {'' if e.ceiling.knows_bandwidth else '~'}{e.fp16_ms:.2f}" for e in report.rooflines]
    yield f"    fp16 ms by chip (~: with the bandwidth of another chip): {', '.join(others)}"


def _score(s: Score) -> Iterator[str]:
    where = ", ".join(x for x in (s.plan.device, s.plan.system, s.plan.units) if x) or "a device"
    yield f"  compute plan of {where}: {s.right:,} of {s.matched:,} operations predicted right"
    if s.right_by_cost is not None:
        yield f"    by cost {100 * s.right_by_cost:.1f} %, by operations {100 * s.right_by_operations:.1f} %"
    if s.eligible_known:
        yield f"    whether the engine may run it: {s.eligible_right:,} of {s.eligible_known:,} right"
    rows: list[Row] = [("predicted", "planned", "operations")]
    rows += [(WORDS[a], WORDS[b], f"{n:,}") for (a, b), n in s.confusion.items()]
    yield from ("  " + line for line in _table(rows))
    for m in s.mismatches[:SHOWN]:
        told = f"predicted {WORDS[m.placed.selected]}, planned {WORDS[m.planned.preferred]}"
        yield f"    {m.placed.operation.kind} {_short(m.placed.operation.name)}: {told}"
    if len(s.mismatches) > SHOWN:
        yield f"    and {len(s.mismatches) - SHOWN} more; --json lists them all"
    if s.unplanned or s.unpredicted:
        yield f"    {len(s.unplanned):,} operations are not in the plan, {len(s.unpredicted):,} of it are unknown here"
