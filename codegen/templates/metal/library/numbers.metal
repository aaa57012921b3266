// floats of 8 bits: so many for the exponent, so many for the mantissa; fn: no infinities; uz: no -0, whose bits are
// NaN
typedef uchar f8e4m3fn_t;
typedef uchar f8e4m3fnuz_t;
typedef uchar f8e5m2_t;
typedef uchar f8e5m2fnuz_t;

// powers of two
typedef uchar f8e8m0_t;

// in the lower half of a byte
typedef uchar f4e2m1_t;

// in the lower bits of a byte; the others are not read
typedef char int4_t;
typedef char int2_t;
typedef uchar uint4_t;
typedef uchar uint2_t;

// The value of exponent and mantissa bits.
inline float small_to_float(uint bits, int mantissa, int bias)
{
    const uint unit = 1u << mantissa;
    const int exponent = int(bits >> mantissa);
    const uint units = (bits & (unit - 1)) + (exponent != 0 ? unit : 0);
    return ldexp(float(units), (exponent != 0 ? exponent : 1) - bias - mantissa);
}

// Exponent and mantissa bits of the nearest value (of two, the even one) to a finite x >= 0, with no end above.
inline uint float_to_small(float x, int mantissa, int bias)
{
    if (x == 0.0f)
        return 0;
    int exponent;
    frexp(x, exponent);
    exponent = max(exponent - 1, 1 - bias);
    return uint(rint(ldexp(x, mantissa - exponent))) + (uint(exponent + bias - 1) << mantissa);
}

// `top` is the largest value, `beyond` what is above it.
inline uchar float_to_f8(float x, int mantissa, int bias, uint top, uint beyond)
{
    const uint sign = signbit(x) ? 0x80 : 0;
    const uint code = isinf(x) ? 0x100 : float_to_small(fabs(x), mantissa, bias);
    return uchar(sign | (code > top ? beyond : code));
}

// Formats without -0.
inline uchar float_to_f8uz(float x, int mantissa, int bias, int saturates)
{
    if (x != x)
        return 0x80;
    const uint sign = signbit(x) ? 0x80 : 0;
    const uint code = isinf(x) ? 0x100 : float_to_small(fabs(x), mantissa, bias);
    if (code > 0x7f)
        return saturates != 0 ? uchar(sign | 0x7f) : 0x80;
    return code != 0 ? uchar(sign | code) : 0;
}

inline float signed_float(float magnitude, uint is_negative) { return is_negative != 0 ? -magnitude : magnitude; }

inline float f8e4m3fn_to_float(f8e4m3fn_t x)
{
    return (x & 0x7f) == 0x7f ? NAN : signed_float(small_to_float(x & 0x7f, 3, 7), x & 0x80);
}

inline f8e4m3fn_t float_to_f8e4m3fn(float x, int saturates)
{
    if (x != x)
        return signbit(x) ? 0xff : 0x7f;
    return float_to_f8(x, 3, 7, 0x7e, saturates != 0 ? 0x7e : 0x7f);
}

inline float f8e5m2_to_float(f8e5m2_t x)
{
    if ((x & 0x7f) >= 0x7c)
        return (x & 3) != 0 ? NAN : signed_float(INFINITY, x & 0x80);
    return signed_float(small_to_float(x & 0x7f, 2, 15), x & 0x80);
}

inline f8e5m2_t float_to_f8e5m2(float x, int saturates)
{
    if (x != x)
        return signbit(x) ? 0xfe : 0x7e;
    return float_to_f8(x, 2, 15, 0x7b, saturates != 0 ? 0x7b : 0x7c);
}

inline float f8e4m3fnuz_to_float(f8e4m3fnuz_t x)
{
    return x == 0x80 ? NAN : signed_float(small_to_float(x & 0x7f, 3, 8), x & 0x80);
}

inline f8e4m3fnuz_t float_to_f8e4m3fnuz(float x, int saturates) { return float_to_f8uz(x, 3, 8, saturates); }

inline float f8e5m2fnuz_to_float(f8e5m2fnuz_t x)
{
    return x == 0x80 ? NAN : signed_float(small_to_float(x & 0x7f, 2, 16), x & 0x80);
}

inline f8e5m2fnuz_t float_to_f8e5m2fnuz(float x, int saturates) { return float_to_f8uz(x, 2, 16, saturates); }

// The smallest ones are 2^-127, below which the exponents of other floats end.
inline float f8e8m0_to_float(f8e8m0_t x)
{
    return x == 0xff ? NAN : as_type<float>(x == 0 ? 0x400000u : uint(x) << 23);
}

// To a power of two: the next one from `above` (of a mantissa from 0.5 to 1) on; `or_at` that itself too.
inline f8e8m0_t float_to_f8e8m0(float x, int saturates, float above, int or_at)
{
    if (x != x || isinf(x))
        return 0xff;
    if (x == 0.0f)
        return saturates != 0 ? 0 : 0xff;
    int exponent;
    const float mantissa = frexp(fabs(x), exponent);
    const int code = exponent + 126 + int(mantissa > above || (or_at != 0 && mantissa == above));
    if (code >= 0 && code <= 254)
        return uchar(code);
    return saturates == 0 ? 255 : code < 0 ? 0 : 254;
}

inline float f4e2m1_to_float(f4e2m1_t x) { return signed_float(small_to_float(x & 7, 1, 1), x & 8); }

inline f4e2m1_t float_to_f4e2m1(float x)
{
    if (x != x)
        return 8;
    const uint code = isinf(x) ? 7 : float_to_small(fabs(x), 1, 1);
    return uchar((signbit(x) ? 8 : 0) | min(code, 7u));
}

inline int int4_to_int(int4_t x) { return int(uint(x) << 28) >> 28; }

inline int int2_to_int(int2_t x) { return int(uint(x) << 30) >> 30; }

inline int uint4_to_int(uint4_t x) { return x & 15; }

inline int uint2_to_int(uint2_t x) { return x & 3; }

inline int4_t int_to_int4(long x) { return char(int(uint(x) << 28) >> 28); }

inline int2_t int_to_int2(long x) { return char(int(uint(x) << 30) >> 30); }

inline uint4_t int_to_uint4(long x) { return uchar(x & 15); }

inline uint2_t int_to_uint2(long x) { return uchar(x & 3); }

// Towards zero; the smallest number for what does not fit, and for NaN.
inline int real_to_int32(float x)
{
    return x >= -2147483648.0f && x < 2147483648.0f ? int(x) : numeric_limits<int>::lowest();
}

inline long real_to_int64(float x)
{
    return x >= -9223372036854775808.0f && x < 9223372036854775808.0f ? long(x) : numeric_limits<long>::lowest();
}

inline ulong real_to_uint64(float x)
{
    return x >= 9223372036854775808.0f && x < 18446744073709551616.0f ? ulong(x) : ulong(real_to_int64(x));
}

// Quotients cut towards zero, 0 where the divisor is; the one that does not fit wraps around.
inline int quotient_int32(int a, int b) { return b == 0 ? 0 : b == -1 ? int(0u - uint(a)) : a / b; }

inline long quotient_int64(long a, long b) { return b == 0 ? 0 : b == -1 ? long(ulong(0) - ulong(a)) : a / b; }

inline uint quotient_uint32(uint a, uint b) { return b == 0 ? 0 : a / b; }

inline ulong quotient_uint64(ulong a, ulong b) { return b == 0 ? 0 : a / b; }

// What division leaves, with the sign of a (cut) or of b (floored); 0 where b is.
inline long cut_rest_int64(long a, long b) { return b == 0 || b == -1 ? 0 : a % b; }

inline ulong cut_rest_uint64(ulong a, ulong b) { return b == 0 ? 0 : a % b; }

inline long floored_rest_int64(long a, long b)
{
    const long rest = cut_rest_int64(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

// a to the power b, modulo 2^64.
inline ulong power_uint64(ulong a, ulong b)
{
    ulong made = 1;
    for (; b != 0; b >>= 1, a *= a)
        if ((b & 1) != 0)
            made *= a;
    return made;
}

// The same; of a negative power what is left of the real number, and the smallest number for those of 0.
inline long power_int64(long a, long b)
{
    if (b >= 0)
        return long(power_uint64(ulong(a), ulong(b)));
    if (a == 0)
        return numeric_limits<long>::lowest();
    return a == 1 ? 1 : a != -1 ? 0 : (b & 1) != 0 ? -1 : 1;
}
