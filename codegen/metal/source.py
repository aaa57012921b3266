"""The text of model.metal: the kernels of a model, and of the functions that kernels share those that are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from codegen.metal.kernel import MetalKernel
from codegen.names import comment
from codegen.rendering import TEMPLATES, render
from codegen.wrapping import wrapped

LIBRARY = TEMPLATES / "metal" / "library"
WORD = re.compile(r"\b\w+\b")
DEFINED = re.compile(
    r"^(?:static |constexpr |template *<[^>]*> *)*(?:inline|constant|typedef|struct)\b[^=(;{]*?(\w+)(?= *[(\[={;])",
    re.MULTILINE,
)


@cache
def functions() -> dict[str, str]:
    """Name -> the text that defines it, of each part of the library; a part begins after an empty line."""
    found: dict[str, str] = {}
    for path in sorted(LIBRARY.glob("*.metal")):
        for part in path.read_text(encoding="utf-8").strip().split("\n\n"):
            for name in DEFINED.findall(part):
                found[name] = part
    return found


def used(text: str) -> list[str]:
    """The parts of the library that a text needs, those that others need first."""
    known = functions()
    parts: dict[str, None] = {}

    def visit(words: str, seen: frozenset[str]) -> None:
        for word in dict.fromkeys(WORD.findall(words)):
            part = known.get(word)
            if part is not None and part not in parts and part not in seen:
                visit(part, seen | {part})
                parts[part] = None

    visit(text, frozenset())
    return list(parts)


def source(title: str, kernels: Sequence[MetalKernel]) -> str:
    """The file."""
    texts = [k.render().strip() for k in kernels]
    body = wrapped("\n\n".join(texts))
    body = re.sub(r" +$", "", body, flags=re.MULTILINE)
    shared = "\n\n".join(used(body))
    return render("metal/model.metal.j2", title=comment(title), shared=shared, body=body)
