"""Devices that `--latency` knows: their figures, and what those make of a layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compiler.compression_latency import Seconds, chip_seconds, device_seconds
from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.layer_table import Measured, Row, Shape, Table
from compiler.ops.conv import Conv
from compiler.target import Target, make_target
from compiler.tensor import F32, TensorType
from targets import devices, find_target

CONFIDENCE = {"documented", "measured-by-third-party", "inferred"}
WORK = 64 * 64 * 9 * 16 * 16  # multiply-accumulates of `conv`


def target(name: str = "onnx", **options: object) -> Target:
    return make_target(find_target(name), options)


def conv(channels: int = 64, filters: int = 64, size: int = 16) -> Node:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, (1, channels, size, size)), "x")
    w = graph.const(np.zeros((filters, channels, 3, 3), np.float32))
    (y,) = graph.add(Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), groups=1), x, w)
    assert y.node is not None
    return y.node


def test_every_figure_has_its_source() -> None:
    path = Path(devices.__file__).with_name("cores.json")
    content = json.loads(path.read_text())
    for name, entry in content["devices"].items():
        figures = [v for v in entry.values() if isinstance(v, dict)]
        assert len(figures) == 4, name
        assert all(f["source"] and f["confidence"] in CONFIDENCE and f["value"] > 0 for f in figures), name
        assert all(f.get("note") for f in figures if f["confidence"] == "inferred"), name
    assert all(e["source"] and e["confidence"] in CONFIDENCE for e in content["unpublished"])


@pytest.mark.parametrize(
    ("device", "precision", "seconds"),
    [
        ("Cortex-A78", "fp32", WORK / 18.8e9),
        ("Cortex-A78", "fp16", WORK / 37.6e9),
        ("cortex a78", "int8", WORK / 75.2e9),
        ("Cortex-A55", "fp32", WORK / 7.2e9),
        ("M1-P", "int8", WORK / 204e9),
    ],
)
def test_rates_are_those_of_the_precision(device: str, precision: str, seconds: float) -> None:
    more = {"calibrate": "synthetic"} if precision == "int8" else {}
    clock = device_seconds(device, target("nnapi", precision=precision, **more))
    assert clock.of(conv()) == pytest.approx(seconds)
    assert clock.call == 0


def test_small_work_waits_for_memory() -> None:
    clock = device_seconds("Cortex-X1", target())
    node = conv(size=1)
    moved = 4 * (64 + 64 * 64 * 9 + 64)
    assert clock.of(node) == pytest.approx(max(64 * 64 * 9 / 45.6e9, moved / 51.2e9))
    fewer = device_seconds("Cortex-X1", target(weights="int8"))
    assert fewer.of(node) == pytest.approx(64 * 64 * 9 / 45.6e9)


def test_the_edge_tpu_idles_where_channels_do_not_fill_its_array() -> None:
    edge = target("edgetpu", calibrate="synthetic")
    clock = device_seconds("edge tpu", edge)
    assert clock.chip == "Edge-TPU"
    assert clock.of(conv(size=64)) == clock.of(conv(40, 50, size=64))
    assert clock.of(conv(128, size=64)) == pytest.approx(2 * clock.of(conv(size=64)))
    with pytest.raises(UsageError, match="computes in 8-bit integers alone"):
        device_seconds("Edge-TPU", target())


def test_the_engine_is_as_it_was_in_fp16_and_faster_in_int8() -> None:
    half = device_seconds("A17 Pro", target("ane"))
    full = device_seconds("A17 Pro", target("ane", precision="int8", calibrate="synthetic"))
    assert isinstance(half, Seconds) and isinstance(full, Seconds)
    assert (half.number, full.number) == (2, 1)
    assert full.macs == pytest.approx(2 * half.macs)
    assert half.call == full.call > 0


def test_an_apple_target_has_a_chip_of_its_own() -> None:
    clock = chip_seconds(None, target("ane", chip="A15"))
    assert clock is not None and clock.chip == "A15"
    assert chip_seconds(None, target("nnapi")) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pentium", "there is no chip or device named 'Pentium'"),
        ("Tensor-G5", "'Tensor-G5': Google publishes no rate of the TPU"),
        ("none.json", "the table 'none.json' cannot be read"),
    ],
)
def test_unknown_devices(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        chip_seconds(f"{name}=5ms", target())
    if not name.endswith(".json"):
        assert all(known in str(caught.value.hint) for known in ("A14", "M4", "Cortex-A55", "Edge-TPU", "FILE.json"))


def test_a_table_is_a_device(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    shape = Shape("conv", "fp32", ((1, 64, 16, 16), (64, 64, 3, 3)), ((1, 64, 16, 16),))
    path.write_text(Table("phone", [Row(shape, 0.5)], 0.25).text())
    clock = chip_seconds(f"{path}=2x", target())
    assert isinstance(clock, Measured)
    assert (clock.of(conv()), clock.call) == (0.5, 0.25)
    assert clock.chip.startswith("phone ")
    path.write_text(Table("phone", [Row(shape, 0.4)], 0.25).text())
    other = device_seconds(str(path), target())
    assert other.chip != clock.chip  # what was measured with one holds for that one
