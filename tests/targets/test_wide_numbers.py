"""Doubles that 32 bits cannot hold are refused by the artifacts that compute in 32 bits, and do not become infinite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.api import Compiled, compile_model
from compiler.errors import UsageError
from tests.command import build, info, node


@pytest.fixture(params=["ane", "nnapi"])
def negation(request: pytest.FixtureRequest, tmp_path: Path) -> Compiled:
    """-x for three doubles."""
    ports = [info(name, [3], TensorProto.DOUBLE) for name in "xy"]
    model = build([node("Neg", "x", "y")], ports[:1], ports[1:])
    return compile_model(model, request.param, tmp_path / "model", precision="fp32", verify="off")


@pytest.mark.parametrize("large", [1e39, -1e300])
def test_numbers_that_do_not_fit_are_refused(negation: Compiled, large: float) -> None:
    with pytest.raises(UsageError, match="input 'x' holds numbers that 32 bits cannot"):
        negation.run({"x": np.array([1.0, large, 2.0])})


def test_infinite_numbers_fit(negation: Compiled) -> None:
    result = negation.run({"x": np.array([1e30, np.inf, -np.inf])})["y"]
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, [-1e30, -np.inf, np.inf], rtol=1e-6)
