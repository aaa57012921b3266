"""Which layers ONNX Runtime computes in integers when it finds them between DequantizeLinear and QuantizeLinear, as
data: `int8_rules.json`, measured with the runtime that it names.

kernels   by layer: the operator that is left of it in the optimised graph
layers    what that demands of the values of a layer graph: see passes/_int8_scheme.py
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from passes._int8_scheme import Scheme

PATH = Path(__file__).with_name("int8_rules.json")


@cache
def scheme() -> Scheme:
    """What the target demands of the values of a layer graph."""
    return Scheme.from_data(_data()["layers"])


@cache
def kernels() -> Mapping[str, str]:
    """By layer: the operator that computes it in integers."""
    found: dict[str, str] = _data()["kernels"]
    return found


@cache
def _data() -> dict[str, Any]:
    import json  # for int8 only

    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found
