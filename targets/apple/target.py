"""What targets for Core ML and Core AI share: the engine that is written for, data, weights in fewer bits, borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.halves import told
from compiler.pass_base import Pass, Step
from compiler.target import expect_choice
from passes._weight_bits import expect_kind
from passes.annotate_weights import AnnotateWeights
from passes.drop_empty import is_empty
from passes.scale_queries import ScaleQueries
from targets.apple import authoring, engine, legal
from targets.apple.borders import Border, borders
from targets.apple.chunks import checked_split
from targets.apple.halves import Rows, found
from targets.apple.placement.systems import System
from targets.apple.sparse import Sparse, checked_share
from targets.apple.weights import share
from targets.quantizing import QuantizingTarget

TOLERANCE_DB = {"fp16": 45.0, "fp32": 60.0, "int8": 20.0}
WEIGHTS_DB = {"int8": 24.0, "int4": 6.0, "palette8": 24.0, "palette6": 16.0, "palette4": 6.0, "palette3": 3.0}
LAYOUTS = ("keep", "engine")
STORAGES = (  # tables and scales of channels: what the engine does not take, scales of blocks, is not among them
    "int8", "int4", "palette8", "palette6", "palette4", "palette3", "palette2", "palette1", "palette4/32",
    "palette3/32", "palette2/32",
)  # fmt: skip


class AppleTarget(QuantizingTarget):
    """Options mean the same for both; see the targets."""

    precision: str
    system: System
    weights: AnnotateWeights | None = None

    def __init__(
        self, chip: str, approximate: str, io_layout: str, split: str | None, sparse: str | float | None
    ) -> None:
        self.sparse_share = checked_share(sparse)
        self.chip = engine.chip(chip)
        self.approximate = legal.asked(approximate)
        expect_choice(self.name, "I/O layout", io_layout, LAYOUTS)
        self.io_layout = io_layout
        self.split = checked_split(split, io_layout != LAYOUTS[0])

    @property
    def element(self) -> str:
        """The type of floats inside."""
        return "fp32" if self.precision == "fp32" else "fp16"

    def asked_weights(self, kind: str | None, block: int | None) -> AnnotateWeights | None:
        """The pass that says how weights are stored. UsageError if the options do not fit together."""
        if kind is None:
            if block is not None:
                raise UsageError("--block-size is for --weights")
            return None
        expect_kind(kind, block)
        return AnnotateWeights(kind=kind, block=block, halves=self.element == "fp16")

    @property
    def sparse(self) -> Sparse:
        """Which weights are stored as a mask and the numbers that are left."""
        return Sparse(self.sparse_share, joint=True)

    @property
    def storages(self) -> Sequence[str]:
        return () if self.weights is not None or self.precision == "int8" else STORAGES

    def keep(self, storages: Sequence[str]) -> None:
        self.weights = AnnotateWeights(kept="+".join(storages), halves=self.element == "fp16")

    def before_rounding(self) -> Sequence[Pass]:
        return (ScaleQueries(),)

    @property
    def sparse_joint(self) -> bool:
        return self.sparse.joint

    @property
    def sparse_from(self) -> float | None:
        in_fewer_bits = self.weights is not None or self.precision == "int8"
        return None if in_fewer_bits and not self.sparse.joint else self.sparse.share

    def authored(self, engine: bool = True) -> tuple[Step, ...]:
        """The passes that re-author layers for the engine; without it, those that keep numbers within 16 bits."""
        return authoring.steps(self.chip, self.element == "fp16", self.rows, self.approximate, engine)

    @property
    def rows(self) -> Rows | None:
        """Of the data that shows what 16-bit floats must hold; None without data, and for int8."""
        data = self.calibrated
        return None if data is None or self.precision == "int8" or data.saved else lambda g: data.trial(g).feeds

    @property
    def tolerance_db(self) -> float:
        """Weights in fewer bits are another function; what is required tells a wrong artifact from a coarse one."""
        required = TOLERANCE_DB[self.precision]
        kind = "" if self.weights is None else self.weights.kind
        return min(required, WEIGHTS_DB.get(kind, 0.0)) if kind else required

    def may_move(self, v: Value) -> bool:
        """Whether an input or output may lie in the artifact in another way than in the model."""
        return v.type.dtype.is_float and v.type.quant is None and not is_empty(v)

    def moved(self, graph: Graph) -> Mapping[Value, Border]:
        """What lies in another way at the inputs and outputs."""
        return borders(graph, self.may_move) if self.io_layout == "engine" else {}

    def stored(self, graph: Graph) -> list[str]:
        """What there is to know of weights in fewer bits."""
        return [] if self.weights is None else [share(graph)]

    def risks(self, graph: Graph) -> list[str]:
        """What is doubtful about the data, and what 16-bit floats may not hold."""
        notes = [] if self.calibrated is None else self.calibrated.notes
        if self.precision != "fp16":
            return notes
        return [*notes, *told(found(graph, self.chip, self.rows), known_kinds={"constant"})]


def layouts(moved: Mapping[str, Border | None]) -> dict[str, str]:
    """What an artifact says of how its inputs and outputs lie: the moves that the caller is left with, by port."""
    return {
        f"layout of {name}": " ".join(map(str, border.moves))
        for name, border in moved.items()
        if border and border.moves
    }
