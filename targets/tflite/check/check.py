"""Checking one file for one device."""

from __future__ import annotations

from pathlib import Path

from compiler.errors import UsageError
from targets.tflite.check.integers import IntegerRules
from targets.tflite.check.islands import check_islands, has_float_operators
from targets.tflite.check.node import Node, nodes, scales
from targets.tflite.check.parameters import check_parameters
from targets.tflite.check.placement import after_break, level_name, partitions, place
from targets.tflite.check.report import ERROR, NOTE, WARNING, CheckReport, Findings, Placement
from targets.tflite.check.rules import DEVICES, Rules, device_rules
from targets.tflite.check.structure import check_form, check_integrity, check_single, used
from targets.tflite.reader import File, TfliteFileError, read

TARGETS = tuple(DEVICES)
QUANTIZED = ("INT8", "UINT8", "INT16")


def check(path: str | Path, target: str, strict: bool = False) -> CheckReport:
    """Where the operators of a .tflite file run, and what breaks the contract of full-integer files.

    The contract is asked of files that are quantized; `strict` asks it of float ones too, and wants every operator
    on the device. Raises TfliteFileError if the file cannot be read, UsageError for a target that has no rules."""
    if target not in DEVICES:
        known = " or ".join(TARGETS)
        raise UsageError(f"--check has no rules for the target {target!r}", hint=f"choose --target {known}")
    file = read(path)
    if not file.subgraphs:
        raise TfliteFileError(f"{str(path)!r} holds no graph", hint="write it again, or get it again from its source")
    found, rules = Findings(), device_rules(target)
    graphs = [list(nodes(g)) for g in file.subgraphs]
    for graph, members in zip(file.subgraphs, graphs, strict=True):
        check_integrity(graph, members, found)
    kind = _kind(graphs[0])
    if kind != "float" or strict:
        _check_contract(file, graphs, found)
    placements = [place(node, rules) for node in graphs[0]]
    single = "single_partition" in rules
    pieces = partitions(graphs[0], placements, single)
    if single:
        placements = after_break(placements, pieces)
    _add_placement(file, placements, found, strict)
    _add_notes(file, graphs[0], rules, found)
    level = max((p.level for p in placements if p.on_device), default=0)
    return CheckReport(
        path=str(path),
        target=target,
        device=rules["device"],
        strict=strict,
        kind=kind,
        subgraphs=len(file.subgraphs),
        tensors=len(file.subgraphs[0].tensors),
        operators=len(graphs[0]),
        level=level,
        level_name=level_name(rules, level),
        findings=found.all(),
        placements=tuple(placements),
        partitions=tuple(pieces),
    )


def _kind(members: list[Node]) -> str:
    quantized = any(
        t.dtype == "INT8" or (t.dtype in QUANTIZED and scales(t) is not None) for n in members for t in n.values
    )
    if not quantized:
        return "float"
    if has_float_operators(members):
        return "mixed"
    return "16x8" if any(t.dtype == "INT16" and scales(t) is not None for n in members for t in n.values) else "int8"


def _check_contract(file: File, graphs: list[list[Node]], found: Findings) -> None:
    check_single(file, found)
    integers = IntegerRules(found)
    for graph, members in zip(file.subgraphs, graphs, strict=True):
        check_form(graph, members, found)
        for tensor in used(graph, members):
            check_parameters(graph, tensor, found)
        check_islands(graph, members, found)
        for node in members:
            integers.check(node)


def _add_placement(file: File, placements: list[Placement], found: Findings, strict: bool) -> None:
    """A finding for each operator that stays on the CPU; those behind the break of the Edge TPU share one."""
    graph = file.subgraphs[0]
    lost = [p for p in placements if p.cause == "after-break"]
    for p in placements:
        if p.on_device or (p.cause == "after-break" and p is not lost[0]):
            continue
        reason = p.reason if p.cause != "after-break" else f"with {len(lost) - 1} more that fit, {p.reason}"
        text = f"it stays on the CPU: {reason}{f'; {p.rewrite}' if p.rewrite else ''}"
        found.add(p.cause, ERROR if strict else WARNING, text, graph=graph, operator=graph.operators[p.operator])


def _add_notes(file: File, members: list[Node], rules: Rules, found: Findings) -> None:
    versions = rules.get("versions", {})
    for node in members:
        last = rules["operators"].get(node.operator.code, {}).get("version")
        if last is not None and not versions.get("binding", True) and node.operator.version > last:
            text = f"version {node.operator.version} is above {last}: {versions['says']}"
            found.add("version", WARNING, text, graph=node.graph, operator=node.operator)
    graph = file.subgraphs[0]
    for t in (graph.tensors[i] for i in graph.inputs):
        if not t.is_static and "sizes_of_file" in rules:
            text = f"its shape {list(t.signature or t.shape)} is open; operators are placed for {list(t.shape)}"
            found.add("dynamic-shape", WARNING, text, graph=graph, tensor=t)
    if "parameter_cache" in rules:
        held = {t.buffer: len(t.data) for n in members for t in n.inputs if t is not None and t.data is not None}
        size, most = sum(held.values()), rules["parameter_cache"]["bytes"]
        if size > most:
            text = f"{size / 1e6:.1f} MB of parameters do not fit the {most / 1e6:.1f} MB on the chip; "
            found.add("parameter-cache", NOTE, f"{text}the rest is sent from the host at every run")
