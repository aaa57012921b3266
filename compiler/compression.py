"""What is asked of the compression of a model, on the command line or in Python, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.calibrate.fitting import Fitting
from compiler.calibrate.names import fingerprint
from compiler.calibrate.trial import Trial
from compiler.compression_goals import bytes_each, goal_of
from compiler.compression_latency import chip_seconds
from compiler.compression_setup import (
    checked_techniques,
    expect_recovery,
    expect_saving,
    multiple_of,
    recoveries_of,
    techniques_of,
)
from compiler.compression_size import beside_weights
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.layer_table import Measured
from compiler.target import Target
from compiler.tensor import Array
from passes._bits_technique import OPTION, WeightBits
from passes._budget import Limits, parse_share
from passes._compress_judge import Judge
from passes._compress_make import Data, Stage
from passes._compress_search import Search
from passes._compress_walk import Outcome
from passes._compression import Cost, macs_of, work_of
from passes._recipe import Recipe, read_recipe
from passes._storage import as_stored
from passes._weight_bits import storage_of
from targets.budget import labels_of
from targets.calibrated import Calibrated

LEAST_ROWS, MOST_ROWS = 32, 512
LEARNED_ROWS = 20_000  # that training is given at most
LEARNED = 64 << 30  # multiply-accumulates of one run of all of them, about
FITTED, JUDGED, TRIED = 256 << 30, 64 << 30, 2 << 30  # multiply-accumulates of all rows, about
LEAST_FEW, FEW = 4, 64  # rows on which a single layer is tried
POINTS = 10  # of the Pareto front
SLACK = 1.05  # times the bytes that were counted, stored ones are worth a warning
QUANTIZED = ("quantize_linear", "dequantize_linear")


class Compression(NamedTuple):
    """What to make of a model before a target compiles it; one of the goals, or a recipe.

    data        rows, as for calibration; with `labels` beside the inputs, their right classes
    parameters  goal: 2x, 50%, 1.5M, or auto: as few as the limits admit
    size        of the weights as the target stores them: 5MB, 2x ...
    macs        multiply-accumulates: 100M, 2x ...
    latency     CHIP=5ms: by the roofline of an Apple chip
    max_drop, min_psnr
                limits: the share of rows whose class may be lost, and the least PSNR of every output in dB
    recipe, save_recipe, pareto, sensitivities
                files: a recipe to replay, one to write, the Pareto front to plot, and what was measured of layers
    techniques  names of those that may be used, with commas or one by one; None: all that suit the goal and the target
    multiple    numbers of channels and ranks are multiples of it; None or auto: as the device likes it, for a latency
    recover     closed-form: weights are fitted to what the original gives; train: fine-tuned at the end, too, for so
                many `epochs`; or none
    """

    data: object = None
    parameters: str | None = None
    size: str | None = None
    macs: str | None = None
    latency: str | None = None
    max_drop: str | float | None = None
    min_psnr: float | None = None
    recipe: str | os.PathLike[str] | None = None
    save_recipe: str | os.PathLike[str] | None = None
    pareto: str | os.PathLike[str] | None = None
    sensitivities: str | os.PathLike[str] | None = None
    techniques: str | Sequence[str] | None = None
    multiple: int | str | None = None
    recover: str = "closed-form"
    epochs: int | None = None
    augment: str | None = None

    @property
    def goals(self) -> dict[str, str]:
        """Those that are given."""
        named = {"compress": self.parameters, "size": self.size, "macs": self.macs, "latency": self.latency}
        return {name: text for name, text in named.items() if text is not None}

    @property
    def limits(self) -> Limits:
        """UsageError for what is no limit."""
        if self.min_psnr is not None and not 0 < self.min_psnr < np.inf:
            raise UsageError(f"--min-psnr {self.min_psnr:g} is no number of decibels above 0", hint="such as 40")
        return Limits(None if self.max_drop is None else parse_share(str(self.max_drop)), self.min_psnr)

    def expect_sound(self) -> None:
        """UsageError for what does not go together."""
        goals = " and ".join(f"--{name}" for name in self.goals)
        if len(self.goals) + (self.recipe is not None) != 1:
            told = f"{goals}{' with --recipe' * (self.recipe is not None)}" if goals else "none"
            raise UsageError(
                f"compression has one goal or a recipe, and is given {told}",
                hint="--compress 2x, --size 5MB, --macs 100M, --latency A14=5ms or --recipe FILE",
            )
        if self.goals and self.data is None:
            raise UsageError(
                f"{goals} chooses by what rows of data show",
                hint="--calibrate FILE.npz with a few hundred rows; --passes 'low-rank(...)' goes without",
            )
        if self.goals and self.limits == Limits() and "auto" in next(iter(self.goals.values())):
            raise UsageError(f"{goals} auto needs a limit", hint="--max-drop 1% or --min-psnr 40")
        if self.recipe is not None:
            self._expect_replay()
        expect_saving(checked_techniques(self.techniques), next(iter(self.goals), "size"))
        expect_recovery(self.recover, self.epochs, self.augment)
        for name in ("save_recipe", "pareto", "sensitivities"):
            path = getattr(self, name)
            if path is not None and not Path(path).parent.is_dir():
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"the folder of {option} {os.fspath(path)!r} does not exist", hint="create it first")
        if self.pareto is not None and not self.goals:
            raise UsageError("the Pareto front is of a search, and a recipe makes none", hint="leave --pareto away")
        if self.pareto is not None and Path(self.pareto).suffix != ".json" and find_spec("plotly") is None:
            raise UsageError(
                "a plot needs plotly, which is not installed",
                hint="pip install 'cincel[plot]', or --pareto FILE.json for the numbers alone",
            )

    def _expect_replay(self) -> None:
        """UsageError for what a recipe says itself, and for limits without rows to measure them on."""
        plain = Compression()
        said = [
            name
            for name in ("techniques", "multiple", "recover", "epochs", "augment")
            if getattr(self, name) != getattr(plain, name)
        ]
        if said:
            options = " and ".join(f"--{name}" for name in said)
            raise UsageError(
                f"a recipe says what is done, and {options} cannot change it", hint=f"leave {options} away"
            )
        if self.limits != Limits() and self.data is None:
            raise UsageError("limits are measured on rows of data", hint="--calibrate FILE.npz")

    def search(self, graph: Graph, target: Target, seed: int, tell: Callable[[str], None]) -> Search:
        """The search on a model as it was imported. UsageError for data that does not fit it."""
        self.expect_sound()
        if any(name in graph.op_counts for name in QUANTIZED):
            raise UsageError("a quantized model cannot be compressed", hint="compress the model in floats")
        recipe = None if self.recipe is None else read_recipe(Path(self.recipe))
        known = self._options(target, seed) if recipe is None else recipe.options
        multiple, seed = int(known.get("multiple", 1)), int(known.get("seed", seed))
        seconds = chip_seconds(self.latency, target)
        cost: Cost = macs_of if seconds is None else seconds.of
        timed = None if self.latency is None else cost
        named = next(iter(self.goals), None)
        found = techniques_of(checked_techniques(self.techniques), named, target, multiple, timed)
        learns = known.get("recover") == "train"
        data, labels, digest = (None, None, "") if self.data is None else self._data(graph, seed, learns)
        recoveries, late = recoveries_of(known, graph, seed, labels, tell)
        each = bytes_each(target)
        return Search(
            found.forms,
            fingerprint,
            goal_of(
                self.goals,
                0.0 if seconds is None else seconds.call,
                lambda: beside_weights(graph, target, found.storage, each),
            ),
            data,
            first=target.before_rounding(),
            storage=found.storage,
            recoveries=recoveries,
            late=late,
            recipe=recipe,
            options=known,
            cost=cost,
            each=each,
            share=target.sparse_from,
            joint=target.sparse_joint,
            store=None if self.sensitivities is None else Path(self.sensitivities),
            key="/".join(
                (
                    f"{digest}/{seed}/{multiple}/{each:g}/{seconds.chip if timed and seconds else ''}",
                    *map(str, target.before_rounding()),
                )
            ),
            points=POINTS if self.pareto is not None else 0,
            tell=tell,
        )

    def _options(self, target: Target, seed: int) -> dict[str, int | str]:
        """What a recipe is to say beside the choices."""
        multiple = multiple_of(self.multiple, next(iter(self.goals), None), target)
        asked: dict[str, int | str] = {"multiple": multiple, "seed": seed, "recover": self.recover}
        given = {"epochs": self.epochs, "augment": self.augment}
        return {**asked, **{name: value for name, value in given.items() if value is not None}}

    def _data(self, graph: Graph, seed: int, learns: bool) -> tuple[Data, Array | None, str]:
        """Rows to fit to and others to judge by, as the seed parts them, and where training `learns` from them all
        that are not judged by; the right classes of those that are learned from, if they are known; and the digest of
        all."""
        source = Calibrated(self.data, "auto")
        if source.saved is not None:
            raise UsageError(
                "compression is measured on rows, and a saved calibration holds none", hint="--calibrate the data"
            )
        labels = labels_of(source.source)
        work = max(sum(n.macs for n in graph.nodes), 1)
        batch = _batch(graph)
        most = [-(-min(MOST_ROWS, max(LEAST_ROWS, batch * budget // work)) // batch) for budget in (FITTED, JUDGED)]
        learned = -(-min(LEARNED_ROWS, batch * LEARNED // work) // batch) if learns else 0
        feeds = source.first(graph, max(sum(most), learned))
        if labels is not None:  # the last run may have been filled up
            feeds = feeds[: len(labels) // batch] or feeds
        order = np.random.default_rng(seed).permutation(len(feeds)).tolist()
        fitted = min(max(len(feeds) // 2, len(feeds) - most[1], 1), most[0])
        judged = order[fitted : fitted + most[1]] or order
        rest = order[fitted + most[1] :]
        few = max(min(FEW, max(LEAST_FEW, batch * TRIED // work)) // batch, 1)
        judge = Judge(
            Trial([feeds[i] for i in judged[:few]]),
            Trial([feeds[i] for i in judged]),
            self.limits,
            _of_runs(labels, judged, batch),
        )
        rows = [feeds[i] for i in order[:fitted]]
        all_rows = Fitting([*rows, *(feeds[i] for i in rest)]) if learns else None
        known = _of_runs(labels, order[:fitted] + rest, batch) if _has_classes(graph) else None
        return Data(Fitting(rows), Fitting(rows[:few]), judge, all_rows), known, _digest(feeds)

    def save(self, search: Search, model: str) -> None:
        """Write the recipe and the front, where they are asked for. UsageError if that cannot be done."""
        if self.save_recipe is not None and search.outcome is not None:
            search.outcome.recipe.save(Path(self.save_recipe))
        if self.pareto is not None:
            from compiler.pareto import write_front

            write_front(front_of(search), model, Path(self.pareto))


class Compressed:
    """What the compression of a model found, for the report."""

    def __init__(self, search: Search, target: Target, graph: Graph) -> None:
        assert search.outcome is not None
        clock = getattr(search.cost, "__self__", None)
        self.clock, self.graph = (clock if isinstance(clock, Measured) else None), graph.clone()
        self.search, self.outcome = search, search.outcome
        self.each = bytes_each(target)
        self.stored: int | None = None
        used = {str(c.setting[OPTION]) for c in self.outcome.recipe.choices if c.technique == WeightBits.name}
        least = min((storage_of(s).bits for s in used), default=0)  # more hold numbers that a rewrite changed
        self.storages = tuple(s for s in target.storages if used and (s in used or storage_of(s).bits > least))

    def see(self, graph: Graph) -> None:
        """Note the bytes of weights in the graph that is emitted: a target may still change numbers, and they then are
        those of no storage."""
        whole = as_stored(work_of(graph.nodes), graph, self.each, self.search.share)
        self.stored = round(whole.nbytes(self.each)) if self.storages else None

    @property
    def warning(self) -> str | None:
        """That much more is stored than was counted."""
        counted = round(self.outcome.work.nbytes(self.each))
        if self.stored is None or self.stored <= SLACK * counted:
            return None
        return f"the target changed weights after they were rounded: {self.stored:,} bytes are stored for {counted:,}"

    def text(self) -> str:
        """What each technique saved and lost, line by line."""
        whole, work = self.search.whole, self.outcome.work
        pairs = {
            "parameters": (whole.parameters, work.parameters),
            "MACs": (whole.macs, work.macs),
            "bytes of weights": (round(whole.nbytes(self.each)), round(work.nbytes(self.each))),
        }
        if self.search.cost is not macs_of:
            pairs["estimated ns"] = (round(1e9 * whole.cost), round(1e9 * work.cost))
        told = ", ".join(f"{a:,} to {b:,} {what} ({a / max(b, 1):.2f}x)" for what, (a, b) in pairs.items())
        lines = [f"compressed: {told}"]
        for s in self.search.stages:
            lost = "not measured: no data" if s.loss is None else f"{s.loss} so far, from the original"
            lines.append(f"  {s.what}: {self._left(s)}{lost}")
        if self.clock is not None:
            lines.append(f"  {self.clock.told(self.graph.nodes)}")
        if self.warning is not None:
            lines.append(f"  {self.warning}")
        if self.search.left:
            lines.append(f"  left as they are, as nothing was left to save: {', '.join(self.search.left)}")
        return "\n".join(lines) + "\n"

    def _left(self, stage: Stage) -> str:
        """What a technique leaves; nothing of a recovery, which changes none of it."""
        if not stage.layers:
            return ""
        return f"{stage.work.parameters:,} parameters, {round(stage.work.nbytes(self.each)):,} bytes left; "

    def _stage(self, s: Stage) -> dict[str, Any]:
        return {
            "technique": s.technique,
            "layers": list(s.layers),
            "parameters": s.work.parameters,
            "macs": s.work.macs,
            "bytes": round(s.work.nbytes(self.each)),
            "loss": None if s.loss is None else s.loss.as_json(),
            **({} if s.layers else {"constants": s.constants, "undone": s.undone}),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        stages = [self._stage(s) for s in self.search.stages]
        return {
            "recipe": self.outcome.recipe.as_json(),
            "weight_bytes": round(self.outcome.work.nbytes(self.each)),
            "stored_bytes": self.stored,
            "stages": stages,
            "left": list(self.search.left),
            "times": None if self.clock is None else self.clock.counts(self.graph.nodes),
            "sensitivities_measured": self.search.store.measured,
            "front": front_of(self.search),
        }


def front_of(search: Search) -> list[dict[str, Any]]:
    """The measured points of the Pareto front, from large to small."""
    timed = search.cost is not macs_of
    return [_point(o, search.each, timed) for o in sorted(search.front, key=lambda o: -search.amount(o.work))]


def _point(outcome: Outcome, each: float, timed: bool) -> dict[str, Any]:
    work, loss = outcome.work, outcome.loss
    return {
        "parameters": work.parameters,
        "macs": work.macs,
        "bytes": round(work.nbytes(each)),
        "seconds": float(f"{work.cost:.6g}") if timed else None,
        **({} if loss is None else loss.as_json()),
        "recipe": outcome.recipe.as_json(),
    }


def _batch(graph: Graph) -> int:
    """How many rows a run takes, as the first input says."""
    v = next(iter(graph.inputs), None)
    return max(v.type.dims[0], 1) if v is not None and v.type.rank else 1


def _has_classes(graph: Graph) -> bool:
    """Whether an output has a score for each of several classes, to be learned by labels."""
    types = [v.type for v in graph.outputs]
    return any(t.dtype.is_float and t.rank == 2 and t.dims[1] > 1 for t in types)


def _of_runs(labels: Array | None, runs: list[int], batch: int) -> Array | None:
    """The labels of the rows of some runs; None if there are too few."""
    if labels is None or len(labels) < batch * (max(runs) + 1):
        return None
    return np.concatenate([labels[i * batch : (i + 1) * batch] for i in runs])


def _digest(feeds: Any) -> str:  # Any: a sequence of mappings from names to arrays
    hashed = sha256()
    feed: Mapping[str, Array]
    for feed in feeds:
        for name, array in feed.items():
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


__all__ = ["Compressed", "Compression", "Recipe", "front_of"]
