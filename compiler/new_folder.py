"""Folders that appear complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compiler.errors import EmitError


@contextmanager
def new_folder(path: Path, is_replaceable: bool, kind: str) -> Iterator[Path]:
    """An empty folder of the same name to write to, which takes the place of `path` if nothing fails; then what was
    there is gone, else it is as it was.

    is_replaceable   whether what is at `path`, if anything is, may be replaced: it is `kind`, such as "an .mlpackage";
                     an empty folder always may

    EmitError if there is something else, or nothing can be written.
    """
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.is_symlink() or (path.exists() and not is_replaceable and not is_empty):
        raise EmitError(
            f"{str(path)!r} exists and is not {kind}", hint="give another output path, or remove it yourself"
        )
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from None
    old, new = scratch / "old", scratch / "new" / path.name
    try:
        new.mkdir(parents=True)
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> EmitError:
    return EmitError(f"cannot write {str(path)!r}: {error.strerror or error}")
