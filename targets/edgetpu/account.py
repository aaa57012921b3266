"""What there is to say of a file for the Edge TPU: where operators run, what its memory holds, how long a run takes."""

from __future__ import annotations

from collections import Counter

from compiler.graph import Graph
from passes._roofline import Array, macs_through
from targets.tflite.check.report import CheckReport, Placement
from targets.tflite.check.rules import Rules, device_rules

SHOWN = 6  # reasons that a warning names
BATCHED = "compile it for a single row (--input NAME=1x...), or leave it to the CPU"


def outlook(report: CheckReport, graph: Graph, parameters: int) -> tuple[list[str], list[str]]:
    """Notes and warnings about a file that was checked, of this graph and with so many bytes of parameters."""
    rules = device_rules(report.target)
    pieces = sum(p.on_device for p in report.partitions)
    runtime = f", {report.level_name} or newer" if report.level else ""
    placed = (
        f"{report.on_device} of {report.operators} operators run on the Edge TPU, in {_count(pieces, 'piece')}{runtime}"
    )
    return [placed, _memory(rules, parameters), _time(rules, graph, parameters)], _left(report)


def on_cpu(p: Placement) -> str:
    """Why an operator stays on the CPU, and what helps; empty for one that does not."""
    if p.on_device:
        return ""
    help_ = BATCHED if p.cause == "rank" else p.rewrite
    return f"{p.code}, operator {p.operator}: {p.reason}{f'; {help_}' if help_ else ''}"


def _left(report: CheckReport) -> list[str]:
    """One warning about all operators on the CPU: those that the device does not take, then those behind them."""
    reasons = Counter(_why(p) for p in report.placements if not p.on_device and p.cause != "after-break")
    behind = [p for p in report.placements if p.cause == "after-break"]
    if not reasons:
        return []
    told = [f"{why} (x{n})" if n > 1 else why for why, n in reasons.most_common(SHOWN)]
    more = f"; and {len(reasons) - SHOWN} more reasons" if len(reasons) > SHOWN else ""
    lost = f"; {len(behind)} more would fit, but {behind[0].reason}" if behind else ""
    return [f"ON THE CPU: {report.operators - report.on_device} operators: {'; '.join(told)}{more}{lost}"]


def _why(p: Placement) -> str:
    help_ = BATCHED if p.cause == "rank" else p.rewrite
    return f"{p.code}: {p.reason}{f', {help_}' if help_ else ''}"


def _memory(rules: Rules, parameters: int) -> str:
    most = rules["parameter_cache"]["bytes"]
    sizes = f"parameters of {_megabytes(parameters)}, {_megabytes(most)} on the chip"
    if parameters <= most:
        return f"{sizes}: nothing is sent again at each run"
    sent = f"{_megabytes(parameters - most)} are sent by the host at each run"
    return f"{sizes}: {sent}, {_streaming(rules, parameters) * 1e3:.1f} ms at least"


def _streaming(rules: Rules, parameters: int) -> float:
    sent: float = max(parameters - rules["parameter_cache"]["bytes"], 0) / rules["host"]["bytes_per_second"]
    return sent


def _time(rules: Rules, graph: Graph, parameters: int) -> str:
    """A lower bound: no source says what else a run takes."""
    width, rate = rules["array"]["width"], rules["peak"]["macs_per_second"]
    useful = sum(n.macs for n in graph.nodes)
    through = sum(macs_through(n, Array(width)) for n in graph.nodes)
    streaming = _streaming(rules, parameters)
    least, idle = (f"{max(work / rate, streaming) * 1e3:.2f} ms" for work in (useful, through))
    return (
        f"a run takes {least} at least, {idle} where channels that do not fill the array of {width} x {width} idle it"
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
