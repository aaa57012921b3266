"""The `.aimodel` directory: the program's bytecode, its SHA-256, and a few facts about it.

Apple's package stamps the time of writing into the facts; without it the same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from compiler.new_folder import new_folder
from targets.coreai.program import Program

BYTECODE, HASH, FACTS = "main.mlirb", "main.hash", "metadata.json"
VERSION = "2.0"  # of the layout of the directory
CUSTOM = "creatorDefinedMetadata"
KERNELS = "cincel.kernels"  # in there: what the Metal kernels compute


def write_package(
    path: Path, program: Program, facts: Mapping[str, str], custom: Mapping[str, object] | None = None
) -> None:
    """Write a closed program as the asset `path`, or leave everything as it was and raise EmitError. `custom` is what
    Core AI's own interface gives as the metadata of the asset's creator.

    An existing asset at `path` is replaced; anything else there is left alone and is an error.
    """
    path = Path(path)
    with new_folder(path, is_asset(path), "an .aimodel") as folder:
        _fill(folder, program, {**facts, **({CUSTOM: custom} if custom else {})})


def is_asset(path: Path) -> bool:
    """Whether a directory is an asset with a program."""
    return path.is_dir() and (path / FACTS).is_file() and (path / BYTECODE).is_file()


def _fill(root: Path, program: Program, facts: Mapping[str, object]) -> None:
    program.write(root / BYTECODE)
    with (root / BYTECODE).open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256")
    (root / HASH).write_bytes(digest.digest())
    content = json.dumps({"assetVersion": VERSION, **facts}, indent=2, sort_keys=True)
    (root / FACTS).write_text(content + "\n", encoding="utf-8")
