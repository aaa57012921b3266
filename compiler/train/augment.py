"""Rows that differ from those given in ways that ask for no knowledge of their domain.

The teacher tells what the model makes of them, so that no label has to hold for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.tensor import F32, Array, TensorType

KINDS = ("flip", "shift", "mixup")
COLOURS = (1, 3)  # channels of an image
LEAST = 8  # pixels of its sides
SHIFT = 8  # a shift is at most this part of a side
MIXED = 0.2  # parameter of the beta distribution of shares (Zhang et al., mixup, 2018)


class Augment:
    """Changes batches of rows [runs,*shape] by name.

    kinds   some of `KINDS`, as "flip,shift": images are mirrored left to right, every other one; moved by up to an
            eighth of their sides, what comes in repeating the border; rows are averaged with other rows, in random
            shares. UsageError for another name, and for a graph whose inputs are not of that kind.
    """

    def __init__(self, graph: Graph, kinds: str) -> None:
        self.kinds = tuple(k for k in kinds.replace(" ", "").split(",") if k)
        unknown = [k for k in self.kinds if k not in KINDS]
        if unknown:
            raise UsageError(f"rows cannot be augmented by {unknown[0]!r}", hint=f"choose among {', '.join(KINDS)}")
        spaces = {v.name: _space(v.type) for v in graph.inputs}
        self._images = {name: axes for name, axes in spaces.items() if axes is not None}
        if {"flip", "shift"}.intersection(self.kinds) and not self._images:
            raise UsageError("flip and shift are of images, and no input is one", hint="leave them away, or use mixup")
        if "mixup" in self.kinds and any(v.type.dtype is not F32 for v in graph.inputs):
            raise UsageError("mixup averages rows, and an input is not of 32-bit floats", hint="leave it away")

    def __call__(
        self, inputs: Mapping[str, Array], labels: Array, rng: np.random.Generator
    ) -> tuple[Mapping[str, Array], Array]:
        """Inputs and labels [runs,N,classes], changed."""
        made = dict(inputs)
        for name, axes in self._images.items():
            for kind in self.kinds:
                if kind != "mixup":
                    made[name] = _each(made[name], axes, kind, rng)
        if "mixup" in self.kinds:
            runs = len(labels)
            share = rng.beta(MIXED, MIXED, runs).astype(np.float32)
            other = rng.permutation(runs)
            made = {name: _mixed(x, other, share) for name, x in made.items()}
            labels = _mixed(labels, other, share)
        return made, labels


def _space(t: TensorType) -> tuple[int, int] | None:
    """The axes of height and width of an image [N,C,H,W] or [N,H,W,C]."""
    if t.rank != 4 or t.dtype is not F32:
        return None
    fitting = [axes for channels, axes in ((1, (2, 3)), (3, (1, 2))) if t.dims[channels] in COLOURS]
    return next((a for a in fitting if min(t.dims[a[0]], t.dims[a[1]]) >= LEAST), None)


def _each(x: Array, axes: Sequence[int], kind: str, rng: np.random.Generator) -> Array:
    made = np.empty_like(x)
    for i, run in enumerate(x):
        made[i] = run
        if kind == "flip" and rng.random() < 0.5:
            made[i] = np.flip(run, axes[1])
        for axis in axes if kind == "shift" else ():
            length = run.shape[axis]
            most = length // SHIFT
            places = np.clip(np.arange(length) + rng.integers(-most, most + 1), 0, length - 1)
            made[i] = made[i].take(places, axis)
    return made


def _mixed(x: Array, other: Array, share: Array) -> Array:
    part = share.reshape(-1, *[1] * (x.ndim - 1))
    return part * x + (1 - part) * x[other]
