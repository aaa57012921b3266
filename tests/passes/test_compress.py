"""compress meets goals and limits, measures each layer once, and can be told again by its recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from compiler.api import load
from compiler.calibrate.fitting import Fitting
from compiler.calibrate.names import fingerprint
from compiler.calibrate.trial import Trial
from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.pass_manager import PassManager
from compiler.rewrite import Unobserved
from passes._bits_technique import WeightBits
from passes._budget import Limits
from passes._compress_apply import apply_all
from passes._compress_judge import Judge, Loss
from passes._compress_make import Data, Maker
from passes._compress_menu import Measuring, Menu
from passes._compress_search import Search
from passes._compress_walk import Goal
from passes._compression import Candidate, Rows, Setting, Technique, work_of
from passes._fitted import data_of, set_data
from passes._low_rank import Splits
from passes._prune_technique import PrunedChannels
from passes._recipe import Choice, Recipe, read_recipe
from passes._sensitivity import Point, Store, noise_at
from passes._weight_bits import bits_of, storage_of
from passes.compress import Compress
from tests.passes.composed import Record

ROOT = Path(__file__).parents[2]
DATA = np.load(ROOT / "examples" / "data" / "ai4i.npz")
BATCH = 10
FEEDS = [{"input": DATA["input"][i : i + BATCH]} for i in range(0, 500, BATCH)]
LABELS = DATA["labels"].astype(np.int64)


def model() -> Graph:
    graph = load(ROOT / "examples" / "fault_mlp_ai4i.onnx", inputs={"input": (BATCH, 8)})
    return PassManager("default").run(graph).graph


def data(limits: Limits | None = None) -> Data:
    rows, judged = FEEDS[::2], FEEDS[1::2]
    labels = np.concatenate([LABELS[i : i + BATCH] for i in range(BATCH, 500, 2 * BATCH)])
    judge = Judge(Trial(judged[:5]), Trial(judged), limits or Limits(), labels)
    return Data(Fitting(rows), Fitting(rows[:5]), judge)


def search(
    goal: Goal | None, limits: Limits | None = None, store: Path | None = None, points: int = 0, **more: object
) -> Search:
    techniques = [PrunedChannels(), Splits(least=256)]
    return Search(techniques, fingerprint, goal, data(limits), store=store, key="data", points=points, **more)  # type: ignore[arg-type]  # further arguments of Search


def compressed(found: Search) -> Graph:
    graph = model()
    Compress(search=found).run(graph, Unobserved())
    graph.verify()
    return graph


@pytest.mark.parametrize("axis", ["parameters", "macs"])
def test_goals_are_met_and_little_more(axis: str) -> None:
    found = search(Goal(axis, 0.6, is_share=True))
    graph = compressed(found)
    whole, left = found.whole, work_of(graph.nodes)
    assert found.outcome is not None
    assert found.outcome.work == left
    at = Goal(axis).axis
    assert 0.45 < getattr(left, at) / getattr(whole, at) <= 0.6
    assert found.outcome.loss is not None
    assert found.outcome.loss.snr > 10
    assert [s.technique for s in found.stages] == sorted({c.technique for c in found.outcome.recipe.choices})[::-1]


def test_without_a_search_nothing_happens() -> None:
    graph, before = model(), fingerprint(model())
    assert Compress().run(graph, Unobserved()) == 0
    assert fingerprint(graph) == before
    assert str(Compress()) == "compress"


def test_the_observer_is_told_and_may_forbid() -> None:
    record, found = Record(), search(Goal("parameters", 0.6, is_share=True))
    graph = model()
    assert Compress(search=found).run(graph, record) == len(record.rules) > 0
    assert "parameters" in record.rules[0]


def test_the_same_seed_gives_the_same_recipe(tmp_path: Path) -> None:
    for name in "ab":
        found = search(Goal("parameters", 0.5, is_share=True))
        compressed(found)
        assert found.outcome is not None
        found.outcome.recipe.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_recipe_gives_the_same_graph(tmp_path: Path) -> None:
    found = search(Goal("parameters", 0.5, is_share=True))
    graph = compressed(found)
    assert found.outcome is not None
    found.outcome.recipe.save(tmp_path / "recipe")
    again = search(None, recipe=read_recipe(tmp_path / "recipe"))
    assert fingerprint(compressed(again)) == fingerprint(graph)
    assert again.outcome == found.outcome


def test_a_recipe_goes_without_data() -> None:
    found = search(Goal("parameters", 0.5, is_share=True))
    graph = compressed(found)
    assert found.outcome is not None
    plain = Search([PrunedChannels(), Splits()], fingerprint, recipe=found.outcome.recipe)
    assert work_of(compressed(plain).nodes) == work_of(graph.nodes)
    assert plain.outcome is not None
    assert plain.outcome.loss is None


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("of another", {}, [], {}), "another model"),
        (Recipe("", {}, [Choice("a", "magic", {})], {}), "the recipe uses magic"),
        (Recipe("", {}, [Choice("a", "low-rank", {"form": "matrix", "rank": 2})], {}), "no layer named 'a'"),
    ],
)
def test_recipes_that_do_not_fit(recipe: Recipe, message: str) -> None:
    fitting = recipe._replace(model=recipe.model or fingerprint(model()))
    with pytest.raises(UsageError, match=message):
        compressed(search(None, recipe=fitting))


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "cincel-recipe", "version": 9}', '{"format": "x", "version": 1}']
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "recipe")
    with pytest.raises(UsageError, match="no such file"):
        read_recipe(tmp_path / "missing")


def test_limits_are_kept_and_used() -> None:
    found = search(Goal("parameters"), Limits(0.02))
    compressed(found)
    assert found.outcome is not None and found.outcome.loss is not None
    assert found.outcome.loss.drop is not None
    assert found.outcome.loss.drop <= 0.02
    assert found.outcome.work.parameters < 0.7 * found.whole.parameters


def test_tighter_limits_save_less() -> None:
    left = []
    for psnr in (60.0, 40.0, 25.0):
        found = search(Goal("parameters"), Limits(None, psnr))
        compressed(found)
        assert found.outcome is not None and found.outcome.loss is not None
        assert found.outcome.loss.psnr >= psnr
        left.append(found.outcome.work.parameters)
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]


def test_a_goal_beyond_the_limits_says_what_was_reached() -> None:
    with pytest.raises(UsageError, match=r"the goal costs too much.*80 dB") as e:
        compressed(search(Goal("parameters", 0.3, is_share=True), Limits(None, 80.0)))
    assert "were reached, from" in str(e.value.hint)


def test_a_goal_beyond_everything_says_what_is_left() -> None:
    with pytest.raises(UsageError, match="parameters of 10 are asked for, and compression leaves"):
        compressed(search(Goal("parameters", 10.0)))


def test_a_goal_that_is_met_changes_nothing() -> None:
    found = search(Goal("parameters", 1.0, is_share=True))
    assert fingerprint(compressed(found)) == fingerprint(model())
    assert found.stages == []


def test_the_front_holds_what_was_chosen() -> None:
    found = search(Goal("parameters", 0.6, is_share=True), points=4)
    compressed(found)
    assert found.outcome is not None
    assert found.outcome.recipe in [o.recipe for o in found.front]
    assert len(found.front) >= 4
    sizes = [o.work.parameters for o in found.front]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == found.whole.parameters
    again = search(None, recipe=found.front[1].recipe)
    compressed(again)
    assert again.outcome == found.front[1]


class Interrupting(Splits):
    """Is interrupted when it is applied for the third time."""

    calls = 0

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> list[Node]:
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().apply(graph, chosen, rows)


def test_what_was_measured_survives_an_interrupt(tmp_path: Path) -> None:
    store, goal = tmp_path / "measured", Goal("parameters", 0.6, is_share=True)
    broken = search(goal, store=store)
    broken.techniques = [PrunedChannels(), Interrupting(least=256)]
    with pytest.raises(KeyboardInterrupt):
        compressed(broken)
    known = len(store.read_text().splitlines())
    assert known == broken.store.measured > 2
    with store.open("a") as file:
        file.write('{"key": "cut of')  # as a power cut leaves it
    resumed, fresh = search(goal, store=store), search(goal)
    assert fingerprint(compressed(resumed)) == fingerprint(compressed(fresh))
    assert resumed.store.measured == fresh.store.measured - known
    third = search(goal, store=store)
    compressed(third)
    assert third.store.measured == 0
    assert third.outcome == fresh.outcome


def test_other_data_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "measured"
    candidate = Candidate("a", "t", {"rank": 1}, work_of(()), work_of(()), 0.5)
    assert Store(path, "one").noise(candidate, lambda _: 0.25) == 0.25
    assert Store(path, "one").noise(candidate, lambda _: 0.5) == 0.25
    assert Store(path, "two").noise(candidate, lambda _: 0.5) == 0.5
    assert [json.loads(line)["noise"] for line in path.read_text().splitlines()] == [0.25, 0.5]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    candidate = Candidate("a", "t", {"rank": 1}, work_of(()), work_of(()), 0.5)
    with pytest.raises(UsageError, match="cannot be kept"):
        Store(tmp_path / "none" / "file", "").noise(candidate, lambda _: 0.25)


def test_noise_between_measured_points() -> None:
    points = [Point(0.1, 0.01), Point(0.4, 0.16)]  # noise = error squared
    assert noise_at(points, 0.2) == pytest.approx(0.04)
    assert noise_at(points, 0.05) == pytest.approx(0.005)
    assert noise_at(points, 0.8) == pytest.approx(0.32)
    assert noise_at(points[:1], 0.2) == pytest.approx(0.02)


def test_a_rank_that_saves_nothing_behind_pruned_channels_is_left_away() -> None:
    techniques: list[Technique] = [PrunedChannels(), Splits(least=256)]
    largest: dict[str, Candidate] = {}
    for c in techniques[1].candidates(model(), None):
        largest.setdefault(c.layer, c)
    groups = {c.layer: c.setting for c in techniques[0].candidates(model(), None)}  # at their most
    ranks = {name: c.setting for name, c in largest.items()}
    graph = model()
    left = apply_all(graph, techniques, {"prune-channels": groups, "low-rank": ranks}, None)
    graph.verify()
    assert left
    assert set(left) <= set(ranks)


class Fixed:
    """A technique that makes nothing smaller."""

    name = "fixed"

    def candidates(self, graph: Graph, rows: Rows | None) -> Iterator[Candidate]:
        return iter(())

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> Sequence[Node]:
        raise AssertionError


def test_nothing_to_choose_from() -> None:
    found = search(Goal("parameters"), Limits(0.5))
    found.techniques = [Fixed()]
    assert fingerprint(compressed(found)) == fingerprint(model())


@pytest.mark.parametrize(
    ("limits", "losses", "best"),
    [
        (Limits(), [Loss(0.04, 30, 21), Loss(0.0, 30, 18), Loss(0.004, 30, 19)], 2),  # one of 250 rows may be chance
        (Limits(), [Loss(-0.02, 30, 10), Loss(0.0, 30, 20)], 1),
        (Limits(), [Loss(None, 30, 10), Loss(None, 30, 20)], 1),
        (Limits(psnr=35), [Loss(0.0, 30, 20), Loss(0.01, 36, 19)], 1),
        (Limits(psnr=90), [Loss(0.0, 30, 20), Loss(0.0, 36, 19)], 0),
    ],
)
def test_the_best_of_several(limits: Limits, losses: list[Loss], best: int) -> None:
    judge = data(limits).judge
    judge.start(model())
    assert judge.best(losses) == best


STORED = WeightBits([storage_of(text) for text in ("int8", "palette4", "palette2")])


def with_bits(goal: Goal, **more: object) -> Search:
    return Search([Splits(least=256)], fingerprint, goal, data(), storage=STORED, **more)  # type: ignore[arg-type]  # further arguments of Search


def is_uniform(recipe: Recipe) -> bool:
    """Whether all that is done is to store layers alike."""
    return {c.technique for c in recipe.choices} == {"weight-bits"} and len(
        {str(c.setting) for c in recipe.choices}
    ) == 1


def test_no_uniform_storage_that_meets_the_goal_is_better() -> None:
    found = with_bits(Goal("bytes", 1 / 3, is_share=True), points=2)
    compressed(found)
    assert found.outcome is not None and found.outcome.loss is not None
    uniform = [o for o in found.front if is_uniform(o.recipe)]
    assert {"int8", "palette4", "palette2"} >= {str(o.recipe.choices[0].setting["storage"]) for o in uniform} > set()
    meets = [o.loss for o in uniform if found.amount(o.work) <= found.amount(found.whole) / 3 and o.loss is not None]
    assert meets
    for loss in meets:
        assert (found.outcome.loss.drop or 0) <= max(loss.drop or 0, 0) + 1 / 250 or found.outcome.loss.snr >= loss.snr


def seconds(node: Node) -> float:
    stored = [v for v in node.inputs if v is not None and v.data is not None]
    return 1e-9 * (node.macs + sum(bits_of(v) if v.type.quant or v.type.palette else 32 * v.type.size for v in stored))


def test_forms_and_bits_save_time_in_the_same_unit() -> None:
    goal = Goal("cost", 0.5, is_share=True)
    found = Search([Splits(least=256, cost=seconds)], fingerprint, goal, data(), cost=seconds)
    graph, given = model(), data()
    given.judge.start(graph)
    storage = WeightBits(STORED.storages, cost=seconds)
    menu = Menu(graph, found.techniques, storage, measuring(found, given, each=None))
    whole, frontier = found.amount(found.count(graph)), menu.frontier({})
    assert 0.2 * whole < frontier.saved(len(frontier)) <= whole


def measuring(found: Search, given: Data, each: float | None) -> Measuring:
    return Measuring(given, Store(None, ""), found.amount, each, False, lambda _: None)


def test_steps_around_a_storage_save_what_is_counted() -> None:
    found = with_bits(Goal("bytes", 0.2, is_share=True))
    graph, given = model(), data()
    given.judge.start(graph)
    menu = Menu(
        graph, found.techniques, STORED, Measuring(given, Store(None, ""), found.amount, 4.0, False, lambda _: None)
    )
    bits = next(b for b in menu.uniform() if {str(s["storage"]) for s in b.values()} == {"int8"})
    maker = Maker(found.techniques, found.count, fingerprint, storage=STORED)
    around = menu.around(bits)
    assert len(around) > 0

    def left(count: int) -> float:
        twin = graph.clone()
        forms = {o.layer: o.setting for o in around.choices(count).values()}
        maker.outline(twin, {"low-rank": forms, "weight-bits": bits})
        return found.amount(found.count(twin))

    for count in range(len(around) + 1):
        assert left(0) - around.saved(count) == pytest.approx(left(count), rel=0.02)


def test_all_operands_that_a_recovery_changes_are_kept() -> None:
    class Shift:
        name = "shift"

        def run(self, before: Graph, after: Graph, rows: Rows) -> int:
            node = next(n for n in after.nodes if n.op.name == "batch_norm")
            set_data(after, node, 4, data_of(node.inputs[4]) * 1.0001)
            return 1

    graph = load(ROOT / "examples" / "fault_mlp_ai4i.onnx", inputs={"input": (BATCH, 8)})
    given = data()
    given.judge.start(graph)
    maker = Maker([Splits(least=256)], lambda g: work_of(g.nodes), fingerprint, recoveries=[Shift()], data=given)
    layer = next(c for c in Splits(least=256).candidates(graph, None))
    stages = maker.make(graph, {"low-rank": {layer.layer: layer.setting}}, late=True).stages
    assert [s.constants for s in stages if s.technique == "shift"] == [1]
