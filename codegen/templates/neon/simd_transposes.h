/* Squares of vectors whose rows become columns. */
#ifndef CINCEL_SIMD_TRANSPOSES_H
#define CINCEL_SIMD_TRANSPOSES_H

#include "simd.h"

#if !defined(__aarch64__)
#include "neon_twin_transposes.h"
#endif

static inline void transpose_u32x4(uint32x4_t v[4])
{
    for (int i = 0; i < 4; i += 2) {
        const uint32x4_t a = v[i], b = v[i + 1];
        v[i] = vtrn1q_u32(a, b);
        v[i + 1] = vtrn2q_u32(a, b);
    }
    for (int i = 0; i < 2; i++) {
        const uint64x2_t a = vreinterpretq_u64_u32(v[i]), b = vreinterpretq_u64_u32(v[i + 2]);
        v[i] = vreinterpretq_u32_u64(vtrn1q_u64(a, b));
        v[i + 2] = vreinterpretq_u32_u64(vtrn2q_u64(a, b));
    }
}

static inline void transpose_u16x8(uint16x8_t v[8])
{
    uint32x4_t w[8];
    for (int i = 0; i < 8; i += 2) {
        w[i] = vreinterpretq_u32_u16(vtrn1q_u16(v[i], v[i + 1]));
        w[i + 1] = vreinterpretq_u32_u16(vtrn2q_u16(v[i], v[i + 1]));
    }
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 2; i++) {
            const uint32x4_t a = w[4 * half + i], b = w[4 * half + i + 2];
            w[4 * half + i] = vtrn1q_u32(a, b);
            w[4 * half + i + 2] = vtrn2q_u32(a, b);
        }
    }
    for (int i = 0; i < 4; i++) {
        const uint64x2_t a = vreinterpretq_u64_u32(w[i]), b = vreinterpretq_u64_u32(w[i + 4]);
        v[i] = vreinterpretq_u16_u64(vtrn1q_u64(a, b));
        v[i + 4] = vreinterpretq_u16_u64(vtrn2q_u64(a, b));
    }
}

static inline void transpose_u8x8(uint8x8_t v[8])
{
    uint16x4_t w[8];
    for (int i = 0; i < 8; i += 2) {
        w[i] = vreinterpret_u16_u8(vtrn1_u8(v[i], v[i + 1]));
        w[i + 1] = vreinterpret_u16_u8(vtrn2_u8(v[i], v[i + 1]));
    }
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 2; i++) {
            const uint16x4_t a = w[4 * half + i], b = w[4 * half + i + 2];
            w[4 * half + i] = vtrn1_u16(a, b);
            w[4 * half + i + 2] = vtrn2_u16(a, b);
        }
    }
    for (int i = 0; i < 4; i++) {
        const uint32x2_t a = vreinterpret_u32_u16(w[i]), b = vreinterpret_u32_u16(w[i + 4]);
        v[i] = vreinterpret_u8_u32(vtrn1_u32(a, b));
        v[i + 4] = vreinterpret_u8_u32(vtrn2_u32(a, b));
    }
}

static inline void transpose_f32x4(float32x4_t v[4])
{
    uint32x4_t w[4];
    for (int i = 0; i < 4; i++)
        w[i] = vreinterpretq_u32_f32(v[i]);
    transpose_u32x4(w);
    for (int i = 0; i < 4; i++)
        v[i] = vreinterpretq_f32_u32(w[i]);
}

#endif
