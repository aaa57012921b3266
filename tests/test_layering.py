"""Imports go one way, and heavy packages have one door.

`LAYERS` is the whole rule: a module may import the modules of its own line and of the lines that it names. A new
module needs one entry here, on purpose. Imports for types alone count too: they are knowledge of another module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("compiler", "passes", "targets", "codegen")


class Layer(NamedTuple):
    """One room of the house: its modules (a package stands for all that is in it) and the rooms it may look into."""

    modules: tuple[str, ...]
    sees: tuple[str, ...]


BASE = ("types", "op")
GRAPH = (*BASE, "graph", "ops")
CORE = (*GRAPH, "readers", "onnx", "rewriting", "measuring")

LAYERS = {
    "types": Layer(
        (
            "compiler.errors",
            "compiler.record",
            "compiler.tensor",
            "compiler.filemap",
            "compiler.new_folder",
            "compiler.compare",
            "compiler.order",
            "compiler.palette",
            "compiler.pipeline",
            "compiler.quantize",
        ),
        (),
    ),
    "op": Layer(("compiler.op",), ("types",)),
    "ops": Layer(("compiler.ops",), BASE),
    "graph": Layer(("compiler.graph",), BASE),
    "readers": Layer(
        (
            "compiler.evaluate",
            "compiler.halves",
            "compiler.magnitudes",
            "compiler.ranges",
            "compiler.seeds",
            "compiler.simulate",
            "compiler.span",
            "compiler.spans",
            "compiler.split",
            "compiler.subgraph",
            "compiler.text",
            "compiler.text_parse",
            "compiler.views",
        ),
        GRAPH,
    ),
    "onnx": Layer(("compiler.onnx_*", "compiler.importers"), (*GRAPH, "readers")),
    "rewriting": Layer(("compiler.pattern", "compiler.rewrite", "compiler.pass_base"), (*GRAPH, "readers")),
    "measuring": Layer(
        (
            "compiler.bisect",
            "compiler.calibrate",
            "compiler.doctor",
            "compiler.exact",
            "compiler.ledger",
            "compiler.oracle",
            "compiler.pass_manager",
            "compiler.probe",
            "compiler.report",
            "compiler.rewrite_check",
        ),
        (*GRAPH, "readers", "onnx", "rewriting"),
    ),
    "target": Layer(("compiler.target",), CORE),
    "passes": Layer(("passes",), (*GRAPH, "readers", "rewriting")),
    "codegen": Layer(("codegen",), ("types",)),
    "devices": Layer(("targets.devices",), ()),
    "quantizing": Layer(("targets.budget", "targets.calibrated", "targets.quantizing"), (*CORE, "target", "passes")),
    "apple": Layer(("targets.apple",), (*CORE, "target", "passes", "quantizing")),
    "source": Layer(("targets.source",), (*CORE, "target", "passes", "codegen", "apple")),
    "targets": Layer(("targets",), (*CORE, "target", "passes", "codegen", "devices", "quantizing", "apple", "source")),
    "training": Layer(("compiler.train",), (*CORE, "passes")),
    "roof": Layer(
        (
            "compiler",
            "compiler.__main__",
            "compiler.api",
            "compiler.arguments",
            "compiler.cli",
            "compiler.compression",
            "compiler.compression_goals",
            "compiler.compression_latency",
            "compiler.compression_setup",
            "compiler.compression_size",
            "compiler.emit_stages",
            "compiler.job",
            "compiler.layer_table",
            "compiler.options",
            "compiler.pareto",
            "compiler.show",
            "compiler.spectrum",
        ),
        (*CORE, "target", "passes", "devices", "targets", "quantizing", "apple", "training"),
    ),
}

# Targets that write the files of another one, take parts of those, or ask it for what is known of them.
BUILDS_ON = {
    "targets.edgetpu": ("targets.tflite",),
    "targets.coreai": ("targets.coreml", "targets.metal"),
    "targets.neon": ("targets.tflite",),
}

# Heavy packages, and the only modules that may import them.
DOORS = {
    "onnx": ("compiler.onnx_*",),
    "onnx_graphsurgeon": ("compiler.onnx_*",),
    "onnxruntime": ("compiler.oracle",),
    "networkx": ("compiler.views",),
    "rich": ("compiler.show",),
    "jinja2": ("codegen",),
    "plotly": ("compiler.pareto", "compiler.spectrum"),
    "yaml": ("compiler.target",),
    "coremltools": ("targets.coreml",),
    "coreai": ("targets.coreai",),
    "flatbuffers": ("targets.tflite",),
    "ai_edge_litert": ("targets.tflite",),
    "tensorflow": ("compiler.train", "targets.tflite"),
}

# Modules that load others of their own package when they are asked for by name.
LOADS_BY_NAME = ("passes", "targets")


class Import(NamedTuple):
    """One import statement: who imports what, at which line, and whether for types alone."""

    importer: str
    imported: str
    line: int
    for_types: bool = False


def inside(module: str, package: str) -> bool:
    """Whether `module` is `package` or lies in it; `a.b_*` stands for every package of that beginning."""
    return module == package or module.startswith(package[:-1] if package.endswith("*") else package + ".")


@cache
def modules() -> dict[str, Path]:
    """Every module of the four packages, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer_of(module: str) -> str | None:
    """The layer with the longest entry that holds the module; `compiler` stands for itself alone."""
    entries = ((entry, name) for name, layer in LAYERS.items() for entry in layer.modules)
    fitting = [(e, n) for e, n in entries if module == e or (e != "compiler" and inside(module, e))]
    return max(fitting)[1] if fitting else None


def imports_in(module: str, path: Path) -> Iterator[Import]:
    """The imports of one file; `from package import module` counts as the module where there is one."""
    tree = ast.parse(path.read_text())
    checking = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    for_types = {id(n) for block in checking for n in ast.walk(block)}
    home = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = home.split(".")[: len(home.split(".")) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{a.name}" if f"{base}.{a.name}" in modules() else base for a in node.names]
        else:
            continue
        yield from (Import(module, name, node.lineno, id(node) in for_types) for name in dict.fromkeys(names))


@cache
def all_imports() -> tuple[Import, ...]:
    """Every import statement of the four packages."""
    return tuple(i for module, path in modules().items() for i in imports_in(module, path))


def own_imports() -> list[Import]:
    """The imports among the four packages."""
    return [i for i in all_imports() if i.imported.partition(".")[0] in PACKAGES]


def fault(i: Import) -> str | None:
    """What is wrong with an import among our own modules."""
    importer, imported = layer_of(i.importer), layer_of(i.imported)
    if importer is None or imported is None:
        return "stands in no line of LAYERS"
    if importer != imported and imported not in LAYERS[importer].sees:
        return f"{importer} may not import {imported}"
    own = ".".join(i.importer.split(".")[:2])
    if importer == imported == "targets" and not any(inside(i.imported, t) for t in (own, *BUILDS_ON.get(own, ()))):
        return "one target imports another"
    return None


def test_every_module_has_its_line() -> None:
    assert [m for m in modules() if layer_of(m) is None] == []


def test_the_table_sees_only_to_the_left() -> None:
    order = list(LAYERS)
    assert [
        (name, s) for name, layer in LAYERS.items() for s in layer.sees if order.index(s) >= order.index(name)
    ] == []


def test_imports_go_one_way() -> None:
    faults = [f"{i.importer}:{i.line} imports {i.imported}: {fault(i)}" for i in own_imports() if fault(i)]
    assert faults == []


@pytest.mark.parametrize(("package", "doors"), DOORS.items(), ids=DOORS)
def test_heavy_packages_have_one_door(package: str, doors: tuple[str, ...]) -> None:
    users = {i.importer for i in all_imports() if inside(i.imported, package)}
    assert {u for u in users if not any(inside(u, door) for door in doors)} == set()


def test_no_module_imports_itself_in_a_circle() -> None:
    """Neither at the top nor inside a function that dodges the circle."""
    graph: dict[str, set[str]] = {}
    for i in own_imports():
        if not i.for_types:
            graph.setdefault(i.importer, set()).add(i.imported)
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                if other != module:
                    visit(other, (*above, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_modules_are_not_named_in_strings() -> None:
    """`import_module` would go around the table: only LOADS_BY_NAME, the roof and heavy packages' doors use it."""
    dodges = []
    doors = {door for doors in DOORS.values() for door in doors}
    for module, path in modules().items():
        if layer_of(module) == "roof" or module in LOADS_BY_NAME or any(inside(module, door) for door in doors):
            continue
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        if names & {"import_module", "__import__"}:
            dodges.append(module)
    assert dodges == []


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("compiler.graph", "compiler.op", None),
        ("compiler.graph", "compiler.rewrite", "graph may not import rewriting"),
        ("compiler.ops.conv", "compiler.graph", "ops may not import graph"),
        ("compiler.ops.conv", "compiler.ops.shape", None),
        ("compiler.target", "passes", "target may not import passes"),
        ("passes.fold", "compiler.onnx_import", "passes may not import onnx"),
        ("passes.fold", "targets.coreml", "passes may not import targets"),
        ("targets.onnx", "targets.coreml.mil", "one target imports another"),
        ("targets.coreml.lower", "targets.coreml.mil", None),
        ("targets.edgetpu", "targets.tflite.check", None),
        ("targets.tflite", "targets.edgetpu", "one target imports another"),
        ("targets.coreai.custom", "targets.metal.emit", None),
        ("targets.metal", "targets.coreai", "one target imports another"),
        ("targets.onnx", "targets.calibrated", None),
        ("codegen.kernels", "compiler.graph", "codegen may not import graph"),
        ("targets.onnx", "compiler.api", "targets may not import roof"),
        ("compiler.cli", "passes", None),
        ("compiler.graph", "compiler.unheard_of", "stands in no line of LAYERS"),
    ],
)
def test_the_rule_itself(importer: str, imported: str, expected: str | None) -> None:
    assert fault(Import(importer, imported, 1)) == expected
