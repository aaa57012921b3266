/* The part of the twin that computes with doubles. */
#ifndef CINCEL_NEON_TWIN_DOUBLES_H
#define CINCEL_NEON_TWIN_DOUBLES_H

#include "neon_twin.h"

typedef double float64x2_t __attribute__((vector_size(16)));
typedef int64_t int64x2_t __attribute__((vector_size(16)));
typedef uint64_t uint64x2_t __attribute__((vector_size(16)));
typedef float float32x2_t __attribute__((vector_size(8)));
TWIN float32x2_t vget_low_f32(float32x4_t a) { return (float32x2_t){a[0], a[1]}; }
TWIN float64x2_t vdupq_n_f64(double x) { return (float64x2_t){x, x}; }
TWIN float64x2_t vaddq_f64(float64x2_t a, float64x2_t b) { return a + b; }
TWIN float64x2_t vsubq_f64(float64x2_t a, float64x2_t b) { return a - b; }
TWIN float64x2_t vmulq_f64(float64x2_t a, float64x2_t b) { return a * b; }
TWIN float64x2_t vdivq_f64(float64x2_t a, float64x2_t b) { return a / b; }
TWIN float64x2_t vfmaq_f64(float64x2_t a, float64x2_t b, float64x2_t c) { return a + b * c; }
TWIN float64x2_t vmaxq_f64(float64x2_t a, float64x2_t b) { return (float64x2_t){fmax(a[0], b[0]), fmax(a[1], b[1])}; }
TWIN float64x2_t vminq_f64(float64x2_t a, float64x2_t b) { return (float64x2_t){fmin(a[0], b[0]), fmin(a[1], b[1])}; }
TWIN float64x2_t vrndnq_f64(float64x2_t a) { return (float64x2_t){rint(a[0]), rint(a[1])}; }
TWIN int64x2_t vcvtq_s64_f64(float64x2_t a) { return (int64x2_t){(int64_t)a[0], (int64_t)a[1]}; }
TWIN int64x2_t vdupq_n_s64(int64_t x) { return (int64x2_t){x, x}; }
TWIN int64x2_t vaddq_s64(int64x2_t a, int64x2_t b) { return a + b; }
#define vshlq_n_s64(a, n) ((int64x2_t)((uint64x2_t)(a) << (n)))
#define vreinterpretq_f64_s64(a) ((float64x2_t)(a))
TWIN float64x2_t vcvt_f64_f32(float32x2_t a) { return (float64x2_t){a[0], a[1]}; }
TWIN float64x2_t vcvt_high_f64_f32(float32x4_t a) { return (float64x2_t){a[2], a[3]}; }
TWIN float32x2_t vcvt_f32_f64(float64x2_t a) { return (float32x2_t){(float)a[0], (float)a[1]}; }
TWIN float32x4_t vcvt_high_f32_f64(float32x2_t a, float64x2_t b)
{
    return (float32x4_t){a[0], a[1], (float)b[0], (float)b[1]};
}

#endif
