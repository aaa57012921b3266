"""Address spaces: a pointer leads into the space of what it is made of, which C++ without spaces cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from targets.metal.execute.text import SPACES, Token, closing

Known = dict[str, str]  # names of pointers -> their spaces


def strays(words: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """Pointers that are declared or cast in one space and made of a pointer in another."""
    i = 0
    while i < len(words):
        if words[i].text == "(" and i and words[i - 1].kind == "name":
            end = closing(words, i)
            if end + 1 < len(words) and words[end + 1].text == "{":
                close = closing(words, end + 1)
                yield from _of_function(words[i + 1 : close])
                i = close
        i += 1


def _of_function(words: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """Of parameters and a body."""
    known: Known = {}
    for i, word in enumerate(words):
        star = _star(words, i) if word.text in SPACES else 0
        if not star:
            continue
        after = words[star + 1] if star + 1 < len(words) else word
        if after.kind == "name":
            known[after.text] = word.text
            made = words[star + 3 :] if star + 2 < len(words) and words[star + 2].text == "=" else ()
        elif after.text == ")":
            made = words[star + 2 :]
        elif after.text == ">" and words[star + 2].text == "(":
            made = words[star + 3 :]
        else:
            continue
        source = _source(made, known)
        if source and known[source] != word.text:
            yield word.line, f"a pointer to {word.text} memory is made of {source}, which leads to {known[source]}"


def _star(words: Sequence[Token], at: int) -> int:
    """Where the star of a type stands that begins at a space's name; 0 if it has none."""
    for i in range(at + 1, min(at + 8, len(words))):
        if words[i].text == "*":
            return i
        if words[i].kind != "name" and words[i].text not in ("<", ">", ",", "::") and words[i].kind != "number":
            return 0
    return 0


def _source(words: Sequence[Token], known: Known) -> str:
    """The first pointer of an expression that is no element of it; "" if there is none."""
    depth = 0
    for i, word in enumerate(words):
        depth += (word.text in ("(", "[")) - (word.text in (")", "]"))
        if depth < 0 or (not depth and word.text in (";", ",", "?", "]")):
            return ""
        after = words[i + 1].text if i + 1 < len(words) else ""
        before = words[i - 1].text if i else ""
        if word.kind == "name" and word.text in SPACES:
            return ""  # a cast of its own, which is looked at by itself
        if word.text in known and before not in (".", "->") and (before == "&" or after not in ("[", ".", "->")):
            return word.text
    return ""
