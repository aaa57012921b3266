"""The error function on arrays, which numpy does not have."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array

# Rational approximations, each with the interval of |x| that it holds on; numerators, then denominators, lowest power
# first. From fdlibm's s_erf.c, "Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at
# SunPro, a Sun Microsystems, Inc. business. Permission to use, copy, modify, and distribute this software is freely
# granted, provided that this notice is preserved." Error below one unit in the last place of a double.
NEAR_ZERO = (  # erf(x) = x + x * p(x^2), |x| < 0.84375
    (
        1.28379167095512558561e-01,
        -3.25042107247001499370e-01,
        -2.84817495755985104766e-02,
        -5.77027029648944159157e-03,
        -2.37630166566501626084e-05,
    ),
    (
        1.0,
        3.97917223959155352819e-01,
        6.50222499887672944485e-02,
        5.08130628187576562776e-03,
        1.32494738004321644526e-04,
        -3.96022827877536812320e-06,
    ),
)
NEAR_ONE = (  # erf(x) = AT_ONE + p(x - 1), x < 1.25
    (
        -2.36211856075265944077e-03,
        4.14856118683748331666e-01,
        -3.72207876035701323847e-01,
        3.18346619901161753674e-01,
        -1.10894694282396677476e-01,
        3.54783043256182359371e-02,
        -2.16637559486879084300e-03,
    ),
    (
        1.0,
        1.06420880400844228286e-01,
        5.40397917702171048937e-01,
        7.18286544141962662868e-02,
        1.26171219808761642112e-01,
        1.36370839120290507362e-02,
        1.19844998467991074170e-02,
    ),
)
AT_ONE = 8.45062911510467529297e-01
MIDDLE = (  # erf(x) = 1 - exp(-x^2 - 0.5625 + p(1 / x^2)) / x, x < 1 / 0.35
    (
        -9.86494403484714822705e-03,
        -6.93858572707181764372e-01,
        -1.05586262253232909814e01,
        -6.23753324503260060396e01,
        -1.62396669462573470355e02,
        -1.84605092906711035994e02,
        -8.12874355063065934246e01,
        -9.81432934416914548592e00,
    ),
    (
        1.0,
        1.96512716674392571292e01,
        1.37657754143519042600e02,
        4.34565877475229228821e02,
        6.45387271733267880336e02,
        4.29008140027567833386e02,
        1.08635005541779435134e02,
        6.57024977031928170135e00,
        -6.04244152148580987438e-02,
    ),
)
FAR = (  # likewise, x < 6; beyond, erf(x) is 1
    (
        -9.86494292470009928597e-03,
        -7.99283237680523006574e-01,
        -1.77579549177547519889e01,
        -1.60636384855821916062e02,
        -6.37566443368389627722e02,
        -1.02509513161107724954e03,
        -4.83519191608651397019e02,
    ),
    (
        1.0,
        3.03380607434824582924e01,
        3.25792512996573918826e02,
        1.53672958608443695994e03,
        3.19985821950859553908e03,
        2.55305040643316442583e03,
        4.74528541206955367215e02,
        -2.24409524465858183362e01,
    ),
)


def erf(x: Array) -> Array:
    """The error function of each element, in float64."""
    wide = np.asarray(x, np.float64)
    size = np.abs(wide)
    out = np.where(np.isnan(wide), np.nan, 1.0)
    small = size < 0.84375
    v = wide[small]
    out[small] = np.abs(v + v * _ratio(NEAR_ZERO, v * v))
    middle = (size >= 0.84375) & (size < 1.25)
    out[middle] = AT_ONE + _ratio(NEAR_ONE, size[middle] - 1)
    for low, high, ratio in ((1.25, 1 / 0.35, MIDDLE), (1 / 0.35, 6.0, FAR)):
        part = (size >= low) & (size < high)
        v = size[part]
        out[part] = 1 - np.exp(-v * v - 0.5625 + _ratio(ratio, 1 / (v * v))) / v
    return np.copysign(out, wide)


def _ratio(ratio: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    above, below = (np.polynomial.polynomial.polyval(x, c) for c in ratio)
    return np.asarray(above / below)
