"""Rewrite passes, one per file, and the named pipelines that order them.

fold      constants, copies of layers, layers that do nothing or that nobody reads
fuse      several layers as one: recognised formulas first, then what merges into weights
clean     chains of casts, reshapes, slices and the like
default   all of these; what every target runs first
"""

from compiler.pass_base import PIPELINES, Fixpoint
from passes.annotate_activation import annotate_activation
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
from passes.remove_dead import RemoveDead
from passes.remove_expand import RemoveExpand
from passes.remove_identity import RemoveIdentity

__all__ = [
    "EliminateCommon",
    "FoldConstants",
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
    "RemoveDead",
    "RemoveExpand",
    "RemoveIdentity",
    "annotate_activation",
]

FOLD = (RemoveDead(), FoldConstants(), RemoveIdentity(), EliminateCommon())
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
