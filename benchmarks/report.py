"""Markdown tables from results: `python -m benchmarks.report RESULTS.jsonl ... [--page PATH]`."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import scores
from benchmarks.catalogue import BARS, DECODER, SCALING, SIZES
from benchmarks.peers import TOOLS
from benchmarks.results import Result, Session, read
from benchmarks.scores import OURS, Verdict

MB = 1e6
_PAGE = Path(__file__).with_name("page.md")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table whose first column is text and whose others are figures."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def verdict_word(verdict: Verdict) -> str:
    return {True: "yes", False: "**no**", None: "-"}[verdict.holds]


def render(session: Session) -> str:
    """Everything that was measured, the standing against the bars first."""
    sections: dict[str, Callable[[Session], str]] = {
        "onnx": _onnx,
        "coreml": _coreml,
        "scaling": _scaling,
        "decoder": _decoder,
    }
    parts = [_summary(session), *(write(session) for suite, write in sections.items() if session.models(suite))]
    return "\n\n".join([*parts, _machine(session)]) + "\n"


def _summary(session: Session) -> str:
    rows = []

    def bar(text: str, verdicts: Sequence[Verdict], shown: Callable[[Verdict], str]) -> None:
        judged = [v for v in verdicts if v.holds is not None]
        worst = max((v for v in judged if v.value is not None), key=lambda v: v.strain, default=None)
        if judged:
            met = sum(bool(v.holds) for v in judged)
            detail = f"{shown(worst)} ({worst.model})" if worst else "not measured"
            missed = ", ".join(v.model for v in judged if not v.holds)
            rows.append([text, f"{met} of {len(judged)}", detail, missed])

    if session.models("onnx"):
        cpu = scores.cpu_verdicts(session, "onnx")
        bar(f"ONNX: CPU at most {BARS.onnx_cpu_ratio} x the fastest peer", cpu, _times)
        ratios = [v.value for v in cpu if v.value is not None]
        if ratios:
            mean = Verdict("all models", scores.geomean(ratios), BARS.onnx_cpu_geomean)
            bar(f"ONNX: geometric mean of these at most {BARS.onnx_cpu_geomean}", [mean], _times)
        bar(
            "ONNX: nodes no more than the best peer",
            scores.node_verdicts(session),
            lambda v: f"{v.value} nodes, the peer {v.bar}",
        )
        text = f"ONNX: outputs within {BARS.onnx_psnr_db:.0f} dB of the original's"
        bar(text, scores.quality_verdicts(session, "onnx"), _decibels)
        text = f"ONNX: peak memory at most {BARS.onnx_rss_per_file:.0f} x the file"
        bar(text, scores.memory_verdicts(session), _times)
        bar(f"{text}, above an idle interpreter", scores.memory_verdicts(session, session.machine.floor_rss), _times)
    if session.models("coreml"):
        verdicts = scores.cpu_verdicts(session, "coreml")
        bar(f"Core ML: CPU at most {BARS.coreml_cpu_ratio} x the better peer", verdicts, _times)
        text = f"Core ML: outputs in fp16 within {BARS.coreml_psnr_db:.0f} dB of the original's"
        bar(text, scores.quality_verdicts(session, "coreml"), _decibels)
    if session.models("scaling"):
        seconds, growth = scores.scaling_verdicts(session)
        limits = " / ".join(f"{s:g}" for s in BARS.scaling_cpu_s)
        bar(f"Scaling: 1,000 / 10,000 / 100,000 nodes in {limits} CPU seconds", seconds, lambda v: f"{v.value:.2f} s")
        bar(f"Scaling: ten times the nodes in at most {BARS.scaling_decade:g} x the time", growth, _times)
    if session.models("decoder"):
        text = f"Decoder: peak memory at most {BARS.decoder_rss / MB:.0f} MB"
        bar(text, [scores.decoder_verdict(session)], lambda v: f"{(v.value or 0) / MB:.0f} MB")
    return table(["bar", "met", "nearest to the bar, or furthest over it", "missed by"], rows)


def _times(verdict: Verdict) -> str:
    return f"{verdict.value:.2f} x"


def _decibels(verdict: Verdict) -> str:
    return f"{verdict.value:.0f} dB"


def _tools(suite: str) -> list[str]:
    return [tool.name for tool in TOOLS[suite]]


def _cell(result: Result | None, shown: Callable[[Result], str]) -> str:
    """One figure; a dagger marks a prepared copy, "fails" a command that did not finish."""
    if result is None:
        return ""
    if not result.done:
        return "fails"
    return shown(result) + ("&dagger;" if result.prepared else "")


def _seconds(result: Result) -> str:
    return f"{result.cpu_s:.2f}"


def _nodes(result: Result) -> str:
    return "?" if result.check.nodes is None else str(result.check.nodes)


def _quality(result: Result) -> str:
    """PSNR against ONNX Runtime on the original; `=` for identical outputs."""
    if result.check.error:
        return "does not run"
    if result.check.psnr_db is None:
        return "-"
    return "=" if result.check.psnr_db >= 400 else f"{result.check.psnr_db:.0f}"


def _runs(session: Session, suite: str) -> str:
    """How many runs stand behind the figures of a suite."""
    counts = [len(r.runs) for (s, _, _), r in session.results.items() if s == suite and r.done]
    if max(counts, default=1) == 1:
        return "one run"
    return "median of " + (f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}") + " runs"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _by_tool(session: Session, suite: str, shown: Callable[[Result], str]) -> dict[str, list[str]]:
    tools = _tools(suite)
    return {m: [_cell(session.of(suite, m).get(t), shown) for t in tools] for m in session.models(suite)}


def _onnx(session: Session) -> str:
    tools = _tools("onnx")
    cpu = _by_tool(session, "onnx", _seconds)
    nodes, quality = _by_tool(session, "onnx", _nodes), _by_tool(session, "onnx", _quality)
    memory = _by_tool(session, "onnx", lambda r: f"{r.peak_rss / MB:.0f}")
    floor = scores.memory_verdicts(session, session.machine.floor_rss)
    rows_cpu = [
        [v.model, *cpu[v.model], _ratio(v.value), verdict_word(v)] for v in scores.cpu_verdicts(session, "onnx")
    ]
    rows_nodes = [
        [v.model, _nodes_in(session.of("onnx", v.model)), *nodes[v.model], verdict_word(v), *quality[v.model]]
        for v in scores.node_verdicts(session)
    ]
    rows_memory = [
        [
            v.model,
            _megabytes_in(session, v.model),
            *memory[v.model],
            _ratio(v.value),
            verdict_word(v),
            _ratio(above.value),
        ]
        for v, above in zip(scores.memory_verdicts(session), floor, strict=True)
    ]
    dB = [f"{tool}, dB" for tool in tools]  # noqa: N806 - the unit's own spelling
    return "\n\n".join(
        [
            "## ONNX to ONNX",
            f"CPU seconds (user and system, whole command, {_runs(session, 'onnx')}):",
            table(["model", *tools, "ratio to the fastest peer", "met"], rows_cpu),
            "Nodes, without Constant on every side, and how near the outputs are to those of the original (PSNR):",
            table(["model", "in", *tools, "met", *dB], rows_nodes),
            "Peak memory in MB:",
            table(["model", "file", *tools, "x file", "met", "x file above an idle interpreter"], rows_memory),
        ]
    )


def _nodes_in(results: dict[str, Result]) -> str:
    counts = [r.check.nodes_in for r in results.values() if r.check.nodes_in is not None]
    return str(counts[0]) if counts else "?"


def _megabytes_in(session: Session, model: str) -> str:
    return f"{next(iter(session.of('onnx', model).values())).bytes_in / MB:.1f}"


def _coreml(session: Session) -> str:
    tools = _tools("coreml")
    cpu = _by_tool(session, "coreml", _seconds)
    details = _by_tool(session, "coreml", lambda r: f"{_nodes(r)}, {_quality(r)}, {r.bytes_out / MB:.1f}")
    rows = [[v.model, *cpu[v.model], _ratio(v.value), verdict_word(v)] for v in scores.cpu_verdicts(session, "coreml")]
    return "\n\n".join(
        [
            "## ONNX to Core ML",
            f"CPU seconds ({_runs(session, 'coreml')}). &dagger;: given a prepared copy, as it refuses the original.",
            table(["model", *tools, "ratio to the better peer", "met"], rows),
            "ML Program operations without constants, PSNR in dB as executed here, MB written:",
            table(["model", *tools], ([m, *cells] for m, cells in details.items())),
        ]
    )


def _scaling(session: Session) -> str:
    tools = _tools("scaling")
    seconds, growth = scores.scaling_verdicts(session)
    grown = {v.model: v for v in growth}
    cells = _by_tool(session, "scaling", _seconds)
    rows = []
    for verdict in sorted(seconds, key=lambda v: SCALING.index(v.model)):
        ours = session.of("scaling", verdict.model)[OURS]
        decade = grown.get(verdict.model, Verdict(verdict.model, None, None))
        rest = [_nodes_in({OURS: ours}), _nodes(ours), f"{ours.peak_rss / MB:.0f}", verdict_word(verdict)]
        rows.append([verdict.model, *cells[verdict.model], *rest, _ratio(decade.value), verdict_word(decade)])
    header = ["graph", *tools, "nodes in", "nodes out", "MB", "met", "growth", "met"]
    return "\n\n".join(
        [
            "## Scaling",
            f"CPU seconds ({_runs(session, 'scaling')}); the peers were run at {SIZES[0]:,} nodes only.",
            table(header, rows),
        ]
    )


def _decoder(session: Session) -> str:
    rows = [
        [
            r.tool,
            _cell(r, _seconds),
            f"{r.peak_rss / MB:.0f}",
            _nodes(r) if r.done else r.error or "",
            f"{r.bytes_out / MB:.0f}" if r.done else "",
            _quality(r),
        ]
        for r in session.of("decoder", DECODER).values()
    ]
    header = ["tool", "CPU s", "peak MB", "nodes", "MB written", "PSNR, dB"]
    return "\n\n".join(["## Decoder of 1.26 billion parameters, fp16, external weights", table(header, rows)])


def _machine(session: Session) -> str:
    m = session.machine
    versions = ", ".join(f"{name} {number}" for name, number in sorted(m.versions.items()))
    where = f"{m.date}; {m.processor}, {m.cores} cores, {m.memory / 1e9:.0f} GB; {m.system}; Python {m.python}."
    state = f"Load average at the start {m.load}. An idle interpreter with numpy peaks at {m.floor_rss / MB:.0f} MB."
    how: dict[tuple[str, str], str] = {}
    for suite, tool in ((suite, tool) for suite, tools in TOOLS.items() for tool in tools):
        how.setdefault((tool.name, tool.note), suite)
    notes = "\n".join(f"- {name} ({suite}): {note}" for (name, note), suite in how.items())
    return "\n\n".join(["## Where and with what", f"{where} {state}", f"{versions}.", notes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, help="write the page of the documentation instead of printing the tables")
    arguments = parser.parse_args()
    text = render(read(arguments.results))
    if arguments.page:
        arguments.page.write_text(_PAGE.read_text(encoding="utf-8").rstrip() + "\n\n" + text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
