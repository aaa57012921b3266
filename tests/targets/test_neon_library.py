"""The folder that the neon target writes: it builds without a warning wherever it should, runs, says what it takes, is
the same bytes each time; weights are where they were asked for, and threads do not change a bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compiler.api import compile_model
from compiler.errors import LegalityError, UsageError
from compiler.tensor import Array
from targets.neon import build
from targets.neon.artifact import NeonArtifact
from tests.command import Command
from tests.targets.neon_models import CROSS, WARNINGS, mlp, needs, shell, small_cnn, texts, toolchains, written

GOLDEN = Path(__file__).parent / "golden" / "neon"
ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "models"
SHOWN = ("Makefile", "kernels.h", "model.c", "model.h")  # and all kernels: reviewed as golden files
COMPILERS = ("gcc", "clang", "clang-14", "clang-19", CROSS, "clang-19 --target=aarch64-linux-gnu")
ARCHITECTURES = ("armv8-a", "armv8.2-a+fp16", "armv8.2-a+dotprod", "armv8.6-a+i8mm")
MATH = """acos acosh asin asinh atan atanh ceil cos cosh erf exp expm1 fabs floor log log1p nearbyint rint round sin
    sinh sqrt tan tanh trunc"""
MATH_2 = "atan2 copysign fmax fmin fmod pow"
CONSTANTS = "float ldexpf(float, int);\nfloat frexpf(float, int *);\n"
CONSTANTS += '#define NAN __builtin_nanf("")\n#define INFINITY __builtin_inff()\n'
STRING_H = """void *memcpy(void *, const void *, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
"""


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> NeonArtifact:
    return written(small_cnn(), tmp_path_factory.mktemp("cnn") / "small_cnn")


def image(seed: int = 0) -> dict[str, Array]:
    return {"image": np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32)}


def test_golden_files(cnn: NeonArtifact, request: pytest.FixtureRequest) -> None:
    """What a small CNN becomes; `pytest --update-golden` writes them anew, to be read before they are committed."""
    found = {name: text for name, text in texts(cnn.path).items() if name in SHOWN or name.startswith("kernels_")}
    if request.config.getoption("--update-golden"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        GOLDEN.mkdir(parents=True)
        for name, text in found.items():
            (GOLDEN / name).write_bytes(text)
    expected = texts(GOLDEN)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_it_is_the_same_bytes_each_time(cnn: NeonArtifact, tmp_path: Path) -> None:
    again = written(small_cnn(), tmp_path / "small_cnn")
    assert texts(again.path) == texts(cnn.path)


def test_lines_fit_a_screen(cnn: NeonArtifact) -> None:
    long = [
        (name, line)
        for name, text in texts(cnn.path).items()
        if name.endswith((".c", ".h")) and not name.startswith(("simd", "neon_twin"))
        for line in text.decode().splitlines()
        if len(line) > 120 and not line.lstrip().startswith(('"', "#"))
    ]
    assert long == []


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: Path(t.compiler[0]).name)
def test_it_computes_the_model(tools: build.Toolchain, cnn: NeonArtifact) -> None:
    """Natively and as real NEON, with every warning an error."""
    made = compile_model(small_cnn(), "neon", verify="final")
    assert made.report.passed and made.report.verification
    artifact = NeonArtifact(cnn.path, made.graph, [], tools)
    expected = made.run(image())["scores"]
    assert np.allclose(artifact.run(image())["scores"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warning(compiler: str, cnn: NeonArtifact, tmp_path: Path) -> None:
    needs(compiler)
    marches = [[f"-march={a}"] for a in ARCHITECTURES] if "aarch64" in compiler else [[]]
    for flags in marches:
        for source in sorted(cnn.path.glob("*.c")):
            shell(*compiler.split(), *WARNINGS, "-O3", *flags, "-c", "-o", tmp_path / "o", source)


def test_kernels_are_for_apple_too(cnn: NeonArtifact, tmp_path: Path) -> None:
    """Without Apple's headers: declarations of what the kernels call stand in for them."""
    needs("clang-19")
    (tmp_path / "string.h").write_text(f"#include <stddef.h>\n{STRING_H}")
    one = "".join(f"double {f}(double);\nfloat {f}f(float);\n" for f in MATH.split())
    two = "".join(f"double {f}(double, double);\nfloat {f}f(float, float);\n" for f in MATH_2.split())
    macros = "".join(f"#define {f}(x) __builtin_{f}(x)\n" for f in ("isnan", "isinf", "isfinite", "signbit"))
    (tmp_path / "math.h").write_text(f"{one}{two}{macros}{CONSTANTS}")
    flags = ["--target=arm64-apple-ios16", "-ffreestanding", "-fsyntax-only", *WARNINGS, "-isystem", str(tmp_path)]
    for source in sorted([*cnn.path.glob("kernels_*.c"), cnn.path / "model.c"]):
        shell("clang-19", *flags, source)


def test_the_header_is_for_c_plus_plus(cnn: NeonArtifact, tmp_path: Path) -> None:
    needs("g++")
    (tmp_path / "main.cpp").write_text(
        '#include "model.h"\nint main() { small_cnn_inputs in = {nullptr}; return in.image != nullptr; }\n'
    )
    shell("g++", *WARNINGS[1:], "-I", cnn.path, "-fsyntax-only", tmp_path / "main.cpp")


def test_make_builds_a_runner_that_profiles(cnn: NeonArtifact, tmp_path: Path) -> None:
    needs("make", CROSS, build.EMULATOR)
    folder = shutil.copytree(cnn.path, tmp_path / "copy")
    shell("make", "-s", "runner", f"CC={CROSS}", "CFLAGS=-O3 " + " ".join(WARNINGS), cwd=folder)
    image()["image"].tofile(folder / "in.bin")
    told = shell(build.EMULATOR, "./runner", "in.bin", "--out-dir", ".", "--repeat", "2", "--profile", cwd=folder)
    assert "3x3 convolution, 3 to 8 channels" in told and "(stem, stem/relu)" in told and "ns in all" in told
    assert np.allclose(np.fromfile(folder / "0.bin", np.float32), cnn.run(image())["scores"].reshape(-1), atol=1e-5)
    shell("make", "-s", f"CC={CROSS}", "AR=aarch64-linux-gnu-ar", cwd=folder)
    assert (folder / "libsmall_cnn.a").is_file()


@pytest.mark.parametrize("embed", ["file", "incbin", "array"])
def test_cmake_builds_it(embed: str, tmp_path: Path) -> None:
    needs("cmake", "make", "gcc")
    artifact = written(mlp(), tmp_path / "mlp", threads=2, embed=embed, run_on="native")
    shell(
        "cmake", "-S", artifact.path, "-B", tmp_path / "b", "-DMLP_RUNNER=ON", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
    )
    shell("cmake", "--build", tmp_path / "b")
    np.ones((64, 17), np.float32).tofile(tmp_path / "in.bin")
    shell(tmp_path / "b" / "runner", tmp_path / "in.bin", "--out-dir", tmp_path, "--threads", "2", cwd=artifact.path)
    found = np.fromfile(tmp_path / "0.bin", np.float32).reshape(64, 5)
    assert np.array_equal(found, artifact.run({"x": np.ones((64, 17), np.float32)})["y"])


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: Path(t.compiler[0]).name)
def test_threads_change_no_bit(tools: build.Toolchain, tmp_path: Path) -> None:
    made = compile_model(small_cnn(96), "neon", tmp_path / "m", threads=4, verify="off")
    assert isinstance(made.artifact, NeonArtifact)
    made.artifact.tools = tools
    assert b"pool_run(part_" in (tmp_path / "m" / "model.c").read_bytes()
    feeds = {v.name: np.random.default_rng(1).random(v.type.dims, np.float32) for v in made.graph.inputs}
    results = [made.artifact.run_with(feeds, ("--threads", str(n), "--repeat", "2"))[0] for n in (1, 2, 3, 4)]
    for other in results[1:]:
        assert all(np.array_equal(other[name], results[0][name]) for name in other)


def test_one_thread_needs_no_thread_library(tmp_path: Path) -> None:
    artifact = written(mlp(), tmp_path / "one")
    assert not (artifact.path / "pool.c").exists()
    many = written(mlp(), tmp_path / "many", threads=3)
    needs("gcc")
    shell("gcc", "-DMANY_THREADS=1", "-c", "-o", tmp_path / "pool.o", many.path / "pool.c")
    assert "pthread" not in shell("nm", tmp_path / "pool.o")


@pytest.mark.parametrize("flags", [("--guard", "pages"), ("--guard", "words")])
@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: Path(t.compiler[0]).name)
def test_it_stays_within_its_buffers(tools: build.Toolchain, flags: tuple[str, str], cnn: NeonArtifact) -> None:
    artifact = NeonArtifact(cnn.path, compile_model(small_cnn(), "neon", verify="off").graph, [], tools)
    assert artifact.run_with(image(), flags)[0]["scores"].shape == (1, 10)


@pytest.mark.parametrize("name", ["mnist_14x14_opset9", "vit_fashion_dyn", "yunet_n_320"])
def test_sanitizers_find_nothing(name: str, tmp_path: Path) -> None:
    needs("gcc")
    tools = build.native(("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))
    assert tools is not None
    made = compile_model(MODELS / f"{name}.onnx", "neon", tmp_path / "m", threads=2, verify="off")
    assert isinstance(made.artifact, NeonArtifact)
    made.artifact.tools = tools
    feeds = {v.name: np.random.default_rng(1).random(v.type.dims, np.float32) for v in made.graph.inputs}
    made.artifact.run_with(feeds, ("--threads", "2"))


def test_what_it_takes_is_in_the_report(command: Command) -> None:

    onnx.save(small_cnn(), "m.onnx")
    result = command("m.onnx", "--target", "neon", "-o", "lib", "--json", "--verify", "off")
    told = json.loads(result.out)["details"]
    assert told["name"] == "lib" and told["arena"] >= told["bound"] > 0 and told["steps"] >= 4
    assert told["arena"] <= 1.05 * told["bound"]
    assert told["weights"] == Path("lib/weights.bin").stat().st_size
    assert f"LIB_ARENA_SIZE {told['arena']}u" in Path("lib/model.h").read_text()
    assert json.loads(Path("lib/cincel.json").read_text())["arena"] == told["arena"]
    shown = command("m.onnx", "--target", "neon", "-o", "lib", "--symbol", "Net 2", "--verify", "off").out
    assert f"library net_2: {told['arena']:,} bytes of working memory" in shown


@pytest.mark.parametrize(
    "path", ["tests/models/basic_pitch", "tests/models/gtcrn_simple", "tests/models/mlperf_tiny_vww",
             "tests/models/yunet_n_320", "examples/mlperf_tiny_kws_dscnn", "examples/vit_fashion_b1"],
)  # fmt: skip
def test_memory_is_near_what_is_in_use_at_once(path: str, tmp_path: Path) -> None:
    made = compile_model(ROOT / f"{path}.onnx", "neon", tmp_path / "m", verify="off").artifact.details
    assert made is not None
    told = made.as_json()
    assert told["bound"] <= told["arena"] <= 1.05 * told["bound"]


def test_memory_limit(tmp_path: Path) -> None:
    made = written(small_cnn(), tmp_path / "a")
    assert made.details is not None
    told = made.details.as_json()
    needed = told["arena"] + told["weights"]
    written(small_cnn(), tmp_path / "b", memory_limit=needed)
    with pytest.raises(LegalityError, match="100 more than the"):
        written(small_cnn(), tmp_path / "c", memory_limit=needed - 100)
    assert not (tmp_path / "c").exists()
    with pytest.raises(UsageError, match="--memory-limit 'much'"):
        written(small_cnn(), tmp_path / "c", memory_limit="much")


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:

    onnx.save(mlp(), "m.onnx")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    failed = command("m.onnx", "--target", "neon", "-o", "lib")
    assert failed.code == 3 and "no C compiler" in failed.err and "--verify off" in failed.err
    assert command("m.onnx", "--target", "neon", "-o", "other", "--verify", "off").code == 0
    asked = command("m.onnx", "--target", "neon", "-o", "third", "--run-on", "qemu")
    assert "qemu-aarch64" in asked.err


@pytest.mark.parametrize(
    ("options", "words"),
    [({"isa": "avx"}, "isa"), ({"embed": "no"}, "embed"), ({"run_on": "x"}, "run_on"), ({"threads": 0}, "--threads"),
     ({"cpu": "z80"}, "z80")],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        written(mlp(), tmp_path / "m", **options)


def test_the_example_reads_a_digit(command: Command, tmp_path: Path) -> None:
    needs("make", "cc")
    for name in ("neon_digit.c", "mnist_cnn_opset8.onnx"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    words = ("mnist_cnn_opset8.onnx", "--target", "neon", "--embed", "incbin", "-o", "mnist/", "--verify", "off")
    assert command(*words).code == 0
    shell("make", "-s", "-C", "mnist", cwd=tmp_path)
    shell("cc", *WARNINGS, "-o", "digit", "neon_digit.c", "mnist/libmnist.a", "-lm", cwd=tmp_path)
    assert shell("./digit", cwd=tmp_path) == "it is a 7\n"


def test_two_libraries_in_one_program(tmp_path: Path) -> None:
    needs("gcc")
    a = written(mlp(), tmp_path / "a", embed="array", threads=2)
    b = written(mlp(), tmp_path / "b", embed="incbin", threads=2)
    (tmp_path / "main.c").write_text(
        '#include "a/model.h"\n#include "b/model.h"\nint main(void) { return a_init(NULL) + b_init(NULL); }\n'
    )
    objects = []
    for folder in (a.path, b.path):
        for source in sorted([*folder.glob("*.c"), *folder.glob("*.S")]):
            if source.name != "runner.c":
                objects.append(tmp_path / f"{folder.name}_{source.stem}.o")
                shell("gcc", "-std=c11", "-c", "-o", objects[-1], source.name, cwd=folder)
    shell("gcc", "-o", tmp_path / "main", tmp_path / "main.c", *objects, "-pthread", "-lm")
    shell(tmp_path / "main")
