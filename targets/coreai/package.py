"""The `.aimodel` directory: the program's bytecode, its SHA-256, and a few facts about it.

Apple's package stamps the time of writing into the facts; without it the same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compiler.errors import EmitError
from targets.coreai.program import Program

BYTECODE, HASH, FACTS = "main.mlirb", "main.hash", "metadata.json"
VERSION = "2.0"  # of the layout of the directory


def write_package(path: Path, program: Program, facts: Mapping[str, str]) -> None:
    """Write a closed program as the asset `path`, or leave everything as it was and raise EmitError.

    An existing asset at `path` is replaced; anything else there is left alone and is an error.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not is_asset(path)):
        raise EmitError(
            f"{str(path)!r} exists and is not an .aimodel", hint="give another output path, or remove it yourself"
        )
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        _fill(scratch / "new", program, facts)
        if path.exists():
            path.rename(scratch / "old")
        try:
            (scratch / "new").rename(path)
        except OSError:
            if (scratch / "old").exists():
                (scratch / "old").rename(path)
            raise
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_asset(path: Path) -> bool:
    """Whether a directory is an asset with a program."""
    return path.is_dir() and (path / FACTS).is_file() and (path / BYTECODE).is_file()


def _unwritable(path: Path, error: OSError) -> EmitError:
    return EmitError(f"cannot write {str(path)!r}: {error.strerror or error}")


def _fill(root: Path, program: Program, facts: Mapping[str, str]) -> None:
    root.mkdir()
    program.write(root / BYTECODE)
    with (root / BYTECODE).open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256")
    (root / HASH).write_bytes(digest.digest())
    content = json.dumps({"assetVersion": VERSION, **facts}, indent=2, sort_keys=True)
    (root / FACTS).write_text(content + "\n", encoding="utf-8")
