"""The section on executed instructions: ours beside the floor and the peers, and inner loops."""

from __future__ import annotations

from pathlib import Path

from benchmarks.catalogue import NEON
from benchmarks.markdown import table
from benchmarks.neon_cases import CASES, LANES, Case, processors
from benchmarks.neon_mca import CORES, IN_ORDER, MATRIX_CORES
from benchmarks.neon_results import Loop
from benchmarks.results import Machine, Result, Session
from benchmarks.scores import OURS

_PAGE = Path(__file__).with_name("neon_page.md")
TOOLS = ("ncnn", "LiteRT", "onnxruntime")
LEAST_PEAK, LEAST_IN_ORDER = 0.95, 0.80
SHOWN = 6  # functions of a model
Row = tuple[Case, str]


def section(session: Session) -> str:
    """All tables."""
    machine = session.machines.get(NEON, session.machine)
    rows = [(c, p) for c in CASES for p in processors(c) if _result(session, (c, p), OURS) is not None]
    parts = [_PAGE.read_text(encoding="utf-8").rstrip(), _counts(session, rows), _lost(session, rows)]
    loops = _loops(session)
    parts += ["### Inner loops", loops] if loops else []
    parts += ["### Where our instructions are", _functions(session, rows)]
    failures = [r for (suite, _, _), r in session.results.items() if suite == NEON and r.error]
    if failures:
        told = "\n".join(f"- {r.model}, {r.tool}: `{(r.error or '').replace('`', '')}`" for r in failures)
        parts += ["### What has no count", told]
    return "\n\n".join([*parts, _measured(machine)])


def _result(session: Session, row: Row, tool: str) -> Result | None:
    case, processor = row
    return session.results.get((NEON, case.name, f"{tool} {processor}"))


def millions(session: Session, row: Row, tool: str) -> float | None:
    """Executed instructions of one inference."""
    result = _result(session, row, tool)
    return None if result is None or result.counted is None else result.counted.total / 1e6


def floor(session: Session, row: Row) -> float | None:
    """Millions of multiply-accumulate instructions that the model takes at the least, if none is saved."""
    case, processor = row
    ours = _result(session, row, OURS)
    macs = ours.counted.macs if ours and ours.counted else 0
    return macs / LANES[case.numbers][processor] / 1e6 if macs else None


def best(session: Session, row: Row) -> float | None:
    """Of the peers."""
    return min((n for tool in TOOLS if (n := millions(session, row, tool)) is not None), default=None)


def misses(session: Session, row: Row) -> list[str]:
    """Which bars ours does not reach."""
    case, processor = row
    ours, peer = millions(session, row, OURS), best(session, row)
    if ours is None:
        return ["it does not run"]
    found = []
    if peer is not None and ours > case.bar * peer:
        found.append(f"{ours / peer:.2f} of the best peer, {case.bar:.2f} is asked for")
    limit = dict(case.limits).get(processor)
    if limit is not None and ours > limit:
        found.append(f"{ours:.1f} M, {limit:.0f} M is asked for")
    return found


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _counts(session: Session, rows: list[Row]) -> str:
    cells = []
    for row in rows:
        case, processor = row
        ours, peer = millions(session, row, OURS), best(session, row)
        ratio = f"{ours / peer:.2f}" if ours and peer else ""
        counts = [_shown(millions(session, row, tool)) for tool in (OURS, *TOOLS)]
        met = "**no**" if misses(session, row) else "yes"
        cells.append([f"{case.name}, {processor}", _shown(floor(session, row)), *counts, ratio, met])
    return table(["millions of instructions", "floor", OURS, *TOOLS, "ratio to the best peer", "bar met"], cells)


def _lost(session: Session, rows: list[Row]) -> str:
    lines = [f"- {row[0].name}, {row[1]}: {what}" for row in rows for what in misses(session, row)]
    slower = [
        f"{row[0].name}, {row[1]}"
        for row in rows
        if (ours := millions(session, row, OURS)) and (peer := best(session, row)) and ours > peer
    ]
    told = f"A peer takes fewer instructions in: {'; '.join(slower)}." if slower else "No peer takes fewer."
    return "\n\n".join([told, "Bars that are missed:\n\n" + "\n".join(lines) if lines else "No bar is missed."])


def _loops(session: Session) -> str:
    found: dict[tuple[str, str], dict[str, Loop]] = {}
    for (suite, model, _), result in session.results.items():
        for loop in result.loops if suite == NEON else ():
            found.setdefault((model, loop.function), {})[loop.core] = loop
    cells = []
    for (model, function), loops in found.items():
        shares = [_share(loops.get(core)) for core in (*CORES, IN_ORDER)]
        size = str(next(iter(loops.values())).instructions)
        cells.append([f"`{function}` ({model})", size, *shares, _verdict(loops)])
    return table(["loop", "instructions", *CORES, IN_ORDER, "met"], cells) if cells else ""


def _verdict(loops: dict[str, Loop]) -> str:
    """Whether the loop reaches its bars: by all that a core can multiply, or `bound`, by what else it is full of. There
    is none for products of bytes on cores with instructions for matrices."""
    if set(loops) <= set(MATRIX_CORES):
        return "-"
    if all(loop.peak >= least(loop) for loop in loops.values()):
        return "yes"
    return "bound" if all(loop.bound >= least(loop) for loop in loops.values()) else "**no**"


def least(loop: Loop) -> float:
    """The share that a loop is to reach on its core."""
    return LEAST_IN_ORDER if loop.core == IN_ORDER else LEAST_PEAK


def _share(loop: Loop | None) -> str:
    if loop is None:
        return ""
    limit = f" {loop.limit}" if loop.peak < least(loop) else ""
    return f"{100 * loop.peak:.1f} / {100 * loop.bound:.1f}{limit}"


def _functions(session: Session, rows: list[Row]) -> str:
    lines = []
    for row in rows:
        result = _result(session, row, OURS)
        if result is None or result.counted is None or row[0].is_layer:
            continue
        total = result.counted.total
        spent = sorted(result.counted.functions.items(), key=lambda item: -item[1])[:SHOWN]
        told = ", ".join(f"`{name}` {100 * n / total:.0f} %" for name, n in spent)
        kinds = sorted(result.counted.classes.items(), key=lambda item: -item[1])[:SHOWN]
        by_class = ", ".join(f"{name} {100 * n / total:.0f} %" for name, n in kinds)
        lines.append(f"- {row[0].name}, {row[1]}: {told}; by class {by_class}")
    return "\n".join(lines)


def _measured(m: Machine) -> str:
    names = ("cincel", "gcc for aarch64", "qemu", "ncnn", "ai-edge-litert", "onnxruntime")
    versions = ", ".join(f"{name} {m.versions[name]}" for name in names if name in m.versions)
    return f"Counted {m.date} with {versions}."
