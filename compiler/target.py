"""What a target is: a pipeline, a table of lowerings with their needs, and the artifacts it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from compiler.errors import LegalityError, UsageError
from compiler.graph import Graph, Node
from compiler.op import Op
from compiler.pass_base import Pass, Step
from compiler.probe import Loss
from compiler.record import Record
from compiler.report import Section
from compiler.tensor import Array, DType

if TYPE_CHECKING:
    from compiler.calibrate.trial import Trial

P = TypeVar("P")
Lower = Callable[[P, Node, Any], None]  # Any: the operation, whose class the table entry names


class Artifact(ABC):
    """A finished file or folder. Every artifact answers `run(inputs) -> outputs` in the ONNX model's names, shapes
    and element types, by executing what was written to disk."""

    path: Path
    warnings: list[str]
    notes: Sequence[str] = ()  # what there is to know of how it will run
    details: Section | None = None  # what its target has to tell of it in numbers

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Execute the artifact. Raises UsageError if the inputs do not fit it."""

    def refine(self, good: Callable[[], bool]) -> bool:
        """Give up size for accuracy, as little as `good`, which runs the artifact, asks for; it is asked last of what
        stays. False if that cannot help: then the artifact is what it was."""
        return False

    def losses(self, graph: Graph, inputs: Mapping[str, Array]) -> list[Loss]:
        """The layers of the emitted graph at which the executed artifact loses the most accuracy, worst first; none
        if the artifact does not show its intermediate tensors."""
        return []

    @property
    def transposes(self) -> tuple[int, int] | None:
        """How many operators of the artifact transpose a tensor, and the bytes that they move; None if not known."""
        return None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = [self.path] if self.path.is_file() else [f for f in self.path.rglob("*") if f.is_file()]
        return sum(f.stat().st_size for f in files)


class Need(Record):
    """A condition on a layer. `text` completes the sentence "needs ..." in messages and in the docs."""

    text: str
    holds: Callable[[Node], bool]
    source: str = ""
    confidence: str = ""


def dtypes(*allowed: DType) -> Need:
    """Every operand and result has one of these element types."""
    names = " or ".join(d.name for d in allowed)

    def holds(node: Node) -> bool:
        return all(v is None or v.type.dtype in allowed for v in (*node.inputs, *node.outputs))

    return Need(text=f"element type {names}", holds=holds)


def op_need(text: str, holds: Callable[[Any], bool]) -> Need:  # Any: the operation, whose class the table names
    """A condition on a layer's operation alone."""
    return Need(text=text, holds=lambda node: holds(node.op))


def constant_operands(*indices: int) -> Need:
    """These operands, where present, are constants."""

    def holds(node: Node) -> bool:
        given = (node.inputs[i] for i in indices if i < len(node.inputs))
        return all(v is None or v.data is not None for v in given)

    return Need(text=f"constant operands {', '.join(map(str, indices))}", holds=holds)


DECOMPOSED = Need(
    text="known sizes and a form that decomposes into simpler operations (limits in docs/passes/decompose.md)",
    holds=lambda _: False,
)


def _not_lowered(_program: Any, node: Node, _op: Any) -> None:  # Any: no program or operation is looked at
    raise AssertionError(f"{node!r} is decomposed before it is lowered")


class LoweringTable(Generic[P]):
    """Operation -> needs and lowering function: legality, emission and the support page of a target in one place."""

    def __init__(self) -> None:
        self.entries: dict[type[Op], tuple[tuple[Need, ...], Lower[P]]] = {}

    def lowers(self, op: type[Op], *needs: Need) -> Callable[[Lower[P]], Lower[P]]:
        """Register a function `(program, node, op)` that emits layers of this operation."""

        def register(function: Lower[P]) -> Lower[P]:
            assert op not in self.entries, f"{op.name} has two lowerings"
            self.entries[op] = (needs, function)
            return function

        return register

    def decomposes(self, ops: Iterable[type[Op]]) -> None:
        """Say of operations without a lowering that they are to be decomposed before; called when all lowerings are
        registered."""
        for op in ops:
            if op not in self.entries:
                self.entries[op] = ((DECOMPOSED,), _not_lowered)

    def accepts(self, node: Node) -> bool:
        """Whether a layer has a lowering and meets all its needs."""
        entry = self.entries.get(type(node.op))
        return entry is not None and all(need.holds(node) for need in entry[0])

    def objection(self, node: Node) -> str | None:
        """Why a layer cannot be lowered; None if it can."""
        entry = self.entries.get(type(node.op))
        if entry is None:
            return "no lowering"
        return next((f"needs {n.text}" for n in entry[0] if not n.holds(node)), None)

    def objections(self, graph: Graph) -> list[str]:
        """One line for every layer that has no lowering or misses a need, with its ONNX origin."""
        found = ((node, self.objection(node)) for node in graph.nodes)
        return [f"{node.describe()} -- {missing}" for node, missing in found if missing]

    def lower(self, program: P, graph: Graph) -> None:
        """Emit every layer in order; `objections` must be empty."""
        for node in graph.nodes:
            self.entries[type(node.op)][1](program, node, node.op)

    def support(self) -> list[tuple[str, str]]:
        """(operation, needs) for the docs, sorted."""
        return sorted((op.name, "; ".join(n.text for n in needs)) for op, (needs, _) in self.entries.items())


class Target(ABC):
    """A place to compile for. Options are keyword arguments of the constructor, which checks them."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    accepts: ClassVar[frozenset[str]] = frozenset()  # names of the options
    keeps_scales: bool = False  # of a quantized model, once `settle` saw one
    strict: bool = False  # refuse what could only be written as less than was asked for

    @abstractmethod
    def pipeline(self) -> tuple[Step, ...]:
        """The passes that every model for this target goes through first."""

    def settle(self, graph: Graph, absorbs: bool = True) -> bool:
        """Look at the imported model before the pipeline runs; whether that changed the pipeline. `absorbs`: the passes
        that will run turn the scales of a quantized model into annotations."""
        return False

    @abstractmethod
    def prepare(self, graph: Graph) -> Graph:
        """A legal graph (the same, rewritten). Raises LegalityError listing every layer that cannot run."""

    @abstractmethod
    def emit(self, graph: Graph, path: Path) -> Artifact:
        """Write a prepared graph; the path appears complete or not at all."""

    def unauthored(self) -> tuple[Step, ...] | None:
        """The pipeline without what only suits one engine, to tell what that brings; None if it has nothing such."""
        return None

    def placement(self, graph: Graph, plain: Graph | None) -> Section | None:
        """Which processors are predicted to run a prepared graph, and beside it one from the unauthored pipeline; None
        if nothing is known of that."""
        return None

    def examples(self, graph: Graph) -> Mapping[str, Array] | None:
        """Inputs of the imported model on which the artifact is to be compared; None if seeded ones do."""
        return None

    def trial(self, graph: Graph) -> Trial | None:
        """Rows of data on which a graph with the model's inputs is to be judged; None if there is no data."""
        return None

    def floats(self) -> Graph | None:
        """The layers of the prepared graph before their constants were fitted to rounding; None if they were not."""
        return None

    @property
    def multiple(self) -> int:
        """Of what numbers of channels the device is not slowed down by; 1: nothing is known."""
        return 1

    @property
    def storages(self) -> Sequence[str]:
        """How weights may be stored in fewer bits, where nothing was asked for: kinds of the pass annotate-weights with
        their blocks, as int4/32."""
        return ()

    def keep(self, storages: Sequence[str]) -> None:
        """Store weights that consist of the very numbers of one of these so; called before `pipeline`."""
        raise UsageError(f"the target {self.name} stores no weights as {' or '.join(storages)}")

    def before_rounding(self) -> Sequence[Pass]:
        """Passes of this target that change numbers of weights, for models whose weights are rounded before `pipeline`
        runs: what is rounded then is what is stored."""
        return ()

    @property
    def sparse_joint(self) -> bool:
        """Whether weights with many zeros may be in fewer bits too."""
        return False

    @property
    def sparse_from(self) -> float | None:
        """The share of zeros from which a weight may be stored as a mask and the numbers that are left, so that
        `passes._sparse.bytes_of` says what it takes; None: all numbers always are."""
        return None

    @property
    @abstractmethod
    def tolerance_db(self) -> float:
        """PSNR that the executed artifact must reach against ONNX Runtime."""


def refuse(target: str, objections: list[str], hint: str) -> None:
    """Raise LegalityError with all objections, if there are any."""
    if objections:
        count = f"{len(objections)} layers" if len(objections) > 1 else "1 layer"
        raise LegalityError(f"{target}: {count} cannot run\n  " + "\n  ".join(objections), hint=hint)


def make_target(cls: type[Target], options: Mapping[str, Any]) -> Target:
    """An instance with those options that are set; UsageError for one the target does not take."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in cls.accepts:
            known = ", ".join("--" + n.replace("_", "-") for n in sorted(cls.accepts)) or "none"
            raise UsageError(
                f"target {cls.name} does not take --{name.replace('_', '-')}", hint=f"its options are {known}"
            )
    return cls(**given)


def expect_choice(target: str, what: str, value: str, known: Sequence[str]) -> None:
    """UsageError unless an option has one of its values."""
    if value not in known:
        raise UsageError(f"there is no {what} {value!r} for {target}", hint=f"choose one of {', '.join(known)}")


def no_data(precision: str) -> UsageError:
    """What to say of a precision that needs calibration data and got none."""
    return UsageError(
        f"precision {precision} needs data that shows what numbers occur",
        hint="--calibrate FILE.npz with a few hundred rows for each input; --calibrate synthetic for a trial run",
    )


def expect_int8(precision: str, calibrate: object, **given: object) -> None:
    """UsageError unless calibration data comes with int8, and it and `given` options with int8 alone."""
    if precision == "int8" and calibrate is None:
        raise no_data(precision)
    for name, value in {"calibrate": calibrate, **given}.items():
        if value is not None and precision != "int8":
            raise UsageError(f"--{name.replace('_', '-')} is for --precision int8")
