"""Names and numbers that would break generated sources or their programs, through a real build and run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as h
import onnx.numpy_helper as nh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.arena import ALIGNMENT
from codegen.library import Library, Port, required_isa, sources
from codegen.names import identifier
from codegen.program import Buffer, Call, Choice, Kernel, Parameter, Place, Pointer, Split
from codegen.wrapping import LONGEST, wrapped
from compiler.tensor import Array
from targets.neon import build
from tests.targets.neon_models import CROSS, WARNINGS, needs, shell, written

NAMES = [
    'a"b', "a\nb", "int", "errno", "copy_bytes", "nan", "null", "size_max", "*/ }", "/* ??/", "100 %s %n", "\\", "b\\",
    "é\u202e名", "", "gemm", "weights", "end", "in", "__LINE__", "A", "a", "1", "x" * 300, "'", "#include", "$",
]  # fmt: skip


def named(names: Sequence[str], graph: str) -> onnx.ModelProto:
    """x -> negated, for an x of each name; results and layers have these names too, and a blank."""
    given = [h.make_tensor_value_info(f"{n}x", onnx.TensorProto.FLOAT, (2, 3)) for n in names]
    made = [h.make_tensor_value_info(f"{n} ", onnx.TensorProto.FLOAT, (2, 3)) for n in names]
    nodes = [
        node
        for n in names
        for node in (
            h.make_node("MatMul", [f"{n}x", f"{n}w"], [n or "?"], n),
            h.make_node("Neg", [n or "?"], [f"{n} "], f"{n}!"),
            h.make_node("Neg", [f"{n} "], [f"{n}  "], f"{n}!"),
        )
    ]
    weights = [nh.from_array(np.arange(9, dtype=np.float32).reshape(3, 3) + i, f"{n}w") for i, n in enumerate(names)]
    last = [h.make_tensor_value_info(f"{n}  ", onnx.TensorProto.FLOAT, (2, 3)) for n in names]
    made_graph = h.make_graph(nodes, graph or "g", given, made + last, weights)
    return h.make_model(made_graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def strict() -> build.Toolchain:
    needs("gcc")
    tools = build.native(("-O0", *WARNINGS))
    assert tools is not None
    return tools


def check(names: Sequence[str], graph: str, folder: Path, **options: Any) -> None:  # Any: of the target
    """Build with every warning an error, run, compare."""
    artifact = written(named(names, graph), folder, **options)
    artifact.tools = strict()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = artifact.run({f"{n}x": x + i for i, n in enumerate(names)})
    for i, n in enumerate(names):
        product = (x + i) @ (np.arange(9, dtype=np.float32).reshape(3, 3) + i)
        assert np.array_equal(found[f"{n} "], -product) and np.array_equal(found[f"{n}  "], product), n


@pytest.mark.parametrize("graph", ['*/ " ??/ %n \\', "//\n#error \\"])
def test_names(graph: str, tmp_path: Path) -> None:
    check(NAMES, graph, tmp_path / "lib", threads=2)


@pytest.mark.parametrize("name", ["my model-7*", "register", "模型", "kernels", "pool", "model"])
def test_the_folder_gives_the_name(name: str, tmp_path: Path) -> None:
    check(["a"], name, tmp_path / name, threads=2, embed="incbin")
    assert f"int {identifier(name)}_init(" in (tmp_path / name / "model.h").read_text()


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


@settings(max_examples=3)
@given(st.lists(WORDS, min_size=5, max_size=30, unique_by=str.strip))
def test_any_name(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    check(names, names[0], tmp_path_factory.mktemp("any") / "lib")


SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -3.4028235e38, 1.17549435e-38], np.float32)


@pytest.mark.parametrize("embed", ["file", "incbin", "array"])
@pytest.mark.parametrize("run_on", ["native", "qemu"])
def test_numbers(embed: str, run_on: str, tmp_path: Path) -> None:
    """Weights that are not finite, negative zeros and the smallest numbers arrive as they are, in tables and code."""
    needs(*(["gcc"] if run_on == "native" else [CROSS, build.EMULATOR]))
    for i, value in enumerate([*SPECIAL, SPECIAL]):
        weight = np.asarray(value, np.float32)
        nodes = [h.make_node("Add", ["x", "w"], ["s"]), h.make_node("Mul", ["x", "w"], ["p"])]
        info = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (2, 8)) for n in ("x", "s", "p")]
        graph = h.make_graph(nodes, "g", info[:1], info[1:], [nh.from_array(weight, "w")])
        source = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
        if i not in (0, 1, 3, len(SPECIAL)):
            continue
        artifact = written(source, tmp_path / f"lib{i}", embed=embed, run_on=run_on)
        x = np.stack([SPECIAL, np.arange(8, dtype=np.float32)])
        found = artifact.run({"x": x})
        with np.errstate(all="ignore"):
            assert same(found["s"], x + weight) and same(found["p"], x * weight)


def same(a: Array, b: Array) -> bool:
    """The same bits, but for those of NaN."""
    return bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))))


# -- kernels of several kinds of processors -------------------------------------------------------------------


class Plus(Kernel):
    """Adds a number; which one, tells what was called."""

    family = "plus"
    template = "plus"
    number: int
    level: str = "base"

    @property
    def name(self) -> str:
        return f"plus_{self.number}"

    @property
    def isa(self) -> str:  # type: ignore[override]  # a field of these
        return self.level

    @property
    def parameters(self) -> list[Parameter]:
        return [Parameter("const float *", "x"), Parameter("float *", "y"), Parameter("size_t", "n")]

    def render(self) -> str:
        return f"{self.prototype}\n{{\n    for (size_t i = 0; i < n; i++)\n        y[i] = x[i] + {self.number};\n}}\n"


COUNT = 10_000


def chosen(folder: Path, *kernels: Kernel, threads: int = 1) -> Library:
    """A library of one step."""
    x, y = (Buffer(n, 4 * COUNT, p) for n, p in (("x", Place.INPUT), ("y", Place.OUTPUT)))
    kernel = Choice(variants=kernels) if len(kernels) > 1 else kernels[0]
    split = Split(COUNT, count="n", steps={"x": 4, "y": 4}, grain=16)
    call = Call(kernel, (Pointer(x), Pointer(y), COUNT), [x], [y], "plus", "", split)
    ports = [Port(b, "float", COUNT, b.name) for b in (x, y)]
    library = Library("lib", "l", [call], [*kernels, kernel], ports[:1], ports[1:], [], 0, [], 0, threads)
    for name, text in sources(library).items():
        (folder / name).write_text(text)
    np.arange(COUNT, dtype=np.float32).tofile(folder / "in.bin")
    (folder / "weights.bin").write_bytes(b"")
    return library


@pytest.mark.parametrize(("cpu", "number"), [("cortex-a72", 1), ("neoverse-n1", 2), ("max", 3)])
def test_the_processor_chooses(cpu: str, number: int, tmp_path: Path) -> None:
    needs("make", CROSS, build.EMULATOR)
    library = chosen(tmp_path, Plus(number=1), Plus(number=2, level="dotprod"), Plus(number=3, level="i8mm"), threads=3)
    assert required_isa(library) == "base"
    shell("make", "-s", "runner", f"CC={CROSS}", cwd=tmp_path)
    for threads in ("1", "3"):
        shell(build.EMULATOR, "-cpu", cpu, "./runner", "in.bin", "--out-dir", ".", "--threads", threads, cwd=tmp_path)
        assert np.array_equal(np.fromfile(tmp_path / "0.bin", np.float32), np.arange(COUNT) + number)


def test_a_processor_that_lacks_what_is_needed(tmp_path: Path) -> None:
    needs("make", CROSS, build.EMULATOR)
    library = chosen(tmp_path, Plus(number=5, level="dotprod"))
    assert required_isa(library) == "dotprod"
    assert "kernels_plus_dotprod.o: MARCH := -march=armv8.2-a+fp16+dotprod" in (tmp_path / "Makefile").read_text()
    shell("make", "-s", "runner", f"CC={CROSS}", cwd=tmp_path)
    shell(build.EMULATOR, "-cpu", "neoverse-n1", "./runner", "in.bin", cwd=tmp_path)
    with pytest.raises(AssertionError, match="this processor lacks"):
        shell(build.EMULATOR, "-cpu", "cortex-a72", "./runner", "in.bin", cwd=tmp_path)


def test_a_kernel_that_leaves_its_buffers_is_caught(tmp_path: Path) -> None:
    needs("make", "gcc")
    library = chosen(tmp_path, Plus(number=1))
    text = (tmp_path / "model.c").read_text()
    (tmp_path / "model.c").write_text(text.replace(f"{COUNT});", f"{COUNT + 1});"))
    shell("make", "-s", "runner", "CC=gcc", cwd=tmp_path)
    with pytest.raises(AssertionError, match="a kernel wrote outside of its buffers"):
        shell("./runner", "in.bin", cwd=tmp_path)
    with pytest.raises(AssertionError):
        shell("./runner", "in.bin", "--guard", "pages", cwd=tmp_path)
    assert library.arena_size % ALIGNMENT == 0


def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    """Offsets that no enumerator holds."""
    needs("gcc")
    library = chosen(tmp_path, Plus(number=1))
    far = Buffer("far", 4 * COUNT, Place.ARENA, "f32[10000]")
    far.offset = 5 << 30
    call = library.calls[0]._replace(arguments=(library.calls[0].arguments[0], Pointer(far), COUNT), split=None)
    ports = [p._replace(size=3 << 30) for p in library.outputs]
    size = far.offset + 4 * COUNT
    for threads in (1, 2):
        huge = library._replace(calls=[call], arena=[far], arena_size=size, threads=threads, outputs=ports)
        for name, text in sources(huge).items():
            (tmp_path / name).write_text(text)
        for source in ("model.c", "runner.c"):
            shell("gcc", *WARNINGS, "-fsyntax-only", tmp_path / source)


# -- long lines -----------------------------------------------------------------------------------------------


@given(st.lists(st.text("abc(),;+*/ &", min_size=1, max_size=40), min_size=1, max_size=20))
def test_broken_lines_are_the_same_code(words: list[str]) -> None:
    line = "    " + ", ".join(words)
    made = wrapped(line)
    assert made.split() == line.split()
    assert all(len(part) <= LONGEST or ", " not in part.strip()[1:LONGEST] for part in made.splitlines())


def test_what_stays_as_it_is() -> None:
    define = "#define A " + "x + " * 40
    text = '    "' + "ld1, " * 40 + '"'
    assert wrapped(define) == define and wrapped(text) == text
    call = '    f("' + "a, " * 35 + '", second_argument, third_argument);'
    assert wrapped(call).splitlines()[0].endswith('",')
    note = "    x = 1; /* " + "word " * 30 + "*/"
    assert wrapped(note).splitlines()[-1] == "    x = 1;" and wrapped(note).count("/*") == 1
