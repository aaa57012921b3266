/* Fixed-point arithmetic of integers that stand for real numbers. */
#ifndef CINCEL_FIXED_H
#define CINCEL_FIXED_H

#include <stdint.h>
#include <string.h>

#define FIXED static inline __attribute__((unused))

/* a * b / 2^31, rounded half up. */
FIXED int32_t high_product(int32_t a, int32_t b)
{
    const int64_t p = ((int64_t)a * b + (1 << 30)) >> 31;
    return p > INT32_MAX ? INT32_MAX : (int32_t)p;
}

/* v / 2^by, rounded half away from zero. */
FIXED int32_t rounded_shift(int32_t v, int by)
{
    if (by <= 0)
        return v;
    return (int32_t)(((int64_t)v + ((int64_t)1 << (by - 1)) - (v < 0)) >> by);
}

/* v * multiplier * 2^(shift - 31), rounded twice; a shift to the left wraps around. */
FIXED int32_t times(int32_t v, int32_t multiplier, int shift)
{
    const int32_t shifted = shift > 0 ? (int32_t)((uint32_t)v << shift) : v;
    return rounded_shift(high_product(shifted, multiplier), shift > 0 ? 0 : -shift);
}

/* The rest of a division that is rounded down; b is not 0. */
FIXED int64_t floor_mod(int64_t a, int64_t b)
{
    const int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

FIXED int32_t squared(int32_t v) { return v * v; }

FIXED int32_t clamped(int32_t v, int32_t least, int32_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* At the begin of a panel of weights: the zero point and the limits of results, each as often as a vector has lanes. */
struct limits {
    int32_t zero, least, most;
};

FIXED struct limits limits_of(const void *panel)
{
    const char *p = panel;
    int16_t zero;
    memcpy(&zero, p, sizeof zero);
    return (struct limits){zero, ((const int8_t *)p)[16], ((const int8_t *)p)[32]};
}

/* A sum as a result; shift is negative. */
FIXED int8_t requantized(int32_t sum, int32_t multiplier, int32_t shift, struct limits l)
{
    const int64_t v = (int64_t)times(sum, multiplier, shift) + l.zero;
    return (int8_t)(v < l.least ? l.least : v > l.most ? l.most : v);
}

/* v * 2^by, rounded half away from zero to the right, saturated to the left. */
FIXED int32_t saturated_shift(int32_t v, int by)
{
    if (by <= 0)
        return rounded_shift(v, -by);
    const int64_t wide = (int64_t)v * ((int64_t)1 << by);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* Of a positive number. */
FIXED int leading_zeros(int32_t v)
{
    int n = 0;
    for (uint32_t u = (uint32_t)v; !(u >> 31); u <<= 1)
        n++;
    return n;
}

/* 1 / (1 + a) in Q0.31, of 0 <= a <= 1, by three Newton-Raphson steps from 48/17 - 32/17 a in Q2.29. */
FIXED int32_t reciprocal_of_one_plus(int32_t a)
{
    const int64_t total = (int64_t)a + INT32_MAX;
    const int32_t half = (int32_t)((total + 1) / 2);
    int32_t x = 1515870810 + high_product(half, -1010580540);
    for (int i = 0; i < 3; i++)
        x += saturated_shift(high_product(x, (1 << 29) - high_product(half, x)), 2);
    return saturated_shift(x, 1);
}

#endif
