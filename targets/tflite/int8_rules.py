"""The TensorFlow Lite 8-bit specification as data: `int8_rules.json`, each entry with its source.

builtins   by operator: the version that takes int8, the oldest runtime that has it, `same` if results have the
           parameters of the operands, `fixed` scale and zero point of the result, and of products the places of
           `weights` and `bias` among the operands and the axis with scales of its own
layers     the same demands for layers of the graph: see passes/_int8_scheme.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from compiler.tensor import I8, QuantParams
from passes._int8_scheme import Scheme

PATH = Path(__file__).with_name("int8_rules.json")


class Rule(NamedTuple):
    """What int8 asks of one builtin operator."""

    version: int
    runtime: str | None
    same: bool
    fixed: QuantParams | None
    weights: int | None
    axis: int
    bias: int | None


@cache
def builtins() -> Mapping[str, Rule]:
    """The builtin operators that compute in int8."""
    return {code: _rule(entry) for code, entry in _data()["builtins"].items()}


@cache
def scheme() -> Scheme:
    """What the target demands of the values of a layer graph."""
    return Scheme.from_data(_data()["layers"])


def _rule(entry: Mapping[str, Any]) -> Rule:
    fixed = entry.get("fixed")
    return Rule(
        entry["version"],
        entry.get("runtime"),
        entry.get("same", False),
        QuantParams((fixed[0],), (fixed[1],), None, I8) if fixed else None,
        entry.get("weights"),
        entry.get("axis", 0),
        entry.get("bias"),
    )


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found
