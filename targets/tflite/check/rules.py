"""The rules, from the data files beside this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Rules = Mapping[str, Any]  # Any: what JSON holds
DEVICES = {"nnapi": "nnapi.json", "edgetpu": "edgetpu.json"}


@cache
def int8_rules() -> Rules:
    """The TensorFlow Lite 8-bit specification: `operators`, `recurrent` and `tolerances`."""
    return _load("int8.json")


@cache
def device_rules(target: str) -> Rules:
    """What a device takes: `operators` by builtin code, `rewrites` by name, and limits."""
    return _load(DEVICES[target])


def _load(name: str) -> Rules:
    rules: Rules = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return rules
