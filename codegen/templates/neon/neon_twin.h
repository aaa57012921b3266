/* The part of arm_neon.h that the kernels use, in C with vector extensions: for tests on other processors. */
#ifndef CINCEL_NEON_TWIN_H
#define CINCEL_NEON_TWIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float float32x4_t __attribute__((vector_size(16)));
typedef int32_t int32x4_t __attribute__((vector_size(16)));
typedef uint32_t uint32x4_t __attribute__((vector_size(16)));
typedef struct { float32x4_t val[2]; } float32x4x2_t;
typedef struct { float32x4_t val[3]; } float32x4x3_t;
typedef struct { float32x4_t val[4]; } float32x4x4_t;

#define TWIN static inline __attribute__((always_inline, unused))

TWIN float32x4_t vld1q_f32(const float *p)
{
    float32x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

TWIN float32x4x2_t vld1q_f32_x2(const float *p)
{
    float32x4x2_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

TWIN float32x4x3_t vld1q_f32_x3(const float *p)
{
    float32x4x3_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

TWIN float32x4x4_t vld1q_f32_x4(const float *p)
{
    float32x4x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

TWIN void vst1q_f32(float *p, float32x4_t v) { memcpy(p, &v, sizeof v); }
TWIN float32x4_t vdupq_n_f32(float x) { return (float32x4_t){x, x, x, x}; }
TWIN float32x4_t vaddq_f32(float32x4_t a, float32x4_t b) { return a + b; }
TWIN float32x4_t vsubq_f32(float32x4_t a, float32x4_t b) { return a - b; }
TWIN float32x4_t vmulq_f32(float32x4_t a, float32x4_t b) { return a * b; }
TWIN float32x4_t vmulq_n_f32(float32x4_t a, float b) { return a * vdupq_n_f32(b); }
TWIN float32x4_t vdivq_f32(float32x4_t a, float32x4_t b) { return a / b; }
TWIN float32x4_t vnegq_f32(float32x4_t a) { return -a; }
TWIN float32x4_t vfmaq_f32(float32x4_t a, float32x4_t b, float32x4_t c) { return a + b * c; }
TWIN float32x4_t vfmsq_f32(float32x4_t a, float32x4_t b, float32x4_t c) { return a - b * c; }
TWIN float32x4_t vfmaq_n_f32(float32x4_t a, float32x4_t b, float c) { return a + b * vdupq_n_f32(c); }
TWIN float32x4_t vfmsq_n_f32(float32x4_t a, float32x4_t b, float c) { return a - b * vdupq_n_f32(c); }
#define vfmaq_laneq_f32(a, b, c, lane) vfmaq_n_f32(a, b, (c)[lane])

#define TWIN_EACH_F32(name, expression)                           \
    TWIN float32x4_t name(float32x4_t a, float32x4_t b)           \
    {                                                             \
        float32x4_t made;                                         \
        for (int i = 0; i < 4; i++) {                             \
            const float x = a[i], y = b[i];                       \
            made[i] = expression;                                 \
        }                                                         \
        return made;                                              \
    }
TWIN_EACH_F32(vmaxq_f32, x > y || x != x ? x : y)
TWIN_EACH_F32(vminq_f32, x < y || x != x ? x : y)

TWIN float32x4_t vabsq_f32(float32x4_t a) { return (float32x4_t){fabsf(a[0]), fabsf(a[1]), fabsf(a[2]), fabsf(a[3])}; }
TWIN float32x4_t vsqrtq_f32(float32x4_t a) { return (float32x4_t){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }

/* masks and integers */
#define TWIN_COMPARE_F32(name, sign) \
    TWIN uint32x4_t name(float32x4_t a, float32x4_t b) { return (uint32x4_t)(a sign b); }
TWIN_COMPARE_F32(vceqq_f32, ==)
TWIN_COMPARE_F32(vcgeq_f32, >=)
TWIN_COMPARE_F32(vcgtq_f32, >)
TWIN_COMPARE_F32(vcleq_f32, <=)
TWIN_COMPARE_F32(vcltq_f32, <)

TWIN uint32x4_t vld1q_u32(const uint32_t *p)
{
    uint32x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

TWIN void vst1q_u32(uint32_t *p, uint32x4_t v) { memcpy(p, &v, sizeof v); }
TWIN uint32x4_t vdupq_n_u32(uint32_t x) { return (uint32x4_t){x, x, x, x}; }
TWIN uint32x4_t vandq_u32(uint32x4_t a, uint32x4_t b) { return a & b; }
TWIN uint32x4_t veorq_u32(uint32x4_t a, uint32x4_t b) { return a ^ b; }
TWIN uint32x4_t vorrq_u32(uint32x4_t a, uint32x4_t b) { return a | b; }
TWIN uint32x4_t vmvnq_u32(uint32x4_t a) { return ~a; }
TWIN float32x4_t vbslq_f32(uint32x4_t mask, float32x4_t a, float32x4_t b)
{
    return (float32x4_t)((mask & (uint32x4_t)a) | (~mask & (uint32x4_t)b));
}
TWIN int32x4_t vdupq_n_s32(int32_t x) { return (int32x4_t){x, x, x, x}; }
TWIN int32x4_t vaddq_s32(int32x4_t a, int32x4_t b) { return (int32x4_t)((uint32x4_t)a + (uint32x4_t)b); }
TWIN int32x4_t vsubq_s32(int32x4_t a, int32x4_t b) { return (int32x4_t)((uint32x4_t)a - (uint32x4_t)b); }
TWIN int32x4_t vandq_s32(int32x4_t a, int32x4_t b) { return a & b; }
TWIN int32x4_t veorq_s32(int32x4_t a, int32x4_t b) { return a ^ b; }
TWIN uint32x4_t vtstq_s32(int32x4_t a, int32x4_t b) { return (uint32x4_t)((a & b) != 0); }
#define vshlq_n_s32(a, n) ((int32x4_t)((uint32x4_t)(a) << (n)))
#define vshrq_n_s32(a, n) ((a) >> (n))
#define vreinterpretq_f32_s32(a) ((float32x4_t)(a))
#define vreinterpretq_s32_f32(a) ((int32x4_t)(a))

/* rounding, conversion, across lanes */
TWIN float32x4_t vrndmq_f32(float32x4_t a) { return (float32x4_t){floorf(a[0]), floorf(a[1]), floorf(a[2]), floorf(a[3])}; }
TWIN float32x4_t vrndnq_f32(float32x4_t a) { return (float32x4_t){rintf(a[0]), rintf(a[1]), rintf(a[2]), rintf(a[3])}; }
TWIN float32x4_t vrndpq_f32(float32x4_t a) { return (float32x4_t){ceilf(a[0]), ceilf(a[1]), ceilf(a[2]), ceilf(a[3])}; }
TWIN float32x4_t vcvtq_f32_s32(int32x4_t a) { return __builtin_convertvector(a, float32x4_t); }
TWIN int32x4_t vcvtq_s32_f32(float32x4_t a)
{
    int32x4_t made;
    for (int i = 0; i < 4; i++)
        made[i] = a[i] >= 0x1p31f ? INT32_MAX : a[i] >= -0x1p31f ? (int32_t)a[i] : a[i] == a[i] ? INT32_MIN : 0;
    return made;
}
TWIN float vaddvq_f32(float32x4_t a) { return (a[0] + a[1]) + (a[2] + a[3]); }
TWIN float32x4_t vpaddq_f32(float32x4_t a, float32x4_t b)
{
    return (float32x4_t){a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]};
}
TWIN float vmaxvq_f32(float32x4_t a)
{
    float made = a[0];
    for (int i = 1; i < 4; i++)
        made = made > a[i] || made != made ? made : a[i];
    return made;
}
TWIN float vminvq_f32(float32x4_t a)
{
    float made = a[0];
    for (int i = 1; i < 4; i++)
        made = made < a[i] || made != made ? made : a[i];
    return made;
}

/* integers that are moved */
typedef uint8_t uint8x8_t __attribute__((vector_size(8)));
typedef uint8_t uint8x16_t __attribute__((vector_size(16)));
typedef uint16_t uint16x4_t __attribute__((vector_size(8)));
typedef uint16_t uint16x8_t __attribute__((vector_size(16)));

#define vreinterpretq_f32_u32(a) ((float32x4_t)(a))
#define vreinterpretq_u32_f32(a) ((uint32x4_t)(a))

#define TWIN_MOVE(element, type, load, store)                                       \
    TWIN type load(const element *p)                                                \
    {                                                                               \
        type v;                                                                     \
        memcpy(&v, p, sizeof v);                                                    \
        return v;                                                                   \
    }                                                                               \
    TWIN void store(element *p, type v) { memcpy(p, &v, sizeof v); }
TWIN_MOVE(uint8_t, uint8x8_t, vld1_u8, vst1_u8)
TWIN_MOVE(uint8_t, uint8x16_t, vld1q_u8, vst1q_u8)
TWIN_MOVE(uint16_t, uint16x4_t, vld1_u16, vst1_u16)
TWIN_MOVE(uint16_t, uint16x8_t, vld1q_u16, vst1q_u16)

#define TWIN_INTERLEAVE(count, element, type, lanes, load, store)                   \
    typedef struct { type val[count]; } load##_t;                                   \
    TWIN load##_t load(const element *p)                                            \
    {                                                                               \
        load##_t v;                                                                 \
        for (int i = 0; i < lanes * count; i++)                                     \
            v.val[i % count][i / count] = p[i];                                     \
        return v;                                                                   \
    }                                                                               \
    TWIN void store(element *p, load##_t v)                                         \
    {                                                                               \
        for (int i = 0; i < lanes * count; i++)                                     \
            p[i] = v.val[i % count][i / count];                                     \
    }
#define TWIN_INTERLEAVES(element, type, lanes, end)                                 \
    TWIN_INTERLEAVE(2, element, type, lanes, vld2q_##end, vst2q_##end)              \
    TWIN_INTERLEAVE(3, element, type, lanes, vld3q_##end, vst3q_##end)              \
    TWIN_INTERLEAVE(4, element, type, lanes, vld4q_##end, vst4q_##end)
TWIN_INTERLEAVES(uint8_t, uint8x16_t, 16, u8)
TWIN_INTERLEAVES(uint16_t, uint16x8_t, 8, u16)
TWIN_INTERLEAVES(uint32_t, uint32x4_t, 4, u32)
TWIN float32x4x2_t vld2q_f32(const float *p)
{
    return (float32x4x2_t){{{p[0], p[2], p[4], p[6]}, {p[1], p[3], p[5], p[7]}}};
}
TWIN void vst2q_f32(float *p, float32x4x2_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = v.val[i % 2][i / 2];
}
TWIN void vst4q_f32(float *p, float32x4x4_t v)
{
    for (int i = 0; i < 16; i++)
        p[i] = v.val[i % 4][i / 4];
}
TWIN float32x4_t vrev64q_f32(float32x4_t a) { return (float32x4_t){a[1], a[0], a[3], a[2]}; }
TWIN float32x4_t vextq_f32(float32x4_t a, float32x4_t b, int n)
{
    const float both[8] = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]};
    return vld1q_f32(both + n);
}
#define uint8x16x2_t vld2q_u8_t
#define uint8x16x3_t vld3q_u8_t
#define uint8x16x4_t vld4q_u8_t
#define uint16x8x2_t vld2q_u16_t
#define uint16x8x3_t vld3q_u16_t
#define uint16x8x4_t vld4q_u16_t
#define uint32x4x2_t vld2q_u32_t
#define uint32x4x3_t vld3q_u32_t
#define uint32x4x4_t vld4q_u32_t

#endif
