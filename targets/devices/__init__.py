"""Processor cores by name: how fast they compute and read memory, from `cores.json` beside this module.

Every figure there names its source and how sure it is: documented, measured-by-third-party or inferred. Rates are of
one core, in 10^9 operations a second (two for each multiply-accumulate), bandwidths in 10^9 bytes a second, of the
memory of the chip that the core is known from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PRECISIONS = ("fp32", "fp16", "int8")


class Figure(NamedTuple):
    """A rate, where it is from, and how sure it is."""

    value: float
    source: str
    confidence: str
    note: str = ""


class Core(NamedTuple):
    """One core: its rate in each of `PRECISIONS`, and the bandwidth of its memory."""

    name: str
    rates: Mapping[str, Figure]
    bandwidth: Figure


@cache
def cores() -> Mapping[str, Core]:
    """Every core that is known, by name."""
    return {
        name: Core(name, {p: _figure(entry[p]) for p in PRECISIONS}, _figure(entry["bandwidth"]))
        for name, entry in _data()["devices"].items()
    }


def unpublished(name: str) -> str | None:
    """Why nothing is known of a processor that exists; None of any other name."""
    wanted = plain(name)
    for entry in _data()["unpublished"]:
        if wanted in map(plain, entry["names"]):
            return str(entry["reason"])
    return None


def plain(name: str) -> str:
    """A name without what people write differently."""
    return "".join(c for c in name.lower() if c.isalnum())


@cache
def _data() -> Mapping[str, Any]:  # Any: what JSON holds
    content: Mapping[str, Any] = json.loads(Path(__file__).with_name("cores.json").read_text(encoding="utf-8"))
    return content


def _figure(entry: Mapping[str, Any]) -> Figure:
    return Figure(float(entry["value"]), entry["source"], entry["confidence"], entry.get("note", ""))
