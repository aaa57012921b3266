"""Read-only maps of whole files, and the way back from an array to the bytes of the file that it shows.

- `map_file(path) -> FileMap`, `map_below(folder, location) -> FileMap`: the second takes the location from a file that
  nobody trusts and never leaves the folder. Both raise MapError, whose text completes "`path` ...".
- `locate(array) -> (fd, offset) | None`: where the bytes of a contiguous array lie, if it is a view of a map.
  The descriptor is valid as long as the array lives.
- `release(array)`: gives the resident pages behind an array, contiguous or not, back; they are read again when touched.

A map keeps showing the file it was made from when the path is replaced (renamed over), not when it is truncated.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from compiler.tensor import Array


class MapError(Exception):
    """Why a path cannot be mapped, as the end of a sentence that begins with the path."""


class FileMap(mmap.mmap):
    """The bytes of a regular, non-empty file; arrays made over it keep it and its descriptor alive."""

    fd: int
    address: int

    def __new__(cls, fd: int) -> FileMap:
        """The descriptor belongs to the map from here on."""
        self = super().__new__(cls, fd, 0, access=mmap.ACCESS_READ)
        self.address = _address(np.ndarray((1,), np.uint8, self))
        self.fd = fd
        return self

    def drop(self) -> None:
        """Gives the resident pages back; a glance at one byte may have brought in megabytes."""
        self.madvise(mmap.MADV_DONTNEED)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "fd"):
            close(self.fd)


def locate(array: Array) -> tuple[int, int] | None:
    """The descriptor and offset of the bytes of an array in C order; None if they are not in a map."""
    owner = _owner(array)
    if owner is None or not array.flags.c_contiguous:
        return None
    return owner.fd, _address(array) - owner.address


def release(array: Array) -> None:
    """Drops the resident pages of a view of a map from this process; does nothing to other arrays."""
    owner = _owner(array)
    if owner is None or not array.size:
        return
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    first = _address(array) - owner.address + sum(r for r in reach if r < 0)
    start = first // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, start, first + sum(map(abs, reach)) + array.itemsize - start)


def _owner(array: Array) -> FileMap | None:
    owner: object = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.obj if isinstance(owner, memoryview) else owner.base
    return owner if isinstance(owner, FileMap) else None


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def map_file(path: str | Path) -> FileMap:
    """The whole file; links are followed, since the user named this path."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise MapError(_reason(error)) from None
    return _map(fd)


def map_below(folder: str | Path, location: str) -> FileMap:
    """The file at a relative path below the folder: no `..`, no absolute path, no symbolic link on the way."""
    parts = PurePosixPath(location).parts
    if not parts or location.endswith("/") or "\0" in location:
        raise MapError("is not the path of a file")
    if parts[0].startswith("/"):
        raise MapError("is an absolute path, which a model may not name")
    if ".." in parts:
        raise MapError("leaves the folder of the model")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    here = -1
    try:
        here = os.open(folder, flags | os.O_DIRECTORY)
        for depth, part in enumerate(parts):
            if stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode):
                raise MapError("is or goes through a symbolic link, which a model may not name")
            last = depth == len(parts) - 1
            inner = os.open(part, flags | os.O_NOFOLLOW | (0 if last else os.O_DIRECTORY), dir_fd=here)
            os.close(here)
            here = inner
    except BaseException as error:
        if here >= 0:
            os.close(here)
        if isinstance(error, (OSError, ValueError)):
            raise MapError(_reason(error)) from None
        raise
    return _map(here)


def _reason(error: OSError | ValueError) -> str:
    """Completes "`path` ..."."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, PermissionError):
        return "may not be read"
    if isinstance(error, NotADirectoryError):
        return "goes through something that is not a folder"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be opened ({text.lower()})"


def _map(fd: int) -> FileMap:
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise MapError("is a folder, not a file")
        if not stat.S_ISREG(info.st_mode):
            raise MapError("is not a regular file")
        if info.st_size == 0:
            raise MapError("is empty")
        return FileMap(fd)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, (OSError, ValueError)):
            raise MapError(_reason(error)) from None
        raise
