/* Integers of 16 bits that stand for real numbers. */
#ifndef CINCEL_FIXED_WIDE_H
#define CINCEL_FIXED_WIDE_H

#include "fixed.h"

static inline int64_t limited(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* v * factor / 2^right, rounded half up; factors have 15 bits. */
static inline int64_t short_times(int64_t v, int32_t factor, int32_t right)
{
    return (v * factor + ((int64_t)1 << (right - 1))) >> right;
}

/* Between two of 513 samples over all numbers; differences wrap around. */
static inline int16_t interpolated(int32_t v, const int16_t *table)
{
    const int16_t *low = table + ((v >> 7) + 256);
    const int16_t slope = (int16_t)(low[1] - low[0]);
    return (int16_t)(low[0] + ((slope * (v & 127) + 64) >> 7));
}

/* 1 / (1 + e^-v) of v >= 0 in units of 1 / (24 * 2^bits), by 256 samples; in units of 2^-(16 + bits). */
static inline int32_t sampled_sigmoid(int32_t v, int bits, int32_t most, const uint16_t *table)
{
    const int32_t place = v >> bits;
    if (place >= 255)
        return most;
    return (table[place] << bits) + (v & ((1 << bits) - 1)) * (table[place + 1] - table[place]);
}

/* Of v in units of 1 / (3 * 4096), in units of 2^-15. */
static inline int16_t sampled_logistic(int32_t v, const uint16_t *table)
{
    const int32_t y = sampled_sigmoid(v < 0 ? -v : v, 9, INT16_MAX << 10, table);
    return (int16_t)((v >= 0 ? y + (1 << 9) : (1 << 25) - y + (1 << 9) - 1) >> 10);
}

static inline int16_t sampled_tanh(int32_t v, const uint16_t *table)
{
    const int32_t y = sampled_sigmoid(v < 0 ? -v : v, 8, UINT16_MAX << 8, table);
    return (int16_t)((v >= 0 ? y - (1 << 23) + (1 << 7) : (1 << 23) - y + (1 << 7) - 1) >> 8);
}

#endif
