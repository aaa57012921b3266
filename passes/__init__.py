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
    from passes.bound_masks import BoundMasks as BoundMasks
    from passes.centre_residual import CentreResidual as CentreResidual
    from passes.channels_first import ChannelsFirst as ChannelsFirst
    from passes.choose_layout import ChooseLayout as ChooseLayout
    from passes.choose_ranges import ChooseRanges as ChooseRanges
    from passes.compress import Compress as Compress
    from passes.contract_heads import ContractHeads as ContractHeads
    from passes.correct_bias import CorrectBias as CorrectBias
    from passes.decompose import Decompose as Decompose
    from passes.equalize_layers import EqualizeLayers as EqualizeLayers
    from passes.expand_int8 import ExpandInt8 as ExpandInt8
    from passes.fall_back import FallBack as FallBack
    from passes.float_integers import FloatIntegers as FloatIntegers
    from passes.fold_norm_affine import FoldNormAffine as FoldNormAffine
    from passes.hoist_cast import HoistCast as HoistCast
    from passes.hoist_slice import HoistSlice as HoistSlice
    from passes.lift_rows import LiftRows as LiftRows
    from passes.limit_product import LimitProduct as LimitProduct
    from passes.low_rank import LowRank as LowRank
    from passes.pad_channels import PadChannels as PadChannels
    from passes.project_heads import ProjectHeads as ProjectHeads
    from passes.prune_channels import PruneChannels as PruneChannels
    from passes.prune_weights import PruneWeights as PruneWeights
    from passes.raise_epsilons import RaiseEpsilons as RaiseEpsilons
    from passes.rescale_norms import RescaleNorms as RescaleNorms
    from passes.rescale_values import RescaleValues as RescaleValues
    from passes.round_weights import RoundWeights as RoundWeights
    from passes.scale_probabilities import ScaleProbabilities as ScaleProbabilities
    from passes.scale_queries import ScaleQueries as ScaleQueries
    from passes.scale_scores import ScaleScores as ScaleScores
    from passes.smooth_activations import SmoothActivations as SmoothActivations
    from passes.split_qlinear import SplitQlinear as SplitQlinear
    from passes.split_roots import SplitRoots as SplitRoots
    from passes.store_halves import StoreHalves as StoreHalves
    from passes.substitute_abs import SubstituteAbs as SubstituteAbs
    from passes.substitute_average_pool import SubstituteAveragePool as SubstituteAveragePool
    from passes.substitute_conv1d import SubstituteConv1d as SubstituteConv1d
    from passes.substitute_conv3d import SubstituteConv3d as SubstituteConv3d
    from passes.substitute_cumsum import SubstituteCumsum as SubstituteCumsum
    from passes.substitute_depth_to_space import SubstituteDepthToSpace as SubstituteDepthToSpace
    from passes.substitute_dilated_conv import SubstituteDilatedConv as SubstituteDilatedConv
    from passes.substitute_elu import SubstituteElu as SubstituteElu
    from passes.substitute_embedding import SubstituteEmbedding as SubstituteEmbedding
    from passes.substitute_erf_gelu import SubstituteErfGelu as SubstituteErfGelu
    from passes.substitute_gather import SubstituteGather as SubstituteGather
    from passes.substitute_gelu import SubstituteGelu as SubstituteGelu
    from passes.substitute_grouped_conv import SubstituteGroupedConv as SubstituteGroupedConv
    from passes.substitute_hard_swish import SubstituteHardSwish as SubstituteHardSwish
    from passes.substitute_large_dilation import SubstituteLargeDilation as SubstituteLargeDilation
    from passes.substitute_large_kernel import SubstituteLargeKernel as SubstituteLargeKernel
    from passes.substitute_large_matmul import SubstituteLargeMatmul as SubstituteLargeMatmul
    from passes.substitute_large_max_pool import SubstituteLargeMaxPool as SubstituteLargeMaxPool
    from passes.substitute_large_stride import SubstituteLargeStride as SubstituteLargeStride
    from passes.substitute_large_transposed_conv import SubstituteLargeTransposedConv as SubstituteLargeTransposedConv
    from passes.substitute_leaky_relu import SubstituteLeakyRelu as SubstituteLeakyRelu
    from passes.substitute_logic import SubstituteLogic as SubstituteLogic
    from passes.substitute_matmul import SubstituteMatmul as SubstituteMatmul
    from passes.substitute_max_pool import SubstituteMaxPool as SubstituteMaxPool
    from passes.substitute_mish import SubstituteMish as SubstituteMish
    from passes.substitute_mod import SubstituteMod as SubstituteMod
    from passes.substitute_pad import SubstitutePad as SubstitutePad
    from passes.substitute_pool3d import SubstitutePool3d as SubstitutePool3d
    from passes.substitute_recurrent import SubstituteRecurrent as SubstituteRecurrent
    from passes.substitute_reduce_prod import SubstituteReduceProd as SubstituteReduceProd
    from passes.substitute_reduce_sum import SubstituteReduceSum as SubstituteReduceSum
    from passes.substitute_resize import SubstituteResize as SubstituteResize
    from passes.substitute_scatter import SubstituteScatter as SubstituteScatter
    from passes.substitute_select import SubstituteSelect as SubstituteSelect
    from passes.substitute_sin import SubstituteSin as SubstituteSin
    from passes.substitute_softmax import SubstituteSoftmax as SubstituteSoftmax
    from passes.substitute_softplus import SubstituteSoftplus as SubstituteSoftplus
    from passes.substitute_tanh import SubstituteTanh as SubstituteTanh
    from passes.substitute_tile import SubstituteTile as SubstituteTile
    from passes.substitute_trigonometry import SubstituteTrigonometry as SubstituteTrigonometry
    from passes.substitute_where import SubstituteWhere as SubstituteWhere
    from passes.substitute_wide_kernel import SubstituteWideKernel as SubstituteWideKernel
    from passes.track_channels import TrackChannels as TrackChannels
    from passes.widen_activations import WidenActivations as WidenActivations

__all__ = [
    "AbsorbBias",
    "AbsorbQdq",
    "AbsorbShuffle",
    "AnnotateInt8",
    "AnnotateWeights",
    "BoundMasks",
    "CentreResidual",
    "CentreVariance",
    "ChannelsFirst",
    "ChooseLayout",
    "ChooseRanges",
    "Compress",
    "ContractHeads",
    "CorrectBias",
    "Decompose",
    "DropEmpty",
    "EliminateCommon",
    "EqualizeLayers",
    "ExpandInt8",
    "FallBack",
    "FloatIntegers",
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
    "HoistCast",
    "HoistSlice",
    "LiftRows",
    "LimitProduct",
    "LowRank",
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
    "PruneChannels",
    "PruneWeights",
    "RaiseEpsilons",
    "RemoveDead",
    "RemoveExpand",
    "RemoveIdentity",
    "RescaleNorms",
    "RescaleValues",
    "RoundWeights",
    "ScaleProbabilities",
    "ScaleQueries",
    "ScaleScores",
    "SmoothActivations",
    "SplitQlinear",
    "SplitRoots",
    "StoreHalves",
    "SubstituteAbs",
    "SubstituteAveragePool",
    "SubstituteConv1d",
    "SubstituteConv3d",
    "SubstituteCumsum",
    "SubstituteDepthToSpace",
    "SubstituteDilatedConv",
    "SubstituteElu",
    "SubstituteEmbedding",
    "SubstituteErfGelu",
    "SubstituteGather",
    "SubstituteGelu",
    "SubstituteGroupedConv",
    "SubstituteHardSwish",
    "SubstituteLargeDilation",
    "SubstituteLargeKernel",
    "SubstituteLargeMatmul",
    "SubstituteLargeMaxPool",
    "SubstituteLargeStride",
    "SubstituteLargeTransposedConv",
    "SubstituteLeakyRelu",
    "SubstituteLogic",
    "SubstituteMatmul",
    "SubstituteMaxPool",
    "SubstituteMish",
    "SubstituteMod",
    "SubstitutePad",
    "SubstitutePool3d",
    "SubstituteRecurrent",
    "SubstituteReduceProd",
    "SubstituteReduceSum",
    "SubstituteResize",
    "SubstituteScatter",
    "SubstituteSelect",
    "SubstituteSin",
    "SubstituteSoftmax",
    "SubstituteSoftplus",
    "SubstituteTanh",
    "SubstituteTile",
    "SubstituteTrigonometry",
    "SubstituteWhere",
    "SubstituteWideKernel",
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
    "BoundMasks": "passes.bound_masks",
    "CentreResidual": "passes.centre_residual",
    "ChannelsFirst": "passes.channels_first",
    "ChooseLayout": "passes.choose_layout",
    "ChooseRanges": "passes.choose_ranges",
    "Compress": "passes.compress",
    "ContractHeads": "passes.contract_heads",
    "CorrectBias": "passes.correct_bias",
    "Decompose": "passes.decompose",
    "EqualizeLayers": "passes.equalize_layers",
    "ExpandInt8": "passes.expand_int8",
    "FallBack": "passes.fall_back",
    "FloatIntegers": "passes.float_integers",
    "FoldNormAffine": "passes.fold_norm_affine",
    "HoistCast": "passes.hoist_cast",
    "HoistSlice": "passes.hoist_slice",
    "LiftRows": "passes.lift_rows",
    "LowRank": "passes.low_rank",
    "LimitProduct": "passes.limit_product",
    "PadChannels": "passes.pad_channels",
    "PoolToMean": "passes.pool_to_mean",
    "ProjectHeads": "passes.project_heads",
    "PruneChannels": "passes.prune_channels",
    "PruneWeights": "passes.prune_weights",
    "RaiseEpsilons": "passes.raise_epsilons",
    "RescaleNorms": "passes.rescale_norms",
    "RescaleValues": "passes.rescale_values",
    "RoundWeights": "passes.round_weights",
    "ScaleProbabilities": "passes.scale_probabilities",
    "ScaleQueries": "passes.scale_queries",
    "ScaleScores": "passes.scale_scores",
    "SmoothActivations": "passes.smooth_activations",
    "SplitQlinear": "passes.split_qlinear",
    "SplitRoots": "passes.split_roots",
    "StoreHalves": "passes.store_halves",
    "SubstituteAbs": "passes.substitute_abs",
    "SubstituteAveragePool": "passes.substitute_average_pool",
    "SubstituteConv1d": "passes.substitute_conv1d",
    "SubstituteConv3d": "passes.substitute_conv3d",
    "SubstituteCumsum": "passes.substitute_cumsum",
    "SubstituteDepthToSpace": "passes.substitute_depth_to_space",
    "SubstituteDilatedConv": "passes.substitute_dilated_conv",
    "SubstituteElu": "passes.substitute_elu",
    "SubstituteEmbedding": "passes.substitute_embedding",
    "SubstituteErfGelu": "passes.substitute_erf_gelu",
    "SubstituteGather": "passes.substitute_gather",
    "SubstituteGelu": "passes.substitute_gelu",
    "SubstituteGroupedConv": "passes.substitute_grouped_conv",
    "SubstituteHardSwish": "passes.substitute_hard_swish",
    "SubstituteLargeDilation": "passes.substitute_large_dilation",
    "SubstituteLargeKernel": "passes.substitute_large_kernel",
    "SubstituteLargeMatmul": "passes.substitute_large_matmul",
    "SubstituteLargeMaxPool": "passes.substitute_large_max_pool",
    "SubstituteLargeStride": "passes.substitute_large_stride",
    "SubstituteLargeTransposedConv": "passes.substitute_large_transposed_conv",
    "SubstituteLeakyRelu": "passes.substitute_leaky_relu",
    "SubstituteLogic": "passes.substitute_logic",
    "SubstituteMatmul": "passes.substitute_matmul",
    "SubstituteMaxPool": "passes.substitute_max_pool",
    "SubstituteMish": "passes.substitute_mish",
    "SubstituteMod": "passes.substitute_mod",
    "SubstitutePad": "passes.substitute_pad",
    "SubstitutePool3d": "passes.substitute_pool3d",
    "SubstituteRecurrent": "passes.substitute_recurrent",
    "SubstituteReduceProd": "passes.substitute_reduce_prod",
    "SubstituteReduceSum": "passes.substitute_reduce_sum",
    "SubstituteResize": "passes.substitute_resize",
    "SubstituteScatter": "passes.substitute_scatter",
    "SubstituteSelect": "passes.substitute_select",
    "SubstituteSin": "passes.substitute_sin",
    "SubstituteSoftmax": "passes.substitute_softmax",
    "SubstituteSoftplus": "passes.substitute_softplus",
    "SubstituteTanh": "passes.substitute_tanh",
    "SubstituteTile": "passes.substitute_tile",
    "SubstituteTrigonometry": "passes.substitute_trigonometry",
    "SubstituteWhere": "passes.substitute_where",
    "SubstituteWideKernel": "passes.substitute_wide_kernel",
    "TrackChannels": "passes.track_channels",
    "WidenActivations": "passes.widen_activations",
}  # for one target only


def __getattr__(name: str) -> Any:  # Any: one of the passes of WHERE, loaded when first used
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(WHERE[name]), name)


for cls, module in WHERE.items():
    LATER[module.removeprefix("passes.").replace("_", "-")] = partial(__getattr__, cls)
