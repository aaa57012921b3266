"""Tables of the suite `int8`: `python -m benchmarks.int8_report RESULTS.jsonl ... [--page docs/int8.md]`."""

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.catalogue import BARS, CALIBRATION, INT8
from benchmarks.int8 import FLOAT, QUANTIZERS
from benchmarks.markdown import table
from benchmarks.results import Machine, Placed, Quality, Result, Session, read
from benchmarks.scores import OURS, geomean

_PAGE = Path(__file__).with_name("int8_page.md")
ROUNDING = 0.05  # dB: what two files of one tool differ by when the rows are other ones
MINMAX = "cincel minmax"
OWN = (OURS, MINMAX)
PEERS = tuple(tool.name for tool in QUANTIZERS if not tool.is_ours)
LATENCY_PEERS = ("onnx2tf", "onnx2tf tf")
Cells = list[str]


def tables(session: Session) -> str:
    """All tables, the standing against the bars first."""
    parts = [
        ("INT8 against the bars", _standing(session)),
        ("Signal-to-noise ratio", _snr(session)),
        ("Top-1", _top1(session)),
        ("Size", _size(session)),
        ("What the bytes are", _parts(session)),
        ("Latency", _latency(session)),
        ("Conversion", _cpu(session)),
        ("Verdicts for NNAPI", _verdicts(session, "nnapi")),
        ("Verdicts for the Edge TPU", _verdicts(session, "edgetpu")),
        ("Why a tool has no figure", _failures(session)),
    ]
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts if text)


def _models(session: Session) -> list[str]:
    """Those with rows of data first."""
    return sorted(session.models(INT8), key=lambda m: _is_random(session.of(INT8, m)))


def _is_random(results: dict[str, Result]) -> bool:
    rows = next(iter(results.values())).rows
    return rows is None or rows.what == "random"


def _quality(result: Result | None) -> Quality | None:
    return result.quality if result is not None and result.quality and result.quality.error is None else None


def _decibels(result: Result | None) -> float | None:
    found = _quality(result)
    return None if found is None else found.snr_db


def _best_peer(results: dict[str, Result]) -> tuple[float, str] | None:
    found = [(_decibels(results.get(name)), name) for name in PEERS]
    return max(((db, name) for db, name in found if db is not None), default=None)


def _standing(session: Session) -> str:
    rows: list[Cells] = []
    models = _models(session)
    by_model = {m: session.of(INT8, m) for m in models}
    against: dict[str, bool] = {}
    for m, results in by_model.items():
        ours, best = _decibels(results.get(OURS)), _best_peer(results)
        if ours is not None and best is not None:
            against[m] = ours >= best[0] - ROUNDING
    _bar(rows, "SNR at least that of the best peer", against)
    _bar(rows, f"top-1 at most {BARS.int8_drop} points below floats", _drops(by_model))
    sizes = {m: s <= BARS.int8_size_ratio for m, s in _sizes(by_model).items()}
    _bar(rows, f"size at most {BARS.int8_size_ratio} x our file of floats", sizes)
    ratios = _latency_ratios(by_model)
    _bar(rows, "latency at most 1.0 x that of onnx2tf's file", {m: r <= 1.0 for m, r in ratios.items()})
    if ratios:
        rows.append(["geometric mean of these ratios", f"{geomean(list(ratios.values())):.3f}", ""])
    placed = {m: _placed(r.get(OURS), "nnapi") for m, r in by_model.items()}
    contract = {m: not p.errors for m, p in placed.items() if p is not None}
    _bar(rows, "no error of the validator (NNAPI)", contract)
    return table(["bar", "met", "missed by"], rows)


def _bar(rows: list[Cells], text: str, met: dict[str, bool]) -> None:
    if met:
        missed = ", ".join(m for m, holds in met.items() if not holds)
        rows.append([text, f"{sum(met.values())} of {len(met)}", missed])


def _drops(by_model: dict[str, dict[str, Result]]) -> dict[str, bool]:
    found = {m: _quality(results.get(OURS)) for m, results in by_model.items()}
    return {
        m: q.top1 >= q.top1_float - BARS.int8_drop
        for m, q in found.items()
        if q is not None and q.top1 is not None and q.top1_float is not None
    }


def _sizes(by_model: dict[str, dict[str, Result]]) -> dict[str, float]:
    pairs = {m: (r.get(OURS), r.get(FLOAT)) for m, r in by_model.items()}
    return {m: a.bytes_out / b.bytes_out for m, (a, b) in pairs.items() if a and b and a.done and b.done}


def _row_count(results: dict[str, Result]) -> str:
    rows = next(iter(results.values())).rows
    return "" if rows is None else f"{rows.what}, {rows.calibrate} / {rows.held}"


def _cells(results: dict[str, Result], names: Iterable[str], shown: Callable[[Quality], str]) -> Cells:
    cells = []
    for name in names:
        quality = _quality(results.get(name))
        cells.append(shown(quality) if quality else "fails" if name in results else "")
    return cells


def _snr(session: Session) -> str:
    rows = []
    for m in _models(session):
        results = session.of(INT8, m)
        ours, best = _decibels(results.get(OURS)), _best_peer(results)
        gain = "" if ours is None or best is None else f"{ours - best[0]:+.1f} ({best[1]})"
        cells = _cells(results, (*OWN, *PEERS), lambda q: "-" if q.snr_db is None else f"{q.snr_db:.1f}")
        rows.append([m, _row_count(results), *cells, gain])
    return "dB, the mean over the outputs; rows to calibrate on / held out:\n\n" + table(
        ["model", "rows", *OWN, *PEERS, "against the best peer"], rows
    )


def _top1(session: Session) -> str:
    rows = []
    for m in _models(session):
        results = session.of(INT8, m)
        floats = _quality(results.get(FLOAT))
        if floats is None or floats.top1_float is None:
            continue
        cells = _cells(results, (*OWN, *PEERS), lambda q: "-" if q.top1 is None else f"{q.top1:.1f}")
        rows.append([m, str(floats.rows), f"{floats.top1_float:.1f}", *cells])
    return (
        "Percent of held rows with labels:\n\n" + table(["model", "rows", "floats", *OWN, *PEERS], rows) if rows else ""
    )


def _size(session: Session) -> str:
    names = (OURS, *(n for n in PEERS if not n.startswith("ORT")))
    rows = []
    for m in _models(session):
        results = session.of(INT8, m)
        floats = results.get(FLOAT)
        if floats is None or not floats.done:
            continue
        cells = [f"{r.bytes_out / 1e3:.1f}" if (r := results.get(n)) and r.done else "" for n in names]
        ratio = _sizes({m: results}).get(m)
        rows.append([m, f"{floats.bytes_out / 1e3:.1f}", *cells, "" if ratio is None else f"{ratio:.3f}"])
    return "kB of .tflite files:\n\n" + table(["model", FLOAT, *names, f"{OURS} / {FLOAT}"], rows)


def _parts(session: Session) -> str:
    """What our files consist of, those above the bar."""
    rows = []
    for m in _models(session):
        results = session.of(INT8, m)
        ratio, quality, floats = _sizes({m: results}).get(m), _quality(results.get(OURS)), results.get(FLOAT)
        if ratio is None or ratio <= BARS.int8_size_ratio or quality is None or floats is None or not quality.parts:
            continue
        least = sum(quality.parts[k] for k in ("weights", "biases and shapes", "scales"))
        rows.append([m, *(str(n) for n in quality.parts.values()), f"{least / floats.bytes_out:.3f}"])
    header = ["model", "weights", "biases and shapes", "scales", "zero points", "names", "tables"]
    text = "Bytes of our files that are above the bar, and what weights, biases and scales alone come to of the floats:"
    return f"{text}\n\n{table([*header, 'least ratio'], rows)}" if rows else ""


def _latency_ratios(by_model: dict[str, dict[str, Result]]) -> dict[str, float]:
    """Our milliseconds over those of onnx2tf's file: of the faster one where both of its backends gave one."""
    ratios = {}
    for m, results in by_model.items():
        ours = results.get(OURS)
        peers = [r.latency.ratio for n in LATENCY_PEERS if (r := results.get(n)) and r.latency]
        if ours and ours.latency and peers:
            ratios[m] = ours.latency.ratio / min(peers)
    return ratios


def _latency(session: Session) -> str:
    names = (FLOAT, OURS, "ai-edge", "onnx2tf tf", "onnx2tf")
    rows = []
    for m in _models(session):
        results = session.of(INT8, m)
        found = [results[n].latency if n in results else None for n in names]
        if not any(found):
            continue
        ratio = _latency_ratios({m: results}).get(m)
        cells = [f"{x.median_ms:.3f}" if x else "" for x in found]
        rows.append([m, *cells, "" if ratio is None else f"{ratio:.3f}"])
    text = "Milliseconds of one invocation in LiteRT, one thread, and the ratio to onnx2tf's faster file:\n\n"
    return text + table(["model", *names, "ratio"], rows) if rows else ""


def _cpu(session: Session) -> str:
    names = (OURS, MINMAX, *PEERS)
    rows = []
    for m in _models(session):
        results = session.of(INT8, m)
        cells = [f"{r.cpu_s:.2f}" + "&dagger;" * r.prepared if (r := results.get(n)) and r.done else "" for n in names]
        rows.append([m, *cells])
    note = "CPU seconds of the whole command, one run. &dagger;: per tensor, or a copy without its first transposition."
    return f"{note}\n\n{table(['model', *names], rows)}"


def calibration(session: Session) -> str:
    """Calibration of MobileNetV2 by us and by onnxruntime."""
    rows = []
    for case in session.models(CALIBRATION):
        found = session.of(CALIBRATION, case)
        ours, peer = found[OURS], found.get("onnxruntime")
        cells = [f"{r.cpu_s:.1f} s, {r.peak_rss / 1e6:.0f} MB" if r and r.done else "" for r in (ours, peer)]
        ratio = f"{ours.cpu_s / peer.cpu_s:.2f}" if ours.done and peer and peer.done else ""
        rows.append([case, *cells, ratio, "yes" if ours.peak_rss <= BARS.calibration_rss else "**no**"])
    limit = f"at most {BARS.calibration_rss / 1e9:.1f} GB"
    text = "CPU seconds and peak memory of reading a MobileNetV2 at 224 x 224 and calibrating it, nothing else:"
    return f"## Calibration\n\n{text}\n\n{table(['observer', 'cincel', 'onnxruntime', 'ratio', limit], rows)}"


def _placed(result: Result | None, device: str) -> Placed | None:
    return result.quality.placed.get(device) if result is not None and result.quality else None


def _verdicts(session: Session, device: str) -> str:
    names = (OURS, "ai-edge", "onnx2tf tf", "onnx2tf")
    rows = []
    for m in _models(session):
        found = [_placed(session.of(INT8, m).get(n), device) for n in names]
        if any(found):
            rows.append([m, *("" if p is None else _verdict(p) for p in found)])
    text = (
        "Operators on the device in how many partitions, errors of the contract, and what breaks the first partition:"
    )
    return f"{text}\n\n{table(['model', *names], rows)}" if rows else ""


def _verdict(p: Placed) -> str:
    where = "all" if p.on_device == p.operators else f"{p.on_device} of {p.operators}"
    parts = [f"{where} in {p.partitions}" + ("" if p.kind == "int8" else f", {p.kind}")]
    parts += [f"{count} {code}" for code, count in p.errors.items()]
    return "; ".join([*parts, *([p.breaker.replace("|", "/")] if p.breaker else [])])


def _failures(session: Session) -> str:
    """One line for each model and tool that has no artifact or whose artifact does not run."""
    lines = []
    for m in _models(session):
        for name, r in session.of(INT8, m).items():
            error = r.error or (r.quality.error if r.quality else "not scored")
            if error:
                lines.append(f"- {m}, {name}: `{error.replace('`', '')}`")
    return "\n".join(lines)


def page(session: Session) -> str:
    """The page of the documentation."""
    head = _PAGE.read_text(encoding="utf-8").rstrip()
    parts = [tables(session), *([calibration(session)] if session.models(CALIBRATION) else [])]
    return "\n\n".join([head, *parts, _machine(session.machine)]) + "\n"


def _machine(m: Machine) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(m.versions.items()))
    tools = "\n".join(f"- {tool.name}: {tool.note}" for tool in QUANTIZERS)
    cores = f"{m.cores} cores, {math.ceil(m.memory / 1e9)} GB"
    where = f"{m.date}; {m.processor}, {cores}; {m.system}; Python {m.python}. Load average at the start {m.load}."
    return f"## Where and with what\n\n{where}\n\n{versions}.\n\n{tools}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, help="write the page of the documentation instead of printing the tables")
    options = parser.parse_args()
    session = read(options.results)
    if options.page:
        options.page.write_text(page(session), encoding="utf-8")
    else:
        print(tables(session))


if __name__ == "__main__":
    main()
