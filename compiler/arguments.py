"""Values of command-line options, from text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from compiler.compression import Compression
    from compiler.spectrum import Asked
    from compiler.tensor import Array


COMPRESSION = (
    "compress", "size", "macs", "latency", "recipe", "save_recipe", "pareto", "sensitivities", "techniques", "multiple",
    "recover", "epochs", "augment",
)  # fmt: skip
INTEGERS = ("int8", "int16x8")
ENGINES = ("ane", "coreai")  # whose fp16 looks at data too


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`NAME=1x3x224x224` by name; the name may hold `=`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        numbers = dims.lower().replace(",", "x").split("x")
        if not name or not all(n.isascii() and n.isdecimal() and len(n) < 20 for n in numbers):
            raise UsageError(f"--input {text!r} is not NAME=SHAPE", hint="for example --input image=1x3x224x224")
        if name in shapes:
            raise UsageError(f"--input gives the shape of {name!r} twice")
        shapes[name] = tuple(map(int, numbers))
    return shapes


def parse_frozen(texts: Sequence[str]) -> dict[str, Array]:
    """`NAME=VALUE` or `NAME=@FILE.npy` by name, as arrays; the name may hold `=`."""
    frozen: dict[str, Array] = {}
    for text in texts:
        name, file, value = text.partition("=@")
        if not file:
            name, _, value = text.rpartition("=")
        if not name or not value:
            hint = "for example --freeze sr=16000 or --freeze table=@table.npy"
            raise UsageError(f"--freeze {text!r} is not NAME=VALUE", hint=hint)
        if name in frozen:
            raise UsageError(f"--freeze gives the value of {name!r} twice")
        frozen[name] = _array_of_file(value) if file else _array_of_text(text, value)
    return frozen


def load_arrays(path: str | None) -> dict[str, Array] | None:
    """The arrays of an .npz file by name, for --verify-data; None if there is no path."""
    if path is None:
        return None
    import zipfile  # not needed to answer --help

    import numpy as np

    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as e:
        reason = _reason(e, "it is not an .npz file of plain arrays")
        hint = "save it with numpy.savez(path, NAME=array, ...)"
        raise UsageError(f"--verify-data {path!r} cannot be read: {reason}", hint=hint) from None


def parse_seed(text: str) -> int:
    """A number from 0 on."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UsageError(f"--seed {text!r} is not a number from 0 on", hint="for example --seed 1")
    return int(text)


def default_output(model: str, suffix: str) -> str:
    """The model's name with the target's suffix, in the working folder; never the name of an ONNX model itself."""
    stem = Path(model).stem
    return f"{stem}.cincel{suffix}" if suffix == ".onnx" else f"{stem}{suffix}"


def _array_of_file(path: str) -> Array:
    import numpy as np  # not needed to answer --help

    try:
        with Path(path).open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as e:
        reason = _reason(e, "it is not an .npy file of a plain array")
        raise UsageError(f"--freeze: {path!r} cannot be read: {reason}") from None
    if not isinstance(array, np.ndarray):
        raise UsageError(f"--freeze: {path!r} holds several arrays", hint="save one with numpy.save(path, array)")
    return array


def _array_of_text(text: str, value: str) -> Array:
    import numpy as np  # not needed to answer --help

    try:
        numbers = [_number(v) for v in value.split(",")]
        array = np.array(numbers if len(numbers) > 1 else numbers[0])
    except (ValueError, OverflowError):
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        hint = "numbers with commas, true, false, or @FILE.npy"
        raise UsageError(f"--freeze {text!r}: {value!r} is not a value", hint=hint)
    return array


def _number(text: str) -> int | float | bool:
    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        return int(text)
    except ValueError:
        return float(text)


def _reason(error: Exception, otherwise: str) -> str:
    """The system's own words, or ours where the library's mean little to its user."""
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else otherwise


def target_options(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options of these names, which are handed to the target; UsageError for those of data that is not there, and
    for empty ones."""
    options = {name: getattr(args, name) for name in names}
    for name, value in options.items():
        if value == "":
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is given without a value", hint=f"leave {option} away for its default")
    asked = args.calibrate_rows, args.calibrate_image, args.resume_calibration, args.save_calibration
    options["calibrate"] = parse_data(args.calibrate, *asked)
    return options


def requests_of(args: argparse.Namespace, options: dict[str, Any]) -> tuple[Asked | None, Compression | None]:
    """What is asked of the spectrum view and of compression; None for what is not. `--latency DEVICE` without an amount
    is the device whose times the spectrum tells. UsageError for what does not go together."""
    spectrum = None
    if args.spectrum is not None:
        from compiler.spectrum import Asked  # with all that it looks at, for this alone

        device = None
        if args.latency is not None and "=" not in args.latency:
            device, args.latency = args.latency, None
        device = device or (args.latency or "").rpartition("=")[0] or None
        spectrum = Asked(options["calibrate"], device, args.spectrum or None)
        spectrum.expect_sound()
    compression = compression_of(args, options)
    if spectrum is not None and not _takes_data(args):
        options["calibrate"] = None
    return spectrum, compression


def _takes_data(args: argparse.Namespace) -> bool:
    """Whether the target has a use of its own for data."""
    return args.precision in INTEGERS or (args.target in ENGINES and args.precision in (None, "fp16"))


def compression_of(args: argparse.Namespace, options: dict[str, Any]) -> Compression | None:
    """What is asked of compression; None if nothing is. The limits are taken from a target's options, and the data
    where its precision has no use for them. UsageError for what does not go together."""
    given = {name: getattr(args, name) for name in COMPRESSION}
    if all(value is None for value in given.values()):
        return None
    from compiler.compression import Compression  # with all that searches, for this alone

    goal = given.pop("compress")
    given = {name: value for name, value in given.items() if value is not None}
    data = options["calibrate"]
    limits = {name: options.pop(name) for name in ("max_drop", "min_psnr")}
    asked = Compression(data=data, parameters=goal, **limits, **given)
    asked.expect_sound()
    if not _takes_data(args):
        if args.save_calibration is not None or args.resume_calibration is not None:
            raise UsageError("a calibration is of --precision int8", hint="--sensitivities FILE keeps what is measured")
        options["calibrate"] = None
    return asked


def parse_data(
    source: str | None, rows: int | None, images: str | None, start: str | None, save: str | None
) -> object | None:
    """Calibration data and what is asked of it: a `compiler.calibrate.sources.Data`, or the source alone. UsageError
    for options without a source."""
    given = {"rows": rows, "images": images, "start": start, "save": save}
    if all(value is None for value in given.values()):
        return source
    if source is None:
        raise UsageError("options of calibration data come without data", hint="--calibrate DATA")
    from compiler.calibrate.images import image_rule  # with all that reads data: for int8 only
    from compiler.calibrate.sources import Data

    return Data(source, rows, None if images is None else image_rule(images), start, save)
