"""Markdown tables from results: `python -m benchmarks.report RESULTS.jsonl ... [--page PATH]`."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import compression_report, int8_report, neon_report, scores
from benchmarks.catalogue import BARS, CALIBRATION, COMPRESSION, DECODER, INT8, NEON, SCALING, SIZES
from benchmarks.markdown import table
from benchmarks.peers import TOOLS
from benchmarks.results import Result, Session, read
from benchmarks.scores import OURS, Verdict

MB = 1e6
_PAGE = Path(__file__).with_name("page.md")


def verdict_word(verdict: Verdict) -> str:
    return {True: "yes", False: "**no**", None: "-"}[verdict.holds]


def render(session: Session) -> str:
    """Everything that was measured, the standing against the bars first."""
    sections: dict[str, Callable[[Session], str]] = {
        "onnx": _onnx,
        "coreml": _coreml,
        "coreai": _coreai,
        "tflite": _tflite,
        "latency": _latency,
        "scaling": _scaling,
        "decoder": _decoder,
        INT8: int8_report.tables,
        CALIBRATION: int8_report.calibration,
        COMPRESSION: compression_report.section,
        NEON: neon_report.section,
    }
    parts = [_summary(session), *(write(session) for suite, write in sections.items() if session.models(suite))]
    return "\n\n".join([*parts, _machine(session)]) + "\n"


Shown = Callable[[Verdict], str]


class _Bars:
    """Rows of the table that says which bars are met."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def add(self, text: str, verdicts: Sequence[Verdict], shown: Shown) -> None:
        """One bar over all models that it can be judged on."""
        judged = [v for v in verdicts if v.holds is not None]
        worst = max((v for v in judged if v.value is not None), key=lambda v: v.strain, default=None)
        if judged:
            met = sum(bool(v.holds) for v in judged)
            detail = f"{shown(worst)} ({worst.model})" if worst else "not measured"
            missed = ", ".join(v.model for v in judged if not v.holds)
            self.rows.append([text, f"{met} of {len(judged)}", detail, missed])

    def add_geomean(self, text: str, verdicts: Sequence[Verdict], limit: float) -> None:
        """The geometric mean of ratios."""
        ratios = [v.value for v in verdicts if v.value is not None]
        if ratios:
            self.add(text, [Verdict("all models", scores.geomean(ratios), limit)], _times)


def _summary(session: Session) -> str:
    bars = _Bars()
    judges: dict[str, Callable[[Session, _Bars], None]] = {
        "onnx": _judge_onnx,
        "coreml": _judge_coreml,
        "coreai": _judge_coreai,
        "tflite": _judge_tflite,
        "latency": _judge_latency,
        "scaling": _judge_scaling,
        "decoder": _judge_decoder,
    }
    for suite, judge in judges.items():
        if session.models(suite):
            judge(session, bars)
    return table(["bar", "met", "nearest to the bar, or furthest over it", "missed by"], bars.rows)


def _judge_onnx(session: Session, bars: _Bars) -> None:
    cpu = scores.cpu_verdicts(session, "onnx")
    bars.add(f"ONNX: CPU at most {BARS.onnx_cpu_ratio} x the fastest peer", cpu, _times)
    bars.add_geomean(f"ONNX: geometric mean of these at most {BARS.onnx_cpu_geomean}", cpu, BARS.onnx_cpu_geomean)
    nodes = scores.node_verdicts(session)
    bars.add("ONNX: nodes no more than the best peer", nodes, lambda v: f"{v.value} nodes, the peer {v.bar}")
    text = f"ONNX: outputs within {BARS.onnx_psnr_db:.0f} dB of the original's"
    bars.add(text, scores.quality_verdicts(session, "onnx"), _decibels)
    text = f"ONNX: peak memory at most {BARS.onnx_rss_per_file:.0f} x the file"
    bars.add(text, scores.memory_verdicts(session), _times)
    bars.add(f"{text}, above an idle interpreter", scores.memory_verdicts(session, session.machine.floor_rss), _times)


def _judge_coreml(session: Session, bars: _Bars) -> None:
    text = f"Core ML: CPU at most {BARS.coreml_cpu_ratio} x the better peer"
    bars.add(text, scores.cpu_verdicts(session, "coreml"), _times)
    _judge_memory(session, bars, "coreml", "Core ML")
    text = f"Core ML: outputs in fp16 within {BARS.coreml_psnr_db:.0f} dB of the original's"
    bars.add(text, scores.quality_verdicts(session, "coreml"), _decibels)


def _judge_coreai(session: Session, bars: _Bars) -> None:
    text = f"Core AI: CPU at most {BARS.coreai_cpu_ratio} x coreai-onnx"
    bars.add(text, scores.cpu_verdicts(session, "coreai"), _times)
    _judge_memory(session, bars, "coreai", "Core AI")
    text = f"Core AI: outputs in fp32 within {BARS.coreai_psnr_db:.0f} dB of the original's"
    bars.add(text, scores.quality_verdicts(session, "coreai"), _decibels)


def _judge_tflite(session: Session, bars: _Bars) -> None:
    cpu = scores.cpu_verdicts(session, "tflite")
    bars.add(f"TFLite: CPU at most {BARS.tflite_cpu_ratio} x onnx2tf", cpu, _times)
    bars.add_geomean(f"TFLite: geometric mean of these at most {BARS.tflite_cpu_geomean}", cpu, BARS.tflite_cpu_geomean)
    _judge_memory(session, bars, "tflite", "TFLite")
    text = f"TFLite: outputs within {BARS.tflite_psnr_db:.0f} dB of the original's"
    bars.add(text, scores.quality_verdicts(session, "tflite"), _decibels)


def _judge_memory(session: Session, bars: _Bars, suite: str, name: str) -> None:
    times, base = scores.allowance(suite)
    text = f"{name}: peak memory at most {times} x the file + {base / MB:.0f} MB"
    bars.add(text, scores.allowed_memory_verdicts(session, suite), _megabytes)


def _judge_latency(session: Session, bars: _Bars) -> None:
    verdicts = scores.latency_verdicts(session)
    bars.add(f"Latency: at most {BARS.latency_ratio:.2f} x that of onnx2tf's file", verdicts, _thousandths)
    bars.add_geomean(f"Latency: geometric mean of these at most {BARS.latency_geomean}", verdicts, BARS.latency_geomean)
    text = f"Latency: the LSTM at least {1 / BARS.latency_lstm_ratio:.0f} times faster"
    lstm = [Verdict(v.model, v.value, v.bar and BARS.latency_lstm_ratio) for v in verdicts if v.model == "lstm"]
    bars.add(text, lstm, _thousandths)


def _judge_scaling(session: Session, bars: _Bars) -> None:
    seconds, growth = scores.scaling_verdicts(session)
    limits = " / ".join(f"{s:g}" for s in BARS.scaling_cpu_s)
    text = f"Scaling: 1,000 / 10,000 / 100,000 nodes in {limits} CPU seconds"
    bars.add(text, seconds, lambda v: f"{v.value:.2f} s")
    bars.add(f"Scaling: ten times the nodes in at most {BARS.scaling_decade:g} x the time", growth, _times)


def _judge_decoder(session: Session, bars: _Bars) -> None:
    text = f"Decoder: peak memory at most {BARS.decoder_rss / MB:.0f} MB"
    bars.add(text, [scores.decoder_verdict(session)], _megabytes)


def _megabytes(verdict: Verdict) -> str:
    return f"{(verdict.value or 0) / MB:.0f} MB"


def _thousandths(verdict: Verdict) -> str:
    return f"{verdict.value:.3f} x"


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


def _costs(session: Session, suite: str, ratio: str) -> str:
    """CPU time and peak memory of all tools, and the bars for ours."""
    tools = _tools(suite)
    cpu, memory = _by_tool(session, suite, _seconds), _by_tool(session, suite, lambda r: f"{r.peak_rss / MB:.0f}")
    allowed = {v.model: v for v in scores.allowed_memory_verdicts(session, suite)}
    rows = []
    for v in scores.cpu_verdicts(session, suite):
        room = allowed.get(v.model, Verdict(v.model, None, None))
        limit = "" if room.bar is None else f"{room.bar / MB:.0f}"
        rows.append([v.model, *cpu[v.model], _ratio(v.value), verdict_word(v), *memory[v.model], limit,
                     verdict_word(room)])  # fmt: skip
    return table(["model", *tools, ratio, "met", *(f"{tool}, MB" for tool in tools), "allowed", "met"], rows)


def _wall(result: Result) -> str:
    return f"{statistics.median(run.wall_s for run in result.runs):.2f}"


def _coreml(session: Session) -> str:
    told = "ML Program operations without constants, PSNR in dB as executed here"
    return _packages(session, "coreml", "ONNX to Core ML", told, lambda r: f"{_nodes(r)}, {_quality(r)}")


def _coreai(session: Session) -> str:
    told = "Both write float32. PSNR in dB as executed by Apple's runtime"
    return _packages(session, "coreai", "ONNX to Core AI", told, _quality)


def _packages(session: Session, suite: str, title: str, told: str, shown: Callable[[Result], str]) -> str:
    cells = _by_tool(session, suite, lambda r: f"{shown(r)}, {r.bytes_out / MB:.1f}, {_wall(r)}")
    copied = "&dagger;: given a prepared copy, as it refuses the original."
    return "\n\n".join(
        [
            f"## {title}",
            f"CPU seconds ({_runs(session, suite)}) and peak memory in MB. {copied}",
            _costs(session, suite, "ratio to the fastest peer"),
            f"{told}, MB written, wall seconds:",
            table(["model", *_tools(suite)], ([m, *found] for m, found in cells.items())),
        ]
    )


def _tflite(session: Session) -> str:
    tools = _tools("tflite")
    counted = _by_tool(session, "tflite", lambda r: f"{_nodes(r)} ({r.check.operations.get('TRANSPOSE', 0)})")
    quality = _by_tool(session, "tflite", _quality)
    return "\n\n".join(
        [
            "## ONNX to TFLite",
            f"CPU seconds ({_runs(session, 'tflite')}) and peak memory in MB; both write float32.",
            _costs(session, "tflite", "ratio"),
            "Operators in the file, TRANSPOSE among them in brackets, and PSNR in dB of its outputs in LiteRT:",
            table(
                ["model", *tools, *(f"{tool}, dB" for tool in tools)],
                ([model, *cells, *quality[model]] for model, cells in counted.items()),
            ),
        ]
    )


def _latency(session: Session) -> str:
    tools = _tools("latency")
    medians = _by_tool(session, "latency", lambda r: f"{r.latency.median_ms:.2f}" if r.latency else "does not run")
    rows = []
    for v in scores.latency_verdicts(session):
        ratio = "" if v.value is None else f"{v.value:.3f}"
        counts = [r.latency.rounds for r in session.of("latency", v.model).values() if r.latency]
        rows.append([v.model, *medians[v.model], ratio, verdict_word(v), str(max(counts, default=0))])
    return "\n\n".join(
        [
            "## Latency of the TFLite files",
            "Milliseconds of one invocation in LiteRT, one thread, and the median of the ratios round by round:",
            table(["model", *(f"{tool}, ms" for tool in tools), "ratio", "met", "rounds"], rows),
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
