/* The part of the twin that rows and columns change places with. */
#ifndef CINCEL_NEON_TWIN_TRANSPOSES_H
#define CINCEL_NEON_TWIN_TRANSPOSES_H

#include "neon_twin.h"

typedef uint32_t uint32x2_t __attribute__((vector_size(8)));
typedef uint64_t uint64x2_t __attribute__((vector_size(16)));

#define TWIN_TRN(type, lanes, first, second)              \
    TWIN type first(type a, type b)                       \
    {                                                     \
        for (int i = 0; i < lanes; i += 2)                \
            a[i + 1] = b[i];                              \
        return a;                                         \
    }                                                     \
    TWIN type second(type a, type b)                      \
    {                                                     \
        for (int i = 0; i < lanes; i += 2)                \
            b[i] = a[i + 1];                              \
        return b;                                         \
    }
TWIN_TRN(uint8x8_t, 8, vtrn1_u8, vtrn2_u8)
TWIN_TRN(uint16x4_t, 4, vtrn1_u16, vtrn2_u16)
TWIN_TRN(uint16x8_t, 8, vtrn1q_u16, vtrn2q_u16)
TWIN_TRN(uint32x2_t, 2, vtrn1_u32, vtrn2_u32)
TWIN_TRN(uint32x4_t, 4, vtrn1q_u32, vtrn2q_u32)
TWIN_TRN(uint64x2_t, 2, vtrn1q_u64, vtrn2q_u64)
#define vreinterpret_u16_u8(a) ((uint16x4_t)(a))
#define vreinterpret_u32_u16(a) ((uint32x2_t)(a))
#define vreinterpret_u8_u32(a) ((uint8x8_t)(a))
#define vreinterpretq_u16_u64(a) ((uint16x8_t)(a))
#define vreinterpretq_u32_u16(a) ((uint32x4_t)(a))
#define vreinterpretq_u32_u64(a) ((uint32x4_t)(a))
#define vreinterpretq_u64_u32(a) ((uint64x2_t)(a))

#endif
