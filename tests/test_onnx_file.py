"""Reading ONNX files: the values of every encoding, and views instead of copies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compiler.errors import OnnxError
from compiler.filemap import FileMap, locate, release
from compiler.onnx_file import read_model
from compiler.onnx_proto import DATA_TYPES, pack, unpack
from compiler.onnx_wire import skeleton
from compiler.onnx_write import tensor_proto
from compiler.tensor import Array
from tests.onnx_models import B, W, model, random, same, small

ROOT = Path(__file__).parent.parent


def one(tensor: TensorProto, tmp_path: Path) -> Array:
    """What a tensor of a file reads as."""
    path = tmp_path / "one.onnx"
    path.write_bytes(model([], [tensor]).SerializeToString())
    return next(array for _, array in read_model(path).initializers())


def inside(array: Array) -> FileMap:
    """The map that an array is a view of, checked by address."""
    owner: Any = array  # Any: the chain of bases is untyped
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, FileMap)
    address = array.__array_interface__["data"][0]
    assert owner.address <= address and address + array.nbytes <= owner.address + len(owner)
    return owner


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 67), (9000,)], ids=str)
@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_every_element_type_reads_as_onnx_reads_it(data_type: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = random(data_type, shape)
    stored = tensor_proto("t", array)
    expected = numpy_helper.to_array(stored)
    got = one(stored, tmp_path)
    assert same(got, array) and same(got, expected)
    assert not got.flags.writeable


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_typed_fields_read_as_onnx_reads_them(data_type: int, tmp_path: Path) -> None:
    array = random(data_type, (3, 5))
    dtype = DATA_TYPES[data_type]
    tensor = TensorProto(name="t", dims=[3, 5], data_type=data_type)
    field = helper.tensor_dtype_to_field(data_type)
    if dtype.kind == "s":
        values: Any = [text.encode() for text in array.reshape(-1)]  # Any: whatever the field takes
    elif dtype.bits < 8:
        values = pack(array.reshape(-1).view(np.uint8), dtype.bits)
    elif dtype.kind == "c":
        values = array.reshape(-1).view(np.float32 if dtype.bits == 64 else np.float64)
    else:
        coded = dtype.kind == "b" or (dtype.kind == "f" and dtype.bits < 32)
        bits = np.uint8 if dtype.bits == 8 else np.uint16
        values = array.reshape(-1).view(bits) if coded else array.reshape(-1)
    getattr(tensor, field).extend(values if dtype.kind == "s" else values.tolist())
    assert same(one(tensor, tmp_path), array) and same(numpy_helper.to_array(tensor), array)


@given(st.sampled_from([2, 4]), st.binary(max_size=40), st.integers(0, 3))
def test_unpack_inverts_pack(bits: int, data: bytes, drop: int) -> None:
    codes = np.frombuffer(data, np.uint8)[: max(0, len(data) - drop)] & ((1 << bits) - 1)
    packed = pack(codes, bits)
    assert len(packed) == -(-len(codes) * bits // 8)
    assert unpack(packed, bits, len(codes)).tolist() == codes.tolist()


@pytest.mark.parametrize("data_type", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.COMPLEX64])
def test_large_payloads_are_views_of_the_file(data_type: int, tmp_path: Path) -> None:
    array = random(data_type, (40, 50))
    field = helper.tensor_dtype_to_field(data_type)
    typed = TensorProto(name="typed", dims=[40, 50], data_type=data_type)
    real = np.float64 if data_type == TensorProto.DOUBLE else np.float32
    getattr(typed, field).extend(array.reshape(-1).view(real).tolist())
    path = tmp_path / "m.onnx"
    path.write_bytes(model([], [typed, numpy_helper.from_array(array, "raw")]).SerializeToString())
    for name, got in read_model(path).initializers():
        inside(got)
        place = locate(got)
        assert place is not None and name in {"raw", "typed"}
        assert os.pread(place[0], got.nbytes, place[1]) == got.tobytes() == path.read_bytes()[place[1] :][: got.nbytes]
        inner = got[3:9].reshape(-1)
        assert locate(inner) == (place[0], place[1] + 3 * got.strides[0])
        assert locate(got.T) is None and locate(got[:, 1:]) is None and locate(got.copy()) is None


def test_constants_in_nodes_branches_and_functions_are_cut(tmp_path: Path) -> None:
    body = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(W, "kw")),
        helper.make_node("MatMul", ["p", "k"], ["q"]),
    ]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", ["p"], ["q"], body, opsets)
    source = small()
    source.graph.node[-1].output[0] = "z"
    source.graph.node.append(helper.make_node("F", ["z"], ["y"], domain="local"))
    source.functions.append(function)
    source.opset_import.append(opsets[1])
    path = tmp_path / "m.onnx"
    path.write_bytes(source.SerializeToString())
    assert len(skeleton(path.read_bytes())) < 4096
    file = read_model(path)
    assert not file.model.functions and len(file.model.SerializeToString()) < 4096
    constants = [(n, file.tensor(n.attribute[0].t)) for n in file.model.graph.node if n.op_type == "Constant"]
    assert [same(a, e) for (_, a), e in zip(constants, [W.T, W], strict=True)] == [True, True]
    branches = [a.g.node[0].attribute[0].t for n in file.model.graph.node if n.op_type == "If" for a in n.attribute]
    assert sorted(same(file.tensor(t), W * i) for t in branches for i in (1, 2)) == [False, False, True, True]
    for array in [a for _, a in constants] + [file.tensor(t) for t in branches]:
        inside(array)


def test_bytes_models_and_graphs_of_graphsurgeon_read_alike() -> None:
    import onnx_graphsurgeon

    source = small()
    expected = dict(read_model(source.SerializeToString()).initializers())
    assert same(expected["w"], W) and same(expected["b"], B) and locate(expected["w"]) is None
    for other in (source, onnx_graphsurgeon.import_onnx(source)):
        got = dict(read_model(other).initializers())
        assert all(same(got[name], expected[name]) for name in expected)
    with pytest.raises(OnnxError, match="not int"):
        read_model(7)


def test_text_reads(tmp_path: Path) -> None:
    path = tmp_path / "m.onnxtxt"
    path.write_text('<ir_version: 8, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { y = Relu(x) }')
    assert read_model(path).model.graph.node[0].op_type == "Relu"
    path.write_text("nonsense")
    with pytest.raises(OnnxError, match="ONNX text"):
        read_model(path)


@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_a_value_of_two_in_booleans_is_true(shape: tuple[int, ...], tmp_path: Path) -> None:
    codes = [2, 0, 255][: 1 + 2 * len(shape)]
    raw = TensorProto(name="t", dims=shape, data_type=TensorProto.BOOL, raw_data=bytes(codes))
    typed = TensorProto(name="t", dims=shape, data_type=TensorProto.BOOL, int32_data=codes)
    for tensor in (raw, typed):
        got = one(tensor, tmp_path)
        assert got.shape == shape and got.reshape(-1).view(np.uint8).tolist() == [1, 0, 1][: len(codes)]


def test_sparse_initializers_become_dense() -> None:
    source = model([], [])
    for shape, indices, values in [((2, 3), [[0, 1], [1, 2]], [5.0, 7.0]), ((4,), [3], [9.0])]:
        v = numpy_helper.from_array(np.array(values, np.float32), f"s{len(shape)}")
        i = numpy_helper.from_array(np.array(indices, np.int64))
        source.graph.sparse_initializer.append(helper.make_sparse_tensor(v, i, shape))
    got = dict(read_model(source).initializers())
    assert got["s2"].tolist() == [[0, 5, 0], [0, 0, 7]] and got["s1"].tolist() == [0, 0, 0, 9]
    sparse = source.graph.sparse_initializer[0]
    for dims in ([2, 2], [10**6, 10**6], [-2, 3], []):
        sparse.dims[:] = dims
        with pytest.raises(OnnxError, match='"s2"'):
            list(read_model(source).initializers())


def test_release_drops_resident_pages(tmp_path: Path) -> None:
    def resident() -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.partition("RssFile:")[2].split()[0])

    path = tmp_path / "m.onnx"
    weight = np.ones((6 << 20,), np.float32)
    path.write_bytes(model([], [numpy_helper.from_array(weight, "w")]).SerializeToString())
    ((_, array),) = read_model(path).initializers()
    before = resident()
    assert float(array.sum()) == weight.size
    touched = resident()
    release(array)
    assert touched - before > 20_000 and resident() - before < 4_000
    assert array[-1] == 1
    view = array.reshape(3, -1)[:, ::-2].T
    assert view.sum() == weight.size / 2 and resident() - before > 20_000
    release(view)
    assert resident() - before < 4_000 and view[0, 0] == 1
    release(view[:0])


def test_reading_and_writing_do_not_import_onnx(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(small().SerializeToString())
    code = """if 1:
        import sys
        from compiler.onnx_file import read_model
        from compiler.onnx_write import write_model, tensor_proto
        import compiler.onnx_proto as p
        file = read_model(sys.argv[1])
        weights = list(file.initializers())
        skeleton = p.ModelProto(graph=p.GraphProto(name="g"), ir_version=8)
        write_model(sys.argv[1], skeleton, weights)
        assert not {"onnx", "ml_dtypes"} & set(sys.modules), sorted(sys.modules)
        import onnx
        assert onnx.ModelProto is p.ModelProto and onnx.load(sys.argv[1]).graph.initializer[0].name == "w"
        print(onnx.helper.make_tensor("t", 1, [1], [2.0]).float_data[0], end="")
    """
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("2.0", 0), done.stderr
