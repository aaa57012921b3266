"""The NEON target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.library import EMBEDDINGS, ISAS
from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.ops.conv import ConvTranspose
from compiler.pass_base import PIPELINES, Step
from compiler.split import parse_size
from compiler.target import Target, expect_choice, refuse
from compiler.tensor import Array
from passes._qdq import carries_scales
from passes.choose_layout import ChooseLayout
from passes.decompose import Decompose
from passes.merge_reshapes import MergeReshapes
from passes.remove_identity import RemoveIdentity
from targets.neon.artifact import NeonArtifact
from targets.neon.blocking import core
from targets.neon.build import RUN_ON
from targets.neon.emit import Form, lowered, write_library
from targets.neon.lower import matmul as _registered  # noqa: F401  # fills the table
from targets.neon.table import TABLE
from targets.source.halves import in_halves
from targets.source.needs import port_objections

if TYPE_CHECKING:
    from compiler.calibrate.trial import Trial
    from targets.neon.int8.target import IntegerTarget

INTEGER_OPTIONS = ("calibrate", "observer", "repair", "io_dtype", "max_drop", "min_psnr")
INTEGERS = ("int8", "int16x8")
PRECISIONS = ("fp32", "fp16", *INTEGERS)
TOLERANCE_DB = {"fp32": 90.0, "fp16": 50.0}
MOST_THREADS = 64


class NeonTarget(Target):
    """A folder of C11 with NEON intrinsics: a library with the model's schedule, and a program that runs it on files.

    precision     fp32 (default); fp16: numbers are stored in 16 bits; int8: arithmetic of integers, bit for bit that of
                  TensorFlow Lite; the default for a quantized model, which keeps its scales; or int16x8: with
                  activations of 16 bits
    isa           auto (default): kernels for what processors may have, of which the library chooses when it runs; or
                  base, fp16, dotprod, i8mm: for processors that have that
    cpu           the core whose caches kernels are cut for
    threads       how many may share the work of one inference (default 1)
    embed         file (default): the caller loads weights.bin; incbin or array: the weights are in the library
    memory_limit  bytes that weights and working memory may take, as 2MB
    run_on        auto (default), native or qemu: where the library is run to compare it
    symbol        what names in C begin with (default: the name of the folder)
    calibrate, observer, repair, io_dtype, max_drop, min_psnr   for integers, as of the target nnapi
    """

    name = "neon"
    suffix = ""
    accepts = frozenset(
        ("precision", "isa", "cpu", "threads", "embed", "memory_limit", "run_on", "symbol", *INTEGER_OPTIONS)
    )

    def __init__(
        self,
        precision: str | None = None,
        isa: str = "auto",
        cpu: str = "",
        threads: int = 1,
        embed: str = EMBEDDINGS[0],
        memory_limit: str | int | None = None,
        run_on: str = RUN_ON[0],
        symbol: str | None = None,
        **of_integers: Any,  # each option of the TensorFlow Lite target has its type there
    ) -> None:
        expect_choice(self.name, "precision", precision or "fp32", PRECISIONS)
        expect_choice(self.name, "isa", isa, ("auto", *ISAS))
        expect_choice(self.name, "embed", embed, EMBEDDINGS)
        expect_choice(self.name, "run_on", run_on, RUN_ON)
        if not 1 <= threads <= MOST_THREADS:
            raise UsageError(f"--threads {threads} is not a number from 1 to {MOST_THREADS}")
        limit = parse_size(memory_limit, "--memory-limit") if isinstance(memory_limit, str) else memory_limit
        self.precision, self.isa, self.run_on = precision or "fp32", isa, run_on
        self.core = core(cpu)
        self.form = Form(symbol, threads, embed, limit)
        self._is_open = precision is None
        self._of_integers = of_integers
        self._integers = self._integer_target(precision) if precision in INTEGERS or of_integers else None

    def _integer_target(self, precision: str | None) -> IntegerTarget:
        from targets.neon.int8.target import IntegerTarget  # with the TensorFlow Lite target: for integers only

        return IntegerTarget(self.isa, self.run_on, self.form, self.core, precision=precision, **self._of_integers)

    def settle(self, graph: Graph, absorbs: bool = True) -> bool:
        """A quantized model keeps its scales and is computed in integers unless another precision is asked for."""
        if self._integers is None and self._is_open and absorbs and carries_scales(graph):
            self._integers = self._integer_target(None)
        if self._integers is None:
            return False
        changed = self._integers.settle(graph, absorbs)
        self.keeps_scales, self.precision = self._integers.keeps_scales, self._integers.precision
        return changed

    def examples(self, graph: Graph) -> Mapping[str, Array] | None:
        return None if self._integers is None else self._integers.examples(graph)

    def trial(self, graph: Graph) -> Trial | None:
        return None if self._integers is None else self._integers.trial(graph)

    def floats(self) -> Graph | None:
        return None if self._integers is None else self._integers.floats()

    def pipeline(self) -> tuple[Step, ...]:
        if self._integers is not None:
            return self._integers.pipeline()
        return (
            *PIPELINES["default"],
            Decompose(keeps=TABLE.accepts),
            *(in_halves(_is_taken) if self.precision == "fp16" else ()),
            MergeReshapes(),
            RemoveIdentity(),
            ChooseLayout(),
        )

    def prepare(self, graph: Graph) -> Graph:
        if self._integers is not None:
            return self._integers.prepare(graph)
        refuse(self.name, [*TABLE.objections(graph), *port_objections(graph)], "--target onnx or nnapi may run it")
        return graph

    def emit(self, graph: Graph, path: Path) -> NeonArtifact:
        if self._integers is not None:
            return self._integers.emit(graph, path)
        p = lowered(graph, self.precision, self.isa, self.form.threads, self.core)
        written = write_library(p, graph.name, path, self.form)
        return NeonArtifact(path, graph, [], run_on=self.run_on, written=written)

    @property
    def tolerance_db(self) -> float:
        return TOLERANCE_DB[self.precision] if self._integers is None else self._integers.tolerance_db


def _is_taken(node: Node) -> bool:
    """Whether a layer of halves has a kernel that is not slower than that of floats: transposed convolutions have none,
    recurrent layers are refused."""
    return TABLE.accepts(node) and not isinstance(node.op, ConvTranspose)


TARGET = NeonTarget
