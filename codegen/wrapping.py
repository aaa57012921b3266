"""Lines of C that are too long, broken where a reader would break them."""

from __future__ import annotations

LONGEST = 120  # letters of a line of source
BREAKS = (", ", " && ", " || ", " + ", " - ", "; ", " = ")  # the space goes; operators stay at the end of the line


def wrapped(text: str) -> str:
    """The text with no line longer than LONGEST, where that can be had: preprocessor lines and lines of string literals
    stay as they are."""
    return "\n".join(line if len(line) <= LONGEST else _broken(line) for line in text.split("\n"))


def _broken(line: str) -> str:
    bare = line.lstrip()
    if bare.startswith(("#", '"')):
        return line
    indent = line[: len(line) - len(bare)]
    if bare.startswith("// "):
        return "\n".join(_pieces(line, f"{indent}// ", (" ",)))
    if bare.startswith(("/*", "* ")):
        return "\n".join(_pieces(line, f"{indent}{' ' * bare.startswith('/*')}* ", (" ",)))
    note = bare.find(" /*")
    if note > 0 and bare.endswith("*/"):
        return f"{wrapped(indent + bare[note + 1 :])}\n{wrapped(indent + bare[:note].rstrip())}"
    return "\n".join(_pieces(line, f"{indent}    ", BREAKS))


def _pieces(line: str, begin: str, breaks: tuple[str, ...]) -> list[str]:
    """A line cut at the last place that fits, again and again; all but the first begin as told."""
    made: list[str] = []
    while len(line) > LONGEST:
        at = max(_last(line, b, len(line) - len(line.lstrip()) + len(begin.strip())) for b in breaks)
        if at < 0:
            break
        made.append(line[:at].rstrip())
        line = begin + line[at:].lstrip()
    return [*made, line]


def _last(line: str, mark: str, least: int) -> int:
    """Where the text after the last mark begins, outside of string literals; -1 if there is none."""
    at = line.rfind(mark, least + 1, LONGEST + 1)
    while at >= 0 and line.count('"', 0, at) % 2:
        at = line.rfind(mark, least + 1, at)
    return -1 if at < 0 else at + len(mark)
