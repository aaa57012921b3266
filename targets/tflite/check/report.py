"""What a check says: findings, where each operator runs, and the text of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from compiler.onnx_proto import quote
from targets.tflite.reader import Operator, Subgraph, Tensor

ERROR, WARNING, NOTE = "error", "warning", "note"
SHOWN = 12  # messages of one code, and partitions, that the text lists
NAME = 60  # characters of the name of a tensor
PLACES = 4  # places that it lists for each message
BROKEN_CONTRACT = 3


class Finding(NamedTuple):
    """One thing that is not as it should be; `message` says what, why and what to do."""

    code: str
    severity: str
    message: str
    subgraph: int = 0
    operator: int | None = None
    operator_code: str | None = None
    tensor: int | None = None
    tensor_name: str | None = None

    @property
    def where(self) -> str:
        place = f"subgraph {self.subgraph}, " if self.subgraph else ""
        parts = [] if self.operator is None else [f"operator {self.operator} {self.operator_code}"]
        if self.tensor is not None:
            name = self.tensor_name or ""
            parts.append(f"tensor {self.tensor} {quote(name[:NAME] + '...' * (len(name) > NAME))}")
        return place + ", ".join(parts) if parts else place.rstrip(", ") or "the file"


class Placement(NamedTuple):
    """Where an operator of the main subgraph runs: on the device from `level` on, or not, and then why and what would
    help. `level` is a feature level of NNAPI, or the version of the Edge TPU runtime."""

    operator: int
    code: str
    on_device: bool
    level: int
    reason: str = ""
    cause: str = ""  # a code as of findings
    rewrite: str = ""


class Partition(NamedTuple):
    """Operators that run together. `fits`: the device takes each of them; `broken_by` is the first operator that could
    have been next and runs elsewhere."""

    on_device: bool
    fits: bool
    operators: tuple[int, ...]
    broken_by: int | None = None


class CheckReport(NamedTuple):
    """All that a check found. `kind`: what values between operators are: "int8", "16x8", "float" or "mixed"."""

    path: str
    target: str
    device: str
    strict: bool
    kind: str
    subgraphs: int
    tensors: int
    operators: int
    level: int
    level_name: str
    findings: tuple[Finding, ...]
    placements: tuple[Placement, ...]
    partitions: tuple[Partition, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == ERROR)

    @property
    def on_device(self) -> int:
        return sum(len(p.operators) for p in self.partitions if p.on_device)

    @property
    def exit_code(self) -> int:
        """0 where nothing breaks the contract, 3 where something does."""
        return BROKEN_CONTRACT if self.errors else 0

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {k: v for k, v in self._asdict().items() if k not in ("findings", "placements", "partitions")}
        lists = {k: [item._asdict() for item in getattr(self, k)] for k in ("findings", "placements", "partitions")}
        return plain | {"on_device": self.on_device, "exit_code": self.exit_code} | lists

    def text(self) -> str:
        """For a terminal, lines of plain text."""
        return "\n".join((*self._head(), *self._finding_lines(), *self._placement_lines(), self._verdict())) + "\n"

    def _head(self) -> Iterator[str]:
        counts = f"{_count(self.operators, 'operator')}, {_count(self.tensors, 'tensor')}"
        graphs = "" if self.subgraphs == 1 else f" in {_count(self.subgraphs, 'subgraph')}"
        yield f"{self.path}: {self.kind}, {counts}{graphs}; checked for {self.device}"

    def _finding_lines(self) -> Iterator[str]:
        """Those that say the same of several places share a line."""
        alike: dict[tuple[str, str, str], list[Finding]] = {}
        for f in self.findings:
            alike.setdefault((f.severity, f.code, f.message), []).append(f)
        shown: Counter[str] = Counter()
        for (severity, code, message), found in alike.items():
            shown[code] += 1
            if shown[code] <= SHOWN:
                yield f"  {severity} {code} at {listed((f.where for f in found), PLACES)}: {message}"
        for code, count in shown.items():
            if count > SHOWN:
                yield f"  and {count - SHOWN} more kinds of {code}; --json lists them all"

    def _placement_lines(self) -> Iterator[str]:
        needs = f", from {self.level_name} on" if self.on_device and self.level_name else ""
        pieces = sum(p.on_device for p in self.partitions)
        spread = f" in {_count(pieces, 'partition')}" if pieces else ""
        yield f"  {self.device}: {self.on_device} of {_count(self.operators, 'operator')}{spread}{needs}"
        yield from self._level_lines()
        for number, p in enumerate(self.partitions[:SHOWN]):
            yield f"    partition {number} {self._place(p)}: {self._extent(p)}{self._break(p)}"
        if len(self.partitions) > SHOWN:
            yield f"    and {len(self.partitions) - SHOWN} more; --json lists them all"

    def _level_lines(self) -> Iterator[str]:
        by_level: dict[int, Counter[str]] = {}
        for p in self.placements:
            if p.on_device:
                by_level.setdefault(p.level, Counter())[p.code] += 1
        for level, counts in sorted(by_level.items()):
            if level:
                names = ", ".join(code if n == 1 else f"{code} x{n}" for code, n in sorted(counts.items()))
                yield f"    level {level}: {names}"

    def _place(self, partition: Partition) -> str:
        if partition.on_device:
            return self.device
        return "CPU (fits, but only one partition is mapped)" if partition.fits else "CPU"

    def _extent(self, partition: Partition) -> str:
        numbers = partition.operators
        span = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        return f"{_count(len(numbers), 'operator')}, {span}"

    def _break(self, partition: Partition) -> str:
        if partition.broken_by is None or not partition.fits:
            return ""
        p = self.placements[partition.broken_by]
        help_ = f"; {p.rewrite}" if p.rewrite else ""
        return f"; broken by operator {p.operator} {p.code}: {p.reason}{help_}"

    def _verdict(self) -> str:
        found = Counter(f.severity for f in self.findings)
        counts = ", ".join(_count(found[s], s) for s in (ERROR, WARNING, NOTE) if found[s])
        return f"  {'the contract is broken' if self.errors else 'no rule is broken'}{f': {counts}' if counts else ''}"


class Findings:
    """Findings as they are made; the same one twice counts once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], Finding] = {}

    def add(
        self,
        code: str,
        severity: str,
        message: str,
        *,
        graph: Subgraph | None = None,
        operator: Operator | None = None,
        tensor: Tensor | None = None,
    ) -> None:
        number = None if operator is None else operator.number
        index = None if tensor is None else tensor.number
        subgraph = 0 if graph is None else graph.number
        key = code, subgraph, number, index
        if key not in self._found:
            op_code = None if operator is None else operator_name(operator)
            name = None if tensor is None else tensor.name
            self._found[key] = Finding(code, severity, message, subgraph, number, op_code, index, name)

    def all(self) -> tuple[Finding, ...]:
        """Errors first, else in the order in which they were made."""
        order = {ERROR: 0, WARNING: 1, NOTE: 2}
        return tuple(sorted(self._found.values(), key=lambda f: order[f.severity]))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())


def is_builtin(operator: Operator) -> bool:
    """Whether the schema has this operator."""
    return operator.code != "CUSTOM" and not operator.code.startswith("BUILTIN_")


def operator_name(operator: Operator) -> str:
    """The builtin's name, or the quoted one of a custom operator."""
    return f"CUSTOM {quote(operator.custom)}" if operator.code == "CUSTOM" else operator.code


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], most: int) -> str:
    """Names with commas, of which only the first are told."""
    given = list(names)
    more = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(given[:most]) + more
