"""The TensorFlow Lite 8-bit specification as data: `int8_rules.json`, each entry with its source.

builtins   by operator: the version that takes int8, the oldest runtime that has it, `same` if results have the
           parameters of the operands, `fixed` scale and zero point of the result, and of products the places of
           `weights` and `bias` among the operands and the axis with scales of its own; `int16` holds what differs
           where activations have 16 bits (weights stay int8), and is absent of operators that have no such kernel
layers     the same demands for layers of the graph: see passes/_int8_scheme.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from compiler.tensor import I8, I16, I32, I64, DType, QuantParams
from passes._int8_scheme import Scheme

PATH = Path(__file__).with_name("int8_rules.json")


class Rule(NamedTuple):
    """What integers ask of one builtin operator. `kind` is the type of activations, `wide` the rule for int16, None
    where no kernel takes it."""

    version: int
    runtime: str | None
    same: bool
    fixed: QuantParams | None
    weights: int | None
    axis: int
    bias: int | None
    kind: DType = I8
    wide: Rule | None = None

    @property
    def bias_kind(self) -> DType:
        """The type of a bias: of 16-bit activations the sums may need 40 bits."""
        return I32 if self.kind is I8 else I64


@cache
def builtins() -> Mapping[str, Rule]:
    """The builtin operators that compute in integers."""
    return {code: _rule(entry) for code, entry in _data()["builtins"].items()}


@cache
def scheme() -> Scheme:
    """What the target demands of the values of a layer graph."""
    return Scheme.from_data(_data()["layers"])


def _rule(entry: Mapping[str, Any]) -> Rule:
    narrow = _form(entry, entry, I8)
    return narrow._replace(wide=_form(entry, entry["int16"], I16)) if "int16" in entry else narrow


def _form(entry: Mapping[str, Any], kernel: Mapping[str, Any], kind: DType) -> Rule:
    fixed = kernel.get("fixed")
    return Rule(
        kernel["version"],
        kernel.get("runtime"),
        entry.get("same", False),
        QuantParams((fixed[0],), (fixed[1],), None, kind) if fixed else None,
        entry.get("weights"),
        entry.get("axis", 0),
        entry.get("bias"),
        kind,
    )


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found
