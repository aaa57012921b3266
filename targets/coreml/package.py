"""The `.mlpackage` directory: a manifest, the model specification, and the weight file beside it.

Its identifiers are derived from what it holds, so the same model gives the same bytes; coremltools draws them at
random.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from compiler.errors import EmitError
from compiler.new_folder import new_folder
from targets.coreml.blob import BlobReader, BlobWriter
from targets.coreml.proto import messages

Message = Any  # a protobuf message of Apple's schema: classes are made at run time

_DATA = Path("Data", "com.apple.CoreML")
_SPEC = _DATA / "model.mlmodel"
_WEIGHTS = _DATA / "weights" / "weight.bin"
_MANIFEST = Path("Manifest.json")
_AUTHOR = "com.apple.CoreML"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/cincel/mlpackage")


def write_package(path: Path, spec: Message, weights: BlobWriter) -> None:
    """Write `spec` and `weights` as the package `path`, or leave everything as it was and raise EmitError.

    An existing package at `path` is replaced; anything else there is left alone and is an error.
    """
    path = Path(path)
    with new_folder(path, _is_package(path), "an .mlpackage") as folder:
        _fill(folder, spec.SerializeToString(deterministic=True), weights)


def weight_bytes(path: Path) -> int:
    """The size of the weight file of the package `path`; 0 if it has none."""
    weights = path / _WEIGHTS
    return weights.stat().st_size if weights.exists() else 0


def _is_package(path: Path) -> bool:
    return path.is_dir() and (path / _MANIFEST).is_file() and (path / "Data").is_dir()


def _fill(root: Path, spec: bytes, weights: BlobWriter) -> None:
    (root / _WEIGHTS).parent.mkdir(parents=True)
    (root / _SPEC).write_bytes(spec)
    checksum = 0
    if len(weights):
        with (root / _WEIGHTS).open("wb") as file:
            weights.write(file)
        checksum = weights.checksum
    (root / _MANIFEST).write_text(_manifest(spec, checksum), encoding="utf-8")


def _manifest(spec: bytes, checksum: int) -> str:
    model = uuid.uuid5(_NAMESPACE, f"model {uuid.uuid5(_NAMESPACE, hashlib.sha256(spec).hexdigest())} {checksum}")
    items = {
        str(model): {
            "author": _AUTHOR,
            "description": "CoreML Model Specification",
            "name": "model.mlmodel",
            "path": f"{_AUTHOR}/model.mlmodel",
        },
        str(uuid.uuid5(model, "weights")): {
            "author": _AUTHOR,
            "description": "CoreML Model Weights",
            "name": "weights",
            "path": f"{_AUTHOR}/weights",
        },
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": str(model)}
    return json.dumps(manifest, indent=4, sort_keys=True) + "\n"


class Package(NamedTuple):
    """A package as read from disk: Apple's `Model` message, and the weight file if there is one."""

    spec: Message
    weights: BlobReader | None


def read_package(path: Path) -> Package:
    """Read the package `path`; weights are memory-mapped. EmitError if it is not a package of one ML Program."""
    path = Path(path)
    if not _is_package(path):
        raise EmitError(f"{str(path)!r} is not an .mlpackage")
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        location = path / "Data" / item["path"]
        serialized = location.read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmitError(f"the package {str(path)!r} is broken: {error!r}") from None
    from google.protobuf.message import DecodeError

    spec = messages().model.Model()
    try:
        spec.ParseFromString(serialized)
    except DecodeError as error:
        raise EmitError(f"the package {str(path)!r} holds no model: {error}") from None
    if spec.WhichOneof("Type") != "mlProgram":
        raise EmitError(f"the package {str(path)!r} holds no ML Program")
    weights = path / _WEIGHTS
    return Package(spec, BlobReader(weights) if weights.exists() else None)
