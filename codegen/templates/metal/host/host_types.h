// Scalars of the Metal Shading Language in C++17: address spaces, half and bfloat, traits that the other headers use.
#pragma once
#pragma GCC system_header
#include <stddef.h>
#include <stdint.h>

#define HOST_PLAIN __attribute__((no_sanitize("thread")))

namespace metal {

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

inline uint32_t host_bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}

inline float host_float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

#ifdef __F16C__
typedef float host_floats __attribute__((vector_size(16)));
typedef short host_shorts __attribute__((vector_size(16)));

inline float host_widen(uint16_t bits) {
    const host_shorts from = {short(bits), 0, 0, 0, 0, 0, 0, 0};
    return __builtin_ia32_vcvtph2ps(from)[0];
}

inline uint16_t host_narrow(float x) {
    const host_floats from = {x, 0, 0, 0};
    return uint16_t(__builtin_ia32_vcvtps2ph(from, 0)[0]);
}
#else
inline float host_widen(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) return host_float(sign | 0x7f800000u | ((rest & 0x3ff) << 13) | (rest > 0x7c00 ? 0x400000u : 0));
    if (rest < 0x400) {  // the multiple of 2^-24 is exact
        const float small = float(rest) * 0x1p-24f;
        return sign ? -small : small;
    }
    return host_float(sign | ((rest << 13) + 0x38000000u));
}

inline uint16_t host_narrow(float x) {
    const uint32_t bits = host_bits(x), rest = bits & 0x7fffffff;
    const uint16_t sign = uint16_t((bits >> 16) & 0x8000);
    if (rest > 0x7f800000u) return uint16_t(sign | 0x7e00 | ((rest >> 13) & 0x3ff));
    if (rest >= 0x477ff000u) return uint16_t(sign | 0x7c00);
    if (rest < 0x38800000u) {  // adding 0.5 leaves the multiple of 2^-24, rounded to even, in the last bits
        return uint16_t(sign | (host_bits(host_float(rest) + 0.5f) - 0x3f000000u));
    }
    return uint16_t(sign | ((rest - 0x38000000u + 0xfff + ((rest >> 13) & 1)) >> 13));
}
#endif

inline float host_widen_brain(uint16_t bits) { return host_float(uint32_t(bits) << 16); }

inline uint16_t host_narrow_brain(float x) {
    const uint32_t bits = host_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000u) return uint16_t((bits >> 16) | 0x40);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The same real number or, where float has none, a neighbour with an odd last bit: rounding it once more is exact.
inline float host_to_odd(double x) {
    const float near = float(x);
    if (double(near) == x || x != x) return near;
    const uint32_t bits = host_bits(near);
    const bool is_larger = (double(near) < 0 ? -double(near) : double(near)) > (x < 0 ? -x : x);
    return host_float((is_larger ? bits - 1 : bits) | 1);
}

template <bool C, class T = void> struct host_if {};
template <class T> struct host_if<true, T> { typedef T type; };
template <bool C, class T = void> using host_if_t = typename host_if<C, T>::type;
template <class A, class B> struct host_same { static constexpr bool value = false; };
template <class A> struct host_same<A, A> { static constexpr bool value = true; };

template <class T> struct host_integer { static constexpr bool value = false, is_signed = false; };
#define HOST_INTEGER(T, S) \
    template <> struct host_integer<T> { static constexpr bool value = true, is_signed = S; };
HOST_INTEGER(bool, false)
HOST_INTEGER(char, true)
HOST_INTEGER(signed char, true)
HOST_INTEGER(uchar, false)
HOST_INTEGER(short, true)
HOST_INTEGER(ushort, false)
HOST_INTEGER(int, true)
HOST_INTEGER(uint, false)
HOST_INTEGER(long, true)
HOST_INTEGER(ulong, false)
#undef HOST_INTEGER

// A type of the processor that takes part in arithmetic with a 16-bit float, and what that gives.
template <class H, class T> struct host_mixed {};
template <class H> struct host_mixed<H, float> { typedef float type; };
#define HOST_MIXED(T) \
    template <class H> struct host_mixed<H, T> { typedef H type; };
HOST_MIXED(bool)
HOST_MIXED(char)
HOST_MIXED(signed char)
HOST_MIXED(uchar)
HOST_MIXED(short)
HOST_MIXED(ushort)
HOST_MIXED(int)
HOST_MIXED(uint)
HOST_MIXED(long)
HOST_MIXED(ulong)
#undef HOST_MIXED

// A float of 16 bits. Every operation computes in 32 bits and rounds once, which is exact for + - * / and sqrt.
// What a half is made of may be told IMPLICITly; a bfloat is only where the text says so.
#define HOST_FLOAT16(H, WIDEN, NARROW, IMPLICIT)                                                               \
    struct H {                                                                                                 \
        uint16_t bits;                                                                                         \
        H() = default;                                                                                         \
        IMPLICIT H(float x) : bits(NARROW(x)) {}                                                               \
        IMPLICIT H(double x) : bits(NARROW(host_to_odd(x))) {}                                                 \
        template <class T, class = host_if_t<host_integer<T>::value>> IMPLICIT H(T x) : bits(NARROW(host_to_odd(double(x)))) {} \
        operator float() const { return WIDEN(bits); }                                                         \
        H operator-() const { H r; r.bits = bits ^ 0x8000; return r; }                                         \
        H operator+() const { return *this; }                                                                  \
        H &operator++() { return *this = H(float(*this) + 1.0f); }                                             \
        H &operator--() { return *this = H(float(*this) - 1.0f); }                                             \
        template <class T> H &operator+=(T x) { return *this = H(*this + x); }                                 \
        template <class T> H &operator-=(T x) { return *this = H(*this - x); }                                 \
        template <class T> H &operator*=(T x) { return *this = H(*this * x); }                                 \
        template <class T> H &operator/=(T x) { return *this = H(*this / x); }                                 \
    };                                                                                                         \
    HOST_ARITHMETIC(H, +)                                                                                      \
    HOST_ARITHMETIC(H, -)                                                                                      \
    HOST_ARITHMETIC(H, *)                                                                                      \
    HOST_ARITHMETIC(H, /)                                                                                      \
    HOST_COMPARISON(H, ==)                                                                                     \
    HOST_COMPARISON(H, !=)                                                                                     \
    HOST_COMPARISON(H, <)                                                                                      \
    HOST_COMPARISON(H, <=)                                                                                     \
    HOST_COMPARISON(H, >)                                                                                      \
    HOST_COMPARISON(H, >=)

#define HOST_ARITHMETIC(H, OP)                                                                                 \
    inline H operator OP(H a, H b) { return H(float(a) OP float(b)); }                                         \
    template <class T, class R = typename host_mixed<H, T>::type> R operator OP(H a, T b) { return R(float(a) OP float(R(b))); } \
    template <class T, class R = typename host_mixed<H, T>::type> R operator OP(T a, H b) { return R(float(R(a)) OP float(b)); }

#define HOST_COMPARISON(H, OP)                                                                                 \
    inline bool operator OP(H a, H b) { return float(a) OP float(b); }                                         \
    template <class T, class R = typename host_mixed<H, T>::type> bool operator OP(H a, T b) { return float(a) OP float(R(b)); } \
    template <class T, class R = typename host_mixed<H, T>::type> bool operator OP(T a, H b) { return float(R(a)) OP float(b); }

HOST_FLOAT16(half, host_widen, host_narrow, )
HOST_FLOAT16(bfloat, host_widen_brain, host_narrow_brain, explicit)
#undef HOST_FLOAT16
#undef HOST_ARITHMETIC
#undef HOST_COMPARISON

inline half operator""h(long double x) { return half(double(x)); }
inline half operator""H(long double x) { return half(double(x)); }
inline bfloat operator""bf(long double x) { return bfloat(double(x)); }

template <class T> struct host_floating { static constexpr bool value = false; };
template <> struct host_floating<float> { static constexpr bool value = true; };
template <> struct host_floating<half> { static constexpr bool value = true; };
template <> struct host_floating<bfloat> { static constexpr bool value = true; };

template <class To, class From> inline To as_type(From x) {
    static_assert(sizeof(To) == sizeof(From), "as_type keeps the number of bits");
    To to;
    __builtin_memcpy(static_cast<void *>(&to), &x, sizeof(To));
    return to;
}

}  // namespace metal
