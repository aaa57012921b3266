"""What a target writes beside the bytes of weights that a compression counts: layers, names, records and headers."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from compiler.graph import Graph
from compiler.pass_base import PIPELINES
from compiler.pass_manager import PassManager
from compiler.rewrite import Unobserved
from passes._bits_technique import WeightBits, without_annotations
from passes._compression import work_of
from passes._storage import as_stored

if TYPE_CHECKING:
    from compiler.target import Target


def beside_weights(graph: Graph, target: Target, storage: WeightBits | None, each: float) -> float:
    """Bytes of an imported model's artifact that are no weights, as the target writes it with all weights in the first
    of its storages (None: with `each` bytes for a number): each weight in fewer bits has records of its own."""
    twin = deepcopy(target)
    plain, _ = PassManager(PIPELINES["default"]).run(graph.clone())
    for step in twin.before_rounding():
        step.run(plain, Unobserved())
    if storage is not None:
        one = WeightBits(storage.storages[:1], storage.halves)
        one.apply(plain, {c.layer: c.setting for c in one.candidates(plain, None)}, None)
    counted = as_stored(work_of(plain.nodes), plain, each, None).nbytes(each)
    without_annotations(plain)
    twin.settle(plain)
    if storage is not None:
        twin.keep([str(s) for s in storage.storages[:1]])
    rewritten, _ = PassManager(twin.pipeline()).run(plain)
    legal = twin.prepare(rewritten)
    with TemporaryDirectory() as folder:
        return twin.emit(legal, Path(folder) / f"model{twin.suffix}").size - counted
