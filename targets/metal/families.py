"""Families of Apple GPUs: limits and features, and chips that have them, from `targets/devices/gpus.json`.

Every figure there names its source and how sure it is: documented, measured-by-third-party, inferred from such figures,
or recalled, which is to be looked up. What is said of all families holds unless a family or a chip says otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from codegen.metal.launch import Gpu
from compiler.errors import UsageError
from targets import devices
from targets.devices import Figure

DEFAULT = "apple7"  # the first with simdgroup matrices: what is made for it runs on all later ones


class Feature(NamedTuple):
    """What GPUs can do from the family of that number on; 0 if none can."""

    since: int
    source: str
    confidence: str
    note: str = ""


class Chip(NamedTuple):
    """A chip: GPU cores, their clock in GHz, and the bandwidth of its memory in 10^9 bytes a second."""

    name: str
    family: str
    cores: Figure
    clock: Figure
    bandwidth: Figure
    limits: Mapping[str, Figure]


class Family(NamedTuple):
    """A family: its number, what has it, the chip that estimates are for, and its figures by name."""

    name: str
    number: int
    members: str
    chip: Chip
    limits: Mapping[str, Figure]

    def has(self, feature: str) -> bool:
        """Whether GPUs of the family can do that. KeyError for a feature of which nothing is known."""
        return 0 < features()[feature].since <= self.number


@cache
def features() -> Mapping[str, Feature]:
    """Every feature that is known of, by name."""
    return {
        name: Feature(_number(row["value"]), row["source"], row["confidence"], row.get("note", ""))
        for name, row in _data()["features"].items()
    }


@cache
def chips() -> Mapping[str, Chip]:
    """Every chip that is known, by name, in the order of families."""
    return {
        name: Chip(
            name,
            row["family"],
            _figure(row["cores"]),
            _figure(row["clock"]),
            _figure(row["bandwidth"]),
            {key: _figure(figure) for key, figure in row.get("limits", {}).items()},
        )
        for name, row in _data()["chips"].items()
    }


def families() -> tuple[str, ...]:
    """The names of all families, oldest first."""
    return tuple(_data()["families"])


@cache
def family(name: str = DEFAULT) -> Family:
    """A family by its name, as Metal writes it or in lower case. UsageError if nothing is known of it."""
    row = _data()["families"].get(devices.plain(name))
    if row is None:
        raise UsageError(f"GPU family {name!r} is unknown", hint=f"one of {', '.join(families())}")
    limits = {**_data()["limits"], **row["limits"]}
    return Family(
        devices.plain(name),
        _number(devices.plain(name)),
        row["members"]["value"],
        chips()[row["chip"]],
        {key: _figure(figure) for key, figure in limits.items()},
    )


def family_of(name: str = DEFAULT) -> Family:
    """The family of this name, or that of the chip of this name. UsageError if it is neither."""
    by_plain = {devices.plain(chip.name): chip for chip in chips().values()}
    found = by_plain.get(devices.plain(name))
    if found is None and devices.plain(name) not in families():
        raise UsageError(f"GPU {name!r} is unknown", hint=f"one of {', '.join([*families(), *chips()])}")
    return family(name if found is None else found.family)


@cache
def gpu(name: str = DEFAULT) -> Gpu:
    """The figures of a family's usual chip, or of a chip, for estimates. UsageError if it is neither."""
    by_plain = {devices.plain(chip.name): chip for chip in chips().values()}
    chip = by_plain.get(devices.plain(name)) or family_of(name).chip
    of = {key: figure.value for key, figure in {**family(chip.family).limits, **chip.limits}.items()}
    return Gpu(
        chip.name,
        round(chip.cores.value),
        chip.clock.value * 1e9,
        chip.bandwidth.value * 1e9,
        round(of["simd_width"]),
        round(of["threads_per_threadgroup"]),
        round(of["threadgroup_memory"]),
        round(of["threads_per_core"]),
        round(of["registers_per_core"]),
        round(of["memory_per_core"]),
        of["core_bandwidth"],
        of["local_bandwidth"],
        of["latency"],
        of["fp32"],
        of["fp16"],
        of["matrix_fp32"],
        of["matrix_fp16"],
        of["dispatch"] * 1e-6,
        of["barrier"],
    )


@cache
def _data() -> Mapping[str, Any]:  # Any: what JSON holds
    path = Path(devices.__file__).with_name("gpus.json")
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _figure(row: Mapping[str, Any]) -> Figure:
    return Figure(float(row["value"]), row["source"], row["confidence"], row.get("note", ""))


def _number(name: str) -> int:
    """9 for "Apple9"; 0 for no family."""
    found = re.search(r"\d+$", name)
    return int(found[0]) if found else 0
