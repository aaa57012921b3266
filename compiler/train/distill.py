"""Fine-tuning of a compressed graph: its weights learn to give what the original gives, by gradients.

The original is the teacher, so that no labels are needed; where there are labels they can be used. The compressed
graph is to give the same at its outputs, at the scores before a last softmax, and at values between layers that both
graphs have. A part of the rows is held out, and the weights that do best on it are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from math import ceil, cos, isfinite, pi
from os import environ
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compiler.errors import MissingExtraError, UsageError
from compiler.graph import Graph
from compiler.tensor import Array
from compiler.train.augment import Augment
from compiler.train.weights import Weight, trained_weights
from passes._compression import Rows

if TYPE_CHECKING:
    from compiler.train.student import Student

HELD_OUT, LEAST_ROWS = 0.1, 8  # share of the rows; with fewer rows, all are learned from and measured on
WARM = 0.05  # share of the steps in which the rate grows from 0
SCALED = 8  # batches from which the teacher's variances are taken

Labels = Sequence[int] | Array


class Epoch(NamedTuple):
    """The mean loss of the steps, and that of the outputs on rows held out."""

    trained: float
    held_out: float


class Data(NamedTuple):
    """Inputs [runs,*shape] by name, and labels [runs,N,classes]."""

    inputs: Mapping[str, Array]
    labels: Array

    def batch(self, places: Array) -> Data:
        """Some of the runs."""
        return Data({name: x[places] for name, x in self.inputs.items()}, self.labels[places])


class Distil:
    """A `Recovery`; needs the extra `train`.

    epochs         how often all rows are learned from, at most
    seed           of the rows held out, their order and their augmentation: the same for the same seed, machine and
                   number of threads (TF_NUM_INTRAOP_THREADS)
    labels         the right class of each row; their cross entropy counts beside the teacher's scores
    tell           is told what is done
    learning_rate  the first step of Adam, relative to the size of a weight; it falls to 0 along a cosine
    batch          runs of a step
    augment        rows are changed at random: some of flip, shift and mixup (`Augment`)
    blocks         how many values between layers are compared, at most
    patience       epochs without improvement after which it ends
    keeps_first    whether the weights from before are kept if no others do better on the rows held out; not where these
                   rows were fitted to already, which flatters the weights from before, and somebody else judges

    epochs_run, best   what happened in each epoch, and the loss held out of the weights that are kept
    """

    name = "fine-tune"

    def __init__(
        self,
        epochs: int = 20,
        seed: int = 0,
        labels: Labels | None = None,
        tell: Callable[[str], None] | None = None,
        learning_rate: float = 0.005,
        batch: int = 32,
        augment: str = "",
        blocks: int = 4,
        patience: int = 10,
        keeps_first: bool = True,
    ) -> None:
        for name, number in (("epochs", epochs), ("batch", batch), ("patience", patience)):
            if number < 1:
                raise UsageError(f"fine-tuning with {name} {number} does nothing", hint="give 1 or more")
        if not 0 < learning_rate < 1:
            raise UsageError(f"a learning rate of {learning_rate:g} is not between 0 and 1", hint="0.005 is usual")
        if find_spec("tensorflow") is None:
            raise MissingExtraError("train", "tensorflow")
        self.epochs, self.seed, self.batch, self.blocks, self.patience = epochs, seed, batch, blocks, patience
        self.labels = None if labels is None else np.asarray(labels).reshape(-1)
        self.learning_rate, self.augment, self.keeps_first = learning_rate, augment, keeps_first
        self.tell = tell or (lambda _: None)
        self.epochs_run: list[Epoch] = []
        self.best = float("inf")

    def run(self, before: Graph, after: Graph, rows: Rows) -> int:
        """Train the weights of `after`. UsageError if a layer between them and all outputs has no gradient, or if
        labels do not fit; VerificationError if TensorFlow and ONNX Runtime do not agree about a graph."""
        self.epochs_run, self.best = [], float("inf")
        weights = trained_weights(after)
        if not weights or not rows.feeds:
            return 0
        augment = Augment(after, self.augment)
        environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it complains of GPUs that are not there
        from compiler.train.setup import prepared  # TensorFlow takes seconds to load

        self.tell("fine-tune: prepare")
        student, classes = prepared(before, after, weights, rows, self.blocks, self.seed, self.labels is not None)
        inputs = {v.name: np.stack([f[v.name] for f in rows.feeds]) for v in after.inputs}
        best = self._train(student, Data(inputs, self._targets(rows, classes)), augment)
        return _set_weights(after, weights, best)

    def _targets(self, rows: Rows, classes: tuple[int, int]) -> Array:
        """Labels as [runs,N,classes]; of no classes if there are none."""
        runs, (batch, count) = len(rows.feeds), classes
        if self.labels is None:
            return np.zeros((runs, 1, 0), np.float32)
        if len(self.labels) < runs * batch or not 0 <= self.labels.min() <= self.labels.max() < count:
            raise UsageError(
                f"{len(self.labels)} labels from {self.labels.min()} to {self.labels.max()} do not fit {runs * batch} "
                f"rows and {count} classes",
                hint="give the class of each row, from 0; or leave the labels away",
            )
        return np.eye(count, dtype=np.float32)[self.labels[: runs * batch].reshape(runs, batch)]

    def _train(self, student: Student, data: Data, augment: Augment) -> list[Array]:
        """The weights that do best on rows held out."""
        rng = np.random.default_rng(self.seed)
        learned, kept = _parted(len(data.labels), rng)
        size = min(self.batch, len(learned))
        student.scale([data.batch(b).inputs for b in _batches(learned, size)][:SCALED])
        best, first, since = student.weights, self._held_out(student, data, kept), 0
        self.best = first if self.keeps_first else float("inf")
        steps = len(_batches(learned, size)) * self.epochs
        step = 0
        for epoch in range(self.epochs):
            losses = []
            for places in _batches(rng.permutation(learned), size):
                batch = data.batch(places)
                losses.append(student.step(*augment(batch.inputs, batch.labels, rng), self._rate(step / steps)))
                step += 1
            found = self._held_out(student, data, kept)
            self.epochs_run.append(Epoch(float(np.mean(losses)), found))
            since += 1
            if found < self.best:
                best, self.best, since = student.weights, found, 0
            self.tell(f"fine-tune: epoch {epoch + 1} of {self.epochs}, loss {found:.4g} of {first:.4g}")
            if since >= self.patience or not isfinite(self.epochs_run[-1].trained):
                break
        return best

    def _rate(self, done: float) -> float:
        """After that share of the steps."""
        return self.learning_rate * min(done / WARM, 1.0) * (1 + cos(pi * done)) / 2

    def _held_out(self, student: Student, data: Data, places: Array) -> float:
        found = [student.loss(*data.batch(b)) for b in _batches(places, min(self.batch, len(places)))]
        return float(np.concatenate(found)[: len(places)].mean())


def _parted(runs: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Runs to learn from and others to measure on."""
    order = rng.permutation(runs)
    if runs < LEAST_ROWS:
        return order, order
    count = ceil(HELD_OUT * runs)
    return order[count:], order[:count]


def _batches(places: Array, size: int) -> list[Array]:
    """Batches of one size; the last is filled up from the front."""
    count = ceil(len(places) / size)
    return list(np.resize(places, count * size).reshape(count, size))


def _set_weights(graph: Graph, weights: Sequence[Weight], arrays: Sequence[Array]) -> int:
    changed = 0
    for w, array in zip(weights, arrays, strict=True):
        old = w.value
        assert old.data is not None
        close = np.abs(array - old.data) <= 1e-6 * np.abs(w.size)  # what a unit of its size rounds off
        if not close.all():
            new = graph.const(array, old.name, old.origin)
            graph.replace(old, new)
            changed += 1
    return changed
