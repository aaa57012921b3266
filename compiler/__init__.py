"""Cincel: carve neural networks until they fit the chip.

from compiler import load, compile_model, PassManager
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.api import Compiled as Compiled
    from compiler.api import compile_model as compile_model
    from compiler.api import load as load
    from compiler.pass_manager import PassManager as PassManager

__version__ = "0.1.0"
__all__ = ["Compiled", "PassManager", "compile_model", "load"]

WHERE = {
    "Compiled": "compiler.api",
    "compile_model": "compiler.api",
    "load": "compiler.api",
    "PassManager": "compiler.api",
}


def __getattr__(name: str) -> Any:  # Any: whatever the public name stands for; loaded when first used
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(WHERE[name]), name)
