"""Swift and Objective-C sources as trees, and what their tables say, read out of the trees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import tree_sitter_objc
import tree_sitter_swift
from tree_sitter import Language, Node, Parser

GRAMMARS = {"swift": tree_sitter_swift.language, "h": tree_sitter_objc.language, "mm": tree_sitter_objc.language}


class Call(NamedTuple):
    """What is called, without what stands before a dot, and with what; labels are "" where there is none."""

    function: str
    arguments: list[tuple[str, object]]

    def of(self, label: str, default: object = None) -> object:
        return dict(self.arguments).get(label, default)


@cache
def parser(suffix: str) -> Parser:
    return Parser(Language(GRAMMARS[suffix]()))


def parsed(name: str, text: str) -> Node:
    """The root of a file's tree."""
    return parser(name.rpartition(".")[2]).parse(text.encode()).root_node


def nodes(root: Node) -> Iterator[Node]:
    """All of them, a node before its children."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def text(node: Node | None) -> str:
    """Its part of the source."""
    assert node is not None and node.text is not None
    return node.text.decode()


def faults(root: Node) -> list[str]:
    """What the parser could not read, or had to add."""
    return [f"{n.start_point}: {n.type} {text(n)[:60]!r}" for n in nodes(root) if n.is_error or n.is_missing]


def swift(node: Node) -> object:
    """An expression of literals, members and calls."""
    named = node.named_children
    match node.type:
        case "integer_literal" | "hex_literal":
            return int(text(node), 0)
        case "boolean_literal":
            return text(node) == "true"
        case "line_string_literal":
            plain = text(node)[1:-1]
            assert not re.search(r"\\(?!u\{)", plain)
            return re.sub(r"\\u\{([0-9A-F]+)\}", lambda m: chr(int(m[1], 16)), plain)
        case "array_literal" | "tuple_expression":
            return [swift(n) for n in named]
        case "prefix_expression":
            assert text(node).startswith(".")
            return Call(text(node)[1:], [])
        case "call_expression":
            return _call(node)
    raise AssertionError(f"{node.type}: {text(node)}")


def _call(node: Node) -> Call:
    function, suffix = node.named_children
    return Call(text(function).lstrip("."), [_labelled(v) for v in suffix.named_children[0].named_children])


def _labelled(node: Node) -> tuple[str, object]:
    parts = node.named_children
    return (text(parts[0]), swift(parts[1])) if len(parts) == 2 else ("", swift(parts[0]))


def swift_calls(root: Node, function: str) -> list[Call]:
    """The calls of a function, in order."""
    found = [n for n in nodes(root) if n.type == "call_expression" and text(n.named_children[0]) == function]
    return [_call(node) for node in found]


def swift_constants(root: Node, function: str) -> dict[str, Call]:
    """What is given to names by calls of a function."""
    found = {}
    for node in nodes(root):
        if node.type == "property_declaration" and node.named_children[-1].type == "call_expression":
            call = node.named_children[-1]
            names = [text(n) for n in node.named_children if n.type == "pattern"]
            if text(call.named_children[0]) == function:
                assert len(names) == 1 and names[0] not in found
                found[names[0]] = _call(call)
    return found


def objc(node: Node) -> object:
    """A constant expression, list or call."""
    named = [n for n in node.named_children if n.type != "comment"]
    match node.type:
        case "number_literal":
            return int(text(node), 0)
        case "true" | "false":
            return node.type == "true"
        case "string_literal":
            return objc_string(text(node).removeprefix("@"))
        case "initializer_list" | "array_literal":
            return [objc(n) for n in named]
        case "at_expression":
            return objc(named[0])
        case "identifier":
            return text(node)
        case "call_expression":
            return Call(text(named[0]), [("", objc(n)) for n in named[1].named_children])
    raise AssertionError(f"{node.type}: {text(node)}")


def objc_string(literal: str) -> str:
    """What a string literal with octal escapes holds."""
    content = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), literal[1:-1].encode())
    return content.decode()


def objc_table(root: Node, name: str) -> object:
    """The initial value of a variable."""
    for node in nodes(root):
        if node.type == "init_declarator" and re.match(rf"{name}\b", text(node)):
            return objc(node.named_children[-1])
    raise AssertionError(f"no {name}")
