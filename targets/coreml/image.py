"""Inputs that take images: what the application passes, and the scale and bias applied to it inside the model."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple, cast

import numpy as np

from compiler.errors import UsageError
from compiler.tensor import Array, TensorType
from targets.coreml.features import Color
from targets.coreml.lower.lowering import Lowering
from targets.coreml.mil import Var

COLORS = ("RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16")


class ImageInput(NamedTuple):
    """model input = scale * pixel + bias, with pixels from 0 to 255 and one bias for each channel (or one for all)."""

    color: Color = "RGB"
    scale: float = 1.0
    bias: tuple[float, ...] = (0.0,)

    def check(self, name: str, t: TensorType, ios: int) -> None:
        """UsageError unless the model input of type `t` can take such images on iOS version `ios`."""
        channels = 3 if self.color in ("RGB", "BGR") else 1
        if not t.dtype.is_float or t.rank != 4 or t.shape[:2] != (1, channels):
            raise UsageError(
                f"input {name!r} : {t} cannot take {self.color} images, which are floats of shape "
                f"[1,{channels},height,width]",
                hint="choose another color, or leave --image out",
            )
        if len(self.bias) not in (1, channels):
            raise UsageError(
                f"--image for {name!r} has {len(self.bias)} biases; a {self.color} image takes 1 or {channels}"
            )
        if self.color == "GRAYSCALE_FLOAT16" and ios < 16:
            raise UsageError("images of color GRAYSCALE_FLOAT16 need iOS 16", hint="--deployment-target iOS16")

    def pixels(self, x: Array) -> Array:
        """The image (not rounded to whole pixels) that the model input `x` [1,C,H,W] is made of."""
        bias = np.array(self.bias, np.float32).reshape(1, -1, 1, 1)
        return np.asarray((x.astype(np.float32) - bias) / np.float32(self.scale))

    def preprocess(self, p: Lowering, pixels: Var) -> Var:
        """The layers that turn pixels into what the model was trained on."""
        x = pixels
        if self.scale != 1.0:
            x = p.like(x, "mul", y=self.scale)
        if any(self.bias):
            shape = (1, len(self.bias), 1, 1)
            x = p.like(x, "add", y=p.floats(np.array(self.bias).reshape(shape), "bias"))
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
    if values or color not in COLORS or not name or not scale or not all(map(isfinite, (scale, *bias))):
        raise UsageError(
            f"--image {text!r} is not NAME[:scale=S,bias=R/G/B,color=C]", hint=f"colors are {', '.join(COLORS)}"
        )
    return name, ImageInput(cast("Color", color), scale, bias)
