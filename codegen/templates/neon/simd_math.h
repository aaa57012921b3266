/* Elementary functions of four floats. Errors are in units in the last place (ulp) of the result, over all floats. The
 * polynomials are minimax fits; arguments are reduced as W. J. Cody and W. Waite do, Software Manual for the Elementary
 * Functions, 1980. */
#ifndef CINCEL_SIMD_MATH_H
#define CINCEL_SIMD_MATH_H

#include "numbers.h"
#include "simd.h"

#if !defined(__aarch64__)
#include "neon_twin_doubles.h"
#endif

#define F32(x) vdupq_n_f32(x)
#define F64(x) vdupq_n_f64(x)

/* 2^n for n from -127 (which gives 0) to 128 (infinity). */
INLINE float32x4_t power_of_two_f32x4(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* e^r - 1 for |r| <= log(2) / 2. */
INLINE float32x4_t expm1_core_f32x4(float32x4_t r)
{
    float32x4_t q = vfmaq_f32(F32(8.3688898e-3f), r, F32(1.39504892e-3f));
    q = vfmaq_f32(F32(4.1666206e-2f), q, r);
    q = vfmaq_f32(F32(0.166665182f), q, r);
    q = vfmaq_f32(F32(0.5f), q, r);
    return vfmaq_f32(r, q, vmulq_f32(r, r));
}

/* x = n log(2) + r with the nearest integer n. */
INLINE float32x4_t reduced_f32x4(float32x4_t x, float32x4_t *r)
{
    const float32x4_t n = vrndnq_f32(vmulq_f32(x, F32(1.44269504f)));
    *r = vfmaq_f32(vfmaq_f32(x, n, F32(-0.693359375f)), n, F32(2.12194440e-4f));
    return n;
}

/* e^x; 2 ulp. */
INLINE float32x4_t exp_f32x4(float32x4_t x)
{
    float32x4_t r;
    const float32x4_t n = reduced_f32x4(vminq_f32(vmaxq_f32(x, F32(-104.0f)), F32(89.0f)), &r);
    const int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    const float32x4_t y = vaddq_f32(F32(1.0f), expm1_core_f32x4(r));
    return vmulq_f32(vmulq_f32(y, power_of_two_f32x4(half)), power_of_two_f32x4(vsubq_s32(whole, half)));
}

/* e^x for x <= 0; 2 ulp, 0 where that is below 2^-126. */
INLINE float32x4_t exp_negative_f32x4(float32x4_t x)
{
    float32x4_t r;
    const float32x4_t n = reduced_f32x4(vmaxq_f32(x, F32(-88.0f)), &r);
    return vmulq_f32(vaddq_f32(F32(1.0f), expm1_core_f32x4(r)), power_of_two_f32x4(vcvtq_s32_f32(n)));
}

/* 2^x for x from -127 (which gives 0) to 127; 3 ulp. What is added to round x leaves the bits of a power of two. */
INLINE float32x4_t exp2_core_f32x4(float32x4_t clipped)
{
    const float32x4_t rounder = F32(0x1.8p23f + 127.0f);
    const float32x4_t t = vaddq_f32(clipped, rounder), r = vsubq_f32(clipped, vsubq_f32(t, rounder));
    const float32x4_t square = vmulq_f32(r, r);
    const float32x4_t p0 = vfmaq_f32(F32(1.0f), r, F32(0.693146944f));
    const float32x4_t p2 = vfmaq_f32(F32(0.240221202f), r, F32(5.55071309e-2f));
    const float32x4_t p4 = vfmaq_f32(F32(9.67554096e-3f), r, F32(1.32764713e-3f));
    const float32x4_t p = vfmaq_f32(p0, square, vfmaq_f32(p2, square, p4));
    return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
}

/* 2^x for x <= 0; 3 ulp, 0 where that is below 2^-126. */
INLINE float32x4_t exp2_negative_f32x4(float32x4_t x) { return exp2_core_f32x4(vmaxq_f32(x, F32(-127.0f))); }

/* e^x - 1 for x <= 0; 2 ulp. */
INLINE float32x4_t expm1_negative_f32x4(float32x4_t x)
{
    float32x4_t r;
    const float32x4_t n = reduced_f32x4(vmaxq_f32(x, F32(-18.0f)), &r);
    const float32x4_t scale = power_of_two_f32x4(vcvtq_s32_f32(n));
    return vfmaq_f32(vsubq_f32(scale, F32(1.0f)), expm1_core_f32x4(r), scale);
}

/* The sign of one number with the magnitude of another. */
INLINE float32x4_t with_sign_f32x4(float32x4_t magnitude, float32x4_t sign)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
}

/* 3 ulp. */
INLINE float32x4_t tanh_f32x4(float32x4_t x)
{
    const float32x4_t t = expm1_negative_f32x4(vmulq_f32(vabsq_f32(x), F32(-2.0f)));
    return with_sign_f32x4(vdivq_f32(t, vaddq_f32(t, F32(2.0f))), x);
}

/* 1 / (1 + e^-x); wrong by 2^-23 of 1 at most. */
INLINE float32x4_t sigmoid_f32x4(float32x4_t x)
{
    const float32x4_t power = vmaxq_f32(vminq_f32(vmulq_f32(x, F32(-1.44269504f)), F32(126.0f)), F32(-127.0f));
    return vdivq_f32(F32(1.0f), vaddq_f32(F32(1.0f), exp2_core_f32x4(power)));
}

/* The natural logarithm; 2 ulp. */
INLINE float32x4_t log_f32x4(float32x4_t x)
{
    const float32x4_t infinity = F32(INFINITY), zero = F32(0.0f);
    const uint32x4_t is_tiny = vcltq_f32(x, F32(0x1p-126f)); /* what else is less than that is replaced below */
    const float32x4_t scaled = vbslq_f32(is_tiny, vmulq_f32(x, F32(0x1p23f)), x);
    const int32x4_t bits = vreinterpretq_s32_f32(scaled), root = vdupq_n_s32(0x3f3504f3); /* of 1/2 */
    const int32x4_t exponent = vshrq_n_s32(vsubq_s32(bits, root), 23);
    const float32x4_t f = vsubq_f32(vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(exponent, 23))), F32(1.0f));
    const float32x4_t e = vsubq_f32(vcvtq_f32_s32(exponent), vbslq_f32(is_tiny, F32(23.0f), zero));
    float32x4_t p = vfmaq_f32(F32(-0.116756409f), f, F32(6.7466013e-2f));
    p = vfmaq_f32(F32(0.118881747f), p, f);
    p = vfmaq_f32(F32(-0.124055915f), p, f);
    p = vfmaq_f32(F32(0.142195508f), p, f);
    p = vfmaq_f32(F32(-0.166679963f), p, f);
    p = vfmaq_f32(F32(0.200021192f), p, f);
    p = vfmaq_f32(F32(-0.250000089f), p, f);
    p = vfmaq_f32(F32(0.333333135f), p, f);
    const float32x4_t square = vmulq_f32(f, f);
    p = vmulq_f32(vmulq_f32(p, f), square);
    p = vfmaq_f32(p, e, F32(-2.12194440e-4f));
    p = vfmaq_f32(p, square, F32(-0.5f));
    const float32x4_t y = vfmaq_f32(vaddq_f32(f, p), e, F32(0.693359375f));
    const float32x4_t beyond = vbslq_f32(vceqq_f32(x, zero), vnegq_f32(infinity), F32(NAN));
    const float32x4_t special = vbslq_f32(vceqq_f32(x, infinity), infinity, beyond);
    return vbslq_f32(vandq_u32(vcgtq_f32(x, zero), vcltq_f32(x, infinity)), y, special);
}

/* log(1 + x); 3 ulp. What 1 + x loses is made good to first order. */
INLINE float32x4_t log1p_f32x4(float32x4_t x)
{
    const float32x4_t one = F32(1.0f), u = vaddq_f32(one, x), y = log_f32x4(u);
    const float32x4_t lost = vdivq_f32(vsubq_f32(x, vsubq_f32(u, one)), u);
    const uint32x4_t is_plain = vandq_u32(vcgtq_f32(u, F32(0.0f)), vcltq_f32(u, F32(INFINITY)));
    return vbslq_f32(is_plain, vaddq_f32(y, lost), y);
}

/* The error function; 5 ulp. A quotient of polynomials of x^2 up to 3.925, from where on it is 1. */
INLINE float32x4_t erf_f32x4(float32x4_t x)
{
    const float32x4_t one = F32(1.0f), a = vabsq_f32(x), square = vmulq_f32(x, x);
    float32x4_t p = vfmaq_f32(F32(2.84837239e-4f), square, F32(2.04598791e-6f));
    p = vfmaq_f32(F32(3.77245247e-3f), p, square);
    p = vfmaq_f32(F32(5.27689904e-2f), p, square);
    p = vfmaq_f32(F32(0.190592036f), p, square);
    p = vfmaq_f32(F32(1.12837911f), p, square);
    float32x4_t q = vfmaq_f32(F32(1.16382632e-3f), square, F32(3.80470337e-5f));
    q = vfmaq_f32(F32(1.4983009e-2f), q, square);
    q = vfmaq_f32(F32(0.114181936f), q, square);
    q = vfmaq_f32(F32(0.502240539f), q, square);
    q = vfmaq_f32(one, q, square);
    const float32x4_t y = vminq_f32(vdivq_f32(vmulq_f32(a, p), q), one);
    return with_sign_f32x4(vbslq_f32(vcgeq_f32(a, F32(3.925f)), one, y), x);
}

/* A function of each lane. */
INLINE float32x4_t each_f32x4(float (*function)(float), float32x4_t x)
{
    float lanes[4];
    vst1q_f32(lanes, x);
    for (int i = 0; i < 4; i++)
        lanes[i] = function(lanes[i]);
    return vld1q_f32(lanes);
}

INLINE float32x4_t each_pair_f32x4(float (*function)(float, float), float32x4_t x, float32x4_t y)
{
    float a[4], b[4];
    vst1q_f32(a, x);
    vst1q_f32(b, y);
    for (int i = 0; i < 4; i++)
        a[i] = function(a[i], b[i]);
    return vld1q_f32(a);
}

/* (m 2^e)^y for m near 1, as 2^(y (e + log2(m))). */
INLINE float64x2_t pow_core_f64x2(float64x2_t m, float64x2_t e, float64x2_t y)
{
    const float64x2_t one = F64(1.0), s = vdivq_f64(vsubq_f64(m, one), vaddq_f64(m, one)), square = vmulq_f64(s, s);
    float64x2_t p = vfmaq_f64(F64(1.0 / 13), square, F64(1.0 / 15)); /* atanh(s) / s */
    p = vfmaq_f64(F64(1.0 / 11), p, square);
    p = vfmaq_f64(F64(1.0 / 9), p, square);
    p = vfmaq_f64(F64(1.0 / 7), p, square);
    p = vfmaq_f64(F64(1.0 / 5), p, square);
    p = vfmaq_f64(F64(1.0 / 3), p, square);
    p = vfmaq_f64(one, p, square);
    float64x2_t t = vmulq_f64(y, vfmaq_f64(e, p, vmulq_f64(s, F64(2.8853900817779268))));
    t = vminq_f64(vmaxq_f64(t, F64(-200.0)), F64(200.0));
    const float64x2_t n = vrndnq_f64(t), r = vmulq_f64(vsubq_f64(t, n), F64(0.69314718055994531));
    float64x2_t q = vfmaq_f64(F64(1.0 / 5040), r, F64(1.0 / 40320)); /* e^r */
    q = vfmaq_f64(F64(1.0 / 720), q, r);
    q = vfmaq_f64(F64(1.0 / 120), q, r);
    q = vfmaq_f64(F64(1.0 / 24), q, r);
    q = vfmaq_f64(F64(1.0 / 6), q, r);
    q = vfmaq_f64(F64(0.5), q, r);
    q = vfmaq_f64(one, q, r);
    q = vfmaq_f64(one, q, r);
    const int64x2_t bits = vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(n), vdupq_n_s64(1023)), 52);
    return vmulq_f64(q, vreinterpretq_f64_s64(bits));
}

/* x^y; 1 ulp. In twice the precision where x is positive and both are plain numbers; else a lane at a time. */
INLINE float32x4_t pow_f32x4(float32x4_t x, float32x4_t y)
{
    const float infinity = INFINITY;
    if (!(vminvq_f32(x) >= 0x1p-126f && vmaxvq_f32(x) < infinity && vmaxvq_f32(vabsq_f32(y)) < infinity))
        return each_pair_f32x4(powf, x, y);
    const int32x4_t bits = vreinterpretq_s32_f32(x);
    const int32x4_t exponent = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
    const float32x4_t m = vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(exponent, 23)));
    const float32x4_t e = vcvtq_f32_s32(exponent);
    const float64x2_t low = pow_core_f64x2(
        vcvt_f64_f32(vget_low_f32(m)), vcvt_f64_f32(vget_low_f32(e)), vcvt_f64_f32(vget_low_f32(y)));
    const float64x2_t high = pow_core_f64x2(vcvt_high_f64_f32(m), vcvt_high_f64_f32(e), vcvt_high_f64_f32(y));
    return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
}

/* The sine of x + quarters * pi / 2 for |x| <= 20000. */
INLINE float32x4_t quarter_sin_f32x4(float32x4_t x, int quarters)
{
    const float32x4_t n = vrndnq_f32(vmulq_f32(x, F32(0.636619772f)));
    float32x4_t r = vfmaq_f32(x, n, F32(-0x1.92p+0f)); /* pi / 2 in parts of which n times as many are exact */
    r = vfmaq_f32(r, n, F32(-0x1.fbp-12f));
    r = vfmaq_f32(r, n, F32(-0x1.51p-22f));
    r = vfmaq_f32(r, n, F32(-0x1.0b4612p-34f));
    const int32x4_t quarter = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(quarters));
    const float32x4_t square = vmulq_f32(r, r);
    float32x4_t s = vfmaq_f32(F32(8.33217800e-3f), square, F32(-1.95172339e-4f));
    s = vfmaq_f32(F32(-0.166666552f), s, square);
    s = vfmaq_f32(r, vmulq_f32(s, square), r);
    float32x4_t c = vfmaq_f32(F32(-1.38873665e-3f), square, F32(2.44383774e-5f));
    c = vfmaq_f32(F32(4.16666456e-2f), c, square);
    c = vfmaq_f32(F32(-0.5f), c, square);
    c = vfmaq_f32(F32(1.0f), c, square);
    const uint32x4_t is_odd = vtstq_s32(quarter, vdupq_n_s32(1));
    const int32x4_t sign = vshlq_n_s32(vandq_s32(quarter, vdupq_n_s32(2)), 30);
    return vreinterpretq_f32_s32(veorq_s32(vreinterpretq_s32_f32(vbslq_f32(is_odd, c, s)), sign));
}

/* 2 ulp. */
INLINE float32x4_t sin_f32x4(float32x4_t x)
{
    if (vmaxvq_f32(vabsq_f32(x)) <= 20000.0f)
        return quarter_sin_f32x4(x, 0);
    return each_f32x4(sinf, x);
}

/* 2 ulp. */
INLINE float32x4_t cos_f32x4(float32x4_t x)
{
    if (vmaxvq_f32(vabsq_f32(x)) <= 20000.0f)
        return quarter_sin_f32x4(x, 1);
    return each_f32x4(cosf, x);
}

/* 1, -1, or what else is neither greater nor less than 0. */
INLINE float32x4_t sign_f32x4(float32x4_t x)
{
    const float32x4_t zero = F32(0.0f), below = vbslq_f32(vcltq_f32(x, zero), F32(-1.0f), x);
    return vbslq_f32(vcgtq_f32(x, zero), F32(1.0f), below);
}

INLINE float floored_rest_f32(float a, float b) { return (float)floored_rest_real(a, b); }

/* Booleans of a byte each as masks, and back. */
INLINE uint32x4_t mask_of_bool(bool8_t x) { return vdupq_n_u32(x ? UINT32_MAX : 0); }

INLINE uint32x4_t load_mask(const bool8_t *p, size_t count)
{
    uint32_t all[4] = {0};
    for (size_t i = 0; i < count; i++)
        all[i] = p[i] ? UINT32_MAX : 0;
    return vld1q_u32(all);
}

INLINE void store_mask(bool8_t *p, uint32x4_t v, size_t count)
{
    uint32_t all[4];
    vst1q_u32(all, v);
    for (size_t i = 0; i < count; i++)
        p[i] = all[i] & 1;
}

/* What lanes hold together. */
INLINE float sum_f32x4(float32x4_t v) { return vaddvq_f32(v); }
INLINE float max_f32x4(float32x4_t v) { return vmaxvq_f32(v); }
INLINE float min_f32x4(float32x4_t v) { return vminvq_f32(v); }
INLINE float product_f32x4(float32x4_t v)
{
    float all[4];
    vst1q_f32(all, v);
    return all[0] * all[1] * (all[2] * all[3]);
}

#undef F32
#undef F64
#endif
