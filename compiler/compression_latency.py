"""How long layers take on the device that `--latency DEVICE=5ms` names: by its rates, or by a table of measurements.

Rates give a lower bound: for each layer the larger of its work and its bytes, each at the device's rate. Apple chips
stand for their Neural Engine, cores of processors for themselves alone. docs/latency.md lists them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from compiler.compression_goals import EXAMPLES, bytes_each
from compiler.errors import UsageError
from compiler.graph import Node, Value
from compiler.layer_table import DTYPES, Measured, read_table
from passes._roofline import Array, macs_through
from passes._weight_bits import bits_of

if TYPE_CHECKING:
    from compiler.target import Target

APPLE = ("ane", "coreai")
HALF = 2  # bytes of a number in fp16
EDGE_TPU = "Edge-TPU"


class Clock(Protocol):
    """The time of layers, and of a call without any; `chip` names whose."""

    @property
    def chip(self) -> str: ...

    @property
    def call(self) -> float: ...

    def of(self, node: Node) -> float:
        """Seconds of a layer."""


class Seconds(NamedTuple):
    """Of a layer by the roofline of a device: multiply-accumulates and bytes a second. Each call takes `call` beside.
    `number` and `weight` are the bytes of a float that is computed or constant. An `array` idles where channels do not
    fill it."""

    chip: str
    macs: float
    bandwidth: float
    call: float
    number: float = HALF
    weight: float = HALF
    array: Array | None = None

    def of(self, node: Node) -> float:
        """A layer's."""
        outputs = [v.type for v in node.outputs]
        moved = 0.0
        for v in (*node.outputs, *(v for v in node.inputs if v is not None)):
            moved += self._nbytes(v)
        through = node.macs if self.array is None else macs_through(node, self.array)
        work = through or sum(t.size for t in outputs) / 2
        return float(max(work / self.macs, moved / self.bandwidth))

    def _nbytes(self, v: Value) -> float:
        if v.type.quant is not None or v.type.palette is not None:
            return bits_of(v) / 8
        each = self.weight if v.is_const else self.number
        return each * v.type.size if v.type.dtype.is_float else v.type.nbytes


def chip_seconds(latency: str | None, target: Target) -> Clock | None:
    """The cost function of the device or table that a goal names or an Apple target has; None if there is none.
    UsageError for what is neither, and for a device that does not compute in the target's precision."""
    name = None
    if latency is not None:
        name, _, value = latency.rpartition("=")
        if not name or not value:
            raise UsageError(f"--latency {latency!r} is not CHIP=TIME", hint=f"for example {EXAMPLES['latency']}")
        return device_seconds(name, target)
    if target.name not in APPLE:
        return None
    chip = getattr(target, "chip", None)
    if chip is None or isinstance(chip, str):
        return None if chip is None else device_seconds(chip, target)
    return device_seconds(chip.name, target)


def device_seconds(name: str, target: Target) -> Clock:
    """The cost function of a device by its name, or of a table by its path, FILE.json. UsageError as above."""
    if name.endswith(".json"):
        dtype = precision_of(target)
        return Measured(read_table(Path(name), dtype), dtype)
    from targets import devices  # with the data of those that are asked about
    from targets.apple import engine

    wanted = devices.plain(name)
    chip = next((c for c in engine.chips() if devices.plain(c) == wanted), None)
    if chip is not None:
        return _engine(chip, target)
    core = next((c for c in devices.cores() if devices.plain(c) == wanted), None)
    if core is not None:
        return _core(devices.cores()[core], target)
    if wanted == devices.plain(EDGE_TPU):
        return _edge_tpu(target)
    reason = devices.unpublished(name)
    known = ", ".join((*engine.chips(), *devices.cores(), EDGE_TPU))
    raise UsageError(
        f"{name!r}: {reason}" if reason else f"there is no chip or device named {name!r}",
        hint=f"measure a table, FILE.json, or choose one of {known}",
    )


def precision_of(target: Target) -> str:
    """In which of the precisions of `DTYPES` a target computes; int16x8 counts as fp16, of the same size."""
    asked = str(getattr(target, "precision", None) or "fp32")
    return asked if asked in DTYPES else "fp16"


def _engine(name: str, target: Target) -> Seconds:
    """A Neural Engine, in fp16 or int8."""
    from targets.apple import engine
    from targets.apple.placement.roofline import ceiling

    top = ceiling(engine.chip(name))
    is_int8 = precision_of(target) == "int8"
    rate, each = (top.int8, 1) if is_int8 else (top.fp16, HALF)
    return Seconds(
        top.chip, rate.value * 1e12 / 2, top.bandwidth.value * 1e9, top.dispatch.value / 1e3, each, each
    )  # fmt: skip


def _core(core: object, target: Target) -> Seconds:
    from targets.devices import Core

    assert isinstance(core, Core)
    precision = precision_of(target)
    number = DTYPES[precision]
    weight = min(number, bytes_each(target))
    return Seconds(
        core.name, core.rates[precision].value * 1e9 / 2, core.bandwidth.value * 1e9, 0.0, number, weight
    )  # fmt: skip


def _edge_tpu(target: Target) -> Seconds:
    """Parameters that the chip does not hold are sent at each run, which no layer is asked to pay for."""
    from targets.tflite.check.rules import device_rules

    if precision_of(target) != "int8" and target.name != "edgetpu":
        raise UsageError(
            f"the {EDGE_TPU} computes in 8-bit integers alone", hint="--precision int8, or --target edgetpu"
        )
    rules = device_rules("edgetpu")
    peak, memory = rules["peak"]["macs_per_second"], rules["memory"]["bytes_per_second"]
    return Seconds(EDGE_TPU, peak, memory, 0.0, 1, 1, Array(rules["array"]["width"]))
