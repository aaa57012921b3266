"""Names and comments of generated sources survive whatever a model calls its tensors."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from codegen.names import KEYWORDS, comment, identifier, string, unrepeated
from codegen.schedule import folded


@given(st.text())
def test_identifier_is_one_and_no_keyword(text: str) -> None:
    found = identifier(text)
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", found)
    assert found not in KEYWORDS
    assert "__" not in found.strip("_")


@given(st.lists(st.sampled_from(["a", "A", "a.", "int", "", "7", "é", "a_2"]), max_size=12))
def test_identifiers_are_unique(texts: list[str]) -> None:
    taken: set[str] = set()
    for text in texts:
        found = identifier(text, taken)
        assert found not in taken
        taken.add(found)


def test_identifier_keeps_what_it_can() -> None:
    assert identifier("block.3/Conv_output:0") == "block_3_conv_output_0"
    assert identifier("while") == "v_while"
    assert identifier("*/") == "v"
    assert identifier("x", {"x", "x_2"}) == "x_3"


@given(st.text())
def test_comment_stays_inside(text: str) -> None:
    found = comment(text)
    assert found.isascii() and (found.isprintable() or not found)
    assert "*/" not in found and "/*" not in found and "??" not in found
    assert not found.endswith("\\")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_string_is_the_text(text: str) -> None:
    literal = string(text)
    assert literal.isascii() and '"' not in literal[1:-1] and "??" not in literal
    read = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), literal[1:-1].encode())
    assert read.decode() == text


def test_paths_without_what_the_next_folder_says_too() -> None:
    assert unrepeated("/features/features.3/conv/conv.1/conv.1.0/Conv_output_0") == "/features.3/conv.1.0/Conv_output_0"
    assert unrepeated("a/a") == "a"
    assert [unrepeated(p) for p in ("", "/", "x", "a/b", "b/a/b")] == ["", "/", "x", "a/b", "b/a/b"]


def test_paths_whose_folders_are_written_once() -> None:
    assert folded("/f/c.1/c.1.0/Conv, /f/c.1/c.1.2/Clip, /f/c.1/Add") == "/f/c.1/{c.1.0/Conv, c.1.2/Clip, Add}"
    assert [folded(n) for n in ("block/one", "a, b", "a/b, a/c", "long/x, y")] == [
        "block/one", "a, b", "a/b, a/c", "long/x, y"
    ]  # fmt: skip
