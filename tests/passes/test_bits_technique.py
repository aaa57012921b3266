"""Weight bits as a technique: rounded numbers, found again wherever passes move them; and what is made around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from compiler.calibrate.fitting import Fitting
from compiler.calibrate.names import fingerprint
from compiler.calibrate.trial import Trial
from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.ops.matmul import Dense
from compiler.rewrite import Unobserved
from compiler.tensor import F32, TensorType
from passes._allocate import Frontier
from passes._bits_technique import WeightBits, without_annotations
from passes._budget import Limits
from passes._compress_judge import Judge, Loss
from passes._compress_make import Data
from passes._compress_menu import Measuring, Menu
from passes._compress_search import Search
from passes._compress_walk import Goal
from passes._compression import Recovery, Rows, Setting, layer_names, work_of
from passes._fitted import data_of, set_data
from passes._low_rank import Splits
from passes._sensitivity import Store
from passes._storage import as_stored
from passes._weight_bits import storage_of
from passes.annotate_weights import AnnotateWeights

WIDE = 96
STORAGES = ("int8", "int4/32", "palette6", "palette4/16", "palette2")


def model() -> Graph:
    """Two dense layers whose weights are nearly of rank 12."""
    rng, graph = np.random.default_rng(3), Graph()
    v = graph.add_input(TensorType(F32, (4, WIDE)), "x")
    for name in "ab":
        w = rng.normal(size=(WIDE, 12)) @ rng.normal(size=(12, WIDE)) / WIDE
        w += 0.01 * rng.normal(size=w.shape)
        (v,) = graph.add(
            Dense(), v, graph.const(w.astype(np.float32)), graph.const(np.ones(WIDE, np.float32)), names=[name]
        )
    graph.set_outputs([v], ["y"])
    return graph


def data(limits: Limits | None = None) -> Data:
    feeds = [{"x": np.random.default_rng(i).normal(size=(4, WIDE)).astype(np.float32)} for i in range(80)]
    judge = Judge(Trial(feeds[60:65]), Trial(feeds[60:]), limits or Limits())
    return Data(Fitting(feeds[:60]), Fitting(feeds[:20]), judge)


@pytest.mark.parametrize("text", STORAGES)
@pytest.mark.parametrize("halves", [False, True])
def test_rounded_numbers_are_found_again(text: str, halves: bool) -> None:
    graph = model()
    storage = storage_of(text)
    WeightBits([storage], halves).apply(graph, {"a": {"storage": text}}, None)
    graph.verify()
    node = layer_names(graph)["a"]
    rounded, annotation = data_of(node.inputs[1]), node.inputs[1].type  # type: ignore[union-attr]  # a constant
    assert not np.array_equal(rounded, data_of(layer_names(model())["a"].inputs[1]))
    without_annotations(graph)
    set_data(graph, node, 1, 3 * rounded)  # as a scale that is folded into the weight
    AnnotateWeights(kept="+".join(STORAGES), halves=False).run(graph, Unobserved())
    found = {name: n.inputs[1].type for name, n in layer_names(graph).items()}  # type: ignore[union-attr]
    assert found["b"].quant is None and found["b"].palette is None
    assert (found["a"].quant is None) == (annotation.quant is None)
    if annotation.quant is not None and found["a"].quant is not None:
        assert found["a"].quant.scale == pytest.approx([3 * s for s in annotation.quant.scale], rel=1e-5)
    else:
        assert annotation.palette is not None and found["a"].palette is not None
        assert found["a"].palette.bits <= annotation.palette.bits


def test_marks_count_as_much_as_what_is_done() -> None:
    for text in STORAGES:
        made, marked = model(), model()
        technique = WeightBits([storage_of(text)])
        technique.apply(made, {"a": {"storage": text}}, None)
        technique.mark(marked, {"a": {"storage": text}})
        assert work_of(made.nodes) == work_of(marked.nodes)
        (candidate, *_) = [c for c in technique.candidates(model(), None) if c.layer == "a"]
        whole = work_of(model().nodes)
        counted = as_stored(work_of(made.nodes), made, 4.0, None)
        assert whole.nbytes(4) - counted.nbytes(4) == candidate.saved.nbytes(4) > 0


def test_settings_that_do_not_fit() -> None:
    technique = WeightBits([storage_of("int8")])
    for chosen in ({"none": {"storage": "int8"}}, {"a": {"bits": 8}}, {"a": {"storage": "int7"}}):
        with pytest.raises(UsageError):
            technique.apply(model(), chosen, None)


def menu() -> tuple[Graph, Menu]:
    graph, rows = model(), data()
    rows.judge.start(graph)
    storage = WeightBits([storage_of(text) for text in ("int8", "palette4", "palette2")])
    how = Measuring(rows, Store(None, ""), lambda w: w.nbytes(4), 4.0, False, lambda _: None)
    return graph, Menu(graph, [Splits(least=256)], storage, how)


def test_pairs_save_what_they_say() -> None:
    graph, found = menu()
    assert found.is_mixed
    frontier = found.frontier({})
    seen = 0
    for step in frontier.steps:
        option, twin = step.option, graph.clone()
        if option.also is None:
            continue
        Splits(least=256).apply(twin, {option.layer: option.setting}, None)
        WeightBits(()).mark(twin, {option.layer: option.also[1]})
        left = as_stored(work_of(twin.nodes), twin, 4.0, None).nbytes(4)
        assert work_of(graph.nodes).nbytes(4) - left == pytest.approx(option.saved, abs=4 * WIDE)  # a new bias
        seen += 1
    assert seen
    assert isinstance(found.stored_only(), Frontier)


def searched(recoveries: Sequence[Recovery] = (), store: Path | None = None) -> tuple[Graph, Search]:
    storage = WeightBits([storage_of(text) for text in ("int8", "palette4")])
    goal = Goal("bytes", 0.2, is_share=True)
    found = Search([Splits(least=256)], fingerprint, goal, data(), storage=storage, recoveries=recoveries, store=store)
    graph = model()
    found.run(graph, Unobserved())
    graph.verify()
    return graph, found


def test_a_layer_is_split_and_stored_in_fewer_bits() -> None:
    _, found = searched()
    assert found.outcome is not None and found.outcome.loss is not None
    by = {name: {c.layer for c in found.outcome.recipe.choices if c.technique == name} for name in found._maker.names}
    assert by["low-rank"] & by["weight-bits"]
    assert found.outcome.work.nbytes(4) <= 0.2 * found.whole.nbytes(4)
    assert [s.technique for s in found.stages] == ["low-rank", "weight-bits"]
    assert found.outcome.loss.snr > 15


def test_pairs_are_measured_once(tmp_path: Path) -> None:
    _, first = searched(store=tmp_path / "measured")
    _, again = searched(store=tmp_path / "measured")
    lines = (tmp_path / "measured").read_text().splitlines()
    assert len(lines) == first.store.measured > 0
    assert sum("low-rank+weight-bits" in line for line in lines) == 2
    assert again.store.measured == 0
    assert again.outcome == first.outcome


class Changing:
    """Sets biases: to what they are and more."""

    name = "changing"

    def __init__(self, by: float) -> None:
        self.by = by

    def run(self, before: Graph, after: Graph, rows: Rows) -> int:
        for node in list(after.nodes):
            if len(node.inputs) == 3:
                set_data(after, node, 2, data_of(node.inputs[2]) + np.float32(self.by))
        return 2


def test_a_recovery_that_makes_it_worse_is_undone() -> None:
    plain, without = searched()
    graph, found = searched([Changing(0.5)])
    assert [(s.technique, s.undone) for s in found.stages] == [
        ("low-rank", False), ("changing", True), ("weight-bits", False),
    ]  # fmt: skip
    assert fingerprint(graph) == fingerprint(plain)
    assert found.outcome is not None and without.outcome is not None
    assert found.outcome.loss == without.outcome.loss
    assert "undone" in str(found.stages[1])


def test_a_recovery_that_helps_stays() -> None:
    class Damaging(Splits):
        def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> list[Node]:
            made = super().apply(graph, chosen, rows)
            Changing(0.5).run(graph, graph, data().rows)
            return made

    losses = []
    for recoveries in ([], [Changing(-0.5)]):
        found = Search([Damaging(least=256)], fingerprint, Goal("parameters", 0.6, True), data(), recoveries=recoveries)
        found.run(model(), Unobserved())
        assert found.outcome is not None and found.outcome.loss is not None
        losses.append(found.outcome.loss.snr)
    assert losses[1] > losses[0] + 5
    assert [s.undone for s in found.stages] == [False, False]


def test_what_a_judge_prefers() -> None:
    judge = Judge(Trial([]), Trial([{"x": np.zeros((100, 1), np.float32)}]), Limits(0.05))
    judge._outputs = [{"y": np.zeros((100, 2), np.float32)}]
    old = Loss(0.04, 30.0, 20.0)
    assert judge.prefers(Loss(0.04, 30.0, 21.0), old)
    assert not judge.prefers(Loss(0.04, 30.0, 19.0), old)
    assert judge.prefers(Loss(0.01, 30.0, 19.0), old)
    assert not judge.prefers(Loss(0.06, 30.0, 25.0), old)  # beyond the limit
    assert judge.prefers(Loss(None, 30.0, 20.5), Loss(None, 30.0, 20.0))
