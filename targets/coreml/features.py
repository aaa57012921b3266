"""What an application sees of a model: its inputs and outputs, as multi-arrays or images."""

from __future__ import annotations

from typing import Any, Literal

from compiler.errors import EmitError
from targets.coreml.proto import messages

Message = Any  # a protobuf message of Apple's schema: classes are made at run time
Color = Literal["RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16"]

_ARRAY_TYPES = {"fp32": ("FLOAT32", 15), "int32": ("INT32", 15), "fp16": ("FLOAT16", 16), "int8": ("INT8", 26)}
"""Element type of multi-arrays: its name in FeatureTypes.proto, and the first iOS version that has it."""


def feature_dtype(name: str, dtype: str, ios: int) -> str:
    """The name FeatureTypes.proto has for a multi-array of MIL type `dtype`; EmitError if iOS `ios` has none."""
    known, since = _ARRAY_TYPES.get(dtype, ("", 0))
    if not known or ios < since:
        possible = ", ".join(t for t, (_, first) in _ARRAY_TYPES.items() if first <= ios)
        hint = f"--deployment-target iOS{since}" if known else None
        raise EmitError(
            f"input or output {name!r} has element type {dtype}; Core ML on iOS {ios} has {possible}", hint=hint
        )
    return known


def describe_array(feature: Message, dtype: str, shape: tuple[int, ...], ios: int) -> None:
    """Make `feature` a multi-array."""
    array = feature.type.multiArrayType
    array.shape.extend(shape)
    array.dataType = messages().features.ArrayFeatureType.ArrayDataType.Value(feature_dtype(feature.name, dtype, ios))


def describe_image(feature: Message, shape: tuple[int, ...], color: Color, ios: int) -> None:
    """Make `feature` an image; EmitError unless `shape` is (1, 3, height, width), or (1, 1, height, width) for gray
    ones.
    """
    channels = 3 if color in ("RGB", "BGR") else 1
    if len(shape) != 4 or shape[:2] != (1, channels):
        raise EmitError(
            f"{feature.name!r} of shape {shape} cannot be a {color} image, which is (1, {channels}, height, width)"
        )
    if color == "GRAYSCALE_FLOAT16" and ios < 16:
        raise EmitError("images of color GRAYSCALE_FLOAT16 need iOS 16", hint="--deployment-target iOS16")
    image = feature.type.imageType
    image.height, image.width = shape[2:]
    image.colorSpace = messages().features.ImageFeatureType.ColorSpace.Value(color)
