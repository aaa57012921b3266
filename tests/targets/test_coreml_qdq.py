"""Quantized models keep their scales in a package, or at least their weights the integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.api import Compiled, compile_model
from compiler.compare import compare
from compiler.errors import UsageError
from compiler.oracle import open_session, run_session
from compiler.tensor import I8
from targets.coreml.int8 import is_rounded
from tests.qdq_models import KINDS, Chain
from tests.real_models import real_model

# What random bytes reach, in dB, in the middle of several. Sums in fp16 that lie between two steps round to either, and
# a step of a logit of ResNet-8 is up to 11 steps of a probability.
MODELS = {
    "mobilenet_v1_025_128_qdq": 45.0,
    "mlperf_tiny_resnet8_int8": 20.0,
    "mlperf_tiny_streaming_ww_int8": 60.0,
}


def compiled(name: str, folder: Path, **options: Any) -> Compiled:  # Any: options of the target
    model = real_model(name)
    return compile_model(model.path, "ane", folder / "m.mlpackage", inputs=model.bind, **options)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_is_lowered_as_it_is(name: str, tmp_path: Path) -> None:
    model, result = real_model(name), compiled(name, tmp_path)
    assert result.report.precision == "int8" and result.report.passed
    assert result.report.size < 1.2 * Path(model.path).stat().st_size
    reached = []
    for seed in range(5):
        feeds = model.random_inputs(np.random.default_rng(seed))
        ((key, expected),) = run_session(open_session(str(model.path)), feeds).items()
        found = compare(key, expected, result.run(feeds)[key])
        assert found.top1_agreement in (None, 1.0)
        reached.append(found.psnr_db)
    assert np.median(reached) >= MODELS[name]


@pytest.mark.parametrize("seed", range(12))
def test_chains_are_within_their_bound(seed: int, tmp_path: Path) -> None:
    """Random layers with random scales; fp16 adds a rounding of 11 places to each value."""
    rng = np.random.default_rng(seed)
    chain = Chain(rng)
    for kind in rng.choice(KINDS, 3):
        chain.add(str(kind))
    model = chain.model()
    result = compile_model(model, "ane", tmp_path / "m.mlpackage", verify="off")
    x = {"x": rng.normal(size=chain.given).astype(np.float32)}
    expected = run_session(open_session(model.SerializeToString()), x)["y"]
    assert np.abs(expected - result.run(x)["y"]).max() <= chain.error + 2**-9 * np.abs(expected).max() + 1e-3


def test_values_and_weights_are_stored_as_the_model_says(tmp_path: Path) -> None:
    graph = compiled("mlperf_tiny_resnet8_int8", tmp_path).graph
    rounded = [v for n in graph.nodes for v in n.outputs if is_rounded(v)]
    weights = [c.type.quant for c in graph.constants if c.type.rank == 4]
    assert len(rounded) > 10 and len(weights) == 9
    assert all(q is not None and q.dtype is I8 for q in weights)


@pytest.mark.parametrize("options", [{"precision": "fp16"}, {"precision": "fp32"}, {"deployment_target": "iOS16"}])
def test_weights_stay_integers_in_a_package_of_floats(options: dict[str, str], tmp_path: Path) -> None:
    model = real_model("mobilenet_v1_025_128_qdq")
    result = compiled("mobilenet_v1_025_128_qdq", tmp_path, verify="off", **options)
    assert result.report.precision == options.get("precision", "fp16")
    assert result.report.size < 1.2 * Path(model.path).stat().st_size
    assert not any(is_rounded(v) for n in result.graph.nodes for v in n.outputs)


def test_before_ios_16_nothing_is_stored_in_bytes(tmp_path: Path) -> None:
    graph = compiled("mlperf_tiny_resnet8_int8", tmp_path, verify="off", deployment_target="iOS15").graph
    assert not any(c.type.quant for c in graph.constants)


def test_palettes_of_a_quantized_model(tmp_path: Path) -> None:
    """The weights are found behind their scales, and what is asked for comes first."""
    result = compiled("mlperf_tiny_resnet8_int8", tmp_path, verify="off", weights="palette4")
    assert result.report.precision == "fp16"
    assert sum(c.type.palette is not None for c in result.graph.constants) >= 7


def test_int8_of_floats_needs_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs data that shows what numbers occur"):
        compiled("mlperf_tiny_resnet8", tmp_path, precision="int8")
    assert compiled("mlperf_tiny_resnet8_int8", tmp_path, precision="int8").report.passed
