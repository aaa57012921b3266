/* Vectors: NEON's own, or their twin in portable C; and what both lack. */
#ifndef CINCEL_SIMD_H
#define CINCEL_SIMD_H

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include "neon_twin.h"
#endif

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

/* The first `count` (1 to 3; more are as 4) of four floats, then zeros. */
static inline float32x4_t load_f32(const float *p, size_t count)
{
    float all[4] = {0};
    memcpy(all, p, (count < 4 ? count : 4) * sizeof *p);
    return vld1q_f32(all);
}

static inline void store_f32(float *p, float32x4_t v, size_t count)
{
    float all[4];
    vst1q_f32(all, v);
    memcpy(p, all, (count < 4 ? count : 4) * sizeof *p);
}

static inline float32x4_t reversed_f32x4(float32x4_t v)
{
    const float32x4_t pairs = vrev64q_f32(v);
    return vextq_f32(pairs, pairs, 2);
}

typedef struct { size_t first, end; } span_t;

/* Which of `count` taps at distances of `spacing` lie in an image of `size` elements, if the first one is `at` elements
 * behind the begin of `before` elements of border. */
static inline span_t taps_inside(size_t at, size_t before, size_t size, size_t count, size_t spacing)
{
    span_t inside = {at < before ? (before - at + spacing - 1) / spacing : 0, 0};
    if (at < size + before)
        inside.end = (size + before - at - 1) / spacing + 1;
    if (inside.end > count)
        inside.end = count;
    if (inside.first > inside.end)
        inside.first = inside.end;
    return inside;
}

#endif
