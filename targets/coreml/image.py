"""Inputs that take images: what the application passes, and the scale and bias applied to it inside the model."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from compiler.errors import UsageError
from targets.coreml.features import Color
from targets.coreml.lower.table import Lowering
from targets.coreml.mil import Var

COLORS = ("RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16")


class ImageInput(NamedTuple):
    """model input = scale * pixel + bias, with pixels from 0 to 255 and one bias for each channel (or one for all)."""

    color: Color = "RGB"
    scale: float = 1.0
    bias: tuple[float, ...] = (0.0,)

    def preprocess(self, p: Lowering, pixels: Var) -> Var:
        """The layers that turn pixels into what the model was trained on."""
        x = pixels
        if self.scale != 1.0:
            x = p.like(x, "mul", y=self.scale)
        if any(self.bias):
            shape = (1, len(self.bias), 1, 1)
            x = p.like(x, "add", y=p.program.const(np.array(self.bias, np.float32).reshape(shape), p.precision))
        return x


def parse_image(text: str) -> tuple[str, ImageInput]:
    """`NAME`, or `NAME:scale=0.00392,bias=-0.5/-0.5/-0.5,color=RGB`. Raises UsageError."""
    name, found, options = text.rpartition(":") if "=" in text.rpartition(":")[2] else (text, "", "")
    values: dict[str, str] = dict(part.partition("=")[::2] for part in options.split(",")) if found else {}
    try:
        color = values.pop("color", "RGB").upper()
        scale = float(values.pop("scale", "1"))
        bias = tuple(float(b) for b in values.pop("bias", "0").split("/"))
    except ValueError as e:
        raise UsageError(f"--image {text!r}: {e}") from None
    if values or color not in COLORS or not name:
        raise UsageError(
            f"--image {text!r} is not NAME[:scale=S,bias=R/G/B,color=C]", hint=f"colors are {', '.join(COLORS)}"
        )
    return name, ImageInput(cast("Color", color), scale, bias)
