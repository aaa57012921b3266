"""What the whole repository keeps to: short files, docstrings, declared dependencies, passes with a test and a page."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("compiler", "passes", "targets", "codegen")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PASSES = sorted(p.stem for p in (ROOT / "passes").glob("*.py") if not p.stem.startswith("_"))
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".json", ".j2", ".h", ""}

# What every operation, pass, target and artifact overrides; the base class says what these are.
PROTOCOL = {
    "infer",
    "evaluate",
    "macs",
    "from_onnx",
    "to_onnx",
    "sample",
    "rules",
    "run",
    "pipeline",
    "prepare",
    "emit",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def show(path: Path) -> str:
    """The path as the reader knows it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text())


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file, nested ones too."""
    return (n for n in ast.walk(tree(path)) if isinstance(n, Function))


def length(node: Function | ast.ClassDef) -> int:
    """Lines from the `def` to the end."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def text_files() -> Iterator[Path]:
    """The files of the repository that people read, without what make creates."""
    for top in sorted(ROOT.iterdir()):
        if top.is_file() and (top.suffix in TEXT or top.name.startswith(".")):
            yield top
        elif top.name == ".ci" or (top.is_dir() and not top.name.startswith(".") and top.name not in ("build", "dist")):
            yield from (p for p in sorted(top.rglob("*")) if p.is_file() and p.suffix in TEXT)


def test_files_are_short() -> None:
    long = {show(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_functions_are_short() -> None:
    long = {f"{show(p)}:{f.lineno} {f.name}": length(f) for p in SOURCES for f in functions(p) if length(f) > 60}
    assert long == {}


def undocumented(path: Path) -> Iterator[str]:
    """Public definitions of a file that need a docstring and have none; a short method may speak for itself."""
    if path.stat().st_size and not ast.get_docstring(tree(path)):
        yield show(path)
    for node in tree(path).body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        members = node.body if isinstance(node, ast.ClassDef) else []
        methods = [m for m in members if isinstance(m, Function) and length(m) > 20]
        methods = [m for m in methods if not m.name.startswith("_") and m.name not in PROTOCOL]
        yield from (f"{show(path)}:{n.lineno} {n.name}" for n in (node, *methods) if not ast.get_docstring(n))


def test_public_things_have_docstrings() -> None:
    assert [name for path in SOURCES for name in undocumented(path)] == []


def test_exceptions_to_the_checks_carry_a_reason() -> None:
    """At the first use of each exception in a file."""
    marker = re.compile(r"#\s*(noqa: [A-Z0-9, ]+|type: ignore\[[a-z0-9, -]+\]|pragma: no cover)(.*)$")
    reasons: dict[tuple[str, str], str] = {}
    for path in [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]:
        for line in path.read_text().splitlines():
            if found := marker.search(line):
                reasons.setdefault((show(path), found[1].strip()), found[2].strip(" #-:"))
    assert [use for use, reason in reasons.items() if len(reason) < 8] == []


def test_no_path_of_somebodys_machine() -> None:
    foreign = re.compile(
        "|".join(("/" + r"work/", "/tmp" + r"/lab", r"\.\./" + "shared", "/home" + "/", "/root" + "/"))
    )
    hits = [f"{show(p)}: {m[0]}" for p in text_files() if (m := foreign.search(p.read_text(errors="replace")))]
    assert hits == []


def test_help_loads_no_heavy_package() -> None:
    heavy = ["numpy", "onnx", "google.protobuf", "onnxruntime", "networkx", "rich", "jinja2", "yaml", "coremltools"]
    program = f"""
import sys
from compiler.cli import main
try:
    code = main(["--help"])
except SystemExit as exit:
    code = exit.code
print("code", code, "loaded", [name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "code 0 loaded []"
    assert "--target" in done.stdout


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"].items(), ids=lambda s: s[0])
def test_console_scripts_exist(script: tuple[str, str]) -> None:
    module, _, function = script[1].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", PASSES)
def test_pass_is_short_tested_and_documented(name: str) -> None:
    assert len((ROOT / "passes" / f"{name}.py").read_text().splitlines()) < 60
    assert (ROOT / "tests" / "passes" / f"test_{name}.py").is_file()
    assert (ROOT / "docs" / "passes" / f"{name}.md").is_file()


def test_data_files_of_the_packages_are_shipped() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    data = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.is_file()]
    assert [
        show(p)
        for p in data
        if p.suffix not in (".py", ".pyc") and not any(fnmatch(p.name, pattern) for pattern in patterns)
    ] == []
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def distribution(requirement: str) -> str:
    """The normalised name of a requirement or a pin."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def declared(*extras: str) -> set[str]:
    """The distributions that the project asks for: its core, and those of the named extras."""
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(r for extra in extras for r in optional[extra])]
    return {distribution(r) for r in wanted}


def test_third_party_imports_are_declared() -> None:
    """A package that is merely there because another brings it may be gone tomorrow."""
    providers = packages_distributions()
    known = declared("coreml", "coreai", "plot", "tflite", "train")
    unknown = set()
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - set(PACKAGES) - set(sys.stdlib_module_names):
                if not {distribution(d) for d in providers.get(top, [top])} & known:
                    unknown.add(f"{show(path)}: {top}")
    assert unknown == set()


def test_constraints_pin_what_make_installs() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras
    assert declared(*extras[1].split(",")) <= {distribution(line) for line in lines}
