"""The catalogue of trained networks is true: each file is the one it names, and runs on the inputs it gives."""

from __future__ import annotations

import hashlib

import numpy as np
import onnxruntime as ort
import pytest

from tests.real_models import CATALOGUES, RealModel, real_models

LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "CC0-1.0", "CC BY 4.0", "onnx2c licence")


def session(model: RealModel) -> ort.InferenceSession:
    """ONNX Runtime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])


def test_file_is_the_one_named(model: RealModel) -> None:
    assert hashlib.sha256(model.path.read_bytes()).hexdigest() == model.sha256
    assert model.licence.startswith(LICENCES)


def test_every_file_is_named() -> None:
    files = {path for catalogue in CATALOGUES for path in catalogue.parent.glob("*.onnx")}
    assert files == {model.path for model in real_models()}


def test_runs_on_its_inputs(model: RealModel, rng: np.random.Generator) -> None:
    outputs = session(model).run(None, model.random_inputs(rng))
    assert outputs
    assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("model", [m for m in real_models() if m.rows], ids=lambda model: model.name)
def test_labelled_rows_are_prepared_as_the_model_expects(model: RealModel) -> None:
    inputs, labels = model.labelled()
    ort_session = session(model)
    outputs = [ort_session.run(None, {k: v[i : i + 1] for k, v in inputs.items()})[0][0] for i in range(len(labels))]
    scores = np.stack(outputs)
    if scores.shape[1] == 1:
        failed, fine = scores[labels == 1, 0], scores[labels == 0, 0]
        assert (failed[:, None] > fine).mean() > 0.9  # area under the ROC curve
    else:
        assert (scores.argmax(1) == labels).mean() > 0.85
