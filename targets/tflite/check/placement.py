"""Which operators a device takes, from which level on, and into which partitions the graph falls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from targets.tflite.check.conditions import holds
from targets.tflite.check.node import BYTES, FLOATS, Node
from targets.tflite.check.report import Partition, Placement, operator_name
from targets.tflite.check.rules import Rules
from targets.tflite.reader import Tensor


def place(node: Node, rules: Rules) -> Placement:
    """Where one operator runs, for itself."""
    rule = rules["operators"].get(node.operator.code, {})
    if "types" not in rule:
        return _refused(node, rules, *_unknown(node, rules), rule.get("rewrite"))
    for cause, reason, rewrite in (_element_type(node, rules, rule), _extent(node, rules)):
        if cause:
            return _refused(node, rules, cause, reason, rewrite)
    main = _main(node, rule)
    level = rule["types"].get(main.dtype, 0) if main is not None else min(rule["types"].values())
    for condition in rule.get("conditions", ()):
        if holds(condition, node):
            if "level" not in condition:
                return _refused(node, rules, "constraint", condition["says"], condition.get("rewrite"))
            level = max(level, condition["level"])
    binding = rules.get("versions", {}).get("binding", True)
    if binding and node.operator.version > rule.get("version", node.operator.version):
        reason = f"version {node.operator.version} is above {rule['version']}, the last that {rules['device']} knows"
        return _refused(node, rules, "version", reason, rule.get("rewrite"))
    return Placement(node.operator.number, operator_name(node.operator), True, level)


def _refused(node: Node, rules: Rules, cause: str, reason: str, rewrite: str | None) -> Placement:
    name = operator_name(node.operator)
    return Placement(node.operator.number, name, False, 0, reason, cause, _advice(rules, rewrite))


def _advice(rules: Rules, name: str | None) -> str:
    if name is None:
        return ""
    rewrite = rules["rewrites"][name]
    cost = "exact" if rewrite["exact"] else f"error: {rewrite.get('error', 'not exact')}"
    return f"instead: {rewrite['with']} ({cost})"


def _unknown(node: Node, rules: Rules) -> tuple[str, str]:
    code = node.operator.code
    if code == "CUSTOM":
        return "custom-op", "it is a custom operator"
    if code.startswith("BUILTIN_"):
        return "unknown-op", "the schema has no builtin operator of this number"
    return "op-unsupported", f"{rules['device']} does not take this operator"


def _main(node: Node, rule: Rules) -> Tensor | None:
    return node.input(rule.get("main", 0))


def _element_type(node: Node, rules: Rules, rule: Rules) -> tuple[str, str, str | None]:
    main = _main(node, rule)
    held = node.values if rules["every_operand"] else [] if main is None else [main]
    strange = next((t for t in held if t.dtype not in rule["types"]), None)
    if strange is None:
        return "", "", None
    known = ", ".join(t.lower() for t in rule["types"])
    rewrite = "quantize_all" if strange.dtype in FLOATS and "quantize_all" in rules["rewrites"] else None
    if strange.dtype in BYTES:
        rewrite = rule.get("rewrite")
    return "element-type", f"it has {strange.dtype.lower()} values, and is taken for {known}", rewrite


def _extent(node: Node, rules: Rules) -> tuple[str, str, str | None]:
    for t in node.values:
        if not (t.is_static or ("sizes_of_file" in rules and min(t.shape, default=0) >= 0)):
            return "dynamic-shape", "a shape is not known before a run", None
        if "rank" in rules and len(t.shape) > rules["rank"]["most"]:
            most = rules["rank"]["most"]
            return "rank", f"a value has {len(t.shape)} axes, and at most {most} are taken", rules["rank"]["rewrite"]
        if "inner_axes" in rules and any(n != 1 for n in t.shape[: -rules["inner_axes"]["most"]]):
            most = rules["inner_axes"]["most"]
            text = f"of the shape {list(t.shape)} only the {most} innermost axes may be longer than 1"
            return "rank", text, None
    return "", "", None


def partitions(nodes: Sequence[Node], placements: Sequence[Placement], single: bool) -> list[Partition]:
    """The graph in pieces that run in one place, in an order of execution; as few as greedy choice gives.
    `single`: only the first piece for the device runs there."""
    waiting, readers = _dependencies(nodes)
    ready: dict[bool, deque[int]] = {True: deque(), False: deque()}
    for i, count in enumerate(waiting):
        if not count:
            ready[placements[i].on_device].append(i)
    if not any(ready.values()):
        return []
    device = not ready[False] or (bool(ready[True]) and ready[True][0] < ready[False][0])
    found: list[Partition] = []
    used = False
    while ready[True] or ready[False]:
        members = []
        while ready[device]:
            i = ready[device].popleft()
            members.append(i)
            for j in readers[i]:
                waiting[j] -= 1
                if not waiting[j]:
                    ready[placements[j].on_device].append(j)
        broken_by = min(ready[not device]) if ready[not device] else None
        found.append(Partition(device and not (single and used), device, tuple(sorted(members)), broken_by))
        used |= device
        device = not device
    return found


def _dependencies(nodes: Sequence[Node]) -> tuple[list[int], list[list[int]]]:
    """For each operator, how many others it waits for, and the places of those that read its results."""
    producer: dict[int, int] = {}
    for i, node in enumerate(nodes):
        for t in node.outputs:
            producer.setdefault(t.number, i)
    waiting, readers = [0] * len(nodes), [list[int]() for _ in nodes]
    for i, node in enumerate(nodes):
        sources = {producer[t.number] for t in node.inputs if t is not None and t.number in producer}
        for source in sources:
            if source < i:  # what is read before it is computed is reported elsewhere
                waiting[i] += 1
                readers[source].append(i)
    return waiting, readers


def after_break(placements: Sequence[Placement], found: Sequence[Partition]) -> list[Placement]:
    """The placements, where pieces that fit the device do not run there since only one piece does."""
    first = next((p for p in found if p.on_device), None)
    lost = {i for p in found if p.fits and not p.on_device for i in p.operators}
    if first is None or first.broken_by is None or not lost:
        return list(placements)
    breaker = placements[first.broken_by]
    reason = f"it comes after operator {breaker.operator} {breaker.code}, which ends the only piece that is mapped"
    return [
        p._replace(on_device=False, level=0, reason=reason, cause="after-break") if p.operator in lost else p
        for p in placements
    ]


def level_name(rules: Rules, level: int) -> str:
    """What a level means: for NNAPI the Android version that brings it."""
    if not level:
        return ""
    text = str(rules["level_name"]).format(level=level)
    known = next((entry for entry in rules.get("levels", ()) if entry["level"] == level), None)
    if known is None:
        return text
    android = f", Android {known['android']}, API {known['api']}" if known["api"] else ", an updated NNAPI runtime"
    return f"{text} ({known['name']}{android})" if known["name"] != text else f"{text} ({android[2:]})"
