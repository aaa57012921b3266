"""Names with quotes, newlines and letters of all kinds survive; those that ONNX does not allow are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.api import compile_model, load
from compiler.errors import OnnxError
from compiler.onnx_export import export_bytes
from tests.command import build, info, node

X, Y = info("x", [2, 3]), info("y", [2, 3])
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


# -- names -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    'quo"te',
    "apo'strophe",
    "new\nline",
    "λ é 名",
    "a b",
    "x:0",
    "/layer/Conv",
    "\u2028",
    "%x",
    "\x1b[31m",
    "constant",
    "0",
    "return",
]


def hostile() -> onnx.ModelProto:
    """One Relu for each name, in a chain, whose nodes, inputs and outputs have such names."""
    nodes = [helper.make_node("Relu", [f"in {name}"], [name], f"node {name}") for name in HOSTILE]
    model = build(nodes, [info(f"in {n}", [2, 3]) for n in HOSTILE], [info(n, [2, 3]) for n in HOSTILE])
    model.metadata_props.add(key='k"\n', value="ü\n")
    return model


@pytest.mark.parametrize("target", ["onnx", "ane", "nnapi"])
def test_hostile_names_survive(target: str, tmp_path: Path) -> None:
    """`run` takes and gives the names of the model, also where the artifact cannot have them."""
    compiled = compile_model(hostile(), target, tmp_path / "o.x")
    feeds = {f"in {n}": ROWS - i for i, n in enumerate(HOSTILE)}
    result = compiled.run(feeds)
    assert list(result) == HOSTILE
    for i, array in enumerate(result.values()):
        np.testing.assert_array_equal(array, np.maximum(ROWS - i, 0))
    if target == "onnx":
        again = onnx.load(tmp_path / "o.x")
        onnx.checker.check_model(again, full_check=True)
        assert [i.name for i in again.graph.input] == list(feeds)
        assert [o.name for o in again.graph.output] == HOSTILE
        assert [n.name for n in again.graph.node] == [f"node {n}" for n in HOSTILE]
        assert [(p.key, p.value) for p in again.metadata_props] == [('k"\n', "ü\n")]


def renamed(old: bytes, new: bytes) -> bytes:
    """A model in whose bytes a name is replaced by another of the same length."""
    model = build(
        [node("Relu", "xxxx", "wwww"), node("Relu", "wwww", "yyyy")], [info("xxxx", [2])], [info("yyyy", [2])]
    )
    model.metadata_props.add(key="kkkk", value="vvvv")
    model.graph.name = "gggg"
    return model.SerializeToString().replace(old, new)


@pytest.mark.parametrize("name", [b"xxxx", b"wwww", b"yyyy", b"wwww_node", b"kkkk", b"vvvv", b"gggg", b"Relu"])
def test_names_that_are_not_utf8(name: bytes) -> None:
    data = renamed(name, b"\xff\xfe" + name[2:])
    with pytest.raises(OnnxError) as caught:
        load(data)
    assert "xff" in str(caught.value) and ("not UTF-8" in str(caught.value) or name == b"Relu")


def test_names_with_nul() -> None:
    with pytest.raises(OnnxError, match="holds a NUL character"):
        load(renamed(b"wwww", b"\0ere"))


def test_metadata_is_kept() -> None:
    model = build([node("Relu", "x", "y")], [X], [Y], doc_string="What it does.", domain="org.example", model_version=7)
    model.metadata_props.add(key="author", value="A. N. Other")
    model.metadata_props.add(key="empty", value="")
    graph = load(model)
    again = onnx.load_from_string(export_bytes(graph))
    assert (again.doc_string, again.domain, again.model_version) == ("What it does.", "org.example", 7)
    assert {p.key: p.value for p in again.metadata_props} == {"author": "A. N. Other", "empty": ""}
    assert again.producer_name == "cincel" and again.graph.name == "g"
