"""What a text has that Metal Shading Language (specification, version 3) has not, and what its kernels may not do.

A compiler of C++ with our headers refuses names that Metal does not know; here is the rest, that C++ would take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from targets.metal.execute.driver import HOST, POSITIONS
from targets.metal.execute.spaces import strays
from targets.metal.execute.text import SPACES, KernelText, Token, closing, functions, kernels, tokens

BUFFERS = 31  # arguments of a kernel in device and constant memory
_KEYWORDS = {
    **dict.fromkeys(
        ("new", "delete", "try", "catch", "throw", "goto", "virtual", "dynamic_cast", "typeid"), "is not supported"
    ),
    **dict.fromkeys(("thread_local", "register", "noexcept", "asm", "co_await", "co_return"), "is not supported"),
    **dict.fromkeys(("vertex", "fragment"), "is a word of the language, and no name"),
    **dict.fromkeys(("double", "wchar_t", "char16_t", "char32_t", "int128_t", "__int128"), "is no type of Metal"),
}
_ATTRIBUTES = {
    "buffer",
    "threadgroup",
    "kernel",
    "max_total_threads_per_threadgroup",
    "host_name",
    "function_constant",
    *POSITIONS,
}
_SCALARS = ("bool", "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "half", "bfloat", "float")
_TYPES = {
    *_SCALARS,
    *(f"{packed}{t}{n}" for packed in ("", "packed_") for t in _SCALARS for n in (2, 3, 4)),
    *(f"atomic_{t}" for t in ("int", "uint", "bool", "float", "ulong")),
    *(f"{s}_t" for s in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "size", "ptrdiff")),
    *(f"simdgroup_{t}8x8" for t in ("half", "bfloat", "float")),
    "void",
}
_FLOATING = re.compile(r"(?!0[xX])[\d.]*(?:\.|\d[eE])")
_HEADER = re.compile(r'\s*#\s*include\s*[<"](?P<name>[^>"]*)[>"]')


def faults(text: str) -> list[str]:
    """Sentences that say what is wrong, each with its line, in the order of the lines."""
    words = [w for w in tokens(text) if w.kind != "directive"]
    directives = [w for w in tokens(text) if w.kind == "directive"]
    found = [
        *_includes(directives),
        *_words(words),
        *_attributes(words),
        *_pointers(words),
        *strays(words),
        *_program_scope(words),
        *_bodies(words),
        *(f for k in kernels(words) for f in _kernel(k)),
    ]
    return [f"line {line}: {said}" for line, said in sorted(set(found))]


Faults = Iterator[tuple[int, str]]


def _includes(directives: Sequence[Token]) -> Faults:
    for d in directives:
        m = _HEADER.match(d.text)
        if m and not m["name"].startswith("metal_"):
            yield d.line, f"{m['name']} is no header of Metal"


def _words(words: Sequence[Token]) -> Faults:
    """Words and literals that Metal has not."""
    for i, w in enumerate(words):
        after = words[i + 1].text if i + 1 < len(words) else ""
        if w.kind == "name" and w.text in _KEYWORDS:
            yield w.line, f"{w.text} {_KEYWORDS[w.text]}"
        elif w.text == "long" and after in ("long", "double"):
            yield w.line, f"long {after} is no type of Metal"
        elif w.text == "std" and after == "::":
            yield w.line, "the C++ standard library is not there"
        elif w.text.startswith("__") and w.kind == "name":
            yield w.line, f"{w.text} is a name of compilers"
        elif w.kind == "number" and not _is_literal(w.text):
            yield w.line, f"literal {w.text} has a suffix that Metal does not know"
        elif w.text in ("struct", "class") and i + 2 < len(words) and words[i + 2].text == ":":
            yield w.line, f"{w.text} {after} is derived from another"
        elif w.text == "[" and i + 1 < len(words) and (words[i - 1].text in ("=", "(", ",", "return") or after == "&"):
            yield w.line, "a lambda expression is not supported"
        elif w.kind == "string" and words[i - 2].text != "host_name":
            yield w.line, "text and character literals have no use in a kernel"


def _is_literal(text: str) -> bool:
    if _FLOATING.match(text):
        return bool(re.fullmatch(r"[\d.]+(?:[eE][+-]?\d+)?(?:|f|F|h|H|bf|BF)", text))
    if "p" in text.lower() and text[:2].lower() == "0x":
        return bool(re.fullmatch(r"0[xX][\da-fA-F.]+[pP][+-]?\d+(?:|f|F|h|H)", text))
    return bool(re.fullmatch(r"(?:0[xX][\da-fA-F]+|0[bB][01]+|\d+)(?:|[uU][lL]?|[lL][uU]?)", text))


def _attributes(words: Sequence[Token]) -> Faults:
    for i, w in enumerate(words):
        if w.text != "[[" or i + 1 == len(words) or words[i + 1].kind != "name":
            continue
        if words[i + 1].text not in _ATTRIBUTES:
            yield w.line, f"attribute {words[i + 1].text} is unknown"


def _type_names(words: Sequence[Token]) -> set[str]:
    """Types of the language and of the text, template parameters among them."""
    made = {words[i + 1].text for i, w in enumerate(words[:-1]) if w.text in ("struct", "class", "typename", "enum")}
    made |= {words[i + 1].text for i, w in enumerate(words[:-2]) if w.text == "using" and words[i + 2].text == "="}
    typedefs = (
        next((j for j in range(i, len(words)) if words[j].text == ";"), i)
        for i, w in enumerate(words)
        if w.text == "typedef"
    )
    return _TYPES | made | {words[end - 1].text for end in typedefs}


def _pointers(words: Sequence[Token]) -> Faults:
    """Pointers and references name the address space that they lead to."""
    types = _type_names(words)
    for i, w in enumerate(words):
        if w.text not in ("*", "&") or not i:
            continue
        at = i - 1
        while at and words[at].text == "const":
            at -= 1
        if words[at].text == ">":
            at = _opening(words, at) - 1
        if at < 0 or (
            words[at].text not in (*types, "vec", "auto", "atomic", "simdgroup_matrix") or words[at].kind != "name"
        ):
            continue
        if words[at].text == "auto" and w.text == "*":
            continue
        start = at
        while start and words[start - 1].text in ("const", "volatile", "::", "metal", *SPACES, "struct", "typename"):
            start -= 1
        if not any(words[j].text in SPACES for j in range(start, i)):
            kind = "pointer" if w.text == "*" else "reference"
            yield w.line, f"a {kind} to {words[at].text} does not say its address space"
        if i + 1 < len(words) and words[i + 1].text == "*":
            yield w.line, "a pointer to a pointer"


def _opening(words: Sequence[Token], at: int) -> int:
    """Where the angle that closes at a place opens."""
    depth = 0
    for i in range(at, -1, -1):
        depth += (words[i].text == ">") - (words[i].text == "<")
        if not depth:
            return i
    return 0


def _program_scope(words: Sequence[Token]) -> Faults:
    """Variables outside of functions are constants of the address space `constant`."""
    i = 0
    while i < len(words):
        start = i
        while i < len(words) and words[i].text not in (";", "{", "("):
            i += 1
        head = [w.text for w in words[start:i]]
        if i < len(words) and words[i].text == "(" and "=" not in head:  # a function, or an attribute before one
            i = closing(words, i)
            while (
                i < len(words) and words[i].text not in ("{", ";") and words[i].text != "[[" and words[i].kind != "name"
            ):
                i += 1
            if i < len(words) and words[i].text not in ("{", ";"):
                continue
        elif head and not {
            "using",
            "typedef",
            "struct",
            "class",
            "enum",
            "template",
            "constant",
            "namespace",
            "static_assert",
        } & {*head}:
            yield (
                words[start].line,
                f"variable {next((w for w in head if w not in _TYPES), head[0])} at program scope is not constant",
            )
        if i < len(words) and words[i].text == "{" and head[:1] != ["namespace"]:
            i = closing(words, i)
        i += 1


@cache
def _vocabulary() -> frozenset[str]:
    """Names that our headers have."""
    text = "".join(p.read_text(encoding="utf-8") for p in sorted(HOST.glob("host_*.h")))
    generated = (
        f"{kind}_{n}" for kind in ("simd", "quad") for n in ("sum", "product", "min", "max", "and", "or", "xor")
    )
    prefixes = (f"simd_prefix_{how}_{n}" for how in ("inclusive", "exclusive") for n in ("sum", "product"))
    atomics = (
        f"atomic_{n}_explicit"
        for n in ("exchange", *(f"fetch_{o}" for o in ("add", "sub", "min", "max", "and", "or", "xor")))
    )
    names = {n for n in re.findall(r"[A-Za-z_]\w*", text) if not n.startswith(("host", "__"))}
    return frozenset({*names, *generated, *prefixes, *atomics, *_TYPES})


def _bodies(words: Sequence[Token]) -> Faults:
    """What functions call and declare."""
    made = functions(words)
    known = {
        *_vocabulary(),
        *_type_names(words),
        *made,
        "if",
        "for",
        "while",
        "switch",
        "return",
        "sizeof",
        "alignof",
        "static_assert",
    }
    known |= {"decltype", "operator", "static_cast", "reinterpret_cast", "const_cast", "alignas"}
    calls: dict[str, set[str]] = {}
    for name, bodies in made.items():
        for body in bodies:
            for i, w in enumerate(body):
                before = body[i - 1].text if i else ""
                after = body[i + 1].text if i + 1 < len(body) else ""
                if w.kind == "name" and after == "(" and before not in (".", "->"):
                    calls.setdefault(name, set()).add(w.text)
                    is_declared = (
                        i and (body[i - 1].kind == "name" or before == ">") and before not in ("return", "else", "case")
                    )
                    if w.text not in known and not is_declared:
                        yield w.line, f"function {w.text} is unknown"
                if w.text == "threadgroup" and before != "[[" and _declares(body, i):
                    yield w.line, "threadgroup memory comes as a parameter of the kernel"
    for name, bodies in made.items():
        if _reaches(calls, name) and bodies[0]:
            yield bodies[0][0].line, f"function {name} calls itself"


def _declares(body: Sequence[Token], i: int) -> bool:
    """Whether the word at a place begins a variable, rather than a pointer or a cast."""
    for w in body[i:]:
        if w.text in ("*", "&", ")"):
            return False
        if w.text in (";", "[", "="):
            return True
    return False


def _reaches(calls: dict[str, set[str]], name: str) -> bool:
    seen: set[str] = set()
    left = [*calls.get(name, ())]
    while left:
        at = left.pop()
        if at == name:
            return True
        if at not in seen:
            seen.add(at)
            left += calls.get(at, ())
    return False


def _kernel(k: KernelText) -> Faults:
    """What the signature of a kernel may not be."""
    if k.returns != "void":
        yield k.line, f"kernel {k.name} returns {k.returns}, not void"
    for kind in ("buffer", "threadgroup"):
        taken = [p.slot for p in k.parameters if p.attribute == kind]
        if len({*taken}) != len(taken):
            yield k.line, f"kernel {k.name} has one {kind} index twice"
        if any(not 0 <= n < BUFFERS for n in taken):
            yield k.line, f"kernel {k.name} has a {kind} index beyond {BUFFERS - 1}"
    for p in k.parameters:
        wanted = {"buffer": ("device", "constant"), "threadgroup": ("threadgroup",)}.get(p.attribute, ("",))
        if not p.attribute:
            yield p.line, f"parameter {p.name} of kernel {k.name} has no attribute"
        elif p.space not in wanted:
            yield p.line, f"parameter {p.name} of kernel {k.name} is no {' or '.join(wanted) or 'number'}"
