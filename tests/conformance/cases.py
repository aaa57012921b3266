"""The cases of ONNX's backend suite that ship with the onnx package, and which of them are plain."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from compiler.tensor import Array

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
SETS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
_SIGNED = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
_UNSIGNED = (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64)
PLAIN = frozenset((*_FLOATS, *_SIGNED, *_UNSIGNED, TensorProto.BOOL))


class DataSet(NamedTuple):
    """What goes into a model, by name, and what must come out; sequences are lists."""

    feeds: dict[str, Any]  # Any: an array, a list of arrays, or None for an absent optional
    expected: dict[str, Any]


class Case(NamedTuple):
    """A model with its data and the tolerance that the suite states for it."""

    suite: str
    name: str
    model: onnx.ModelProto
    data: tuple[DataSet, ...]
    rtol: float
    atol: float

    @property
    def key(self) -> str:
        """Unique over all sets; node cases go by their own names."""
        return self.name if self.suite == "node" else f"{self.suite}/{self.name}"

    @property
    def op_types(self) -> list[str]:
        """The operators of its nodes, in the order of appearance."""
        return list(dict.fromkeys(n.op_type for n in self.model.graph.node))

    @property
    def is_plain(self) -> bool:
        """Whether all inputs and outputs are tensors of floats (16, 32, 64 bits), integers (8 to 64 bits) or booleans,
        and all operators of the default domain."""
        ports = (*self.model.graph.input, *self.model.graph.output)
        tensors = all(v.type.tensor_type.elem_type in PLAIN for v in ports)  # 0, which is not plain, for other types
        return tensors and all(n.domain in ("", "ai.onnx") for n in self.model.graph.node)


@cache
def load_cases() -> tuple[Case, ...]:
    """All cases of all sets, node cases first; making their data warns of overflows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (*_node_cases(), *_stored_cases(), *_light_cases())


def _node_cases() -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind="node"):
        assert case.model is not None and case.data_sets is not None
        data = tuple(_data_set(case.model, *pair) for pair in case.data_sets)
        yield Case("node", case.name, case.model, data, case.rtol, case.atol)


def _stored_cases() -> Iterator[Case]:
    for suite in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted(p.parent for p in (DATA / suite).glob("*/model.onnx")):
            model = onnx.load(folder / "model.onnx")
            data = tuple(
                _data_set(
                    model,
                    _stored(d, "input", [v.type for v in graph_inputs(model)]),
                    _stored(d, "output", [v.type for v in model.graph.output]),
                )
                for d in sorted(folder.glob("test_data_set_*"))
            )
            yield Case(suite, folder.name, model, data, 1e-3, 1e-7)


def _light_cases() -> Iterator[Case]:
    """Their inputs are not stored: ONNX's runner makes ramps from 0 to 1 of the input's shape."""
    for path in sorted((DATA / "light").glob("light_*.onnx")):
        model = onnx.load(path)
        name = "test_" + path.stem.removeprefix("light_")
        stated = json.loads((DATA / "real" / name / "data.json").read_text())
        inputs = [_ramp([d.dim_value or 1 for d in v.type.tensor_type.shape.dim]) for v in graph_inputs(model)]
        outputs = [_tensor(path.with_name(f"{path.stem}_output_{i}.pb")) for i in range(len(model.graph.output))]
        yield Case("light", path.stem, model, (_data_set(model, inputs, outputs),), stated["rtol"], stated["atol"])


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no initializers."""
    constants = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constants]


def _data_set(model: onnx.ModelProto, inputs: Sequence[object], outputs: Sequence[object]) -> DataSet:
    names = [v.name for v in graph_inputs(model)], [v.name for v in model.graph.output]
    feeds, expected = (dict(zip(n, map(_plain, v), strict=True)) for n, v in zip(names, (inputs, outputs), strict=True))
    return DataSet(feeds, expected)


def _plain(data: object) -> Any:  # Any: see DataSet
    if isinstance(data, onnx.TensorProto):
        return numpy_helper.to_array(data)
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return None if data is None else np.asarray(data)


def _ramp(shape: list[int]) -> Array:
    count = np.prod(shape)
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _tensor(path: Path) -> Array:
    return numpy_helper.to_array(onnx.load_tensor(path))


def _stored(folder: Path, kind: str, types: Sequence[onnx.TypeProto]) -> list[Any]:  # Any: see DataSet
    return [_read(folder / f"{kind}_{i}.pb", t) for i, t in enumerate(types)]


def _read(path: Path, t: onnx.TypeProto) -> Any:  # Any: see DataSet
    if t.WhichOneof("value") == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    return _tensor(path)
