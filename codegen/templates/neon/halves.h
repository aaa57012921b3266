/* Vectors of four floats that lie in memory as halves. */
#ifndef CINCEL_HALVES_H
#define CINCEL_HALVES_H

#include "half_numbers.h"
#include "simd.h"

#if !defined(__aarch64__)
#include "neon_twin_half.h"
#endif

static inline float32x4_t load_half_x4(const half_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

static inline float32x4x4_t load_half_x16(const half_t *p)
{
    const float32x4x4_t v = {{load_half_x4(p), load_half_x4(p + 4), load_half_x4(p + 8), load_half_x4(p + 12)}};
    return v;
}

typedef struct { float32x4_t low, high; } float32x8_t;

static inline float32x8_t load_half_x8(const half_t *p)
{
    const float32x8_t v = {load_half_x4(p), load_half_x4(p + 4)};
    return v;
}

static inline float32x8_t fma_f32x8(float32x8_t a, float32x8_t b, float32x8_t c)
{
    const float32x8_t v = {vfmaq_f32(a.low, b.low, c.low), vfmaq_f32(a.high, b.high, c.high)};
    return v;
}

/* Eight halves as what computes with them has them: in 16 bits, or else in 32. */
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
typedef float16x8_t halves_t;
static inline halves_t load_halves(const half_t *p) { return vreinterpretq_f16_u16(vld1q_u16(p)); }
static inline halves_t fma_halves(halves_t a, halves_t b, halves_t c) { return vfmaq_f16(a, b, c); }
static inline float32x4_t low_halves(halves_t a) { return vcvt_f32_f16(vget_low_f16(a)); }
static inline float32x4_t high_halves(halves_t a) { return vcvt_f32_f16(vget_high_f16(a)); }
#else
typedef float32x8_t halves_t;
static inline halves_t load_halves(const half_t *p) { return load_half_x8(p); }
static inline halves_t fma_halves(halves_t a, halves_t b, halves_t c) { return fma_f32x8(a, b, c); }
static inline float32x4_t low_halves(halves_t a) { return a.low; }
static inline float32x4_t high_halves(halves_t a) { return a.high; }
#endif

static inline void store_half_x4(half_t *p, float32x4_t v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }

/* The first `count` (1 to 3; more are as 4) of four halves, then zeros. */
static inline float32x4_t load_half(const half_t *p, size_t count)
{
    half_t all[4] = {0};
    memcpy(all, p, (count < 4 ? count : 4) * sizeof *p);
    return load_half_x4(all);
}

static inline void store_half(half_t *p, float32x4_t v, size_t count)
{
    half_t all[4];
    store_half_x4(all, v);
    memcpy(p, all, (count < 4 ? count : 4) * sizeof *p);
}

static inline void widen_halves(const half_t *from, float *to, size_t count)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4)
        vst1q_f32(to + i, load_half_x4(from + i));
    for (; i < count; i++)
        to[i] = half_to_float(from[i]);
}

static inline void narrow_floats(const float *from, half_t *to, size_t count)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4)
        store_half_x4(to + i, vld1q_f32(from + i));
    for (; i < count; i++)
        to[i] = float_to_half(from[i]);
}

static inline float32x4_t round_half_f32x4(float32x4_t v) { return vcvt_f32_f16(vcvt_f16_f32(v)); }

#endif
