"""The Swift and Objective-C++ sources that run a plan: a parser reads them without a fault, a compiler finds nothing
amiss in the latter, and buffers and dispatches that they hold are those of the plan, value by value."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from codegen.metal.glue import FILES, glue_files
from codegen.metal.swift_names import RESERVED, cell, class_name, note, swift_string
from codegen.names import KEYWORDS
from tests.targets.metal_parse import Call, faults, objc_table, parsed, swift_calls
from tests.targets.metal_plans import (
    HOSTILE,
    PLAN,
    dispatches,
    objc_dispatches,
    places,
    plans,
    ports,
    swift_dispatches,
    swift_values,
)

GOLDEN = Path(__file__).parent / "golden" / "metal" / "glue"
STUBS = Path(__file__).parent / "metal_stubs"
SOURCES = ("Model.swift", "main.swift", "Model.h", "Model.mm")
CLANG = (
    "clang -x objective-c++ -std=c++17 -fobjc-arc -fblocks -target arm64-apple-macosx13 -fsyntax-only "
    f"-nostdinc -nostdinc++ -isystem {STUBS} -Wall -Wextra -Wconversion -Wshadow-ivar -Werror"
).split()


def check(plan: dict[str, Any]) -> None:
    """Both languages say what the plan says, and parse."""
    files = glue_files(plan)
    trees = {name: parsed(name, files[name]) for name in SOURCES}
    assert {name: found for name, root in trees.items() if (found := faults(root))} == {}
    assert all(ord(c) < 128 for name in FILES for c in files[name])
    swift = trees["Model.swift"]
    assert list(swift_values(swift).values()) == list(places(plan).values())
    assert not set(swift_values(swift)) & (KEYWORDS | RESERVED)
    assert swift_dispatches(swift) == dispatches(plan)
    assert objc_dispatches(trees["Model.mm"], plan) == dispatches(plan)
    assert objc_table(trees["Model.mm"], "dispatchesCount") == len(plan["dispatches"])
    listed = swift_calls(swift, "Port")
    expected = [port for side in ("inputs", "outputs") for port in ports(plan, side)]
    keys = ("name", "type", "shape", "stride", "nbytes", "sizes")
    assert [[c.of(key) for key in keys] for c in listed] == expected
    made = re.findall(r"^        port\(.*\),$", files["Model.mm"], re.MULTILINE)
    assert len(made) == len(expected)
    for line, port in zip(made, expected, strict=True):
        call = objc_table(parsed("x.mm", f"id one = {line.strip().removesuffix(',')};"), "one")
        assert isinstance(call, Call)
        values = [v for _, v in call.arguments]
        assert [*values[:5], None if values[5] == "NSNotFound" else values[5]] == port


def test_what_the_sources_say_is_the_plan() -> None:
    check(PLAN)


def test_golden_files(request: pytest.FixtureRequest) -> None:
    """What a plan of three layers becomes; `pytest --update-golden` writes them anew, to be read."""
    found = glue_files(PLAN)
    if request.config.getoption("--update-golden"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        GOLDEN.mkdir(parents=True)
        for name, content in found.items():
            (GOLDEN / name).write_text(content)
    assert {path.name: path.read_text() for path in GOLDEN.iterdir()} == found


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("mark", ["(", ")", "{", "}", ";"])
def test_the_parser_finds_a_planted_fault(name: str, mark: str) -> None:
    """One mark too many, in the middle of the code, and one too few."""
    code = re.sub(r"//.*", "", glue_files(PLAN)[name])
    code = re.sub(r'"[^"\n]*"', '""', code)
    assert faults(parsed(name, code)) == []
    middle = code.index("\n", len(code) // 3)
    if mark != ";":  # which may stand alone
        assert faults(parsed(name, f"{code[:middle]} {mark}{code[middle:]}")) != []
    at = code.find(mark, middle)
    if at >= 0:
        assert faults(parsed(name, code[:at] + code[at + 1 :])) != []


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(PLAN) | changes


def test_a_change_of_any_number_shows() -> None:
    """The comparison itself would see it: every number of the tables counts."""
    plan = copy.deepcopy(PLAN)
    plan["dispatches"][1]["buffers"][0]["offset"] += 2
    root = parsed("Model.swift", glue_files(plan)["Model.swift"])
    assert swift_dispatches(root) != dispatches(PLAN)
    plan = copy.deepcopy(PLAN)
    plan["dispatches"][2]["barrier"] = False
    files = glue_files(plan)
    assert swift_dispatches(parsed("Model.swift", files["Model.swift"])) != dispatches(PLAN)
    assert objc_dispatches(parsed("Model.mm", files["Model.mm"]), plan) != dispatches(PLAN)


def without(place: str) -> dict[str, Any]:
    """The plan with only the last dispatch, which needs no heap, weights or numbers."""
    plan = copy.deepcopy(PLAN)
    plan["dispatches"] = plan["dispatches"][2:]
    plan["buffers"] = [b for b in plan["buffers"] if b["place"] != place]
    plan[place]["nbytes"] = 0
    return plan


BARE = without("weights") | {"dispatches": [], "inputs": [], "buffers": PLAN["buffers"][4:], "family": ""}


@pytest.mark.parametrize(
    "plan", [PLAN, without("weights"), without("heap"), BARE], ids=["all", "no weights", "no heap", "bare"]
)
def test_the_compiler_finds_nothing_amiss(plan: dict[str, Any], tmp_path: Path) -> None:
    """Types and nullability of the Objective-C++ source, with declarations of what it takes from Metal."""
    if shutil.which(CLANG[0]) is None:
        pytest.skip("this machine lacks clang")
    check(plan)
    for name, content in glue_files(plan).items():
        (tmp_path / name).write_text(content)
    done = subprocess.run([*CLANG, str(tmp_path / "Model.mm")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_style_of_the_sources() -> None:
    files = glue_files(PLAN)
    assert [(n, line) for n in FILES for line in files[n].splitlines() if len(line) > 120] == []
    for name in ("Model.swift", "main.swift"):
        assert "Accelerate" not in files[name]
        assert not re.search(r"[\w)\]]!(?!=)|\btry[!?]|\bas!", files[name])  # nothing is unwrapped by force
    assert files["Model.swift"].count("makeComputeCommandEncoder(dispatchType: .concurrent)") == 1
    assert files["Model.swift"].count("memoryBarrier(scope: .buffers)") == 1
    encode = files["Model.swift"].partition("func encode")[2].partition("func run")[0]
    assert not re.search(r"\bmap\b|makeBuffer|Array\(|\.append", encode)


@settings(max_examples=60)
@given(plans())
def test_hostile_plans(plan: dict[str, Any]) -> None:
    check(plan)


def test_hostile_names_compile(tmp_path: Path) -> None:
    """All hostile names at once, through the compiler: what the grammar of a parser lets pass it would not."""
    if shutil.which(CLANG[0]) is None:
        pytest.skip("this machine lacks clang")
    rows = [{"name": n, "place": "heap", "offset": 0, "nbytes": 4, "note": n} for n in HOSTILE]
    plan = changed(name=HOSTILE[0], title=HOSTILE[1], buffers=[*PLAN["buffers"], *rows])
    plan["outputs"] = [r | {"name": n} for r, n in zip(plan["outputs"], HOSTILE[3:5], strict=True)]
    plan["dispatches"] = [d | {"title": HOSTILE[4], "origin": n} for n in HOSTILE for d in plan["dispatches"][:1]]
    check(plan)
    for name, content in glue_files(plan).items():
        (tmp_path / name).write_text(content)
    done = subprocess.run([*CLANG, str(tmp_path / "Model.mm")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v2", "MobilenetV2"),
        ("resnet-18.onnx", "Resnet18Onnx"),
        ("", "Model"),
        ("3d", "Model3d"),
        ("名前", "Model"),
        ("string", "ModelString"),
        ("style", "ModelStyle"),
        ("command line", "ModelCommandLine"),
        ("place_heap", "ModelPlaceHeap"),
        ("NSObject", "ModelNSObject"),
        ('"; exit()', "Exit"),
    ],
)
def test_names_of_classes(name: str, expected: str) -> None:
    assert class_name(name) == expected


def test_text() -> None:
    assert swift_string('a"\\(b)\n') == '"a\\u{22}\\u{5C}(b)\\u{A}"'
    assert swift_string("\ud800") == '"\\u{FFFD}"'
    assert len(note("x" * 300)) == 90
    assert note("a\nb*/") == "a\\u000ab* /"
    assert cell("a|b <i>`x`") == "a\\|b \\<i\\>\\`x\\`"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("weights", "nbytes"), 1000, "page"),
        (("heap", "nbytes"), 512, "ends after its heap"),
        (("buffers", 0, "nbytes"), 12, "takes 3072 bytes"),
        (("buffers", 1, "place"), "texture", "no place"),
        (("buffers", 2, "name"), "conv", "twice"),
        (("buffers", 1, "place"), "output", "belongs to no output"),
        (("outputs", 1, "buffer"), "scores", "share a buffer"),
        (("dispatches", 0, "buffers"), [{"buffer": "conv", "offset": 0}] * 31, "more arguments"),
    ],
)
def test_plans_that_contradict_themselves(path: tuple[Any, ...], value: object, message: str) -> None:
    plan = copy.deepcopy(PLAN)
    place: Any = plan
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        glue_files(plan)
