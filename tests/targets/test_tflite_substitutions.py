"""Which passes the rules of a device ask for, and that the data says of each what the pass says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.api import compile_model
from compiler.onnx_export import export_bytes
from compiler.pass_base import ErrorClass, pass_class
from passes._approximations import BOUNDS
from targets.tflite.check import check
from targets.tflite.check.rules import device_rules
from targets.tflite.substitutions import entries, substitutions
from tests.passes.composed import Net


@pytest.mark.parametrize("entry", entries(), ids=lambda e: f"{e['pass']}-{e['builtin']}-{e.get('condition', '')}")
def test_entries_say_what_the_pass_says(entry: dict[str, object]) -> None:
    cls = pass_class(str(entry["pass"]))
    assert cls is not None
    assert entry["exact"] == (cls.error_class is not ErrorClass.LOSSY)
    assert entry.get("bound") == BOUNDS.get(str(entry["pass"]).removeprefix("substitute-"))
    assert any(
        entry["builtin"] in device_rules(d)["operators"] or "condition" not in entry for d in ("nnapi", "edgetpu")
    )


def names(device: str, level: int = 99) -> set[str]:
    return {str(p).partition("(")[0].removeprefix("substitute-") for p in substitutions(device, level)}


def test_devices_ask_for_what_they_lack() -> None:
    both = {"gelu", "elu", "softplus", "abs", "tile", "gather", "where", "matmul", "grouped-conv"}
    assert names("nnapi") == both | {"reduce-sum", "average-pool"}
    assert names("edgetpu") == both | {
        "hard-swish", "leaky-relu", "softmax", "depth-to-space", "dilated-conv", "max-pool"
    }  # fmt: skip


def test_levels_decide() -> None:
    assert "reduce-sum" in names("edgetpu", 12) and "reduce-sum" not in names("edgetpu", 13)
    assert "leaky-relu" not in names("nnapi", 3) and "leaky-relu" in names("nnapi", 2)


def test_options_come_from_the_rules() -> None:
    texts = [str(p) for device in ("nnapi", "edgetpu") for p in substitutions(device)]
    assert "substitute-average-pool" in texts  # the limit of NNAPI is the default of the pass
    assert "substitute-grouped-conv" in texts and "substitute-grouped-conv(array=64)" in texts
    assert [str(p) for p in substitutions("nnapi", early=True)] == ["substitute-mish"]


def test_a_rectified_transposed_convolution_is_taken_by_nnapi(tmp_path: Path) -> None:
    net = Net()
    rng = np.random.default_rng(0)
    op = ops.ConvTranspose(strides=(2, 2), pads=(0,) * 4, dilations=(1, 1), groups=1, output_padding=(0, 0))
    y = net(ops.Relu(), net(op, net.input(1, 4, 5, 5), rng.normal(size=(4, 3, 2, 2))))
    data = {"x0": rng.normal(size=(16, 4, 5, 5)).astype(np.float32)}
    source = export_bytes(net.returns(y))
    done = compile_model(source, "nnapi", tmp_path / "m.tflite", precision="int8", calibrate=data, repair="off")
    assert done.report.verification is not None and done.report.verification[0].psnr_db > 30
    report = check(done.path, "nnapi", strict=True)
    assert report.errors == () and report.on_device == report.operators
