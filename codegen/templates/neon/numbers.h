/* Element types that C lacks, held as their bits, and arithmetic whose result C leaves open. */
#ifndef CINCEL_NUMBERS_H
#define CINCEL_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "half_numbers.h"

typedef uint16_t bfloat_t;      /* the upper half of a float */
typedef uint8_t f8e4m3fn_t;     /* floats of 8 bits: so many for the exponent, so many for the mantissa; fn: no inf; */
typedef uint8_t f8e4m3fnuz_t;   /* uz: no -0, whose bits are NaN */
typedef uint8_t f8e5m2_t;
typedef uint8_t f8e5m2fnuz_t;
typedef uint8_t f8e8m0_t;       /* powers of two */
typedef uint8_t f4e2m1_t;       /* in the lower half of a byte */
typedef int8_t int4_t;          /* in the lower bits of a byte; the others are not read */
typedef int8_t int2_t;
typedef uint8_t uint4_t;
typedef uint8_t uint2_t;
typedef uint8_t bool8_t;        /* 0 or 1 */

/* A double as a float that rounds further as the double would: the last bit tells that there was more. */
static inline float odd_float(double x)
{
    const float near = (float)x;
    const uint32_t bits = bits_of_float(near);
    if ((double)near == x || x != x || (bits & 1) || isinf(near))
        return near;
    return float_of_bits(fabs((double)near) > fabs(x) ? bits - 1 : bits + 1);
}

static inline float bfloat_to_float(bfloat_t x) { return float_of_bits((uint32_t)x << 16); }

static inline bfloat_t float_to_bfloat(float x)
{
    const uint32_t bits = bits_of_float(x);
    if (x != x)
        return (bfloat_t)((bits >> 16 & 0x8000) | 0x7fc0);
    return (bfloat_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The value of exponent and mantissa bits. */
static inline float small_to_float(unsigned bits, int mantissa, int bias)
{
    const unsigned unit = 1u << mantissa;
    const int exponent = (int)(bits >> mantissa);
    const unsigned units = (bits & (unit - 1)) + (exponent ? unit : 0);
    return ldexpf((float)units, (exponent ? exponent : 1) - bias - mantissa);
}

/* Exponent and mantissa bits of the nearest value (of two, the even one) to a finite x >= 0, with no end above. */
static inline unsigned float_to_small(float x, int mantissa, int bias)
{
    int exponent;
    if (x == 0)
        return 0;
    frexpf(x, &exponent);
    exponent = exponent - 1 < 1 - bias ? 1 - bias : exponent - 1;
    return (unsigned)rintf(ldexpf(x, mantissa - exponent)) + ((unsigned)(exponent + bias - 1) << mantissa);
}

/* `top` is the largest value, `beyond` what is above it. */
static inline uint8_t float_to_f8(float x, int mantissa, int bias, unsigned top, unsigned beyond)
{
    const unsigned sign = signbit(x) ? 0x80 : 0;
    const unsigned code = isinf(x) ? 0x100 : float_to_small(fabsf(x), mantissa, bias);
    return (uint8_t)(sign | (code > top ? beyond : code));
}

/* Formats without -0. */
static inline uint8_t float_to_f8uz(float x, int mantissa, int bias, int saturates)
{
    if (x != x)
        return 0x80;
    const unsigned sign = signbit(x) ? 0x80 : 0;
    const unsigned code = isinf(x) ? 0x100 : float_to_small(fabsf(x), mantissa, bias);
    if (code > 0x7f)
        return (uint8_t)(saturates ? sign | 0x7f : 0x80);
    return (uint8_t)(code ? sign | code : 0);
}

static inline float signed_float(float magnitude, unsigned is_negative) { return is_negative ? -magnitude : magnitude; }

static inline float f8e4m3fn_to_float(f8e4m3fn_t x)
{
    return (x & 0x7f) == 0x7f ? NAN : signed_float(small_to_float(x & 0x7f, 3, 7), x & 0x80);
}

static inline f8e4m3fn_t float_to_f8e4m3fn(float x, int saturates)
{
    return x != x ? (uint8_t)(signbit(x) ? 0xff : 0x7f) : float_to_f8(x, 3, 7, 0x7e, saturates ? 0x7e : 0x7f);
}

static inline float f8e5m2_to_float(f8e5m2_t x)
{
    if ((x & 0x7f) >= 0x7c)
        return (x & 3) ? NAN : signed_float(INFINITY, x & 0x80);
    return signed_float(small_to_float(x & 0x7f, 2, 15), x & 0x80);
}

static inline f8e5m2_t float_to_f8e5m2(float x, int saturates)
{
    return x != x ? (uint8_t)(signbit(x) ? 0xfe : 0x7e) : float_to_f8(x, 2, 15, 0x7b, saturates ? 0x7b : 0x7c);
}

static inline float f8e4m3fnuz_to_float(f8e4m3fnuz_t x)
{
    return x == 0x80 ? NAN : signed_float(small_to_float(x & 0x7f, 3, 8), x & 0x80);
}

static inline f8e4m3fnuz_t float_to_f8e4m3fnuz(float x, int saturates) { return float_to_f8uz(x, 3, 8, saturates); }

static inline float f8e5m2fnuz_to_float(f8e5m2fnuz_t x)
{
    return x == 0x80 ? NAN : signed_float(small_to_float(x & 0x7f, 2, 16), x & 0x80);
}

static inline f8e5m2fnuz_t float_to_f8e5m2fnuz(float x, int saturates) { return float_to_f8uz(x, 2, 16, saturates); }

static inline float f8e8m0_to_float(f8e8m0_t x) { return x == 0xff ? NAN : ldexpf(1.0f, (int)x - 127); }

/* To a power of two: the next one from `above` (of a mantissa from 0.5 to 1) on; `or_at` that itself too. */
static inline f8e8m0_t float_to_f8e8m0(float x, int saturates, float above, int or_at)
{
    int exponent;
    const float mantissa = frexpf(fabsf(x), &exponent);
    if (x != x || isinf(x))
        return 0xff;
    if (x == 0)
        return saturates ? 0 : 0xff;
    const int code = exponent + 126 + (mantissa > above || (or_at && mantissa == above));
    return (f8e8m0_t)(code >= 0 && code <= 254 ? code : !saturates ? 255 : code < 0 ? 0 : 254);
}

static inline float f4e2m1_to_float(f4e2m1_t x) { return signed_float(small_to_float(x & 7, 1, 1), x & 8); }

static inline f4e2m1_t float_to_f4e2m1(float x)
{
    if (x != x)
        return 8;
    const unsigned code = isinf(x) ? 7 : float_to_small(fabsf(x), 1, 1);
    return (f4e2m1_t)((signbit(x) ? 8u : 0u) | (code > 7 ? 7 : code));
}

static inline int32_t int4_to_int(int4_t x) { return (int32_t)((uint32_t)x << 28) >> 28; }
static inline int32_t int2_to_int(int2_t x) { return (int32_t)((uint32_t)x << 30) >> 30; }
static inline int32_t uint4_to_int(uint4_t x) { return x & 15; }
static inline int32_t uint2_to_int(uint2_t x) { return x & 3; }
static inline int4_t int_to_int4(int64_t x) { return (int4_t)int4_to_int((int4_t)(x & 15)); }
static inline int2_t int_to_int2(int64_t x) { return (int2_t)int2_to_int((int2_t)(x & 3)); }
static inline uint4_t int_to_uint4(int64_t x) { return (uint4_t)(x & 15); }
static inline uint2_t int_to_uint2(int64_t x) { return (uint2_t)(x & 3); }

/* Towards zero; the smallest number for what does not fit, and for NaN. */
static inline int32_t real_to_int32(double x) { return x > -2147483649.0 && x < 2147483648.0 ? (int32_t)x : INT32_MIN; }
static inline int64_t real_to_int64(double x) { return x >= -0x1p63 && x < 0x1p63 ? (int64_t)x : INT64_MIN; }
static inline uint64_t real_to_uint64(double x)
{
    return x >= 0x1p63 && x < 0x1p64 ? (uint64_t)x : (uint64_t)real_to_int64(x);
}

/* Quotients cut towards zero, 0 where the divisor is; the one that does not fit wraps around. */
static inline int32_t quotient_int32(int32_t a, int32_t b)
{
    return b == 0 ? 0 : b == -1 ? (int32_t)(0u - (uint32_t)a) : a / b;
}
static inline int64_t quotient_int64(int64_t a, int64_t b)
{
    return b == 0 ? 0 : b == -1 ? (int64_t)(0u - (uint64_t)a) : a / b;
}
static inline uint32_t quotient_uint32(uint32_t a, uint32_t b) { return b == 0 ? 0 : a / b; }
static inline uint64_t quotient_uint64(uint64_t a, uint64_t b) { return b == 0 ? 0 : a / b; }

/* What division leaves, with the sign of a (cut) or of b (floored); 0 where b is. */
static inline int64_t cut_rest_int64(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
static inline uint64_t cut_rest_uint64(uint64_t a, uint64_t b) { return b == 0 ? 0 : a % b; }
static inline int64_t floored_rest_int64(int64_t a, int64_t b)
{
    const int64_t rest = cut_rest_int64(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
static inline double floored_rest_real(double a, double b)
{
    const double rest = fmod(a, b);
    if (rest == 0)
        return copysign(0.0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

/* a to the power b, modulo 2^64; of a negative power what is left of the real number. */
static inline int64_t power_int64(int64_t a, int64_t b)
{
    if (b < 0)
        return real_to_int64(pow((double)a, (double)b));
    uint64_t made = 1, square = (uint64_t)a;
    for (; b; b >>= 1, square *= square)
        if (b & 1)
            made *= square;
    return (int64_t)made;
}
static inline uint64_t power_uint64(uint64_t a, uint64_t b)
{
    uint64_t made = 1;
    for (; b; b >>= 1, a *= a)
        if (b & 1)
            made *= a;
    return made;
}

#endif
