"""The section on compression: bars, and a table for each part of the suite."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.catalogue import BARS, COMPRESSION
from benchmarks.compression_cases import (
    API,
    CONVOLUTIONS,
    DENSE,
    ENVIRONMENT,
    EQUAL,
    INTEGERS,
    PEER,
    PRUNERS,
    PRUNING,
    SPLITS,
)
from benchmarks.markdown import table
from benchmarks.peers import ENVIRONMENTS
from benchmarks.results import Counts, Machine, Paired, Result, Session

_PAGE = Path(__file__).with_name("compression_page.md")
Cells = list[str]
ROUNDING = 0.02  # by which shares differ, as ranks and channels are whole
UNRECOVERED = " --recover none"
DENSE_ALONE = ("ONNX Runtime dense", "LiteRT dense")
DATA = tuple(tool for tool, (how, method) in SPLITS.items() if how == API and method != "plain")
ABSENT = (
    "AIMET-ONNX 2.42.0, the newest, has no decomposition that could run: its `SpatialSvdPruner` and `WeightSvdPruner` "
    "(`aimet_onnx/common/svd_pruner.py`) are abstract,\nand nothing in the package derives from them or imports them. "
    "AIMET for torch, of the same version and with the same decompositions, does run, on the model\n"
    "as onnx2torch reads it; that is what the table shows."
)


def section(session: Session) -> str:
    """All tables, the standing against the bars first."""
    found = [r for (suite, _, _), r in session.results.items() if suite == COMPRESSION]
    parts: dict[str, tuple[str, Callable[[list[Result]], str]]] = {
        DENSE: ("A net of dense layers", _budgets),
        CONVOLUTIONS: ("Nets of convolutions", _budgets),
        EQUAL: ("Low rank at equal parameters", lambda results: f"{ABSENT}\n\n{_compared(results)}"),
        PRUNING: ("Channels at equal multiply-accumulates", _compared),
        INTEGERS: ("With integers of 8 bits", _integers),
    }
    texts = [_PAGE.read_text(encoding="utf-8").rstrip(), _standing(found)]
    for part, (title, write) in parts.items():
        own = _of(found, part)
        if own:
            texts.append(f"### {title}\n\n{write(own)}")
    errors = [(r, r.error or (r.quality.error if r.quality else None)) for r in found]
    failures = [f"- {r.model}, {r.tool}: `{error.replace('`', '')}`" for r, error in errors if error]
    texts += ["### What has no figure\n\n" + "\n".join(failures)] if failures else []
    return "\n\n".join([*texts, _measured(session.machines.get(COMPRESSION, session.machine))])


def _measured(m: Machine) -> str:
    pinned = [pin.partition("==")[0] for pin in ENVIRONMENTS[ENVIRONMENT]]
    names = dict.fromkeys(("cincel", "onnx", "onnxruntime", "ai-edge-litert", *pinned))
    told = ", ".join(f"{name} {m.versions[name]}" for name in names if name in m.versions)
    return f"Measured {m.date} on {m.processor}, {m.cores} cores, load average at the start {m.load}, with {told}."


def _of(found: Iterable[Result], part: str) -> list[Result]:
    """Those of one part, model by model, as they were measured."""
    own = [r for r in found if r.shrunk is not None and r.shrunk.part == part]
    models = list(dict.fromkeys(r.model for r in own))
    return sorted(own, key=lambda r: models.index(r.model))


def lost(result: Result) -> float | None:
    """Points of top-1; None where it was not measured."""
    q = result.quality
    return None if q is None or q.top1 is None or q.top1_float is None else round(q.top1_float - q.top1, 2)


def _pair(result: Result) -> tuple[Counts, Counts] | None:
    return (result.shrunk.before, result.shrunk.after) if result.shrunk and result.shrunk.after else None


def _standing(found: list[Result]) -> str:
    rows: list[Cells] = []
    dense, convolutions = _of(found, DENSE), _of(found, CONVOLUTIONS)
    points, gone = BARS.compressed_drop, BARS.dense_gone
    for share, told, chosen in zip(gone, ("no recovery", "with recovery"), _by_recovery(dense), strict=True):
        text = f"{share:.0%} of the parameters in dense layers gone for {points} points, {told}"
        rows += _most(text, chosen, _dense_gone, points, share, "{:.0%}")
    for name in DENSE_ALONE:
        timed = [(r.shrunk.timed[name].speedup, r.tool) for r in dense if r.shrunk and name in r.shrunk.timed]
        if timed:
            least, tool = min(timed)
            word = _word(least >= BARS.dense_speedup)
            rows.append([f"{name} layers {BARS.dense_speedup} x as fast, all lines", word, f"{least:.2f} x ({tool})"])
    for model in dict.fromkeys(r.model for r in convolutions):
        recovered = _by_recovery(r for r in convolutions if r.model == model)[1]
        text = f"{model}: {BARS.macs_ratio:g} x fewer multiply-accumulates for {BARS.macs_drop:g} point, with recovery"
        rows += _most(text, recovered, _macs_ratio, BARS.macs_drop, BARS.macs_ratio, "{:.2f} x")
    rows += _data_against_plain(found)
    rows += _against_peers(_of(found, EQUAL), SPLITS, "low rank")
    rows += _against_peers(_of(found, PRUNING), PRUNERS, "channels")
    return table(["bar", "met", "measured"], rows)


def _word(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _by_recovery(results: Iterable[Result]) -> tuple[list[Result], list[Result]]:
    """Those without and those with."""
    given = list(results)
    return [r for r in given if UNRECOVERED in r.tool], [r for r in given if UNRECOVERED not in r.tool]


def _dense_gone(before: Counts, after: Counts) -> float:
    return 1 - after.dense / before.dense


def _macs_ratio(before: Counts, after: Counts) -> float:
    return before.macs / after.macs


def _most(
    text: str, results: list[Result], saved: Callable[[Counts, Counts], float], points: float, least: float, form: str
) -> list[Cells]:
    """The bar, with the largest saving among those that lose no more than the points; without one, the smallest loss
    among those that save enough."""
    measured = [(saved(*pair), drop, r.tool) for r in results if (pair := _pair(r)) and (drop := lost(r)) is not None]
    if not measured:
        return [[text, "not measured", ""]]
    within = [m for m in measured if m[1] <= points]
    enough = [m for m in measured if m[0] >= least]
    share, drop, tool = max(within) if within else min(enough or measured, key=lambda m: m[1])
    return [[text, _word(bool(within) and share >= least), f"{form.format(share)} for {drop:.2f} points ({tool})"]]


def _tools(results: Sequence[Result], model: str, left: float) -> dict[str, float]:
    """Top-1 of one model at one share by the name of the tool, without the share."""
    found = {}
    for r in results:
        if r.shrunk and (r.model, r.shrunk.left) == (model, left) and r.quality and r.quality.top1 is not None:
            found[r.tool.partition(" at ")[0]] = r.quality.top1
    return found


def _places(results: Sequence[Result]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((r.model, r.shrunk.left) for r in results if r.shrunk))


def _data_against_plain(found: list[Result]) -> list[Cells]:
    equal = _of(found, EQUAL)
    ahead, all_of, worst = 0, 0, ""
    for model, left in _places(equal):
        tools = _tools(equal, model, left)
        if "cincel, plain" in tools and DATA[0] in tools:
            all_of += 1
            gain = tools[DATA[0]] - tools["cincel, plain"]
            ahead += gain > 0
            worst += f"{', ' if worst else ''}{gain:+.2f} ({model})"
    return [["same ranks: data loses less than plain SVD", f"{ahead} of {all_of}", worst]] if all_of else []


def _against_peers(results: list[Result], tools: dict[str, tuple[str, str]], what: str) -> list[Cells]:
    """Model by model, the best of the peers against the best of ours that is no larger (by `ROUNDING`)."""
    rows = []
    for model, left in _places(results):
        at = [r for r in results if r.shrunk and (r.model, r.shrunk.left) == (model, left) and r.quality and _pair(r)]
        peers = [r for r in at if tools[_name(r)][0] == PEER]
        if not peers or len(peers) == len(at):
            continue
        best = max(peers, key=_top1)
        ours = [r for r in at if tools[_name(r)][0] != PEER and _size(r) <= _size(best) + ROUNDING]
        text = f"{what}, {model} at {left:.0%}: top-1 no less than the best peer's"
        told = f"{_top1(best):.2f} ({_name(best)}, {_size(best):.1%} left)"
        if not ours:
            rows.append([text, "-", f"{told}; none of ours is as small"])
            continue
        mine = max(ours, key=_top1)
        measured = f"{_top1(mine):.2f} ({_name(mine)}, {_size(mine):.1%} left), {told}"
        rows.append([text, _word(_top1(mine) >= _top1(best)), measured])
    return rows


def _name(result: Result) -> str:
    """Of the tool, without the share."""
    return result.tool.partition(" at ")[0]


def _top1(result: Result) -> float:
    return result.quality.top1 or 0.0 if result.quality else 0.0


def _size(result: Result) -> float:
    """The share of what the part is about: multiply-accumulates of pruned channels, else parameters."""
    before, after = _pair(result) or (Counts(1, 1, 1), Counts(1, 1, 1))
    is_macs = result.shrunk is not None and result.shrunk.part == PRUNING
    return after.macs / before.macs if is_macs else after.parameters / before.parameters


def _share(before: int, after: int) -> str:
    return f"{after:,} ({after / before:.0%})" if before else "0"


def _accuracy(result: Result) -> Cells:
    drop = lost(result)
    if drop is None or result.quality is None:
        return ["fails", ""]
    return [f"{result.quality.top1:.2f}", f"{-drop:+.2f}"]


def _budgets(results: list[Result]) -> str:
    """A table for each model, and one of its times."""
    texts = []
    for model in dict.fromkeys(r.model for r in results):
        own = [r for r in results if r.model == model and _pair(r) is not None]
        if not own:
            continue
        before = own[0].shrunk.before if own[0].shrunk else Counts(0, 0, 0)
        top1 = own[0].quality.top1_float if own[0].quality else None
        texts.append(
            f"{model}: {before.parameters:,} parameters, {before.dense:,} of them in dense layers; {before.macs:,} "
            f"multiply-accumulates; top-1 {top1} %."
        )
        rows = [[r.tool, *_left(r), *_accuracy(r), f"{r.cpu_s:.0f}"] for r in own]
        texts.append(table(["", "parameters", "dense", "MACs", "top-1", "points", "CPU s"], rows))
        times = [_times(r) for r in own if r.shrunk and r.shrunk.timed]
        if times:
            names = list(dict.fromkeys(name for r in own if r.shrunk for name in r.shrunk.timed))
            header = ["speed-up [quartiles], ms by the wall clock", "MACs", *names]
            texts.append(table(header, times))
    return "\n\n".join(texts)


def _left(result: Result) -> Cells:
    pair = _pair(result)
    if pair is None:
        return ["", "", ""]
    before, after = pair
    return [
        _share(before.parameters, after.parameters),
        _share(before.dense, after.dense),
        f"{before.macs / after.macs:.2f} x fewer",
    ]


def _times(result: Result) -> Cells:
    pair = _pair(result)
    ratio = f"{_macs_ratio(*pair):.2f} x" if pair else ""
    return [result.tool, ratio, *(_time(p) for p in (result.shrunk.timed.values() if result.shrunk else ()))]


def _time(p: Paired) -> str:
    return f"{p.speedup:.2f} x [{p.low:.2f}, {p.high:.2f}], {p.before_ms:.3f} to {p.after_ms:.3f}"


def _compared(results: list[Result]) -> str:
    rows = []
    for r in results:
        pair = _pair(r)
        shares = (
            [f"{pair[1].parameters / pair[0].parameters:.1%}", f"{pair[1].macs / pair[0].macs:.1%}"]
            if pair
            else ["", ""]
        )
        rows.append([r.model, r.tool, *shares, *_accuracy(r), f"{r.cpu_s:.0f}"])
    return table(
        ["model", "tool at the share asked for", "parameters left", "MACs left", "top-1", "points", "CPU s"], rows
    )


def _integers(results: list[Result]) -> str:
    rows = []
    for r in results:
        size = f"{r.bytes_out:,} ({r.bytes_in / r.bytes_out:.1f} x less)" if r.done else ""
        timed = r.shrunk.timed.get("LiteRT") if r.shrunk else None
        rows.append([r.model, r.tool, size, *_accuracy(r), _time(timed) if timed else ""])
    text = (
        "Bytes of the .tflite file beside those of the given ONNX file, top-1 by executing it, and its time beside "
        "that of this project's float file:"
    )
    return f"{text}\n\n{table(['model', '', 'bytes', 'top-1', 'points', 'speed-up in LiteRT'], rows)}"
