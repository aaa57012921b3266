/* Halves of arm_neon.h in portable C, held as their bits: for tests on other processors. */
#ifndef CINCEL_NEON_TWIN_HALF_H
#define CINCEL_NEON_TWIN_HALF_H

#include "neon_twin.h"
#include "half_numbers.h"

typedef struct { uint16x4_t bits; } float16x4_t;
TWIN float16x4_t vreinterpret_f16_u16(uint16x4_t a) { return (float16x4_t){a}; }
TWIN uint16x4_t vreinterpret_u16_f16(float16x4_t a) { return a.bits; }

/* These are not repeated in kernels, or compilers take long. */
#define TWIN_CALLED static __attribute__((noinline, unused))
TWIN_CALLED float32x4_t vcvt_f32_f16(float16x4_t a)
{
    float32x4_t made;
    for (int i = 0; i < 4; i++)
        made[i] = half_to_float(a.bits[i]);
    return made;
}
TWIN_CALLED float16x4_t vcvt_f16_f32(float32x4_t a)
{
    float16x4_t made;
    for (int i = 0; i < 4; i++)
        made.bits[i] = float_to_half(a[i]);
    return made;
}

#endif
