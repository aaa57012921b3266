"""The one door to Apple's protobuf messages, which the coremltools distribution carries.

Executing the coremltools package costs seconds of CPU time; its generated message modules cost 20 ms. They are loaded
here from their files, under a package name of our own. Both sets of classes come from protobuf's one descriptor pool
and are the same objects, so a later `import coremltools` in this process works, and its messages and ours can be mixed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from compiler.errors import MissingExtraError

_PACKAGE = "_cincel_coreml_messages"


class Messages(NamedTuple):
    """Generated protobuf modules; their classes are made at import time, so nothing static is known of them."""

    mil: ModuleType
    model: ModuleType
    features: ModuleType


@functools.cache
def messages() -> Messages:
    """MIL.proto, Model.proto and FeatureTypes.proto; MissingExtraError if coremltools is not installed."""
    spec = importlib.util.find_spec("coremltools")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(extra="coreml", package="coremltools")
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(Path(spec.submodule_search_locations[0]) / "proto")]
    sys.modules[_PACKAGE] = package
    return Messages(
        mil=importlib.import_module(f"{_PACKAGE}.MIL_pb2"),
        model=importlib.import_module(f"{_PACKAGE}.Model_pb2"),
        features=importlib.import_module(f"{_PACKAGE}.FeatureTypes_pb2"),
    )
