"""Prediction by Core ML itself, where it exists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.errors import MissingExtraError
from compiler.tensor import Array
from targets.coreml.image import ImageInput

if TYPE_CHECKING:
    from PIL.Image import Image


def predict(path: Path, features: Mapping[str, Array], images: Mapping[str, ImageInput]) -> dict[str, Array]:
    """Outputs of the package by feature name; `images` says which features are pixels. Raises MissingExtraError
    without coremltools."""
    try:
        import coremltools  # heavy; only macOS can execute with it
    except ImportError:
        raise MissingExtraError("coreml", "coremltools") from None
    model = coremltools.models.MLModel(str(path))
    given: dict[str, Any] = {  # Any: arrays and images
        name: as_image(array, images[name]) if name in images else array for name, array in features.items()
    }
    return {name: np.asarray(value) for name, value in model.predict(given).items()}


def as_image(pixels: Array, image: ImageInput) -> Image:
    """Pixels [1,C,H,W] in the order of the model's color as the image that Core ML takes, rounded to 8 bits except for
    GRAYSCALE_FLOAT16. Raises MissingExtraError without Pillow."""
    try:
        from PIL import Image as Pictures  # only needed for models that take images
    except ImportError:
        raise MissingExtraError("coreml", "pillow") from None
    if image.color == "GRAYSCALE_FLOAT16":
        return Pictures.fromarray(pixels[0, 0].astype(np.float32))
    whole = np.clip(np.rint(pixels[0]), 0, 255).astype(np.uint8)
    if image.color == "GRAYSCALE":
        return Pictures.fromarray(whole[0])
    return Pictures.fromarray(np.ascontiguousarray((whole[::-1] if image.color == "BGR" else whole).transpose(1, 2, 0)))
