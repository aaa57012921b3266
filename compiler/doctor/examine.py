"""The examination: measure all layers, look for the causes of those that do the most damage."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.calibrate.trial import Trial
from compiler.doctor.causes import CAUSES
from compiler.doctor.evidence import Evidence, code_count, collect, rms
from compiler.doctor.layers import Layer, layers_of, unfitted
from compiler.doctor.measure import ROWS, Measured, measure
from compiler.doctor.record import Diagnosis, Finding, Patient
from compiler.graph import Graph

LOOKED_AT = 20  # layers whose causes are looked for
ADDS_UP = 0.5  # ... 2: the noise of layers apart as a share of that of all together, within which shares mean something


def examine(graph: Graph, trial: Trial, floats: Graph | None = None) -> Diagnosis:
    """What rounding costs in each layer of an annotated graph on the rows of a trial, worst first, and why.

    floats  the same layers before their constants were fitted to rounding, if they were

    Raises VerificationError if ONNX Runtime cannot run the graph.
    """
    layers = layers_of(graph)
    rows = min(ROWS, len(trial.feeds))
    if not layers or not rows:
        return Diagnosis([], {}, rows, ["no layer is quantized" if rows else "there are no rows to measure on"])
    originals = unfitted(graph, floats)
    measured = measure(graph, layers, trial.feeds, originals)
    order = sorted(range(len(layers)), key=lambda i: (-(measured.share[i] or 0.0), measured.alone[i].db))
    worst = order[:LOOKED_AT]
    exact, rounded = collect(graph, [layers[i] for i in worst], trial.feeds, originals)
    evidence = {i: Evidence(layers[i], i, measured, exact, rounded) for i in worst}
    patients = [_patient(layers[i], i, measured, evidence.get(i)) for i in order]
    outputs = {name: power.db for name, power in measured.outputs.items()}
    return Diagnosis(patients, outputs, rows, _notes(layers, measured))


def _patient(layer: Layer, i: int, measured: Measured, evidence: Evidence | None) -> Patient:
    found = [] if evidence is None else findings(evidence)
    return Patient(
        layer.op,
        layer.result.name or layer.origin[0],
        layer.origin,
        layer.params.dtype.name if layer.params else layer.result.type.dtype.name,
        measured.alone[i].db,
        measured.accumulated[i].db,
        measured.share[i],
        found,
        "" if evidence is None or found else known(evidence),
    )


def findings(evidence: Evidence) -> list[Finding]:
    """All causes that the numbers show, those that cost the most first."""
    found = [f for f in (look(evidence) for look in CAUSES.values()) if f is not None]
    return sorted(found, key=lambda f: -(f.gain if f.gain is not None else 0.1))


def known(e: Evidence) -> str:
    """What is known of a layer without a cause."""
    parts = []
    inherited = e.measured.alone[e.number].db - e.measured.accumulated[e.number].db
    if e.params is not None and e.params.axis is None:
        size = rms(e.sample)
        parts.append(f"{e.codes} of {code_count(e.params)} codes are used")
        if size:
            parts.append(f"the range is {max(map(abs, e.range)) / size:.1f} times the root mean square")
    if e.layer.constants:
        parts.append(f"{100 * e.weight_share:.0f} % of its own noise is that of its constants")
    if inherited > 1:
        parts.append(f"{inherited:.0f} dB come from the layers before")
    return "; ".join(parts)


def _notes(layers: Sequence[Layer], measured: Measured) -> list[str]:
    notes = []
    unheard = sum(s is None for s in measured.share)
    if unheard:
        heard = len(layers) - unheard
        layers_heard = f"for the noisiest {heard} layers only" if heard else "for no layer: no output is one of floats"
        notes.append(f"the share at the outputs was measured {layers_heard}")
    if len(layers) > LOOKED_AT:
        notes.append(f"causes were looked for in the worst {LOOKED_AT} of {len(layers)} layers")
    return notes
