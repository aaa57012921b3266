"""How long Core ML is expected to think that an operation takes, from published estimates.

Core ML's own estimates come from decision trees that nobody has published whole. Known are the estimates of eleven
operations: others of their kind are taken in proportion to multiply-accumulates or bytes. What has no tree takes
max(operations / peak, bytes / bandwidth), which is Core ML's rule. Rates of the GPU are inferred.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from targets.apple import engine
from targets.apple.placement.conditions import TESTS
from targets.apple.placement.eligible import ANE, CPU, GPU
from targets.apple.placement.macs import macs
from targets.apple.placement.operation import Operation

GIB = 1 << 30
MEASURED_ON = "H16"  # the family on which the estimates were read


class Rates(NamedTuple):
    """For one processor: billions of multiply-accumulates and bytes a second of what has no tree, and the factors on
    the published times of products and of bytes."""

    gmacs: float
    gbytes: float
    macs_factor: float
    bytes_factor: float
    key: str  # of the published times


@cache
def rates(family: str) -> dict[str, Rates]:
    """By processor, for a family of engines."""
    segmenter = engine.load("costs")["segmenter"]
    fallback, share = segmenter["roofline_fallback"], segmenter["gpu_share_of_ane"]
    conv = segmenter["conv3x3_ane_us_by_family"]
    slower = conv[engine.older(conv, family) or "H13"] / conv[MEASURED_ON]
    cpu = fallback["bnns_gflops"]
    gflops = cpu[engine.older(cpu, family) or "H13"]
    ane_gmacs, ane_bytes = fallback["ane_gflops"] / 2, fallback["ane_gib_per_s"] * GIB / 1e9
    return {
        ANE: Rates(ane_gmacs, ane_bytes, slower, 1.0, "ane"),
        GPU: Rates(
            ane_gmacs * share["macs"], ane_bytes * share["bytes"], slower / share["macs"], 1 / share["bytes"], "ane"
        ),
        CPU: Rates(
            gflops / 2, fallback["cpu_gib_per_s"] * GIB / 1e9, cpu[MEASURED_ON] / gflops, 1.0, "cpu_bnns"
        ),
    }  # fmt: skip


def estimate(op: Operation, family: str) -> dict[str, float]:
    """Microseconds by processor."""
    form = _form(op)
    if form is not None and "gflops" in form:
        elements = max((t.elements for t in (*op.outputs, *op.operands)), default=0)
        return dict.fromkeys((ANE, GPU, CPU), elements * form["flop_per_element"] / form["gflops"] / 1e3)
    if form is None or "anchor" not in form:
        products = macs(op) if form is None else 0
        return {unit: _by_rates(op, products, r) for unit, r in rates(family).items()}
    return {unit: _in_proportion(op, form, r, is_engine=unit != CPU) for unit, r in rates(family).items()}


def _by_rates(op: Operation, products: int, r: Rates) -> float:
    return max(products / r.gmacs, (op.bytes_in + op.bytes_out + op.weight_bytes) / r.gbytes) / 1e3


def _in_proportion(op: Operation, form: dict[str, Any], r: Rates, is_engine: bool) -> float:
    """To a published time: of the operation's own kind, or, where an engine moved bytes for longer than it computed, to
    the products of another kind, but no less than its own bytes take."""
    known = _anchors()[form["anchor"]]
    if known["per"] == "bytes_out":
        return float(op.bytes_out / known["amount"] * known[r.key] * r.bytes_factor)
    if "on_engine" not in form or not is_engine:
        return float(macs(op) / known["amount"] * known[r.key] * r.macs_factor)
    other = _anchors()[form["on_engine"]]
    products = macs(op) / other["amount"] * other[r.key] * r.macs_factor
    return float(max(products, (op.bytes_in + op.bytes_out) / known["bytes"] * known[r.key] * r.bytes_factor))


def _form(op: Operation) -> dict[str, Any] | None:
    """The first class of published estimates that an operation is of."""
    for form in _classes().get(op.kind, ()):
        if "when" not in form or TESTS[form["when"]](op, ""):
            return form
    return None


@cache
def _classes() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for form in engine.load("costs")["estimates"].values():
        for kind in form["kinds"]:
            found.setdefault(kind, []).append(form)
    return found


@cache
def _anchors() -> dict[str, dict[str, Any]]:
    return {entry["op"]: entry for entry in engine.load("costs")["segmenter"]["estimate_us"]}
