"""Target `edgetpu`: files whose operators all run on the device, executed; and what it says of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler import ops
from compiler.api import Compiled, compile_model
from compiler.compare import compare_all
from compiler.errors import LegalityError, UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.ops.conv import Conv
from compiler.tensor import Array
from targets.edgetpu import TARGET
from targets.tflite.check import check
from targets.tflite.check.rules import device_rules
from tests.passes.composed import Net, Term

MODELS = Path(__file__).parents[1] / "models"
RNG = np.random.default_rng(7)
QUICK: dict[str, Any] = {"observer": "minmax", "repair": "off"}
pytest.importorskip("ai_edge_litert")


def rows(graph: Graph, count: int = 24) -> dict[str, Array]:
    return {v.name: RNG.normal(size=(count, *v.type.dims[1:])).astype(np.float32) for v in graph.inputs}


def compiled(graph: Graph, path: Path, target: str = "edgetpu", **options: Any) -> Compiled:
    return compile_model(export_bytes(graph), target, path, calibrate=rows(graph), **QUICK, **options)


def psnr(done: Compiled) -> float:
    assert done.report.verification is not None
    return min(c.psnr_db for c in done.report.verification)


def conv(net: Net, x: Term, filters: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> Term:
    channels = x.value.type.dims[1] // groups
    op = Conv(strides=(stride,) * 2, pads=(kernel // 2,) * 4, dilations=(1, 1), groups=groups)
    scale = 1 / np.sqrt(channels * kernel**2)
    return net(op, x, RNG.normal(size=(filters, channels, kernel, kernel)) * scale, RNG.normal(size=filters) * 0.1)


Layer = Callable[[Net, Term], Term]
LAYERS: dict[str, Layer] = {
    "hard_swish": lambda net, x: net(ops.HardSwish(), x),
    "hard_sigmoid": lambda net, x: net(ops.HardSigmoid(alpha=0.25), x),
    "gelu": lambda net, x: net(ops.Gelu(), x),
    "silu": lambda net, x: net(ops.Silu(), x),
    "mish": lambda net, x: net(ops.Mish(), x),
    "softplus": lambda net, x: net(ops.Softplus(), x),
    "elu": lambda net, x: net(ops.Elu(), x),
    "selu": lambda net, x: net(ops.Selu(), x),
    "leaky_relu": lambda net, x: net(ops.LeakyRelu(alpha=0.1), x),
    "abs": lambda net, x: net(ops.Abs(), x),
    "tile": lambda net, x: net(ops.Tile(repeats=(1, 1, 2, 1)), x),
    "gather": lambda net, x: net(ops.Gather(axis=2), x, np.array([1, 2, 3], np.int64)),
    "reduce_sum": lambda net, x: net(ops.ReduceSum(axes=(2, 3), keepdims=True), x),
    "softmax of pairs": lambda net, x: net(ops.Softmax(axis=1), conv(net, x, 2)),
    "depth_to_space": lambda net, x: net(ops.DepthToSpace(blocksize=2), x),
    "grouped_conv": lambda net, x: net(ops.Relu(), conv(net, x, 8, groups=4)),
    "max_pool": lambda net, x: net(
        ops.MaxPool(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1)), net(ops.Relu(), x)
    ),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_run_on_the_device_and_give_their_numbers(layer: Layer, tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(layer(net, conv(net, net.input(1, 4, 8, 8), 8)))
    done = compiled(graph, tmp_path / "model.tflite", strict=True)
    report = check(done.path, "edgetpu", strict=True)
    assert report.errors == () and [p.on_device for p in report.partitions] == [True]
    assert psnr(done) > 30


@pytest.mark.parametrize("layer", ["gelu", "softplus", "elu", "mish"])
def test_nnapi_takes_them_too_and_the_report_names_the_bound(layer: str, tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(LAYERS[layer](net, conv(net, net.input(1, 4, 8, 8), 8)))
    done = compiled(graph, tmp_path / "model.tflite", "nnapi", precision="int8")
    report = check(done.path, "nnapi", strict=True)
    assert report.errors == () and report.on_device == report.operators
    (warning,) = [w for w in done.report.warnings if w.startswith("APPROXIMATED")]
    assert f"substitute-{layer} x1, each within 0.00" in warning


def test_exact_substitutions_are_no_approximations(tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(net(ops.HardSwish(), conv(net, net.input(1, 4, 8, 8), 8)))
    assert not any("APPROXIMATED" in w for w in compiled(graph, tmp_path / "model.tflite").report.warnings)


def test_an_inverted_residual_is_one_piece_within_memory(tmp_path: Path) -> None:
    net = Net()
    x = net(ops.Clip(low=0.0, high=6.0), conv(net, net.input(1, 3, 16, 16), 8, stride=2))
    wide = net(ops.Clip(low=0.0, high=6.0), conv(net, x, 16, 1))
    wide = net(ops.Clip(low=0.0, high=6.0), conv(net, wide, 16, 3, groups=16))
    pooled = net(ops.GlobalAveragePool(), conv(net, wide, 8, 1) + x)
    flat = net(ops.Reshape(shape=(1, 8)), pooled)
    done = compiled(net.returns(net(ops.Softmax(axis=1), flat)), tmp_path / "model.tflite", strict=True)
    placed, memory, least = done.report.notes[-3:]
    assert "operators run on the Edge TPU, in 1 piece" in placed
    assert memory.startswith("parameters of 0.00 MB, 6.90 MB on the chip: nothing is sent")
    assert least.startswith("a run takes 0.00 ms at least")
    declined = [e.reason for e in done.ledger.entries if e.pass_name == "pad-channels"]
    assert declined and all(r is not None and r.startswith("does not pay by the roofline: ") for r in declined)


def test_parameters_that_do_not_fit_are_streamed(tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(net(ops.Dense(), net.input(1, 3000), RNG.normal(size=(3000, 3000))))
    (memory,) = [n for n in compiled(graph, tmp_path / "model.tflite").report.notes if n.startswith("parameters")]
    size = (9e6 + 3000 * 4) / 1e6
    rules = device_rules("edgetpu")
    sent = size * 1e6 - rules["parameter_cache"]["bytes"]
    assert f"{sent / 1e6:.2f} MB are sent by the host" in memory
    assert f"{sent / rules['host']['bytes_per_second'] * 1e3:.1f} ms at least" in memory


def attention_like() -> Graph:
    net = Net()
    x = conv(net, net.input(1, 4, 4, 4), 4)
    rows_ = net(ops.Reshape(shape=(1, 4, 16)), x)
    return net.returns(net(ops.Relu(), net(ops.Softmax(axis=2), rows_)))


def test_what_stays_on_the_cpu_is_named_with_the_reason(tmp_path: Path) -> None:
    done = compiled(attention_like(), tmp_path / "model.tflite")
    (warning,) = [w for w in done.report.warnings if w.startswith("ON THE CPU")]
    assert "SOFTMAX: the operand has to be one-dimensional" in warning


def test_strict_refuses_the_cpu_and_leaves_what_there_was(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_text("before")
    with pytest.raises(LegalityError, match=r"SOFTMAX, operator .*one-dimensional"):
        compiled(attention_like(), path, strict=True)
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["model.tflite"]


def test_batches_are_explained(tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(conv(net, net.input(2, 3, 8, 8), 4))
    data = {"x0": RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)}
    done = compile_model(export_bytes(graph), "edgetpu", tmp_path / "m.tflite", calibrate=data, **QUICK)
    assert any("compile it for a single row" in w for w in done.report.warnings)


def test_data_is_needed_and_precision_is_no_choice(tmp_path: Path) -> None:
    net = Net()
    source = export_bytes(net.returns(net(ops.Relu(), net.input(1, 4))))
    with pytest.raises(UsageError, match="needs data"):
        compile_model(source, "edgetpu", tmp_path / "m.tflite")
    with pytest.raises(UsageError, match="does not take --precision"):
        compile_model(source, "edgetpu", tmp_path / "m.tflite", precision="fp16")
    assert TARGET.accepts >= {"calibrate", "observer", "io_dtype"}


@pytest.mark.parametrize("name", ["mlperf_tiny_resnet8", "yunet_n_320"])
def test_trained_networks_run_on_the_device_alone(name: str, tmp_path: Path) -> None:
    path = MODELS / f"{name}.onnx"
    done = compile_model(path, "edgetpu", tmp_path / "m.tflite", calibrate="synthetic", **QUICK, strict=True)
    report = check(done.path, "edgetpu", strict=True)
    assert report.errors == () and [p.on_device for p in report.partitions] == [True]


def test_padded_channels_give_the_same_numbers(tmp_path: Path) -> None:
    """With the number of a machine that runs unaligned channels at a twentieth of its rate."""
    from passes.pad_channels import PadChannels

    net = Net()
    x = net(ops.Relu(), conv(net, net.input(1, 8, 8, 8), 12))
    graph = net.returns(conv(net, x, 16), x)
    data = rows(graph)
    target = TARGET(calibrate=data, **QUICK)
    slow = PadChannels(array=8, unaligned=0.05, bandwidth=1e15)
    steps = tuple(slow if isinstance(s, PadChannels) else s for s in target.pipeline())
    done = compile_model(export_bytes(graph), target, tmp_path / "m.tflite", passes=steps)
    assert done.ledger.counts()["pad-channels"] == 1
    feeds = {k: v[:1] for k, v in data.items()}
    assert all(c.psnr_db > 30 for c in compare_all(evaluate(graph, feeds), done.run(feeds)))
