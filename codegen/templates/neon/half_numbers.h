/* Floats of 16 bits, held as their bits. */
#ifndef CINCEL_HALF_NUMBERS_H
#define CINCEL_HALF_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t half_t; /* IEEE 754 binary16 */

static inline uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#if defined(__aarch64__)
static inline float half_to_float(half_t x)
{
    __fp16 value;
    memcpy(&value, &x, sizeof value);
    return value;
}

static inline half_t float_to_half(float x)
{
    const __fp16 value = (__fp16)x;
    half_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
#else
static inline float half_to_float(half_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16, rest = x & 0x7fff;
    if (rest >= 0x7c00)
        return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    const float value = float_of_bits((rest << 13)) * 0x1p112f;
    return sign ? -value : value;
}

static inline half_t float_to_half(float x)
{
    const uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000)
        return (half_t)(sign | 0x7e00 | (rest >> 13 & 0x3ff));
    if (rest >= 0x477ff000) /* 65520 becomes infinity */
        return (half_t)(sign | 0x7c00);
    if (rest < 0x38800000) /* below 2^-14 the unit is 2^-24 */
        return (half_t)(sign | (uint32_t)rintf(float_of_bits(rest) * 0x1p24f));
    return (half_t)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}
#endif

#endif
