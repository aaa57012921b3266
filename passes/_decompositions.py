"""All decompositions; importing this module registers them."""

from passes import (  # noqa: F401  # each registers its own
    _decompose_activation,
    _decompose_attention,
    _decompose_bits,
    _decompose_conv,
    _decompose_einsum,
    _decompose_elementwise,
    _decompose_fold,
    _decompose_index,
    _decompose_norm,
    _decompose_places,
    _decompose_pool,
    _decompose_quant,
    _decompose_rank,
    _decompose_recurrent,
    _decompose_reduce,
    _decompose_region,
    _decompose_sampling,
    _decompose_spectral,
)
from passes._decompose import DECOMPOSITIONS, Layers

__all__ = ["DECOMPOSITIONS", "Layers"]
