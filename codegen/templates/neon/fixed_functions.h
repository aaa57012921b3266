/* Functions of integers that stand for real numbers. */
#ifndef CINCEL_FIXED_FUNCTIONS_H
#define CINCEL_FIXED_FUNCTIONS_H

#include "fixed.h"

static inline int32_t saturated(int64_t v)
{
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v;
}

/* log(r) in Q6.25 of a mantissa near 2^-1/4, by a quotient of polynomials. */
static inline int32_t log_of_mantissa(int32_t r)
{
    const int32_t half_root = 1805811301;
    const int32_t half_sum = (int32_t)(((int64_t)r + half_root + 1) / 2), q = (int32_t)(2 * ((int64_t)r - half_root));
    const int32_t q2 = high_product(q, q);
    const int32_t numerator = high_product(q, r) + high_product(high_product(q, q2), 117049297);
    const int32_t square = high_product(q2, 127690142), linear = high_product(q, 638450708);
    const int32_t denominator = high_product(half_sum, saturated((int64_t)1057819769 + q + square)) + linear;
    return high_product(rounded_shift(numerator, 6), reciprocal_of_one_plus(denominator));
}

/* log(x) in Q5.26 of x >= 1 with so many integer bits: a power of two, and a mantissa by one of two ways to split x. */
static inline int32_t natural_logarithm(int32_t x, int integer_bits)
{
    const int32_t root_half = 1518500250, quarter = 1 << 23;
    const int headroom = leading_zeros(x), other_headroom = leading_zeros(high_product(x, root_half)) - 1;
    const int32_t normal = saturated((int64_t)high_product(saturated((int64_t)x << (headroom - 1)), root_half) * 2);
    const int32_t power = saturated((int64_t)(integer_bits - headroom) * (1 << 25) + quarter);
    const int32_t other = saturated((int64_t)x << other_headroom);
    const int32_t other_power = saturated((int64_t)(integer_bits - other_headroom) * (1 << 25) - quarter);
    const int32_t log = log_of_mantissa(normal < other ? normal : other);
    return saturated_shift(high_product(power > other_power ? power : other_power, 1488522236) + log, 1);
}

/* A mantissa and a shift of 1 / sqrt(v) of v >= 0, by five Newton steps in Q3.28; 1 for 0 and 1. */
static inline int32_t inverse_root(int32_t v, int *shift)
{
    *shift = 0;
    if (v <= 1)
        return INT32_MAX;
    int by = 11;
    for (; v >= 1 << 29; v /= 4)
        by++;
    const int pairs = (leading_zeros(v) - 1) / 2 - 1;
    by -= pairs;
    v = (int32_t)((uint32_t)v << 2 * pairs);
    const int32_t half = rounded_shift(v >> 1, 1);
    int32_t root = 1 << 28;
    for (int i = 0; i < 5; i++) {
        const int32_t cube = saturated_shift(high_product(high_product(root, root), root), 6);
        root = saturated_shift(high_product(root, 402653184) - high_product(half, cube), 3);
    }
    root = high_product(root, 1518500250);
    if (by < 0)
        return (int32_t)((uint32_t)root << -by);
    *shift = -by;
    return root;
}

#endif
