"""How far a quantized graph may be from its floats, and how far it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.compare import IDENTICAL_DB, compare
from compiler.errors import UsageError
from compiler.tensor import Array

Outputs = list[dict[str, Array]]  # by name, for each row


class Standing(NamedTuple):
    """What was measured: the share of rows lost (None: not asked for), and the least PSNR of an output in dB."""

    drop: float | None
    psnr: float

    def __str__(self) -> str:
        drop = "" if self.drop is None else f"{100 * self.drop:.2f} % of the rows lost, "
        return f"{drop}PSNR {self.psnr:.1f} dB"


class Limits(NamedTuple):
    """`drop`: the largest share of rows that may be lost; `psnr`: the least of every output in dB. None: any."""

    drop: float | None = None
    psnr: float | None = None

    def admit(self, found: Standing) -> bool:
        """Whether both are kept."""
        drop_kept = self.drop is None or (found.drop is not None and found.drop <= self.drop)
        return drop_kept and (self.psnr is None or found.psnr >= self.psnr)

    def measure(self, reference: Outputs, results: Outputs, labels: Array | None = None) -> Standing:
        """How far results are from the floats. Rows lost are those whose winning class is another (of a single
        probability: on the other side of 1/2); with labels, those fewer that are right. UsageError if that is asked
        for and no output has classes, or none is right."""
        floats = [name for name, array in reference[0].items() if array.dtype.kind == "f"]
        psnr = IDENTICAL_DB
        for name in floats:
            a, b = (np.stack([row[name] for row in rows]) for rows in (reference, results))
            psnr = min(psnr, compare(name, a, b).psnr_db)
        if self.drop is None:
            return Standing(None, psnr)
        scores = next((n for n in floats if _tells_classes([row[n] for row in reference])), None)
        if scores is None:
            raise UsageError(
                "--max-drop counts winning classes, and no output is [rows, classes], or [rows, 1] from 0 to 1",
                hint="--min-psnr bounds the distance of any output",
            )
        before, after = (np.concatenate([_winners(row[scores]) for row in rows]) for rows in (reference, results))
        if labels is None or len(labels) < len(before):
            return Standing(float((before != after).mean()), psnr)
        return Standing(_lost(before, after, labels[: len(before)]), psnr)


def _tells_classes(rows: list[Array]) -> bool:
    """Whether a value holds scores of classes, or the probability of one of two."""
    if rows[0].ndim != 2 or not rows[0].size:
        return False
    return rows[0].shape[1] > 1 or all(bool((array >= 0).all() and (array <= 1).all()) for array in rows)


def _winners(scores: Array) -> Array:
    return np.asarray(scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(np.int64))


def _lost(before: Array, after: Array, labels: Array) -> float:
    if not (before == labels).any():
        raise UsageError(
            "--max-drop counts rows that are right, and by the labels the model in floats is right on none",
            hint="give the labels that belong to the rows, from 0; without labels, changed classes are counted",
        )
    return float((before == labels).mean() - (after == labels).mean())


def parse_share(text: str) -> float:
    """The share that `0.5%`, `0.5 %` or `0.005` states, from 0 to 1. UsageError for other text."""
    number, percent = (text.strip()[:-1], 100.0) if text.strip().endswith("%") else (text, 1.0)
    try:
        share = float(number) / percent
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-drop {text!r} is no share of the rows", hint="write it as 0.5% or 0.005")
    return share
