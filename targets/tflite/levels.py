"""What of a file only newer devices take: a feature level of NNAPI, as the rules of the device know them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from compiler.target import refuse
from targets.tflite.check import check
from targets.tflite.check.placement import level_name
from targets.tflite.check.rules import device_rules


def beyond(path: Path, device: str, level: int, strict: bool) -> list[str]:
    """A warning about the operators of a file that a device of this level does not take, but newer ones do. With
    `strict`, LegalityError instead, and no file."""
    report = check(path, device)
    missing = Counter((p.code, p.level) for p in report.placements if p.on_device and p.level > level)
    if not missing:
        return []
    rules = device_rules(device)
    lines = [
        f"{code}{f' (x{count})' if count > 1 else ''} needs {level_name(rules, needed)}"
        for (code, needed), count in sorted(missing.items())
    ]
    if strict:
        path.unlink()
        refuse(f"{device}, {level_name(rules, level)}", lines, "raise --feature-level, or leave --strict away")
    return [f"ABOVE FEATURE LEVEL {level}: {missing.total()} operators run on the CPU; {'; '.join(lines)}"]
