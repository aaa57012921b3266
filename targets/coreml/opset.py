"""The operations of MIL: since which iOS version, with which parameters, and what a parameter left out means.

Source: the operation registry of coremltools 9.0 (`coremltools/converters/mil/mil/ops/defs`), which documents Apple's
MIL operation sets CoreML5 (iOS 15) to CoreML9 (iOS 26); a test holds this table against the installed registry. iOS 26
added no operations. Control flow, lists and the quantized convolution of the older formats are left out: nothing here
emits them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from compiler.errors import EmitError

Default = bool | int | float | str | None

ONES = "one per spatial axis"
PADS = "two zeros per spatial axis"
ALL_AXES = "every axis"
ZEROS = "a zero per row of the weight"


class Signature(NamedTuple):
    """One form of an operation. An optional parameter whose default is None is absent unless given; the others are
    always written.
    """

    since: int
    required: tuple[str, ...]
    optional: Mapping[str, Default]


_TABLE: tuple[tuple[int, str, str, dict[str, Default]], ...] = (
    (
        15,
        (
            "abs acos asin atan atanh ceil cos cosh erf exp exp2 floor identity logical_not non_zero relu relu6 "
            "round shape sigmoid sign silu sin sinh softplus softsign sqrt square tan tanh"
        ),
        "x",
        {},
    ),
    (
        15,
        (
            "add equal floor_div greater greater_equal less less_equal logical_and logical_or logical_xor "
            "maximum minimum mod mul not_equal pow real_div sub"
        ),
        "x y",
        {},
    ),
    (
        15,
        "affine",
        (
            "x transform_matrix output_height output_width sampling_mode padding_mode padding_value "
            "coordinates_mode align_corners"
        ),
        {},
    ),
    (15, "argsort", "x", {"axis": -1, "ascending": False}),
    (
        15,
        "avg_pool",
        "x kernel_sizes pad_type",
        {"exclude_padding_from_average": False, "strides": ONES, "pad": PADS, "ceil_mode": False},
    ),
    (15, "band_part", "x", {"lower": -1, "upper": -1}),
    (15, "batch_norm", "x mean variance", {"gamma": None, "beta": None, "epsilon": 1e-05}),
    (15, "batch_to_space", "x block_shape crops", {}),
    (15, "cast", "x dtype", {}),
    (15, "clamped_relu clip linear_activation scaled_tanh sigmoid_hard softplus_parametric", "x alpha beta", {}),
    (15, "classify", "probabilities classes", {}),
    (15, "concat", "values axis", {"interleave": False}),
    (16, "constexpr_affine_dequantize", "quantized_data zero_point scale axis", {}),
    (18, "constexpr_blockwise_shift_scale", "data scale", {"offset": None}),
    (16, "constexpr_cast", "source_val output_dtype", {}),
    (16, "constexpr_lut_to_dense", "indices lut shape", {}),
    (18, "constexpr_lut_to_dense", "indices lut", {"vector_axis": None}),
    (18, "constexpr_lut_to_sparse", "indices_mask indices_nonzero_data lut", {"vector_axis": None}),
    (18, "constexpr_sparse_blockwise_shift_scale", "data_mask nonzero_data scale", {"offset": None}),
    (16, "constexpr_sparse_to_dense", "nonzero_data mask shape", {}),
    (18, "constexpr_sparse_to_dense", "nonzero_data mask", {}),
    (
        15,
        "conv",
        "x weight",
        {"bias": None, "strides": ONES, "pad_type": "valid", "pad": PADS, "dilations": ONES, "groups": 1},
    ),
    (
        15,
        "conv_transpose",
        "x weight",
        {
            "bias": None,
            "pad": PADS,
            "output_shape": None,
            "pad_type": "valid",
            "strides": ONES,
            "dilations": ONES,
            "groups": 1,
        },
    ),
    (15, "crop", "x crop_height crop_width", {}),
    (
        15,
        "crop_resize",
        "x roi",
        {
            "target_height": 1,
            "target_width": 1,
            "normalized_coordinates": False,
            "spatial_scale": 1.0,
            "box_coordinate_mode": "CORNERS_HEIGHT_FIRST",
            "sampling_mode": "DEFAULT",
        },
    ),
    (
        16,
        "crop_resize",
        "x roi",
        {
            "target_height": 1,
            "target_width": 1,
            "normalized_coordinates": False,
            "spatial_scale": 1.0,
            "box_coordinate_mode": "CORNERS_HEIGHT_FIRST",
            "sampling_mode": "DEFAULT",
            "pad_value": 0.0,
        },
    ),
    (
        17,
        "crop_resize",
        "x boxes",
        {
            "box_indices": None,
            "target_height": 1,
            "target_width": 1,
            "normalized_coordinates": False,
            "spatial_scale": 1.0,
            "box_coordinate_mode": "CORNERS_HEIGHT_FIRST",
            "sampling_mode": "DEFAULT",
            "pad_value": 0.0,
        },
    ),
    (15, "cumsum", "x", {"axis": 0, "exclusive": False, "reverse": False}),
    (15, "depth_to_space space_to_depth", "x block_size", {}),
    (17, "dequantize", "input scale", {"zero_point": None, "axis": None}),
    (15, "einsum", "values equation", {}),
    (15, "elu leaky_relu prelu threshold thresholded_relu", "x alpha", {}),
    (15, "expand_dims", "x axes", {}),
    (15, "fill", "shape", {"value": 0.0}),
    (16, "fill_like", "ref_tensor", {"value": 0.0}),
    (15, "flatten2d", "x", {"axis": 1}),
    (15, "gather gather_along_axis", "x indices", {"axis": 0}),
    (16, "gather", "x indices", {"axis": 0, "batch_dims": 0}),
    (17, "gather", "x indices", {"axis": 0, "batch_dims": 0, "validate_indices": False}),
    (17, "gather_along_axis", "x indices", {"axis": 0, "validate_indices": False}),
    (15, "gather_nd", "x indices", {}),
    (16, "gather_nd", "x indices", {"batch_dims": 0}),
    (17, "gather_nd", "x indices", {"batch_dims": 0, "validate_indices": False}),
    (15, "gelu", "x", {"mode": "EXACT"}),
    (
        15,
        "gru",
        "x initial_h weight_ih weight_hh",
        {
            "bias": None,
            "direction": "forward",
            "output_sequence": False,
            "recurrent_activation": "sigmoid",
            "activation": "tanh",
        },
    ),
    (
        18,
        "gru",
        "x initial_h weight_ih weight_hh",
        {
            "bias": None,
            "direction": "forward",
            "output_sequence": False,
            "recurrent_activation": "sigmoid",
            "activation": "tanh",
            "reset_after": None,
            "input_bias": None,
        },
    ),
    (15, "instance_norm", "x", {"gamma": None, "beta": None, "epsilon": 1e-05}),
    (15, "inverse", "x", {"epsilon": 0.0001}),
    (15, "l2_norm", "x", {"epsilon": 1e-06}),
    (15, "l2_pool max_pool", "x kernel_sizes pad_type", {"strides": ONES, "pad": PADS, "ceil_mode": False}),
    (15, "layer_norm", "x", {"axes": ALL_AXES, "gamma": None, "beta": None, "epsilon": 1e-05}),
    (15, "linear", "x weight", {"bias": ZEROS}),
    (15, "local_response_norm", "x size", {"alpha": 0.0001, "beta": 0.75, "k": 1.0}),
    (15, "log", "x", {"epsilon": 1e-45}),
    (
        15,
        "lstm",
        "x initial_h initial_c weight_ih weight_hh",
        {
            "bias": None,
            "peephole": None,
            "weight_ih_back": None,
            "weight_hh_back": None,
            "bias_back": None,
            "peephole_back": None,
            "direction": "forward",
            "output_sequence": False,
            "recurrent_activation": "sigmoid",
            "cell_activation": "tanh",
            "activation": "tanh",
            "clip": None,
        },
    ),
    (15, "matmul", "x y", {"transpose_x": False, "transpose_y": False}),
    (
        15,
        "non_maximum_suppression",
        "boxes scores iou_threshold score_threshold max_boxes",
        {"per_class_suppression": False},
    ),
    (17, "non_maximum_suppression", "boxes scores iou_threshold max_boxes", {"per_class_suppression": False}),
    (15, "one_hot", "indices one_hot_vector_size", {"axis": -1, "on_value": 1, "off_value": 0}),
    (15, "pad", "x pad", {"mode": "constant", "constant_val": 0.0}),
    (15, "pixel_shuffle", "x upscale_factor", {}),
    (16, "pixel_unshuffle", "x downscale_factor", {}),
    (17, "quantize", "input scale output_dtype", {"zero_point": None, "axis": None}),
    (15, "random_bernoulli", "shape", {"prob": 0.5, "seed": -1}),
    (15, "random_categorical", "x", {"mode": "logits", "size": 1, "seed": -1}),
    (15, "random_normal", "shape", {"mean": 0.0, "stddev": 1.0, "seed": -1}),
    (15, "random_uniform", "shape", {"low": 0.0, "high": 1.0, "seed": -1}),
    (15, "range_1d", "end start step", {}),
    (18, "read_state", "input", {}),
    (15, "reduce_argmax reduce_argmin", "x", {"axis": -1, "keep_dims": False}),
    (17, "reduce_argmax reduce_argmin", "x", {"axis": -1, "keep_dims": False, "output_dtype": "int32"}),
    (
        15,
        (
            "reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean reduce_min "
            "reduce_prod reduce_sum reduce_sum_square"
        ),
        "x",
        {"axes": None, "keep_dims": False},
    ),
    (15, "resample", "x coordinates sampling_mode padding_mode padding_value coordinates_mode align_corners", {}),
    (15, "reshape", "x shape", {}),
    (16, "reshape_like", "x ref_tensors begins ends end_masks", {}),
    (17, "resize", "x shape resized_dims", {"interpolation_mode": "LINEAR", "sampling_mode": "DEFAULT"}),
    (15, "resize_bilinear", "x", {"target_size_height": 1, "target_size_width": 1, "sampling_mode": "DEFAULT"}),
    (15, "resize_nearest_neighbor", "x target_size_height target_size_width", {}),
    (15, "reverse squeeze", "x", {"axes": None}),
    (15, "reverse_sequence", "x lengths", {"seq_axis": 0, "batch_axis": 0}),
    (
        15,
        "rnn",
        "x initial_h weight_ih weight_hh",
        {"bias": None, "direction": "forward", "output_sequence": False, "activation": "tanh"},
    ),
    (15, "rsqrt", "x", {"epsilon": 1e-12}),
    (18, "scaled_dot_product_attention", "query key value", {"attn_mask": None}),
    (15, "scatter scatter_along_axis", "data indices updates", {"axis": 0, "mode": "add"}),
    (17, "scatter scatter_along_axis", "data indices updates", {"axis": 0, "mode": "add", "validate_indices": False}),
    (15, "scatter_nd", "data indices updates", {"mode": "add"}),
    (17, "scatter_nd", "data indices updates", {"mode": "add", "validate_indices": False}),
    (15, "select", "cond a b", {}),
    (15, "slice_by_index", "x begin end", {"stride": None, "begin_mask": None, "end_mask": None, "squeeze_mask": None}),
    (15, "slice_by_size", "x begin size", {}),
    (
        18,
        "slice_update",
        "x update begin end",
        {"stride": None, "begin_mask": None, "end_mask": None, "squeeze_mask": None},
    ),
    (15, "sliding_windows", "x axis size", {"stride": 1}),
    (15, "softmax", "x", {"axis": -1}),
    (15, "space_to_batch", "x block_shape paddings", {}),
    (15, "split", "x axis", {"num_splits": None, "split_sizes": None}),
    (15, "stack", "values axis", {}),
    (15, "tile", "x reps", {}),
    (15, "topk", "x", {"k": 1, "axis": -1, "ascending": False}),
    (16, "topk", "x", {"k": 1, "axis": -1, "ascending": False, "sort": True, "return_indices": True}),
    (
        17,
        "topk",
        "x",
        {"k": 1, "axis": -1, "ascending": False, "sort": True, "return_indices": True, "output_indices_dtype": None},
    ),
    (15, "transpose", "x perm", {}),
    (15, "upsample_bilinear", "x", {"scale_factor_height": 1, "scale_factor_width": 1, "align_corners": True}),
    (
        16,
        "upsample_bilinear",
        "x",
        {"scale_factor_height": 1, "scale_factor_width": 1, "align_corners": True, "half_pixel_centers": None},
    ),
    (15, "upsample_nearest_neighbor", "x", {"scale_factor_height": 1, "scale_factor_width": 1}),
)


def _index() -> dict[str, tuple[Signature, ...]]:
    index: dict[str, tuple[Signature, ...]] = {}
    for since, names, required, optional in _TABLE:
        form = Signature(since, tuple(required.split()), optional)
        for name in names.split():
            index[name] = (*index.get(name, ()), form)
    return index


SIGNATURES = _index()
"""Forms by operation name, oldest first."""


class Target(NamedTuple):
    """What a deployment target means in a model file."""

    ios: int
    specification_version: int
    opset: str


TARGETS = {
    "iOS15": Target(15, 6, "CoreML5"),
    "iOS16": Target(16, 7, "CoreML6"),
    "iOS17": Target(17, 8, "CoreML7"),
    "iOS18": Target(18, 9, "CoreML8"),
    "iOS26": Target(26, 10, "CoreML9"),
}


def target(name: str) -> Target:
    """The target called `name`; EmitError lists those there are."""
    try:
        return TARGETS[name]
    except KeyError:
        raise EmitError(f"there is no deployment target {name!r}", hint=f"one of {', '.join(TARGETS)}") from None


def signature(operation: str, ios: int) -> Signature:
    """The newest form of `operation` that iOS version `ios` knows; EmitError if there is none."""
    forms = SIGNATURES.get(operation)
    if forms is None:
        raise EmitError(f"MIL has no operation {operation!r}")
    known = [form for form in forms if form.since <= ios]
    if not known:
        raise EmitError(
            f"the MIL operation {operation!r} needs iOS {forms[0].since}, the deployment target is iOS {ios}",
            hint=f"--deployment-target iOS{forms[0].since}",
        )
    return known[-1]
