"""Plans of dispatches: one of three layers, and any that there could be, with names that mean harm; and what a plan or
a source made of it says of its buffers and dispatches, in the same form."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.targets.metal_parse import Call, nodes, objc_table, swift_calls, swift_constants, text

if TYPE_CHECKING:
    from tree_sitter import Node

HOSTILE = [
    'a"; exit(1); //', "*/ int main() {", "/* ", "line\nbreak", "back\\", "\\(1 + 1)", "??/", "名前", "\U0001f600", "",
    " ", "self", "init", "Type", "default", "kernel", "id", "nil", "YES", "in", "0", "%s %@", "`x`", "a|b", "<b>", "\0",
    "x" * 300,
    "a.b", "a/b", "a_b", "A_B", "at", "offset", "values", "dispatches", "\u2028", "\x1b[0m", "#if", "${x}", "{{ x }}",
]  # fmt: skip
WIDTHS = {"float": 4, "half": 2, "int": 4, "long": 8, "bool8_t": 1, "uchar": 1}

PLAN: dict[str, Any] = {
    "version": 1,
    "name": "three_layers",
    "title": "three layers",
    "precision": "fp16",
    "family": "apple7",
    "heap": {"nbytes": 4096, "alignment": 256},
    "weights": {"file": "weights.bin", "nbytes": 16384},
    "buffers": [
        {"name": "image", "place": "input", "offset": 0, "nbytes": 3072, "note": "f32[1,3,16,16]"},
        {"name": "conv", "place": "heap", "offset": 256, "nbytes": 2048, "note": "f16[1,8,16,16], channels last"},
        {"name": "conv.weight", "place": "weights", "offset": 0, "nbytes": 432, "note": "f16[8,3,3,3]"},
        {"name": "conv.bias", "place": "weights", "offset": 512, "nbytes": 16, "note": "f16[8]"},
        {"name": "scores", "place": "output", "offset": 0, "nbytes": 32, "note": "f32[1,8]"},
        {"name": "kept", "place": "output", "offset": 0, "nbytes": 128, "note": "s64[2,8]"},
        {"name": "kept_sizes", "place": "output", "offset": 0, "nbytes": 16, "note": "s64[2]"},
    ],
    "inputs": [{"name": "image", "buffer": "image", "type": "float", "shape": [1, 3, 16, 16]}],
    "outputs": [
        {"name": "scores", "buffer": "scores", "type": "float", "shape": [1, 8]},
        {"name": "kept", "buffer": "kept", "type": "long", "shape": [2, 8], "sizes": "kept_sizes"},
    ],
    "dispatches": [
        {
            "kernel": "conv_64x32",
            "title": "3x3 convolution, 3 to 8 channels",
            "origin": "Conv_0, Relu_1",
            "threadgroups": [4, 1, 1],
            "threads": [128, 1, 1],
            "buffers": [{"buffer": b, "offset": 0} for b in ("image", "conv.weight", "conv.bias", "conv")],
            "numbers": [
                {"name": "m", "type": "uint", "value": 256},
                {"name": "n", "type": "uint", "value": 8},
                {"name": "first", "type": "int", "value": -1},
                {"name": "least", "type": "float", "value": 0.0},
            ],
            "threadgroup_memory": [2048, 1024],
            "barrier": False,
        },
        {
            "kernel": "mean_columns",
            "title": "mean over 256 rows",
            "origin": "GlobalAveragePool_2",
            "threadgroups": [1, 8, 1],
            "threads": [32, 1, 1],
            "buffers": [{"buffer": "conv", "offset": 16}, {"buffer": "scores", "offset": 0}],
            "numbers": [{"name": "scale", "type": "float", "value": 1 / 256}],
            "barrier": True,
        },
        {
            "kernel": "nonzero",
            "title": "places of what is not 0",
            "origin": "NonZero_3",
            "threadgroups": [1, 1, 1],
            "threads": [32, 1, 1],
            "buffers": [{"buffer": b, "offset": 0} for b in ("scores", "kept", "kept_sizes")],
            "barrier": True,
        },
    ],
}


def slots(plan: dict[str, Any], side: str) -> dict[str, int]:
    """The caller's buffers by the names that the plan gives them: results, then lengths of those that need them."""
    rows = plan[side]
    names = [r["buffer"] for r in rows] + [r["sizes"] for r in rows if r.get("sizes")]
    return {name: index for index, name in enumerate(names)}


def places(plan: dict[str, Any]) -> dict[str, tuple[str, int, int, int]]:
    """Place, slot, offset and length of every buffer."""
    by_side = {"input": slots(plan, "inputs"), "output": slots(plan, "outputs")}
    return {
        b["name"]: (b["place"], by_side.get(b["place"], {}).get(b["name"], 0), b["offset"], b["nbytes"])
        for b in plan["buffers"]
    }


def pattern(kind: str, value: float) -> int:
    form = {"uint": "I", "int": "i", "float": "f"}[kind]
    return int(struct.unpack("I", struct.pack(form, value))[0])


def dispatches(plan: dict[str, Any]) -> list[tuple[object, ...]]:
    """What is to be in the tables of the sources, with offsets within places."""
    where = places(plan)

    def argument(b: dict[str, Any]) -> tuple[str, int, int]:
        place, slot, offset, _ = where[b["buffer"]]
        return place, slot, offset + b["offset"]

    return [
        (
            d["kernel"],
            d["threadgroups"],
            d["threads"],
            [argument(b) for b in d["buffers"]],
            [pattern(n["type"], n["value"]) for n in d.get("numbers", [])],
            d.get("threadgroup_memory", []),
            d["barrier"],
        )
        for d in plan["dispatches"]
    ]


def ports(plan: dict[str, Any], side: str) -> list[list[object]]:
    where, found = places(plan), slots(plan, side)
    rows: list[list[object]] = [
        [
            r["name"],
            r["type"].replace("bool8_t", "bool"),
            r["shape"],
            WIDTHS[r["type"]],
            where[r["buffer"]][3],
            found.get(r.get("sizes")),
        ]
        for r in plan[side]
    ]
    return rows + [
        [f"sizes of {r['name']}", "long", [len(r["shape"])], 8, where[r["sizes"]][3], None]
        for r in plan[side]
        if r.get("sizes")
    ]


def swift_values(root: Node) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for name, call in swift_constants(root, "Value").items():
        place = call.of("")
        assert isinstance(place, Call)
        slot = place.arguments[0][1] if place.arguments else 0
        found[name] = (place.function, slot, call.of("offset"), call.of("nbytes"))
    return found


def swift_dispatches(root: Node) -> list[tuple[object, ...]]:
    values = swift_values(root)
    rows = []
    for call in swift_calls(root, "step"):
        plain = [value for label, value in call.arguments if not label]
        assert isinstance(plain[1], list)
        arguments = []
        for a in plain[1]:
            assert isinstance(a, Call)
            place, slot, offset, _ = values[a.function.removesuffix(".at")]
            assert isinstance(offset, int)
            skipped = a.of("", 0)
            assert isinstance(skipped, int)
            arguments.append((place, slot, offset + skipped))
        row = [call.of("grid"), call.of("threads"), arguments, call.of("numbers", []), call.of("memory", [])]
        rows.append((plain[0], *row, call.of("barrier", False)))
    return rows


def objc_dispatches(root: Node, plan: dict[str, Any]) -> list[tuple[object, ...]]:
    names = [text(n.named_children[0]) for n in nodes(root) if n.type == "enumerator"]
    names = [n for n in names if not n.startswith("Place")]
    values, rows = objc_table(root, "values"), objc_table(root, "dispatches")
    assert isinstance(values, list) and isinstance(rows, list) and len(names) == len(values) == len(set(names))
    by_name = {n: (v[0].removeprefix("Place").lower(), *v[1:]) for n, v in zip(names, values, strict=True)}
    assert list(by_name.values()) == list(places(plan).values())
    found: list[tuple[object, ...]] = []
    for kernel, grid, threads, n, buffers, m, numbers, k, memory, barrier in rows[: len(plan["dispatches"])]:
        assert (n, m, k) == (len(buffers), len(numbers), len(memory))
        arguments = [(by_name[b][0], by_name[b][1], by_name[b][2] + skipped) for b, skipped in buffers]
        found.append((kernel, grid, threads, arguments, numbers, memory, barrier))
    return found


names = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
numbers = st.one_of(
    st.builds(lambda v: {"name": "n", "type": "uint", "value": v}, st.integers(0, 2**32 - 1)),
    st.builds(lambda v: {"name": "i", "type": "int", "value": v}, st.integers(-(2**31), 2**31 - 1)),
    st.builds(lambda v: {"name": "f", "type": "float", "value": v}, st.floats(width=32, allow_nan=False)),
)
triples = st.lists(st.integers(1, 2**20), min_size=3, max_size=3)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Plans of any form, with names that mean harm."""
    called = draw(st.lists(names, min_size=3, max_size=9, unique=True))
    inputs, outputs = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    buffers: list[dict[str, Any]] = []
    given_: dict[str, list[dict[str, Any]]] = {"input": [], "output": []}
    for index, name in enumerate(called):
        place = (
            "input"
            if index < inputs
            else "output"
            if index < inputs + outputs
            else draw(st.sampled_from(("heap", "weights")))
        )
        kind, shape = draw(st.sampled_from(sorted(WIDTHS))), draw(st.lists(st.integers(0, 5), max_size=3))
        nbytes = math.prod(shape) * WIDTHS[kind]
        offset = 0 if place in given_ else draw(st.integers(0, 30)) * 256
        buffers.append({"name": name, "place": place, "offset": offset, "nbytes": nbytes, "note": draw(names)})
        if place in given_:
            given_[place].append({"name": draw(names), "buffer": name, "type": kind, "shape": shape})
    if draw(st.booleans()):
        buffers.append(
            {"name": "the sizes", "place": "output", "offset": 0, "nbytes": 8 * len(given_["output"][0]["shape"])}
        )
        given_["output"][0]["sizes"] = "the sizes"
    arguments = st.builds(
        lambda b, o: {"buffer": b, "offset": o}, st.sampled_from([b["name"] for b in buffers]), st.integers(0, 64)
    )
    steps = st.fixed_dictionaries(
        {
            "kernel": st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True),
            "title": names,
            "origin": names,
            "threadgroups": triples,
            "threads": triples,
            "buffers": st.lists(arguments, max_size=9),
            "barrier": st.booleans(),
        },
        optional={
            "numbers": st.lists(numbers, max_size=40),
            "threadgroup_memory": st.lists(st.integers(0, 2048), max_size=3),
        },
    )
    return {
        "version": 1,
        "name": draw(names),
        "title": draw(names),
        "precision": "fp32",
        "family": draw(st.sampled_from(("apple7", "apple10", ""))),
        "heap": {"nbytes": 16384, "alignment": 256},
        "weights": {"file": draw(names), "nbytes": 16384},
        "buffers": buffers,
        "inputs": given_["input"],
        "outputs": given_["output"],
        "dispatches": draw(st.lists(steps, max_size=4)),
    }
