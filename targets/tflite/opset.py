"""Builtin operators: their options table, their version for given operands, the oldest runtime that has it.

Source: tensorflow/lite/tools/versioning/op_version.cc and runtime_version.cc, for the element types that are emitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from targets.tflite.model import Tensor

RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3  # ActivationFunctionType
SAME, VALID = 0, 1  # Padding
ACTIVATION = "FusedActivationFunction"

OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CUMSUM": "CumsumOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "PADV2": "PadV2Options",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "SUM": "ReducerOptions",
    "SVDF": "SVDFOptions",
    "TOPK_V2": "TopKV2Options",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
}
FUSES_ACTIVATION = frozenset(("ADD", "AVERAGE_POOL_2D", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "DIV",
                              "FULLY_CONNECTED", "MAX_POOL_2D", "MUL", "SUB", "TRANSPOSE_CONV"))  # fmt: skip

# Operators whose results are never negative, and those whose results are not if their first operands (so many; None:
# all) are not.
NONNEGATIVE = frozenset(("LOGISTIC", "RELU", "RELU6", "RELU_0_TO_1", "SOFTMAX", "SQUARE"))
KEEPS_SIGN = {"AVERAGE_POOL_2D": 1, "CONCATENATION": None, "GATHER": 1, "MAX_POOL_2D": 1, "MEAN": 1, "PAD": 1,
              "RESHAPE": 1, "SLICE": 1, "STRIDED_SLICE": 1, "TRANSPOSE": 1}  # fmt: skip

# Highest rank at which an operator broadcasts one operand to the other.
BROADCAST_RANK = {"ADD": 6, "MUL": 6, "SUB": 5, "DIV": 5, "MAXIMUM": 5, "MINIMUM": 5}
BROADCAST_RANK_ELSE = 4
COMPARISONS = frozenset(("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"))

_INT8_SECOND = frozenset(("ARG_MAX", "ARG_MIN", "CONCATENATION", "EQUAL", "GATHER", "GREATER", "GREATER_EQUAL", "LESS",
                          "LESS_EQUAL", "NOT_EQUAL", "PAD", "PADV2", "REDUCE_MAX", "REDUCE_MIN", "SLICE",
                          "STRIDED_SLICE", "SPLIT_V", "TRANSPOSE"))  # fmt: skip
_BOOL_VERSION = {"GATHER": 3, "GATHER_ND": 5, "STRIDED_SLICE": 3, "TRANSPOSE": 3, "REVERSE_V2": 2, "FILL": 2}
_INT64_VERSION = {"ADD": 4, "MUL": 5, "SUB": 4, "RANGE": 2}
_INT32_VERSION = {"ABS": 5, "SIGN": 2}
_CAST_VERSION = {"FLOAT16": 5, "UINT16": 4, "INT8": 3, "UINT32": 2}

# Oldest runtime for (operator, version); operators that are not listed are in 1.15.0.
_RUNTIME = {
    ("ADD", 4): "2.6.0", ("ATAN2", 1): "2.10.0", ("ARG_MAX", 1): "1.15.0", ("BATCH_MATMUL", 1): "2.3.0",
    ("BROADCAST_TO", 2): "2.5.0", ("CAST", 2): "2.7.0", ("CAST", 3): "2.8.0", ("CAST", 4): "2.9.0",
    ("CAST", 5): "2.12.0", ("CONV_2D", 6): "2.9.0", ("CONV_3D", 1): "2.6.0", ("CUMSUM", 1): "2.4.0",
    ("DEQUANTIZE", 5): "2.7.0", ("DIV", 2): "2.3.0", ("FULLY_CONNECTED", 5): "2.0.0", ("FULLY_CONNECTED", 6): "2.1.0",
    ("FULLY_CONNECTED", 12): "2.17.0", ("GATHER", 5): "2.5.0",
    ("GATHER_ND", 5): "2.13.0", ("GELU", 1): "2.9.0", ("MAXIMUM", 3): "2.3.0", ("MINIMUM", 3): "2.3.0",
    ("MUL", 5): "2.6.0", ("PAD", 4): "2.6.0", ("PADV2", 4): "2.6.0", ("RELU_0_TO_1", 1): "2.10.0",
    ("RESIZE_BILINEAR", 3): "2.2.0", ("RESIZE_NEAREST_NEIGHBOR", 3): "2.3.0", ("REDUCE_ALL", 1): "2.7.0",
    ("SIGN", 1): "2.12.0", ("SIGN", 2): "2.12.0", ("STRIDED_SLICE", 3): "2.1.0", ("STRIDED_SLICE", 4): "2.2.0",
    ("SUB", 3): "2.3.0", ("SUB", 4): "2.4.0", ("ABS", 5): "2.12.0", ("TRANSPOSE", 4): "2.3.0",
    ("TRANSPOSE", 6): "2.12.0", ("TRANSPOSE_CONV", 3): "2.3.0", ("TRANSPOSE_CONV", 4): "2.12.0",
    ("RIGHT_SHIFT", 1): "2.12.0", ("BITWISE_XOR", 1): "2.12.0", ("FILL", 2): "2.3.0", ("REVERSE_V2", 2): "2.2.0",
    ("SELECT_V2", 1): "2.2.0", ("SCATTER_ND", 1): "2.1.0", ("HARD_SWISH", 1): "2.1.0", ("DEPTH_TO_SPACE", 1): "2.1.0",
    ("NON_MAX_SUPPRESSION_V4", 1): "2.1.0",
    ("UNSORTED_SEGMENT_MAX", 1): "2.10.0", ("UNSORTED_SEGMENT_MIN", 1): "2.11.0",
    ("UNSORTED_SEGMENT_PROD", 1): "2.10.0", ("LOCAL_RESPONSE_NORMALIZATION", 1): "1.15.0",
}  # fmt: skip
BEHIND = ("constants behind the FlatBuffer", 1)
_RUNTIME[BEHIND] = "2.15.0"
_OLDEST = "1.15.0"


def options_name(code: str) -> str:
    """The options table of an operator; operators without fields may have none of that name."""
    return OPTIONS.get(code) or "".join(part.capitalize() for part in code.split("_")) + "Options"


def version(code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    """The version of an operator that knows these operands."""
    given = [t for t in inputs if t is not None]
    dtype = given[0].dtype if given else outputs[0].dtype
    rank = max((len(t.shape) for t in given), default=0)
    special = _SPECIAL.get(code)
    if special is not None:
        return special(given, outputs, options)
    if dtype == "INT64" and code in _INT64_VERSION:
        return _INT64_VERSION[code]
    if dtype == "INT32" and code in _INT32_VERSION:
        return _INT32_VERSION[code]
    if rank > 4 and code in _WIDE:
        return _WIDE[code]
    if dtype == "BOOL" and code in _BOOL_VERSION:
        return _BOOL_VERSION[code]
    return 2 if dtype == "INT8" and code in _INT8_SECOND else 1


_WIDE = {"PAD": 4, "PADV2": 4, "STRIDED_SLICE": 4, "SUB": 3, "DIV": 2, "MAXIMUM": 3, "MINIMUM": 3}


def _conv_2d(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return 6 if given[0].shape[3] != given[1].shape[3] else 1


def _depthwise(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return 2 if max(options.get("DilationWFactor", 1), options.get("DilationHFactor", 1)) > 1 else 1


def _fully_connected(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    weights = given[1].quant
    if weights is not None and weights.axis is not None and given[1].dtype == "INT8":
        return 12
    return 6 if len(given) == 2 else 5 if options.get("KeepNumDims") else 1


def _dequantize(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    per_axis = given[0].quant is not None and given[0].quant.axis is not None
    return 5 if per_axis else 3 if given[0].dtype in ("FLOAT16", "INT16") else 2


def _quantize(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return 2 if outputs[0].dtype == "INT16" else 1


def _transpose(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    rank = len(given[0].shape)
    return 6 if rank > 5 else 4 if rank > 4 else 3 if given[0].dtype == "BOOL" else 2 if given[0].dtype == "INT8" else 1


def _transpose_conv(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return 4 if options.get(ACTIVATION) else 3 if len(given) == 4 else 1


def _gather(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    if options.get("BatchDims"):
        return 5
    return {"BOOL": 3, "INT8": 2, "INT16": 4}.get(given[0].dtype, 1)


def _cast(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return max(_CAST_VERSION.get(t.dtype, 1) for t in (given[0], outputs[0]))


def _resize_bilinear(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return 3 if options.get("HalfPixelCenters") else 1


def _resize_nearest(given: Sequence[Tensor], outputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    return 3 if options.get("HalfPixelCenters") or options.get("AlignCorners") else 1


def _fixed(number: int) -> Any:
    return lambda *_: number


_SPECIAL: dict[str, Any] = {
    "BROADCAST_TO": _fixed(2),
    "CAST": _cast,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
}


def oldest_runtime(used: Sequence[tuple[str, int]], known: Sequence[str] = ()) -> str:
    """The oldest TensorFlow Lite that has all of these operators at these versions, and is none before `known`."""
    versions = [_RUNTIME.get(pair, _OLDEST) for pair in used]
    return max([_OLDEST, *known, *versions], key=lambda v: tuple(map(int, v.split("."))))
