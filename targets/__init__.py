"""Targets by name; each is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module

from compiler.errors import UsageError
from compiler.target import Target

MODULES = {
    "onnx": "targets.onnx",
    "ane": "targets.coreml",
    "coreai": "targets.coreai",
    "nnapi": "targets.tflite",
    "edgetpu": "targets.edgetpu",
    "neon": "targets.neon",
    "metal": "targets.metal",
}


def find_target(name: str) -> type[Target]:
    """The target class of this name; UsageError listing the known ones."""
    if name not in MODULES:
        raise UsageError(f"there is no target named {name!r}", hint=f"known targets: {', '.join(MODULES)}")
    found: type[Target] = import_module(MODULES[name]).TARGET
    return found
