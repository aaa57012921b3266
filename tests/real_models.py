"""The trained networks of this repository, as examples/MODELS.yaml and tests/models/MODELS.yaml describe them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from compiler.tensor import Array

ROOT = Path(__file__).parent.parent
CATALOGUES = (ROOT / "examples" / "MODELS.yaml", ROOT / "tests" / "models" / "MODELS.yaml")


class InputSpec(NamedTuple):
    """What a model reads: element type, a shape to run at, and the bound of integers (0: all the type holds)."""

    dtype: str
    shape: tuple[int, ...]
    below: int


class RealModel(NamedTuple):
    """One trained network.

    bind   the --input bindings that the model needs besides a batch of 1, as name -> shape
    rows   labelled rows: an .npz with one array per model input and `labels`
    """

    name: str
    path: Path
    sha256: str
    licence: str
    inputs: dict[str, InputSpec]
    bind: dict[str, tuple[int, ...]]
    rows: Path | None

    def random_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Inputs at the catalogue's shapes: standard normal, or uniform over the integers that the model takes."""
        return {name: _random(spec, rng) for name, spec in self.inputs.items()}

    def labelled(self) -> tuple[dict[str, Array], Array]:
        """The labelled rows: one array per model input with rows along the first axis, and the labels."""
        assert self.rows is not None, f"{self.name} has no labelled rows"
        with np.load(self.rows) as file:
            return {name: file[name] for name in self.inputs}, file["labels"]


@cache
def real_models() -> tuple[RealModel, ...]:
    """All of them, the examples first."""
    return tuple(
        _model(entry, path.parent) for path in CATALOGUES for entry in yaml.safe_load(path.read_text())["models"]
    )


def real_model(name: str) -> RealModel:
    """The one of that name."""
    return next(m for m in real_models() if m.name == name)


def _random(spec: InputSpec, rng: np.random.Generator) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(spec.shape).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = (0, spec.below) if spec.below else (limits.min, limits.max + 1)
    return rng.integers(low, high, spec.shape, dtype)


def _model(entry: dict[str, object], folder: Path) -> RealModel:
    raw_inputs, bind, rows = entry["inputs"], entry.get("bind", []), entry.get("rows")
    assert isinstance(raw_inputs, list) and isinstance(bind, list)
    inputs = {i["name"]: InputSpec(i["dtype"], tuple(i["shape"]), i.get("below", 0)) for i in raw_inputs}
    return RealModel(
        name=str(entry["name"]),
        path=folder / str(entry["file"]),
        sha256=str(entry["sha256"]),
        licence=str(entry["licence"]),
        inputs=inputs,
        bind={binding.partition("=")[0]: inputs[binding.partition("=")[0]].shape for binding in bind},
        rows=folder / str(rows) if rows else None,
    )
