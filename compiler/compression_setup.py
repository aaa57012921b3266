"""Which techniques and recoveries a compression has, by what is asked for and what the target stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from compiler.compression_goals import bytes_each
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.target import Target
from compiler.tensor import Array
from passes._bits_technique import WeightBits
from passes._compression import Cost, Recovery, Setting, Technique, macs_of
from passes._low_rank import Splits
from passes._prune_sparse import PrunedWeights
from passes._prune_technique import PrunedChannels
from passes._recover_refit import Refit
from passes._weight_bits import storage_of

FORMS = (PrunedChannels.name, Splits.name)
TECHNIQUES = (*FORMS, PrunedWeights.name, WeightBits.name)  # in the order in which they are applied
SAVING = {"compress": FORMS, "size": TECHNIQUES, "macs": FORMS, "latency": (*FORMS, WeightBits.name)}
BY_DEFAULT = {"compress": FORMS, "size": TECHNIQUES, "macs": FORMS, "latency": FORMS}
RECOVERIES = ("none", "closed-form", "train")


class Techniques(NamedTuple):
    """Those that change layers, and the storage of weights."""

    forms: list[Technique]
    storage: WeightBits | None


def checked_techniques(asked: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of techniques, in their order; None for those that suit the goal. UsageError for what is none."""
    if asked is None:
        return None
    names = [name.strip() for name in asked.split(",")] if isinstance(asked, str) else list(asked)
    unknown = [name for name in names if name not in TECHNIQUES]
    if unknown or not names:
        raise UsageError(
            f"--techniques knows no {', '.join(map(repr, unknown)) or 'empty list'}",
            hint=f"choose of {', '.join(TECHNIQUES)}",
        )
    return tuple(name for name in TECHNIQUES if name in names)


def expect_saving(names: Sequence[str] | None, goal: str) -> None:
    """UsageError for techniques that save nothing of what the goal counts."""
    idle = [name for name in names or () if name not in SAVING[goal]]
    if idle:
        hint = f"--{goal} goes with {', '.join(SAVING[goal])}"
        raise UsageError(f"{' and '.join(idle)} cannot bring a model nearer to --{goal}", hint=hint)


def techniques_of(
    names: Sequence[str] | None, goal: str | None, target: Target, multiple: int, cost: Cost | None
) -> Techniques:
    """What is asked for, or suits the goal, as far as the target stores it; without a goal all there is. UsageError
    for what is asked for and not stored. `cost`: of a layer, where that is the goal."""
    wanted = TECHNIQUES if goal is None else names or BY_DEFAULT[goal]
    stored = {
        PrunedWeights.name: (target.sparse_from is not None, "weights with many zeros in less"),
        WeightBits.name: (bool(target.storages), "weights in other ways than as it is asked to"),
    }
    for name in names or ():
        able, what = stored.get(name, (True, ""))
        if goal is not None and not able:
            raise UsageError(f"--techniques {name}: the target {target.name} does not store {what}")
    kept = [name for name in wanted if goal is None or stored.get(name, (True, ""))[0]]
    made: dict[str, Technique] = {
        PrunedChannels.name: PrunedChannels(multiple=multiple, cost=cost or macs_of),
        Splits.name: Splits(multiple=multiple, cost=cost),
        PrunedWeights.name: PrunedWeights(cost=cost or macs_of),
    }
    bits = WeightBits([storage_of(text) for text in target.storages], bytes_each(target) <= 2, cost or macs_of)
    return Techniques([made[name] for name in kept if name in made], bits if WeightBits.name in kept else None)


def multiple_of(asked: int | str | None, goal: str | None, target: Target) -> int:
    """What numbers of channels and ranks are multiples of: as asked for, or, where time is the goal, as the target
    likes it. UsageError for no number."""
    if asked is None or asked == "auto":
        return target.multiple if goal == "latency" else 1
    if not str(asked).isdecimal() or int(asked) < 1:
        raise UsageError(f"--multiple {asked!r} is no number from 1 on", hint="such as 8, or auto")
    return int(asked)


def expect_recovery(recover: str, epochs: int | None, augment: str | None) -> None:
    """UsageError for what is no recovery, or cannot be run here."""
    if recover not in RECOVERIES:
        raise UsageError(f"--recover {recover!r} is not known", hint=f"choose one of {', '.join(RECOVERIES)}")
    if epochs is not None and (recover != "train" or epochs < 1):
        raise UsageError("--epochs is a number from 1 on, of --recover train", hint="--recover train --epochs 20")
    if augment is not None and recover != "train":
        raise UsageError("--augment changes rows that are learned from", hint="--recover train --augment flip,shift")
    if recover == "train" and find_spec("tensorflow") is None:
        raise UsageError(
            "--recover train needs TensorFlow, which is not installed",
            hint="pip install 'cincel[train]', or --recover closed-form",
        )


def recoveries_of(
    asked: Setting, graph: Graph, seed: int, labels: Array | None, tell: Callable[[str], None]
) -> tuple[list[Recovery], list[Recovery]]:
    """Those for every model that is measured, and those for the last ones, by the options of a recipe; `labels`: of the
    rows that are learned from. UsageError for what does not fit the graph."""
    recover = asked.get("recover", "none")
    quick: list[Recovery] = [] if recover == "none" else [Refit(seed=seed, tell=tell)]
    if recover != "train":
        return quick, []
    from compiler.train.augment import Augment
    from compiler.train.distill import Distil  # with TensorFlow, for this alone

    given = {"epochs": int(asked["epochs"])} if "epochs" in asked else {}
    augment = str(asked.get("augment", ""))
    Augment(graph, augment)
    return quick, [Distil(**given, seed=seed, labels=labels, tell=tell, augment=augment, keeps_first=False)]
