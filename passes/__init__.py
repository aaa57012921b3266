"""Rewrite passes, one per file, and the named pipelines that order them.

fold      constants, copies of layers, layers that do nothing or that nobody reads
fuse      several layers as one: recognised formulas first, then what merges into weights
clean     chains of casts, reshapes, slices and the like
default   all of these; what every target runs first
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from compiler.pass_base import LATER, PIPELINES, Fixpoint
from passes.annotate_activation import annotate_activation
from passes.centre_variance import CentreVariance
from passes.drop_empty import DropEmpty
from passes.eliminate_common import EliminateCommon
from passes.fold_constants import FoldConstants
from passes.fold_pad import FoldPad
from passes.fuse_attention import FuseAttention
from passes.fuse_batch_norm_scale import FuseBatchNormScale
from passes.fuse_conv_batch_norm import FuseConvBatchNorm
from passes.fuse_dense import FuseDense
from passes.fuse_gelu import FuseGelu
from passes.fuse_group_norm import FuseGroupNorm
from passes.fuse_hard_sigmoid import FuseHardSigmoid
from passes.fuse_hard_swish import FuseHardSwish
from passes.fuse_instance_norm import FuseInstanceNorm
from passes.fuse_l2_normalize import FuseL2Normalize
from passes.fuse_layer_norm import FuseLayerNorm
from passes.fuse_log_softmax import FuseLogSoftmax
from passes.fuse_log_sum_exp import FuseLogSumExp
from passes.fuse_mish import FuseMish
from passes.fuse_pixel_shuffle import FusePixelShuffle
from passes.fuse_reduce_mean import FuseReduceMean
from passes.fuse_relu import FuseRelu
from passes.fuse_rms_norm import FuseRmsNorm
from passes.fuse_scale import FuseScale
from passes.fuse_silu import FuseSilu
from passes.fuse_softmax import FuseSoftmax
from passes.merge_casts import MergeCasts
from passes.merge_clips import MergeClips
from passes.merge_concats import MergeConcats
from passes.merge_pads import MergePads
from passes.merge_reshapes import MergeReshapes
from passes.merge_scales import MergeScales
from passes.merge_siblings import MergeSiblings
from passes.merge_slices import MergeSlices
from passes.merge_splits import MergeSplits
from passes.merge_transposes import MergeTransposes
from passes.narrow_integers import NarrowIntegers
from passes.remove_dead import RemoveDead
from passes.remove_expand import RemoveExpand
from passes.remove_identity import RemoveIdentity

if TYPE_CHECKING:
    from passes.absorb_bias import AbsorbBias as AbsorbBias
    from passes.absorb_qdq import AbsorbQdq as AbsorbQdq
    from passes.absorb_shuffle import AbsorbShuffle as AbsorbShuffle
    from passes.annotate_int8 import AnnotateInt8 as AnnotateInt8
    from passes.annotate_weights import AnnotateWeights as AnnotateWeights
    from passes.centre_residual import CentreResidual as CentreResidual
    from passes.choose_layout import ChooseLayout as ChooseLayout
    from passes.choose_ranges import ChooseRanges as ChooseRanges
    from passes.contract_heads import ContractHeads as ContractHeads
    from passes.correct_bias import CorrectBias as CorrectBias
    from passes.decompose import Decompose as Decompose
    from passes.equalize_layers import EqualizeLayers as EqualizeLayers
    from passes.expand_int8 import ExpandInt8 as ExpandInt8
    from passes.fall_back import FallBack as FallBack
    from passes.fold_norm_affine import FoldNormAffine as FoldNormAffine
    from passes.hoist_slice import HoistSlice as HoistSlice
    from passes.lift_rows import LiftRows as LiftRows
    from passes.pad_channels import PadChannels as PadChannels
    from passes.project_heads import ProjectHeads as ProjectHeads
    from passes.round_weights import RoundWeights as RoundWeights
    from passes.smooth_activations import SmoothActivations as SmoothActivations
    from passes.split_qlinear import SplitQlinear as SplitQlinear
    from passes.split_roots import SplitRoots as SplitRoots
    from passes.substitute_abs import SubstituteAbs as SubstituteAbs
    from passes.substitute_average_pool import SubstituteAveragePool as SubstituteAveragePool
    from passes.substitute_depth_to_space import SubstituteDepthToSpace as SubstituteDepthToSpace
    from passes.substitute_dilated_conv import SubstituteDilatedConv as SubstituteDilatedConv
    from passes.substitute_elu import SubstituteElu as SubstituteElu
    from passes.substitute_gather import SubstituteGather as SubstituteGather
    from passes.substitute_gelu import SubstituteGelu as SubstituteGelu
    from passes.substitute_grouped_conv import SubstituteGroupedConv as SubstituteGroupedConv
    from passes.substitute_hard_swish import SubstituteHardSwish as SubstituteHardSwish
    from passes.substitute_leaky_relu import SubstituteLeakyRelu as SubstituteLeakyRelu
    from passes.substitute_matmul import SubstituteMatmul as SubstituteMatmul
    from passes.substitute_max_pool import SubstituteMaxPool as SubstituteMaxPool
    from passes.substitute_mish import SubstituteMish as SubstituteMish
    from passes.substitute_reduce_sum import SubstituteReduceSum as SubstituteReduceSum
    from passes.substitute_softmax import SubstituteSoftmax as SubstituteSoftmax
    from passes.substitute_softplus import SubstituteSoftplus as SubstituteSoftplus
    from passes.substitute_tile import SubstituteTile as SubstituteTile
    from passes.substitute_where import SubstituteWhere as SubstituteWhere
    from passes.track_channels import TrackChannels as TrackChannels
    from passes.widen_activations import WidenActivations as WidenActivations

__all__ = [
    "AbsorbBias",
    "AbsorbQdq",
    "AbsorbShuffle",
    "AnnotateInt8",
    "AnnotateWeights",
    "CentreResidual",
    "CentreVariance",
    "ChooseLayout",
    "ChooseRanges",
    "ContractHeads",
    "CorrectBias",
    "Decompose",
    "DropEmpty",
    "EliminateCommon",
    "EqualizeLayers",
    "ExpandInt8",
    "FallBack",
    "FoldConstants",
    "FoldNormAffine",
    "FoldPad",
    "FuseAttention",
    "FuseBatchNormScale",
    "FuseConvBatchNorm",
    "FuseDense",
    "FuseGelu",
    "FuseGroupNorm",
    "FuseHardSigmoid",
    "FuseHardSwish",
    "FuseInstanceNorm",
    "FuseL2Normalize",
    "FuseLayerNorm",
    "FuseLogSoftmax",
    "FuseLogSumExp",
    "FuseMish",
    "FusePixelShuffle",
    "FuseReduceMean",
    "FuseRelu",
    "FuseRmsNorm",
    "FuseScale",
    "FuseSilu",
    "FuseSoftmax",
    "HoistSlice",
    "LiftRows",
    "MergeCasts",
    "MergeClips",
    "MergeConcats",
    "MergePads",
    "MergeReshapes",
    "MergeScales",
    "MergeSiblings",
    "MergeSlices",
    "MergeSplits",
    "MergeTransposes",
    "NarrowIntegers",
    "PadChannels",
    "PoolToMean",
    "ProjectHeads",
    "RemoveDead",
    "RemoveExpand",
    "RemoveIdentity",
    "RoundWeights",
    "SmoothActivations",
    "SplitQlinear",
    "SplitRoots",
    "SubstituteAbs",
    "SubstituteAveragePool",
    "SubstituteDepthToSpace",
    "SubstituteDilatedConv",
    "SubstituteElu",
    "SubstituteGather",
    "SubstituteGelu",
    "SubstituteGroupedConv",
    "SubstituteHardSwish",
    "SubstituteLeakyRelu",
    "SubstituteMatmul",
    "SubstituteMaxPool",
    "SubstituteMish",
    "SubstituteReduceSum",
    "SubstituteSoftmax",
    "SubstituteSoftplus",
    "SubstituteTile",
    "SubstituteWhere",
    "TrackChannels",
    "WidenActivations",
    "annotate_activation",
]

FOLD = (RemoveDead(), DropEmpty(), FoldConstants(), RemoveIdentity(), EliminateCommon())
RECOGNISE = (
    FuseRelu(),
    MergeClips(),
    FuseReduceMean(),
    FuseHardSigmoid(),
    FuseHardSwish(),
    FuseGelu(),
    FuseSilu(),
    FuseMish(),
    FuseSoftmax(),
    FuseLogSoftmax(),
    FuseLogSumExp(),
    CentreVariance(),
    EliminateCommon(),  # of the means in a variance and beside it
    FuseLayerNorm(),
    FuseRmsNorm(),
    FuseInstanceNorm(),
    FuseGroupNorm(),
    FuseL2Normalize(),
    FusePixelShuffle(),
    FuseAttention(),
)
ABSORB = Fixpoint(passes=(FuseBatchNormScale(), FuseConvBatchNorm(), FuseScale()))
FUSE = (*RECOGNISE, FuseDense(), FoldPad(), ABSORB)
CHAINS = (MergeCasts(), MergeReshapes(), MergeTransposes(), MergeSlices(), MergeSplits(), MergeConcats(), MergePads())
CLEAN = (Fixpoint(passes=(*CHAINS, RemoveExpand(), MergeScales(), RemoveIdentity())),)  # merging leaves new identities

PIPELINES.update(fold=FOLD, fuse=FUSE, clean=CLEAN, default=(*FOLD, *FUSE, *CLEAN))

WHERE = {
    "AbsorbBias": "passes.absorb_bias",
    "AbsorbQdq": "passes.absorb_qdq",
    "AbsorbShuffle": "passes.absorb_shuffle",
    "AnnotateInt8": "passes.annotate_int8",
    "AnnotateWeights": "passes.annotate_weights",
    "CentreResidual": "passes.centre_residual",
    "ChooseLayout": "passes.choose_layout",
    "ChooseRanges": "passes.choose_ranges",
    "ContractHeads": "passes.contract_heads",
    "CorrectBias": "passes.correct_bias",
    "Decompose": "passes.decompose",
    "EqualizeLayers": "passes.equalize_layers",
    "ExpandInt8": "passes.expand_int8",
    "FallBack": "passes.fall_back",
    "FoldNormAffine": "passes.fold_norm_affine",
    "HoistSlice": "passes.hoist_slice",
    "LiftRows": "passes.lift_rows",
    "PadChannels": "passes.pad_channels",
    "PoolToMean": "passes.pool_to_mean",
    "ProjectHeads": "passes.project_heads",
    "RoundWeights": "passes.round_weights",
    "SmoothActivations": "passes.smooth_activations",
    "SplitQlinear": "passes.split_qlinear",
    "SplitRoots": "passes.split_roots",
    "SubstituteAbs": "passes.substitute_abs",
    "SubstituteAveragePool": "passes.substitute_average_pool",
    "SubstituteDepthToSpace": "passes.substitute_depth_to_space",
    "SubstituteDilatedConv": "passes.substitute_dilated_conv",
    "SubstituteElu": "passes.substitute_elu",
    "SubstituteGather": "passes.substitute_gather",
    "SubstituteGelu": "passes.substitute_gelu",
    "SubstituteGroupedConv": "passes.substitute_grouped_conv",
    "SubstituteHardSwish": "passes.substitute_hard_swish",
    "SubstituteLeakyRelu": "passes.substitute_leaky_relu",
    "SubstituteMatmul": "passes.substitute_matmul",
    "SubstituteMaxPool": "passes.substitute_max_pool",
    "SubstituteMish": "passes.substitute_mish",
    "SubstituteReduceSum": "passes.substitute_reduce_sum",
    "SubstituteSoftmax": "passes.substitute_softmax",
    "SubstituteSoftplus": "passes.substitute_softplus",
    "SubstituteTile": "passes.substitute_tile",
    "SubstituteWhere": "passes.substitute_where",
    "TrackChannels": "passes.track_channels",
    "WidenActivations": "passes.widen_activations",
}  # for one target only


def __getattr__(name: str) -> Any:  # Any: one of the passes of WHERE, loaded when first used
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(WHERE[name]), name)


for cls, module in WHERE.items():
    LATER[module.removeprefix("passes.").replace("_", "-")] = partial(__getattr__, cls)
