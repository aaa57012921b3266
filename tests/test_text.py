"""Text is an exact inverse: of names, types, constants and attributes; broken text is refused with its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.errors import ParseError
from compiler.graph import Graph
from compiler.ops import Add, Clip, Identity
from compiler.tensor import DTYPES, F16, F32, I4, I8, Array, Block, Layout, Palette, QuantParams, TensorType, type_of
from compiler.text import constants_of, digest, load_constants, print_graph, save_constants
from compiler.text_parse import parse_graph
from tests.harness import assert_text_is_exact
from tests.onnx_models import same
from tests.strategies import HOSTILE
from tests.timing import assert_linear

NET = """graph "net"(%x: f32[1,3,8,8]) {
  %w = const normal(1) : f32[4,3,3,3]
  %c = conv(%x, %w) strides=(2, 2) pads=(1, 1, 1, 1) dilations=(1, 1) : f32[1,4,4,4]  from "Conv_8", "Pad_7"
  %y = clip(%c) low=0.0 high=6.0 : f32[1,4,4,4]  from "Clip_9"
  return %y as "features"
}
"""


def holding(data: Array) -> Graph:
    """A graph that gives a constant."""
    graph = Graph()
    graph.set_outputs([graph.const(data, "c")], ["c"])
    return graph


def returned(graph: Graph) -> Array:
    """The constant that a graph gives, by way of text."""
    data = parse_graph(print_graph(graph), constants_of(graph)).outputs[0].data
    assert data is not None
    return data


def test_a_graph_reads_as_it_is_documented() -> None:
    graph = parse_graph(NET)
    (weight,) = graph.constants
    assert weight.data is not None
    assert print_graph(graph) == NET.replace("normal(1)", f"#{digest(weight.data)}")
    conv, clip = graph.nodes
    assert conv.op.values()["strides"] == (2, 2) and clip.op == Clip(low=0.0, high=6.0)
    assert conv.origin == {"Conv_8", "Pad_7"} and graph.output_names == ["features"] and graph.name == "net"
    assert np.array_equal(weight.data, np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32))


def test_attributes_at_their_default_are_not_printed() -> None:
    text = "graph(%x: f32[2]) {\n %y = clip(%x) low=-inf high=inf : f32[2]\n return %y\n}"
    assert "%y = clip(%x) : f32[2]" in print_graph(parse_graph(text))


def test_constants_shared_by_layers_stay_shared() -> None:
    graph = Graph()
    x, c = graph.add_input(TensorType(F32, (2,)), "x"), graph.const(np.ones(2, np.float32))
    twin = graph.const(np.ones(2, np.float32))
    (a,) = graph.add(Add(), x, c)
    (b,) = graph.add(Add(), a, c)
    graph.set_outputs([*graph.add(Add(), b, twin)], ["y"])
    first, second, third = parse_graph(print_graph(graph)).nodes
    assert first.inputs[1] is second.inputs[1] and third.inputs[1] is not first.inputs[1]


def test_absent_operands_and_several_results() -> None:
    text = """graph(%x: f32[2,6], %size: f32[N]) {
  %a, %b = split(%x) axis=1 sizes=(2, 4) : f32[2,2], f32[2,4]
  return %a, %b, %a as "again"
}
"""
    graph = parse_graph(text)
    assert print_graph(graph).replace('graph "graph"', "graph") == text
    assert graph.outputs[0] is graph.outputs[2] and graph.outputs[0].n_out == 2
    rnn = """graph(%x: f32[5,1,3], %h: f32[1,1,4]) {
  %w = const splat(0.5) : f32[1,4,3]
  %r = const splat(0.25) : f32[1,4,4]
  %y, %last = rnn(%x, %w, %r, none, none, %h) functions=("Tanh",) : f32[5,1,1,4], f32[1,1,4]
  return %last
}"""
    graph = parse_graph(rnn)
    (node,) = graph.nodes
    assert node.inputs[3] is None and node.inputs[4] is None and node.inputs[5] is graph.inputs[1]
    assert_text_is_exact(graph)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_survive(name: str) -> None:
    graph = Graph(name)
    x = graph.add_input(TensorType(F32, (name or "N", 2)), name)
    graph.metadata = {name: name, "{": "}"}
    y, z = (graph.add(Identity(), v, origin=frozenset((name, name * 2)), names=[name])[0] for v in (x, x))
    graph.set_outputs([y, z], [name, name + "'"])
    assert_text_is_exact(graph)
    parsed = parse_graph(print_graph(graph))
    assert parsed.inputs[0].name == name and parsed.output_names == graph.output_names
    assert parsed.inputs[0].type == x.type and parsed.metadata == graph.metadata and parsed.name == name
    assert next(parsed.nodes).origin == {name, name * 2}


@given(name=st.text())
def test_any_text_is_a_name(name: str) -> None:
    test_hostile_names_survive(name)


def test_lone_surrogates_survive() -> None:
    test_hostile_names_survive("\udc80 \udcff")
    assert print_graph(holding(np.zeros(1))).isascii()


def test_equal_names_become_unique_and_inputs_keep_theirs() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, ()), "v")
    a = graph.add(Identity(), x)[0]
    b = graph.add(Identity(), a, names=["v"])[0]
    c = graph.add(Identity(), b, names=["v_1"])[0]
    graph.set_outputs([c], ["v"])
    text = print_graph(graph)
    assert "%v_1 = identity(%v)" in text and "%v_2 = identity(%v_1)" in text and "%v_1_1 = identity(%v_2)" in text
    assert 'return %v_1_1 as "v"' in text
    assert_text_is_exact(graph)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (3,), (4, 4), (5, 7)], ids=str)
def test_constants_of_every_type_and_size(dtype: object, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    kind = DTYPES[str(dtype)]
    size = int(np.prod(shape))
    if kind.kind == "s":
        words = [HOSTILE[i % len(HOSTILE)] for i in range(size)]
        data = np.array([*words, None], object)[:-1].reshape(shape)
    elif kind.bits < 8:
        data = rng.integers(0, 1 << kind.bits, size, np.uint8).view(kind.numpy).reshape(shape)
    elif kind.kind == "b":
        data = np.asarray(rng.integers(0, 2, shape) > 0)
    else:
        data = rng.integers(0, 256, size * kind.bits // 8, np.uint8).view(kind.numpy).reshape(shape)
    back = returned(holding(data))
    assert type_of(back) == type_of(data) and same(back, data)


@pytest.mark.parametrize("name", ["f16", "f32", "f64", "bf16", "f8e5m2", "f8e4m3fn"])
def test_special_values_keep_their_bits(name: str) -> None:
    dtype = DTYPES[name].numpy
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 3.0e4, 0.1]).astype(dtype)
    assert returned(holding(special)).tobytes() == special.tobytes()
    for value in special:
        splat = np.full((3, 11), value, dtype)
        assert "splat" in print_graph(holding(splat)) and returned(holding(splat)).tobytes() == splat.tobytes()
    zeros = np.array([0.0, -0.0] * 20).astype(dtype)
    assert "splat" not in print_graph(holding(zeros)) and returned(holding(zeros)).tobytes() == zeros.tobytes()


@pytest.mark.parametrize("name", ["f16", "bf16", "f8e5m2", "f8e4m3fn", "f8e5m2fnuz", "f8e4m3fnuz", "f8e8m0", "f4e2m1"])
def test_every_bit_pattern_survives(name: str) -> None:
    """Of 16-bit types, every 16th and its neighbour."""
    dtype = DTYPES[name]
    count = 1 << dtype.bits
    chosen = [i for i in range(count) if i % 16 < 2 or count < 1000]
    patterns = np.array(chosen, np.uint16 if dtype.bits == 16 else np.uint8)
    for start in range(0, len(patterns), 16):
        data = patterns[start : start + 16].view(dtype.numpy)
        text = print_graph(holding(data))
        assert "#" not in text and returned(holding(data)).tobytes() == data.tobytes()


@given(value=st.floats(width=32), other=st.floats())
def test_every_number_survives(value: float, other: float) -> None:
    for data in (np.array([value], np.float32), np.array([other, 1.0]), np.array([value, other], np.complex128)):
        assert returned(holding(data)).tobytes() == data.tobytes()


def test_extreme_integers_survive() -> None:
    for name in ("i64", "u64", "i8", "u32"):
        limits = np.iinfo(DTYPES[name].numpy)
        data = np.array([limits.min, limits.max, 0], DTYPES[name].numpy)
        assert np.array_equal(returned(holding(data)), data)


def test_annotations_survive() -> None:
    per_channel = QuantParams((0.5, 0.1 + 0.2), (0, -3), 1, I8)
    annotated = TensorType(I8, ("batch", 2), per_channel, Layout((0, 2, 3, 1), 4))
    graph = Graph()
    x = graph.add_input(annotated, "x")
    (y,) = graph.add(Identity(), x)
    y.type = annotated._replace(layout=Layout((1, 0)))
    c = graph.const(np.zeros(3, np.int8))
    c.type = c.type._replace(quant=QuantParams((0.25,), (0,), None, I8))
    blocks, table, tables = (graph.const(np.full((2, 4), i, np.float32)) for i in range(3))
    blocks.type = blocks.type._replace(quant=QuantParams((0.1,) * 4, (0,) * 4, 0, I4, Block(1, 2)))
    table.type = table.type._replace(palette=Palette(((-1.5, 0.1 + 0.2),)))
    tables.type = tables.type._replace(palette=Palette(((-1.0, 0.0), (0.5, 2.0)), 0))
    outputs = [y, c, blocks, table, tables]
    graph.set_outputs(outputs, [f"y{i}" for i in range(5)])
    assert_text_is_exact(graph)
    parsed = parse_graph(print_graph(graph))
    assert parsed.inputs[0].type == annotated and [v.type for v in parsed.outputs] == [v.type for v in outputs]


def test_large_constants_live_beside_the_text(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = Graph()
    arrays = [
        rng.standard_normal((5, 7)).astype(np.float32),
        rng.standard_normal((3, 9)).astype(F16.numpy),
        rng.standard_normal((3, 9)).astype(DTYPES["bf16"].numpy),
        rng.integers(-8, 8, (3, 9)).astype(DTYPES["i4"].numpy),
        np.array([f"word {i} é\n" for i in range(20)], object),
        rng.standard_normal(40).astype(np.complex64),
        rng.standard_normal((40, 3))[::2],
        np.broadcast_to(np.arange(5, dtype=np.int32), (4, 5)),
    ]
    graph.set_outputs([graph.const(a) for a in arrays], [f"c{i}" for i in range(len(arrays))])
    path = tmp_path / "constants.npz"
    save_constants(graph, path)
    parsed = parse_graph(print_graph(graph), load_constants(path))
    for v, a in zip(parsed.outputs, arrays, strict=True):
        assert v.data is not None and type_of(v.data) == type_of(a) and same(v.data, a)
    assert print_graph(parsed) == print_graph(graph)


def test_small_graphs_write_no_constants(tmp_path: Path) -> None:
    save_constants(holding(np.zeros(100)), tmp_path / "none.npz")
    assert not (tmp_path / "none.npz").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not a zip", b"\x93NUMPY\1\0"], ids=["empty", "zip", "npy"])
def test_files_that_hold_no_constants_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ParseError, match="cannot be read from"):
        load_constants(path)


def test_wrong_data_for_a_digest_is_refused(rng: np.random.Generator) -> None:
    graph = holding(rng.standard_normal((5, 7)))
    (name,) = constants_of(graph)
    with pytest.raises(ParseError, match=r"line 2: the data of constant #.* is not given"):
        parse_graph(print_graph(graph))
    for wrong in (np.zeros((5, 7)), np.zeros((7, 5)), np.zeros(3), np.zeros((5, 7), np.int8)):
        with pytest.raises(ParseError, match="line 2"):
            parse_graph(print_graph(graph), {name: wrong})


HEAD = "graph(%x: f32[2,3]) {\n"
BROKEN = {
    "": "line 1: expected 'graph', at the end",
    "graph": "line 1: expected '(', at the end",
    "graph(x: f32[1])": "line 1: expected a name such as %x, at 'x'",
    "graph(%x f32[1])": "line 1: expected ':', at 'f32'",
    "graph(%x: f33[1])": "line 1: expected a type such as f32[1,3], at 'f33'",
    "graph(%x: f32[1.5])": "line 1: expected a dimension: a number or a name, at '1.5'",
    "graph(%x: f32[-1])": "line 1: expected a dimension",
    "graph(%x: f32[1": "line 1: expected ']', at the end",
    "graph(%x: f32[1]@colour(1))": "line 1: there is no annotation 'colour'",
    "graph(%x: f32[1]@quant(1))": "line 1: this cannot be read",
    "graph(%x: f32[1]@palette(1, 2, 3))": "line 1: this cannot be read",
    "graph(%x: f32[1], %x: f32[1]) {": "line 1: %x is defined twice",
    'graph(%"x: f32[1]) {': "line 1: expected a string in double quotes",
    HEAD: "line 1: expected a name such as %x, at the end",
    HEAD + "\n\n return %y\n}": "line 4: %y is not defined, at '%y'",
    HEAD + " return %x\n} more": "line 3: expected the end of the text, at 'more'",
    HEAD + " return %x\n": "line 2: expected '}', at the end",
    HEAD + " %y relu(%x)": "line 2: expected '=', at 'relu'",
    HEAD + " %y = reelu(%x) : f32[2,3]": "line 2: there is no operation of this name, at 'reelu'",
    HEAD + " %y = relu(%z) : f32[2,3]": "line 2: %z is not defined",
    HEAD + " %y = relu(%x) : f32[3,2]\n return %y\n}": "line 2: %y is declared f32[3,2], inference gives f32[2,3]",
    HEAD + " %y = relu(%x) : f16[2,3]\n return %y\n}": "line 2: %y is declared f16[2,3], inference gives f32[2,3]",
    HEAD + " %y = relu(%x)\n return %y\n}": "line 3: expected '=', at '%y'",
    HEAD + " %y = relu(%x, %x) : f32[2,3]\n return %y": "line 2: relu does not take 2 operands",
    HEAD + " %y = relu(%x) slope=1 : f32[2,3]\n return %y": "line 2: relu does not take these attributes",
    HEAD + " %y = clip(%x) low=zero : f32[2,3]": "line 2: expected a number, a string in double quotes",
    HEAD + " %y = clip(%x) low=(1 2) : f32[2,3]": "line 2: expected ')', at '2'",
    HEAD + " %y = transpose(%x) perm=(0, 5) : f32[2,3]\n return": "line 2: transpose: ",
    HEAD + " %y = transpose(%x) perm=1 : f32[2,3]\n return": "line 2: transpose does not take",
    HEAD + " %y, %z = relu(%x) : f32[2,3]\n return %y": "line 2: relu has 1 results, but 2 are named and 1 have a type",
    HEAD + " %y = relu(%x) : f32[2,3], f32[1]\n return %y\n}": "line 2: relu has 1 results, but 1 are named and 2",
    HEAD + " %x = relu(%x) : f32[2,3]\n return %y": "line 2: %x is defined twice",
    HEAD + " %c = const 3 : f32[]\n return %y": "line 2: expected constant data",
    HEAD + " %c = const [1, 2] : f32[3]\n return %c": "line 2: 2 elements are given for f32[3]",
    HEAD + " %c = const [300] : u8[1]\n return %c": "line 2: not every element is one of u8",
    HEAD + " %c = const [1.5] : i64[1]\n return %c": "line 2: not every element is one of i64",
    HEAD + ' %c = const ["a"] : f32[1]\n return %c': "line 2: not every element is one of f32",
    HEAD + " %c = const [1] : str[1]\n return %c": "line 2: not every element is one of str",
    HEAD + " %c = const splat(1, 2) : f32[3]\n return %c": "line 2: splat takes one value",
    HEAD
    + " %c = const normal(1) : f32[99999,99999]\n return %c": "line 2: a constant of 9999800001 elements is too large",
    HEAD + " %c = const splat(1) : f32[N]\n return %c": "line 2: dimension 'N' is not bound",
    HEAD + f" %y = clip(%x) low={'(' * 10000}": "line 2: parentheses are nested too deeply",
    HEAD + " return %x as y\n}": "line 2: expected a string in double quotes",
    HEAD.replace("{", '{"a": 1} {') + " return %x\n}": "line 1: expected a string in double quotes",
}


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: repr(text[-30:]))
def test_broken_text_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ParseError) as e:
        parse_graph(text)
    assert str(e.value).startswith(BROKEN[text]) and "\n" not in e.value.message


@given(cut=st.integers(0, len(NET) - 3), insert=st.text(alphabet='%"(){}[],:=@# \n0xgf\\', max_size=3))
def test_damaged_text_is_read_or_refused(cut: int, insert: str) -> None:
    for damaged in (NET[:cut] + insert + NET[cut + 1 :], NET[:cut] + insert):
        with suppress(ParseError):
            parse_graph(damaged).verify()


def test_damage_cannot_make_reading_slow() -> None:
    started = time.process_time()
    for text in ('\\"' * 50_000, '"' * 50_001, "%" * 50_000, '%"' * 50_000, "(" * 50_000):
        with pytest.raises(ParseError):
            parse_graph(HEAD + " %y = relu(%x) a=" + text)
    assert time.process_time() - started < 5


def test_cost_is_linear() -> None:
    def prepare(layers: int) -> Callable[[], object]:
        graph = Graph()
        x = graph.add_input(TensorType(F32, (1, 8)), "x")
        c = graph.const(np.arange(8, dtype=np.float32))
        for i in range(layers):
            (x,) = graph.add(Add(), x, c, origin=frozenset((f"n{i}",)))
        graph.set_outputs([x], ["y"])
        return lambda: parse_graph(print_graph(graph))

    assert_linear(prepare, 1000)
