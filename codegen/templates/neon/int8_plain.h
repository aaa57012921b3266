/* What strips of bytes compute, one result at a time, where there is no assembly for them. */
#ifndef CINCEL_INT8_PLAIN_H
#define CINCEL_INT8_PLAIN_H

#include "fixed.h"

#include <stddef.h>

/* Of a panel of weights: columns and how many fill it up; how often each occurs in a vector, how many elements of a
 * row lie side by side, whether there are shifts to the left. */
struct panel {
    size_t rows, columns, padded, copies, group, has_left;
};

/* Rows of x are depth elements, count1 times, pitch1 apart, and all that count2 times, and that count3 times. */
struct walk {
    size_t depth, count1, pitch1, count2, pitch2, count3, pitch3;
};

static inline uint32_t plain_sum(const int8_t *x, const int8_t *w, uint32_t sum, struct panel p, struct walk k)
{
    const size_t step = p.padded * p.group;
    for (size_t s3 = 0; s3 < k.count3; s3++) {
        for (size_t s2 = 0; s2 < k.count2; s2++) {
            for (size_t s1 = 0; s1 < k.count1; s1++) {
                const int8_t *xi = x + s3 * k.pitch3 + s2 * k.pitch2 + s1 * k.pitch1;
                for (size_t e = 0; e < k.depth; e++)
                    sum += (uint32_t)(xi[e] * w[e / p.group * step + e % p.group]);
                w += (k.depth + p.group - 1) / p.group * step;
            }
        }
    }
    return sum;
}

static inline void plain_strip(const int8_t *x, size_t ldx, const void *w, int8_t *y, size_t ldy, size_t tiles,
    struct panel p, struct walk k)
{
    const struct limits limits = limits_of(w);
    const size_t wide = p.padded * p.copies;
    const int32_t *multiplier = (const int32_t *)((const char *)w + 48), *shift = multiplier + wide;
    const int32_t *left = shift + wide, *bias = p.has_left ? left + wide : left;
    for (size_t i = 0; i < tiles * p.rows; i++) {
        for (size_t j = 0; j < p.columns; j++) {
            const size_t at = p.copies == 1 ? j : j / 2 * 4 + j % 2;
            const int8_t *wj = (const int8_t *)(bias + wide) + p.group * j;
            const uint32_t sum = plain_sum(x + i * ldx, wj, (uint32_t)bias[at], p, k);
            const int32_t scaled = (int32_t)(p.has_left ? sum << left[at] : sum);
            y[i * ldy + j] = requantized(scaled, multiplier[at], shift[at], limits);
        }
    }
}

/* 16 channels of some pixels of a line; rows of windows are `line` apart. */
static inline void plain_channels(const int8_t *x, const void *w, int8_t *y, size_t pixels, size_t pitch, size_t line,
    size_t rows, size_t columns, size_t stride, size_t dilation, int has_left)
{
    const struct limits limits = limits_of(w);
    const int32_t *multiplier = (const int32_t *)((const char *)w + 48), *shift = multiplier + 16, *left = shift + 16;
    const int32_t *bias = has_left ? left + 16 : left;
    const int8_t *taps = (const int8_t *)(bias + 16);
    for (size_t i = 0; i < pixels; i++) {
        for (size_t c = 0; c < 16; c++) {
            uint32_t sum = (uint32_t)bias[c];
            for (size_t r = 0; r < rows; r++) {
                const int8_t *xr = x + r * line + i * stride * pitch + c, *w0 = taps + r * columns * 16 + c;
                for (size_t s = 0; s < columns; s++)
                    sum += (uint32_t)(xr[s * dilation * pitch] * w0[s * 16]);
            }
            y[i * pitch + c] = requantized((int32_t)(has_left ? sum << left[c] : sum), multiplier[c], shift[c], limits);
        }
    }
}

#endif
