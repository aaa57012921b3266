"""Names and text for Swift and Objective-C++, whatever a model calls its tensors."""

from __future__ import annotations

import re
from collections.abc import Collection

from codegen.names import comment, identifier

RESERVED = frozenset(  # of Swift, and the members of the generated structures
    """actor any as associatedtype async await borrowing break case catch class consuming continue convenience copy
    default defer deinit didset do dynamic else enum extension fallthrough false fileprivate final for func get guard
    if import in indirect infix init inout internal is isolated lazy left let macro mutating nil none nonisolated
    nonmutating open operator optional override package postfix precedence precedencegroup prefix private protocol
    public repeat required rethrows return right safe self sending set some static struct subscript super switch
    throw throws true try type typealias unowned unsafe var weak where while willset
    at place offset nbytes hash""".split()  # noqa: SIM905  # words read better so
)
TYPES = frozenset(  # of Swift, Foundation, Objective-C and MacTypes.h, which a class of this name would hide or repeat
    """Any AnyObject Argument Array Bool Boolean Byte Character CheckedContinuation Class Codable CommandLine Data Date
    Dictionary Dispatch Double Error Failure FileManager Fixed Float Foundation Handle IMP Int Int64 Launch
    LocalizedError Metal Never Optional Place PlaceHeap PlaceInput PlaceOutput PlaceWeights Point Port Protocol Ptr
    Range Rect SEL Self Sendable Set Settings Size String Style Task TimeInterval Type UInt UInt16 UInt32 UInt64 UInt8
    UnsafeMutableRawBufferPointer URL Value Void""".split()  # noqa: SIM905  # as above
)
LONGEST = 90  # letters of a comment beside code


def swift_identifier(text: str, taken: Collection[str]) -> str:
    """A lower-case identifier of C, Metal and Swift that resembles `text` and is none of `taken`."""
    plain = identifier(text)
    return identifier(f"v_{plain}" if plain in RESERVED else plain, taken)


def class_name(text: str) -> str:
    """`mobilenet_v2` is MobilenetV2: letters and digits, each word with a capital; never a keyword or a well-known
    type."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    name = "".join(word[0].upper() + word[1:] for word in words)[:48]
    if not name or name[0].isdigit() or name in TYPES or re.match(r"(NS|MTL)[A-Z]", name):
        name = f"Model{name}"
    return name


def swift_string(text: str) -> str:
    """A string literal of Swift with its quotes, of ASCII. U+FFFD stands for a lone surrogate, which none can hold."""
    return '"' + "".join(map(_swift_letter, text)) + '"'


def _swift_letter(c: str) -> str:
    if " " <= c <= "~" and c not in '"\\':
        return c
    code = 0xFFFD if 0xD800 <= ord(c) <= 0xDFFF else ord(c)
    return f"\\u{{{code:X}}}"


def note(text: str) -> str:
    """A comment that stays on its line; "..." stands for what is too long."""
    shown = comment(text).strip()
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3].rstrip()}..."


def cell(text: str) -> str:
    """What may stand in a table of Markdown: printable, no mark that Markdown or HTML reads."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&])", r"\\\1", comment(text))
