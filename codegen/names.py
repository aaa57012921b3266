"""Names and text that C-like sources can hold, whatever a model calls its tensors."""

from __future__ import annotations

import re
from collections.abc import Collection

KEYWORDS = frozenset(  # of C, C++, the Metal language, and macros that compilers predefine
    """alignas alignof auto bool break case char complex const constexpr continue default do double else enum extern
    false float for goto half if imaginary inline int kernel long main main0 noreturn nullptr register restrict return
    short signed sizeof static struct switch thread true typedef typeof union unsigned using vertex fragment device
    constant threadgroup namespace template class public private operator new delete this virtual asm and or not xor
    void volatile while linux unix arm metal in out errno stdin stdout stderr assert i386 mips sun vector pixel
    major minor offsetof signals slots emit near far""".split()  # noqa: SIM905  # words read better so
)
LONGEST = 48  # letters of an identifier


def identifier(text: str, taken: Collection[str] = ()) -> str:
    """A lower-case identifier that resembles `text`: letters, digits and single underscores, none of `taken` and no
    keyword of C, C++ or the Metal language. Never empty."""
    plain = re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")[:LONGEST].strip("_")
    if not plain or plain[0].isdigit() or plain in KEYWORDS:
        plain = f"v_{plain}".strip("_")
    found, count = plain, 1
    while found in taken:
        count += 1
        found = f"{plain}_{count}"
    return found


def unrepeated(path: str) -> str:
    """A path without the folders whose names the next one begins with: a/a.1/a.1.2/b is a.1.2/b."""
    parts = path.split("/")
    return "/".join(p for p, n in zip(parts, [*parts[1:], ""], strict=True) if not p or not n.startswith(p))


def comment(text: str) -> str:
    """What may stand inside a comment, on one line: printable ASCII that neither ends it nor begins another."""
    shown = "".join(c if " " <= c <= "~" else f"\\u{ord(c):04x}" for c in text)
    return shown.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\")


def string(text: str) -> str:
    """A string literal with its quotes, of ASCII."""
    escaped = "".join(_escaped(byte) for byte in text.encode())
    return f'"{escaped}"'


def _escaped(byte: int) -> str:
    c = chr(byte)
    is_plain = (c.isalnum() and byte < 128) or c in " _-.:/()[]<>=+,@#"
    return c if is_plain else f"\\{byte:03o}"
