"""Convolutions, pools, products, normalisations and recurrent layers, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.errors import EmitError
from compiler.tensor import Array
from targets.coreml.evaluate import conv as evaluate_conv
from tests.targets.coreml_harness import Case, In, onnx_run, run

RNG = np.random.default_rng(11)


def real(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def interleaved(pads: list[int]) -> list[int]:
    """MIL's (before, after) pairs from ONNX's befores and afters."""
    half = len(pads) // 2
    return [pads[half * side + axis] for axis in range(half) for side in (0, 1)]


def conv(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    groups: int = 1,
) -> Case:
    x, w, b = real(*shape), real(*weight), real(weight[0])
    attributes = {
        "strides": strides,
        "dilations": dilations,
        "groups": groups,
        "pad_type": "custom",
        "pad": interleaved(pads),
    }
    return Case(
        "conv",
        {"x": In(x), "weight": w, "bias": b, **attributes},
        lambda: onnx_run(
            "Conv", {"x": x, "w": w, "b": b}, strides=strides, pads=pads, dilations=dilations, group=groups
        ),
        atol=1e-4,
    )


def auto_conv(pad_type: str, size: int, stride: int) -> Case:
    x, w = real(1, 2, size, size), real(3, 2, 4, 3)
    auto = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}[pad_type]
    return Case(
        "conv",
        {"x": In(x), "weight": w, "pad_type": pad_type, "strides": [stride, stride]},
        lambda: onnx_run("Conv", {"x": x, "w": w}, auto_pad=auto, strides=[stride, stride]),
        atol=1e-4,
    )


def transposed(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    groups: int = 1,
    output_padding: list[int] | None = None,
) -> Case:
    x, w = real(*shape), real(*weight)
    b = real(weight[1] * groups)
    more: dict[str, Any] = {} if output_padding is None else {"output_padding": output_padding}

    def expected() -> list[Array]:
        return onnx_run(
            "ConvTranspose",
            {"x": x, "w": w, "b": b},
            strides=strides,
            pads=pads,
            dilations=dilations,
            group=groups,
            **more,
        )

    operands: dict[str, Any] = {
        "x": In(x),
        "weight": w,
        "bias": b,
        "strides": strides,
        "dilations": dilations,
        "groups": groups,
        "pad_type": "custom",
        "pad": interleaved(pads),
    }
    if output_padding is not None:
        operands["output_shape"] = list(expected()[0].shape)
    return Case("conv_transpose", operands, expected, atol=1e-4)


CONVOLUTIONS = [
    conv((2, 3, 9, 7), (4, 3, 3, 2), [2, 1], [1, 0, 2, 1], [1, 1]),
    conv((1, 4, 9, 9), (6, 2, 3, 3), [1, 1], [2, 2, 2, 2], [2, 2], 2),
    conv((2, 4, 6, 5), (4, 1, 3, 3), [1, 2], [1, 1, 1, 1], [1, 1], 4),
    conv((1, 3, 8, 8), (9, 1, 3, 3), [1, 1], [0, 0, 0, 0], [2, 1], 3),
    conv((2, 5, 4, 4), (3, 5, 1, 1), [1, 1], [0, 0, 0, 0], [1, 1]),
    conv((2, 3, 11), (4, 3, 4), [3], [2, 1], [2]),
    conv((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), [1, 2, 1], [1, 0, 0, 0, 1, 1], [1, 1, 2]),
    *(auto_conv(pad_type, size, s) for pad_type in ("same", "same_lower", "valid") for size in (7, 8) for s in (1, 2)),
    transposed((2, 4, 5, 6), (4, 3, 3, 2), [2, 1], [1, 0, 0, 1], [1, 1]),
    transposed((1, 4, 5, 5), (4, 2, 3, 3), [2, 2], [1, 1, 1, 1], [1, 1], 2, [1, 1]),
    transposed((1, 3, 4, 4), (3, 1, 3, 3), [1, 1], [0, 0, 0, 0], [2, 2], 3),
    transposed((2, 3, 7), (3, 2, 4), [3], [1, 2], [1]),
    transposed((1, 2, 3, 4, 2), (2, 2, 2, 2, 3), [2, 1, 2], [0, 1, 0, 1, 0, 0], [1, 1, 1]),
]
POOLED = real(2, 3, 9, 8)


def pool(
    kind: str, kernel: list[int], strides: list[int], pads: list[int], ceil: bool = False, exclude: bool = False
) -> Case:
    operands: dict[str, Any] = {
        "x": In(POOLED),
        "kernel_sizes": kernel,
        "strides": strides,
        "pad_type": "custom",
        "pad": interleaved(pads),
        "ceil_mode": ceil,
    }
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil)}
    if kind == "avg_pool":
        operands["exclude_padding_from_average"] = exclude
        attributes["count_include_pad"] = int(not exclude)
    op = "MaxPool" if kind == "max_pool" else "AveragePool"
    return Case(kind, operands, lambda: onnx_run(op, {"x": POOLED}, **attributes))


def same_pool(pad_type: str) -> Case:
    auto = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}[pad_type]
    operands = {"x": In(POOLED), "kernel_sizes": [2, 3], "strides": [2, 2], "pad_type": pad_type}
    return Case(
        "max_pool",
        operands,
        lambda: onnx_run("MaxPool", {"x": POOLED}, kernel_shape=[2, 3], strides=[2, 2], auto_pad=auto),
    )


POOLS = [
    *(pool(kind, [3, 2], [2, 2], [1, 0, 0, 1]) for kind in ("max_pool", "avg_pool")),
    *(pool(kind, [3, 3], [2, 2], [1, 1, 1, 1], ceil) for kind in ("max_pool", "avg_pool") for ceil in (True, False)),
    *(pool("avg_pool", [3, 3], [2, 2], [1, 1, 1, 1], ceil, True) for ceil in (True, False)),
    pool("avg_pool", [9, 8], [1, 1], [0, 0, 0, 0]),
    *(pool(kind, [2, 2], [4, 3], [1, 1, 1, 1], True) for kind in ("max_pool", "avg_pool")),
    pool("max_pool", [2, 2], [2, 2], [0, 0, 0, 0], True),
    *(same_pool(pad_type) for pad_type in ("same", "same_lower", "valid")),
    Case(
        "l2_pool",
        {
            "x": In(np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)),
            "kernel_sizes": [2, 2],
            "pad_type": "same_lower",
        },
        lambda: [np.sqrt(np.array([[[[1, 5], [10, 30]]]], np.float32))],
    ),
]
A, B = real(2, 3, 4, 5), real(3, 5, 2)
PRODUCTS = [
    Case("matmul", {"x": In(A), "y": In(B)}),
    Case("matmul", {"x": In(A), "y": In(np.swapaxes(B, 1, 2).copy()), "transpose_y": True}),
    Case("matmul", {"x": In(np.swapaxes(A, 2, 3).copy()), "y": In(B), "transpose_x": True}),
    Case("linear", {"x": In(A), "weight": real(7, 5), "bias": real(7)}),
    Case("linear", {"x": In(A), "weight": real(7, 5)}),
    Case("einsum", {"values": (In(A), In(real(2, 5, 4, 3))), "equation": "nchw,nwhr->nchr"}),
    Case("scaled_dot_product_attention", {"query": In(A), "key": In(real(2, 3, 6, 5)), "value": In(real(2, 3, 6, 2))}),
    *(
        Case(
            "scaled_dot_product_attention",
            {"query": In(A), "key": In(real(2, 3, 6, 5)), "value": In(real(2, 3, 6, 2)), "attn_mask": mask},
        )
        for mask in (np.tri(4, 6, dtype=np.bool_), real(4, 6))
    ),
]
GAMMA, BETA = real(3), real(3)
NORMS = [
    Case(
        "batch_norm",
        {
            "x": In(POOLED),
            "mean": GAMMA,
            "variance": BETA**2,
            "gamma": BETA,
            "beta": GAMMA,
            "epsilon": np.float32(0.01),
        },
        lambda: onnx_run(
            "BatchNormalization", {"x": POOLED, "s": BETA, "b": GAMMA, "m": GAMMA, "v": BETA**2}, epsilon=0.01
        ),
        atol=1e-4,
    ),
    Case(
        "instance_norm",
        {"x": In(POOLED), "gamma": GAMMA, "beta": BETA, "epsilon": np.float32(0.01)},
        lambda: onnx_run("InstanceNormalization", {"x": POOLED, "s": GAMMA, "b": BETA}, epsilon=0.01),
        atol=1e-5,
    ),
    Case(
        "layer_norm",
        {"x": In(A), "axes": [-1, 2], "gamma": A[0, 0], "beta": A[1, 1], "epsilon": np.float32(0.1)},
        atol=1e-5,
    ),
    Case(
        "layer_norm",
        {"x": In(A)},
        lambda: [(A - A.mean()) / np.sqrt(A.var() + 1e-5)],
        types=[("fp32", A.shape)],
        atol=1e-5,
    ),
    Case("l2_norm", {"x": In(A), "epsilon": np.float32(0.1)}),
    Case(
        "local_response_norm",
        {"x": In(A * 5), "size": 3, "alpha": np.float32(0.3), "beta": np.float32(0.6), "k": np.float32(2)},
        lambda: onnx_run("LRN", {"x": A * 5}, size=3, alpha=0.3, beta=0.6, bias=2.0),
        atol=1e-5,
    ),
]
STEPS, BATCH, WIDE, H = 5, 2, 3, 4
SEQUENCE = real(STEPS, BATCH, WIDE)


def reordered(weights: Array, order: list[int]) -> Array:
    """ONNX's stacked gates in the order of MIL."""
    return np.concatenate([np.split(weights, len(order))[g] for g in order])


def lstm(direction: str, whole: bool, peephole: bool = False) -> Case:
    """ONNX stacks input, output, forget, cell and keeps input order; MIL's `reverse` has the order of computation."""
    d = 2 if direction == "bidirectional" else 1
    w, r, b, p = real(d, 4 * H, WIDE), real(d, 4 * H, H), real(d, 8 * H), real(d, 3 * H) if peephole else None
    h, c = real(d, BATCH, H), real(d, BATCH, H)
    order = [0, 2, 1, 3]
    operands: dict[str, Any] = {"x": In(SEQUENCE), "direction": direction, "output_sequence": whole}
    operands |= {"initial_h": np.concatenate(list(h), -1), "initial_c": np.concatenate(list(c), -1)}
    for k, end in enumerate(("", "_back")[:d]):
        operands[f"weight_ih{end}"], operands[f"weight_hh{end}"] = reordered(w[k], order), reordered(r[k], order)
        operands[f"bias{end}"] = reordered(b[k, : 4 * H] + b[k, 4 * H :], order)
        if p is not None:
            operands[f"peephole{end}"] = reordered(p[k], [0, 2, 1])

    def expected() -> list[Array]:
        arrays = {"x": SEQUENCE, "w": w, "r": r, "b": b, "l": None, "h": h, "c": c, "p": p}
        y, y_h, y_c = onnx_run("LSTM", arrays, 3, hidden_size=H, direction=direction)
        sequence = np.concatenate([y[:, k] for k in range(d)], -1)
        last_h, last_c = (np.concatenate(list(v), -1) for v in (y_h, y_c))
        steps = sequence[::-1] if direction == "reverse" else sequence
        return [steps if whole else last_h[None], last_h, last_c]

    return Case("lstm", operands, expected, atol=1e-5)


def gru(direction: str, whole: bool, after: bool = False) -> Case:
    """ONNX stacks update, reset, hidden; MIL reset, hidden ("output"), update."""
    w, r, b, h = real(1, 3 * H, WIDE), real(1, 3 * H, H), real(1, 6 * H), real(1, BATCH, H)
    order = [1, 2, 0]
    inner, outer = (reordered(b[0, : 3 * H], order), reordered(b[0, 3 * H :], order))
    operands: dict[str, Any] = {
        "x": In(SEQUENCE),
        "initial_h": h[0],
        "weight_ih": reordered(w[0], order),
        "weight_hh": reordered(r[0], order),
        "direction": direction,
        "output_sequence": whole,
    }
    operands |= {"reset_after": True, "input_bias": inner, "bias": outer} if after else {"bias": inner + outer}

    def expected() -> list[Array]:
        arrays = {"x": SEQUENCE, "w": w, "r": r, "b": b, "l": None, "h": h}
        y, y_h = onnx_run("GRU", arrays, 2, hidden_size=H, direction=direction, linear_before_reset=int(after))
        sequence = y[::-1, 0] if direction == "reverse" else y[:, 0]
        return [sequence if whole else y_h, y_h[0]]

    return Case("gru", operands, expected, atol=1e-5)


def rnn(direction: str, activation: str, name: str) -> Case:
    w, r, b, h = real(1, H, WIDE), real(1, H, H), real(1, 2 * H), real(1, BATCH, H)

    def expected() -> list[Array]:
        arrays = {"x": SEQUENCE, "w": w, "r": r, "b": b, "l": None, "h": h}
        y, y_h = onnx_run("RNN", arrays, 2, hidden_size=H, direction=direction, activations=[name])
        return [y[::-1, 0] if direction == "reverse" else y[:, 0], y_h[0]]

    operands = {
        "x": In(SEQUENCE),
        "initial_h": h[0],
        "weight_ih": w[0],
        "weight_hh": r[0],
        "bias": b[0, :H] + b[0, H:],
        "direction": direction,
        "output_sequence": True,
        "activation": activation,
    }
    return Case("rnn", operands, expected, atol=1e-5)


RECURRENT = [
    *(lstm(d, whole) for d in ("forward", "reverse", "bidirectional") for whole in (True, False)),
    lstm("forward", True, peephole=True),
    lstm("bidirectional", True, peephole=True),
    *(gru(d, whole, after) for d in ("forward", "reverse") for whole in (True, False) for after in (False, True)),
    rnn("forward", "tanh", "Tanh"),
    rnn("reverse", "relu", "Relu"),
    rnn("forward", "hard_sigmoid", "HardSigmoid"),
]
CASES = [*CONVOLUTIONS, *POOLS, *PRODUCTS, *NORMS, *RECURRENT]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


@pytest.mark.parametrize("case", CONVOLUTIONS[:7], ids=str)
def test_convolutions_in_slabs(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_conv, "_PATCH_ELEMENTS", 1)
    case.check(tmp_path)


def test_same_transposed_convolution_is_the_adjoint_of_same_convolution(tmp_path: Path) -> None:
    y, x, w = real(1, 3, 4, 4), real(1, 2, 8, 8), real(3, 2, 3, 3)
    strided = {"weight": w, "strides": [2, 2], "pad_type": "same"}
    there = run(tmp_path / "a.mlpackage", "conv", {"x": In(x), **strided}).outputs[0]
    back = run(tmp_path / "b.mlpackage", "conv_transpose", {"x": In(y), **strided}).outputs[0]
    assert np.sum(there * y) == pytest.approx(float(np.sum(x * back)), rel=1e-4)


@pytest.mark.parametrize(("size", "shape"), [(4, (1, 6, 3, 3)), (3, (1, 6, 3))])
def test_what_apple_leaves_open_is_not_guessed(tmp_path: Path, size: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(EmitError, match="is not documented"):
        run(tmp_path / "m.mlpackage", "local_response_norm", {"x": In(real(*shape)), "size": size})
