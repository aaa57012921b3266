"""Folders of images or of arrays as calibration data, by a rule that says how pixels become numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.calibrate.rows import expect_single
from compiler.errors import MissingExtraError, UsageError
from compiler.tensor import Array, TensorType

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FITS = ("crop", "stretch", "pad")
LAYOUTS = ("auto", "nchw", "nhwc")
COLOURS = {"rgb": 3, "bgr": 3, "grey": 1}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageRule(NamedTuple):
    """number = (pixel * scale - mean) / std, for each channel, with pixels from 0 to 255.

    fit     to the model's height and width, bilinearly: "crop" takes the largest part in the middle that has their
            ratio, "stretch" the whole image, "pad" puts the whole image in the middle of black
    crop    share of the sides that "crop" keeps: 0.875 is what a resize to 256 and a crop to 224 leave
    layout  "nchw", "nhwc", or "auto": where the model's input has 1, 3 or 4 channels
    colour  "rgb", "bgr" or "grey"; an input with one channel is grey in any case
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    fit: str = "crop"
    crop: float = 1.0
    layout: str = "auto"
    colour: str = "rgb"

    def __str__(self) -> str:
        lists = {k: ":".join(f"{x:g}" for x in getattr(self, k)) for k in ("mean", "std")}
        numbers = {"scale": f"{self.scale:g}", **lists, "fit": self.fit, "crop": f"{self.crop:g}"}
        return ",".join(f"{k}={v}" for k, v in {**numbers, "layout": self.layout, "colour": self.colour}.items())


def image_rule(text: str) -> ImageRule:
    """The rule written as `scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,fit=crop`; what is not named keeps
    its default. UsageError for anything else."""
    fields: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        key = key.strip()
        if key not in ImageRule._fields:
            raise UsageError(
                f"the image rule {text!r} has no option {key!r}", hint=f"choose from {', '.join(ImageRule._fields)}"
            )
        try:
            fields[key] = _field(key, value.strip())
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"{value!r} is no value for {key} of the image rule") from None
    return checked_rule(ImageRule(**fields))


def _field(key: str, value: str) -> object:
    if key in ("mean", "std"):
        return tuple(float(Fraction(x)) for x in value.split(":"))
    return float(Fraction(value)) if key in ("scale", "crop") else value


def checked_rule(rule: ImageRule) -> ImageRule:
    """The rule, if it makes sense; UsageError otherwise."""
    for key, choices in (("fit", FITS), ("layout", LAYOUTS), ("colour", tuple(COLOURS))):
        if getattr(rule, key) not in choices:
            raise UsageError(f"{getattr(rule, key)!r} is no {key} of images", hint=f"choose {', '.join(choices)}")
    numbers = (rule.scale, rule.crop, *rule.mean, *rule.std)
    if not all(np.isfinite(numbers)) or not 0 < rule.crop <= 1 or not rule.scale or not all(rule.std):
        raise UsageError(f"the image rule {str(rule)!r} cannot be applied", hint="crop is in 0..1, scale and std not 0")
    return rule


class Frame(NamedTuple):
    """What a model reads of an image."""

    height: int
    width: int
    channels: int
    is_last: bool


def frame_of(name: str, type: TensorType, layout: str) -> Frame:
    """The frame of an input; UsageError if it is none of images."""
    dims = type.dims
    if len(dims) == 4:
        if layout in ("auto", "nchw") and dims[1] in MODES:
            return Frame(dims[2], dims[3], dims[1], False)
        if layout in ("auto", "nhwc") and dims[3] in MODES:
            return Frame(dims[1], dims[2], dims[3], True)
    raise UsageError(
        f"the input {name!r} {type} does not take images" + (f" in {layout}" if layout != "auto" else ""),
        hint="give rows in an .npz, or a folder of .npy files",
    )


class Folder:
    """The files of a folder and of those within it, in the order of their paths: images, or `.npy` files of one or more
    rows."""

    def __init__(self, path: Path, types: Mapping[str, TensorType], rule: ImageRule | None) -> None:
        expect_single(types)
        ((self._name, self._type),) = types.items()
        self.notes: list[str] = []
        found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        images = [p for p in found if p.suffix.lower() in IMAGES]
        self._files = images or [p for p in found if p.suffix == ".npy"]
        self.length = len(self._files)
        if not self._files:
            raise UsageError(f"the folder {str(path)!r} holds no images and no .npy files")
        if len(self._files) < len(found):
            self.notes.append(f"{len(found) - self.length} other files of {str(path)!r} were left out")
        self._read = _array
        if rule is not None and not images:
            raise UsageError(
                f"a rule of pixels is for images, and the folder {str(path)!r} holds none",
                hint="leave --calibrate-image away",
            )
        if images:
            chosen = checked_rule(rule or ImageRule())
            reader = _Reader(frame_of(self._name, self._type, chosen.layout), chosen, self._type)
            self._read = reader.read
            if rule is None:
                self.notes.append(f"images are read as {chosen}; the model may have been trained otherwise")

    def __iter__(self) -> Iterator[Array]:
        return map(self._read, self._files)


def _array(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        raise UsageError(f"{str(path)!r} is no array of numbers that can be read", hint="leave it out") from None


class _Reader:
    """Images as rows of a model."""

    def __init__(self, frame: Frame, rule: ImageRule, type: TensorType) -> None:
        try:
            from PIL import Image  # images alone need it
        except ImportError:
            raise MissingExtraError("images", "pillow") from None
        self._pillow = Image
        self._frame = frame
        self._type = type
        self._rule = rule if type.dtype.is_float else rule._replace(scale=1.0)
        for key in ("mean", "std"):
            if len(getattr(rule, key)) not in (1, frame.channels):
                raise UsageError(
                    f"the {key} of the image rule has {len(getattr(rule, key))} numbers for images of"
                    f" {frame.channels} channels"
                )

    def read(self, path: Path) -> Array:
        """A row: [C,H,W] or [H,W,C]; UsageError if the file is no image of 8 bits a channel."""
        try:
            with self._pillow.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise UsageError(
                        f"the image {str(path)!r} has more than 8 bits a channel", hint="store rows in .npy"
                    )
                grey = self._rule.colour == "grey" or self._frame.channels == 1
                picture = image.convert("L" if grey else MODES[self._frame.channels])
            pixels = np.asarray(self._fitted(picture))
        except (OSError, SyntaxError, ValueError, self._pillow.DecompressionBombError):
            raise UsageError(f"{str(path)!r} is no image that can be read", hint="leave it out") from None
        return self._numbers(pixels.reshape(*pixels.shape[:2], -1))

    def _fitted(self, image: Any) -> Any:  # Any: an Image of a package that is loaded for images alone
        frame, bilinear = self._frame, self._pillow.Resampling.BILINEAR
        size = frame.width, frame.height
        if self._rule.fit == "pad":
            share = min(frame.width / image.width, frame.height / image.height)
            inner = [max(1, round(n * share)) for n in image.size]
            canvas = self._pillow.new(image.mode, size)
            corner = ((frame.width - inner[0]) // 2, (frame.height - inner[1]) // 2)
            canvas.paste(image.resize(inner, bilinear), corner)
            return canvas
        width, height = image.size
        if self._rule.fit == "crop":
            share = min(width / frame.width, height / frame.height) * self._rule.crop
            width, height = frame.width * share, frame.height * share
        left, top = (image.width - width) / 2, (image.height - height) / 2
        return image.resize(size, bilinear, box=(left, top, left + width, top + height))

    def _numbers(self, pixels: Array) -> Array:
        if self._rule.colour == "bgr":
            pixels = pixels[..., ::-1]
        rule, channels = self._rule, self._frame.channels
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], channels))
        numbers = (pixels * rule.scale - np.asarray(rule.mean)) / np.asarray(rule.std)
        if self._type.dtype.is_integer:
            limits = np.iinfo(self._type.dtype.numpy)
            numbers = np.clip(np.rint(numbers), limits.min, limits.max)
        row = numbers.astype(self._type.dtype.numpy)
        return row if self._frame.is_last else np.ascontiguousarray(row.transpose(2, 0, 1))
