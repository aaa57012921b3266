"""Names of variables, and of inputs and outputs, as MIL allows them."""

from __future__ import annotations

import re

from targets.coreml.dtypes import TYPES

_KEYWORDS = frozenset({"any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "state"})


def identifier(name: str) -> str:
    """`name` as MIL allows it: [A-Za-z_][A-Za-z0-9_]*, and not one of its keywords."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not re.match(r"[A-Za-z_]", clean):
        clean = f"_{clean}"
    return f"{clean}_" if clean in _KEYWORDS or clean in TYPES or clean == "bf16" else clean


def unique(name: str, used: set[str], counts: dict[str, int]) -> str:
    """`name`, or `name` with the first free number; `used` grows."""
    candidate = name
    while candidate in used:
        counts[name] = counts.get(name, -1) + 1
        candidate = f"{name}_{counts[name]}"
    used.add(candidate)
    return candidate
