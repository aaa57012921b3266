"""How our results stand against the bars: plain arithmetic on results."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.catalogue import BARS, DECODER, FORMS, KINDS, SIZES, scaling_name
from benchmarks.results import Result, Session

OURS = "cincel"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar on one model: what was measured and what was allowed, each None where there is no such thing.

    The value must not exceed the bar, or with `at_least` not fall below it.
    """

    model: str
    value: float | None
    bar: float | None
    at_least: bool = False

    @property
    def holds(self) -> bool | None:
        if self.value is None:
            return None if self.bar is None else False
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    @property
    def strain(self) -> float:
        """How near to the bar: 1 is on it, more is over it."""
        value, bar = self.value or 0.0, self.bar or 1.0
        return bar / max(value, 1e-9) if self.at_least else value / bar


def geomean(values: Sequence[float]) -> float:
    """The geometric mean; ValueError on an empty sequence or a value that is not positive."""
    if not values or min(values) <= 0:
        raise ValueError("a geometric mean needs positive values")
    return math.exp(sum(map(math.log, values)) / len(values))


def fastest_peer(results: Iterable[Result]) -> Result | None:
    """The peer that did the job in the least CPU time."""
    return min((r for r in results if r.tool != OURS and r.done), key=lambda r: r.cpu_s, default=None)


def fewest_nodes(results: Iterable[Result]) -> Result | None:
    """The peer whose output has the fewest nodes."""
    counted = ((r, r.check.nodes) for r in results if r.tool != OURS and r.done)
    best = min(((n, r.tool, r) for r, n in counted if n is not None), default=None, key=lambda t: t[:2])
    return best[2] if best else None


def cpu_ratio(session: Session, suite: str, model: str) -> float | None:
    """Our CPU time over the fastest peer's."""
    results = session.of(suite, model)
    ours, peer = results.get(OURS), fastest_peer(results.values())
    return ours.cpu_s / peer.cpu_s if ours and ours.done and peer else None


def cpu_verdicts(session: Session, suite: str) -> list[Verdict]:
    """CPU ratio to the fastest peer, on every model that some peer can do."""
    bar = {
        "onnx": BARS.onnx_cpu_ratio,
        "coreml": BARS.coreml_cpu_ratio,
        "coreai": BARS.coreai_cpu_ratio,
        "tflite": BARS.tflite_cpu_ratio,
    }[suite]
    return [
        Verdict(
            model, cpu_ratio(session, suite, model), bar if fastest_peer(session.of(suite, model).values()) else None
        )
        for model in session.models(suite)
    ]


def node_verdicts(session: Session) -> list[Verdict]:
    """Nodes of our output against the fewest among the peers'; an output that does not run counts for nothing."""
    verdicts = []
    for model in session.models("onnx"):
        results = session.of("onnx", model)
        ours, peer = results.get(OURS), fewest_nodes(results.values())
        nodes = ours.check.nodes if ours and ours.check.error is None else None
        verdicts.append(Verdict(model, nodes, peer.check.nodes if peer else None))
    return verdicts


def quality_verdicts(session: Session, suite: str) -> list[Verdict]:
    """PSNR of our outputs, of the artifacts that were executed or should have been."""
    bar = {
        "onnx": BARS.onnx_psnr_db,
        "coreml": BARS.coreml_psnr_db,
        "coreai": BARS.coreai_psnr_db,
        "tflite": BARS.tflite_psnr_db,
    }[suite]
    found = [(m, session.of(suite, m).get(OURS)) for m in session.models(suite)]
    return [Verdict(m, ours.check.psnr_db, bar, at_least=True) for m, ours in found if ours]


def memory_verdicts(session: Session, above: int = 0) -> list[Verdict]:
    """Our peak memory over the size of the file; `above` (an idle interpreter, say) is not charged."""
    verdicts = []
    for model in session.models("onnx"):
        ours = session.of("onnx", model).get(OURS)
        ratio = (ours.peak_rss - above) / ours.bytes_in if ours and ours.done else None
        verdicts.append(Verdict(model, ratio, BARS.onnx_rss_per_file))
    return verdicts


def allowance(suite: str) -> tuple[float, int]:
    """The peak memory that a suite allows: how many times the file, plus bytes."""
    if suite == "tflite":
        return BARS.tflite_rss_per_file, BARS.tflite_rss_base
    return BARS.apple_rss_per_file, BARS.apple_rss_base


def allowed_memory_verdicts(session: Session, suite: str) -> list[Verdict]:
    """Our peak memory in bytes against the allowance for the size of the file."""
    times, base = allowance(suite)
    verdicts = []
    for model in session.models(suite):
        ours = session.of(suite, model).get(OURS)
        if ours:
            allowed = times * ours.bytes_in + base
            verdicts.append(Verdict(model, ours.peak_rss if ours.done else None, allowed))
    return verdicts


def latency_verdicts(session: Session) -> list[Verdict]:
    """Our latency over the peer's, on every model of which the peer's file runs."""
    verdicts = []
    for model in session.models("latency"):
        results = session.of("latency", model)
        ours = results.get(OURS)
        peer = any(r.done and r.latency for tool, r in results.items() if tool != OURS)
        ratio = ours.latency.ratio if peer and ours and ours.latency else None
        verdicts.append(Verdict(model, ratio, BARS.latency_ratio if peer else None))
    return verdicts


def scaling_verdicts(session: Session) -> tuple[list[Verdict], list[Verdict]]:
    """CPU seconds of each scaling graph, and the growth from each size to the next."""
    seconds, growth = [], []
    for form, kind in ((f, k) for f in FORMS for k in KINDS):
        times: list[float | None] = []
        for size, bar in zip(SIZES, BARS.scaling_cpu_s, strict=True):
            model = scaling_name(form, kind, size)
            ours = session.of("scaling", model).get(OURS)
            if ours is None:
                continue
            times.append(ours.cpu_s if ours.done else None)
            seconds.append(Verdict(model, times[-1], bar))
            if len(times) > 1 and (before := times[-2]) and (now := times[-1]):
                growth.append(Verdict(model, now / before, BARS.scaling_decade))
    return seconds, growth


def decoder_verdict(session: Session) -> Verdict:
    """Our peak memory on the large decoder, in bytes."""
    ours = session.of("decoder", DECODER).get(OURS)
    return Verdict(DECODER, ours.peak_rss if ours and ours.done else None, BARS.decoder_rss)
