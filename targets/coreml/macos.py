"""Prediction by Core ML itself, where it exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.errors import MissingExtraError
from compiler.tensor import Array


def predict(path: Path, features: dict[str, Array]) -> dict[str, Array]:
    """Outputs of the package by feature name. Raises MissingExtraError without coremltools."""
    try:
        import coremltools  # heavy; only macOS can execute with it
    except ImportError:
        raise MissingExtraError("coreml", "coremltools") from None
    model = coremltools.models.MLModel(str(path))
    return {name: np.asarray(value) for name, value in model.predict(features).items()}
