"""Bytes as they lie on the device: rows of the last axis padded to 64 bytes, and what does not fit on the chip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from targets.apple import engine
from targets.apple.placement.eligible import Rule
from targets.apple.placement.operation import Program, Tensor

LARGEST = 5  # intermediates that are listed


class Extent(NamedTuple):
    """A value with its bytes side by side and in padded rows. `role`: "input", "output" or "between"."""

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    real: int
    padded: int

    @property
    def factor(self) -> float:
        return self.padded / self.real if self.real else 1.0

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "shape": list(self.shape), "factor": round(self.factor, 3)}


class Memory(NamedTuple):
    """Inputs, outputs and the largest values between; bytes of all values and of all weights; values beyond the
    engine's on-chip memory."""

    extents: tuple[Extent, ...]
    real: int
    padded: int
    weights: int
    beyond_chip: tuple[str, ...]
    warnings: tuple[Rule, ...]

    def as_json(self) -> dict[str, Any]:
        told = {"extents": [e.as_json() for e in self.extents], "warnings": [w.as_json() for w in self.warnings]}
        return {**self._asdict(), **told, "beyond_chip": list(self.beyond_chip)}


def memory(program: Program) -> Memory:
    """Of the values of a program, each once."""
    ends = {t.name for t in (*program.inputs, *program.outputs)}
    between = {t.name: t for op in program.operations for t in op.outputs if t.name not in ends}
    largest = sorted(between.values(), key=lambda t: (-t.padded, t.name))[:LARGEST]
    told = (("input", program.inputs), ("output", program.outputs), ("between", largest))
    extents = [Extent(t.name, role, t.dtype, t.shape, t.nbytes, t.padded) for role, tensors in told for t in tensors]
    values = (*program.inputs, *program.outputs, *between.values())
    on_chip = engine.load("limits")["limits"]["working_set"]["bytes"]
    return Memory(
        tuple(extents),
        sum(t.nbytes for t in values),
        sum(t.padded for t in values),
        program.weight_bytes,
        tuple(t.name for t in values if t.padded > on_chip),
        (*_size(program), *_ends((*program.inputs, *program.outputs))),
    )


def _size(program: Program) -> Iterable[Rule]:
    """Weights beyond what a phone's engine takes; the sources disagree on 1 or 2 GB."""
    rule = engine.load("rules")["runtime"]["model_size_coremltools"]
    if program.weight_bytes > rule["value_gb"] * 1e9:
        size = f"the weights have {program.weight_bytes / 1e9:.2f} GB: "
        yield Rule("model_size", size + rule["rule"], rule["source"], rule["confidence"])


def _ends(tensors: Iterable[Tensor]) -> Iterable[Rule]:
    """Inputs and outputs whose last axis is one element long, and so takes a whole row."""
    rule = engine.load("rules")["layout"]["singleton_last_axis"]
    for t in tensors:
        if t.shape and t.shape[-1] == 1 and t.elements > 1:
            says = f"{t.name} {list(t.shape)} takes {t.padded:,} bytes for {t.nbytes:,}: {rule['rule']}"
            yield Rule("singleton_last_axis", says, rule["source"], rule["confidence"])
