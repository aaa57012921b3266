"""Reads Metal Shading Language as far as a host needs: tokens with their lines, and the signatures of kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_PATTERN = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/)"
    r"|(?P<directive>\#(?:[^\n\\]|\\.)*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<number>(?:0[xX][0-9a-fA-F.]+(?:[pP][+-]?\d+)?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[A-Za-z]*)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign><<=|>>=|\[\[|\]\]|::|->|\+\+|--|<<|&&|\|\||[-+*/%&|^=!<>]=|.)",
    re.DOTALL,
)
_PROMISE = "max_total_threads_per_threadgroup"
SPACES = ("device", "constant", "threadgroup", "thread")


class Token(NamedTuple):
    """A word of the text; `kind` is directive, string, number, name or sign."""

    kind: str
    text: str
    line: int


class Parameter(NamedTuple):
    """A parameter of a kernel: `half` for `device const half *x [[buffer(0)]]`, with slot 0; `space` is empty for
    numbers that the system gives."""

    name: str
    ctype: str
    space: str
    attribute: str
    slot: int
    is_const: bool
    line: int
    is_reference: bool = False


class KernelText(NamedTuple):
    """A kernel as the text declares it; `max_threads` is what it promises per threadgroup, 1024 if it promises none."""

    name: str
    returns: str
    parameters: tuple[Parameter, ...]
    max_threads: int
    line: int


def portable(text: str) -> str:
    """The text for a compiler of C++. `threadgroup` is both the word for a space of addresses, which a macro takes
    away, and the name of an attribute, the one place where that leaves no C++: there it gets another name."""
    return re.sub(r"\[\[(\s*)threadgroup(\s*)\(", r"[[\1host_threadgroup\2(", text)


def tokens(text: str) -> list[Token]:
    """The words of a text without comments."""
    found, line = [], 1
    for m in _PATTERN.finditer(text):
        if m.lastgroup != "space":
            found.append(Token(str(m.lastgroup), m.group(), line))
        line += m.group().count("\n")
    return found


def closing(words: Sequence[Token], at: int) -> int:
    """Where the bracket that opens at a place closes; the end if it does not."""
    pairs = {"(": ")", "{": "}", "[": "]", "[[": "]]"}
    opens, closes = words[at].text, pairs[words[at].text]
    depth = 0
    for i in range(at, len(words)):
        depth += (words[i].text == opens) - (words[i].text == closes)
        if not depth:
            return i
    return len(words) - 1


def kernels(words: Sequence[Token]) -> list[KernelText]:
    """All kernels that a text declares."""
    found, threads = [], 1024
    for i, word in enumerate(words):
        if word.text == _PROMISE and i + 2 < len(words) and words[i + 2].kind == "number":
            threads = int(words[i + 2].text, 0)
        if word.text in (";", "}"):
            threads = 1024
        if word.text != "kernel" or word.kind != "name":
            continue
        opening = (j for j in range(i, len(words)) if words[j].text == "(")
        opens = next(opening, None)
        while opens is not None and words[opens - 1].text == _PROMISE:  # attributes may follow the word `kernel`
            threads = int(words[opens + 1].text, 0)
            opens = next(opening, None)
        if opens is None:
            continue
        inside = words[opens + 1 : closing(words, opens)]
        made = tuple(_parameter(p) for p in _split(inside) if p)
        found.append(KernelText(words[opens - 1].text, words[opens - 2].text, made, threads, word.line))
    return found


def _split(words: Sequence[Token]) -> Iterator[list[Token]]:
    """Parts between commas outside brackets of any kind."""
    part: list[Token] = []
    depth = 0
    for word in words:
        depth += word.text.count("(") + word.text.count("[") + (word.text == "<")
        depth -= word.text.count(")") + word.text.count("]") + (word.text == ">")
        if word.text == "," and not depth:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _parameter(words: Sequence[Token]) -> Parameter:
    at = next((i for i, w in enumerate(words) if w.text == "[["), len(words))
    declared, attribute = words[:at], words[at + 1 :]
    name = declared[-1].text
    rest = [w.text for w in declared[:-1]]
    space = next((t for t in rest if t in SPACES), "")
    index = int(attribute[2].text, 0) if len(attribute) > 2 and attribute[2].kind == "number" else -1
    return Parameter(
        name,
        " ".join(t for t in rest if t not in (*SPACES, "const", "volatile", "*", "&", "restrict")),
        space,
        attribute[0].text if attribute else "",
        index,
        "const" in rest or space == "constant",
        words[0].line,
        "&" in rest,
    )


def members(words: Sequence[Token], struct: str) -> list[tuple[str, str]] | None:
    """Types and names of the members of a struct; None if the text declares none of that name."""
    for i in range(len(words) - 2):
        if words[i].text == "struct" and words[i + 1].text == struct and words[i + 2].text == "{":
            found, ctype, last = [], "", ""
            for word in words[i + 3 : closing(words, i + 2)]:
                if word.text in (";", ","):
                    found.append((ctype, last))
                    ctype = "" if word.text == ";" else ctype
                elif not ctype:
                    ctype = word.text
                else:
                    last = word.text
            return found
    return None


def functions(words: Sequence[Token]) -> dict[str, list[list[Token]]]:
    """The bodies of all functions that a text defines, by their names."""
    found: dict[str, list[list[Token]]] = {}
    i = 0
    while i < len(words):
        if words[i].text == "(" and i and words[i - 1].kind == "name":
            end = closing(words, i)
            after = end + 1
            while after < len(words) and words[after].text == "const":
                after += 1
            if after < len(words) and words[after].text == "{":
                close = closing(words, after)
                found.setdefault(words[i - 1].text, []).append([*words[after + 1 : close]])
                i = close
        i += 1
    return found
