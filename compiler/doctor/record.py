"""What an examination finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """A cause that was measured.

    cause     its name
    words     what is wrong, with the numbers that show it
    remedy    the rewrite or option that would help
    evidence  the numbers
    gain      dB by which the layer's noise would fall without it, as far as that could be computed
    """

    cause: str
    words: str
    remedy: str
    evidence: Mapping[str, float]
    gain: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {
            "cause": self.cause,
            "words": self.words,
            "remedy": self.remedy,
            "evidence": {k: float(f"{n:.6g}") for k, n in self.evidence.items()},
            "gain_db": None if self.gain is None else round(self.gain, 1),
        }


class Patient(NamedTuple):
    """One layer: noise in dB of signal to noise, alone and with all before it rounded; its share of the noise at the
    outputs, if it was measured; and why. `known` says of a layer without findings what is known."""

    op: str
    name: str
    origin: Sequence[str]
    dtype: str
    alone_db: float
    accumulated_db: float
    share: float | None
    findings: Sequence[Finding]
    known: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {
            "op": self.op,
            "name": self.name,
            "origin": list(self.origin),
            "dtype": self.dtype,
            "alone_snr_db": round(self.alone_db, 1),
            "accumulated_snr_db": round(self.accumulated_db, 1),
            "output_noise_share": None if self.share is None else round(self.share, 4),
            "findings": [f.as_json() for f in self.findings],
            "known": self.known,
        }


class Diagnosis(NamedTuple):
    """Layers by damage, worst first; the SNR in dB of each output with all rounded; and how many rows it stands on."""

    layers: Sequence[Patient]
    outputs: Mapping[str, float]
    rows: int
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {
            "rows": self.rows,
            "outputs_snr_db": {name: round(db, 1) for name, db in self.outputs.items()},
            "layers": [p.as_json() for p in self.layers],
            "notes": list(self.notes),
        }
