// Functions of numbers and vectors. 16-bit floats are computed in 32 bits and rounded once.
#pragma once
#pragma GCC system_header
#include "host_vector.h"

#define FLT_MAX 0x1.fffffep127f
#define FLT_MIN 0x1p-126f
#define FLT_EPSILON 0x1p-23f
#define MAXFLOAT FLT_MAX
#define HALF_MAX metal::half(65504.0f)
#define HALF_MIN metal::half(0x1p-14f)
#define HALF_EPSILON metal::half(0x1p-10f)
#define MAXHALF HALF_MAX
#define HUGE_VALF __builtin_huge_valf()
#define HUGE_VALH metal::half(__builtin_huge_valf())
#define INFINITY __builtin_huge_valf()
#define NAN __builtin_nanf("")
#define INT_MAX 0x7fffffff
#define INT_MIN (-0x7fffffff - 1)
#define UINT_MAX 0xffffffffu
#define LONG_MAX 0x7fffffffffffffffl
#define LONG_MIN (-0x7fffffffffffffffl - 1)
#define ULONG_MAX 0xfffffffffffffffful
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define SCHAR_MAX 127
#define SCHAR_MIN (-128)
#define CHAR_MAX 127
#define CHAR_MIN (-128)
#define UCHAR_MAX 255
#define CHAR_BIT 8
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_E_H metal::half(M_E_F)
#define M_PI_H metal::half(M_PI_F)
#define M_LN2_H metal::half(M_LN2_F)
#define M_LOG2E_H metal::half(M_LOG2E_F)
#define M_SQRT2_H metal::half(M_SQRT2_F)
#define M_SQRT1_2_H metal::half(M_SQRT1_2_F)

namespace metal {

template <class T> struct numeric_limits {
    static constexpr int digits = int(sizeof(T)) * 8 - (host_integer<T>::is_signed ? 1 : 0);
    static constexpr T max() { return host_integer<T>::is_signed ? T(~(ulong(1) << (sizeof(T) * 8 - 1)) & (~ulong(0) >> (64 - sizeof(T) * 8))) : T(~T(0)); }
    static constexpr T min() { return host_integer<T>::is_signed ? T(-max() - 1) : T(0); }
    static constexpr T lowest() { return min(); }
};
template <> struct numeric_limits<float> {
    static constexpr float max() { return FLT_MAX; }
    static constexpr float min() { return FLT_MIN; }
    static constexpr float lowest() { return -FLT_MAX; }
    static constexpr float epsilon() { return FLT_EPSILON; }
    static constexpr float infinity() { return INFINITY; }
    static constexpr float quiet_NaN() { return NAN; }
};
template <> struct numeric_limits<half> {
    static half max() { return as_type<half>(ushort(0x7bff)); }
    static half min() { return as_type<half>(ushort(0x0400)); }
    static half lowest() { return as_type<half>(ushort(0xfbff)); }
    static half epsilon() { return as_type<half>(ushort(0x1400)); }
    static half infinity() { return as_type<half>(ushort(0x7c00)); }
    static half quiet_NaN() { return as_type<half>(ushort(0x7e00)); }
};
template <> struct numeric_limits<bfloat> {
    static bfloat max() { return as_type<bfloat>(ushort(0x7f7f)); }
    static bfloat min() { return as_type<bfloat>(ushort(0x0080)); }
    static bfloat lowest() { return as_type<bfloat>(ushort(0xff7f)); }
    static bfloat epsilon() { return as_type<bfloat>(ushort(0x3c00)); }
    static bfloat infinity() { return as_type<bfloat>(ushort(0x7f80)); }
    static bfloat quiet_NaN() { return as_type<bfloat>(ushort(0x7fc0)); }
};

template <class T> struct make_unsigned { typedef T type; };
template <> struct make_unsigned<char> { typedef uchar type; };
template <> struct make_unsigned<short> { typedef ushort type; };
template <> struct make_unsigned<int> { typedef uint type; };
template <> struct make_unsigned<long> { typedef ulong type; };

// Functions of floats have no form for bfloat.
template <class A, class R>
using host_if_floats = host_if_t<host_floating<host_element<A>>::value && !host_same<host_element<A>, bfloat>::value, R>;
template <class A, class R> using host_if_integers = host_if_t<host_integer<host_element<A>>::value, R>;
template <class A, class R> using host_if_vector = host_if_t<host_shape<A>::count != 0, R>;
template <class A, class B, class R> using host_if_alike = host_if_t<host_same<host_plain<A>, host_plain<B>>::value, R>;

// f of every element, as a scalar function for scalars.
template <class R, class F, class V, class... W> inline R host_each(F f, const V &v, const W &...w) {
    if constexpr (host_shape<V>::count == 0) {
        return R(f(v, w...));
    } else {
        R r;
        for (int i = 0; i < host_shape<V>::count; i++) r.of[i] = host_element<R>(f(v.of[i], w.of[i]...));
        return r;
    }
}

// Of two numbers the lesser or greater; of a number and a NaN, signalling or not, the number.
inline float host_least(float x, float y) { return x != x || y < x ? y : x; }
inline float host_most(float x, float y) { return x != x || x < y ? y : x; }
inline float host_smooth(float t) { return t * t * (3.0f - 2.0f * t); }

#define HOST_FLOAT1(NAME, VALUE)                                                                   \
    template <class A> inline host_if_floats<A, host_plain<A>> NAME(const A &a) {                  \
        typedef host_plain<A> V;                                                                   \
        return host_each<V>([](float x) { return VALUE; }, V(a));                                  \
    }
#define HOST_FLOAT2(NAME, VALUE)                                                                   \
    template <class A, class B> inline host_if_floats<A, host_if_alike<A, B, host_plain<A>>> NAME(const A &a, const B &b) { \
        typedef host_plain<A> V;                                                                   \
        return host_each<V>([](float x, float y) { return VALUE; }, V(a), V(b));                   \
    }
#define HOST_FLOAT3(NAME, VALUE)                                                                   \
    template <class A, class B, class C>                                                           \
    inline host_if_floats<A, host_if_alike<A, B, host_if_alike<A, C, host_plain<A>>>> NAME(const A &a, const B &b, const C &c) { \
        typedef host_plain<A> V;                                                                   \
        return host_each<V>([](float x, float y, float z) { return VALUE; }, V(a), V(b), V(c));    \
    }
#define HOST_BUILTIN1(NAME) HOST_FLOAT1(NAME, __builtin_##NAME##f(x))
#define HOST_BUILTIN2(NAME) HOST_FLOAT2(NAME, __builtin_##NAME##f(x, y))

HOST_BUILTIN1(exp)
HOST_BUILTIN1(exp2)
HOST_FLOAT1(exp10, float(__builtin_pow(10.0, double(x))))
HOST_BUILTIN1(log)
HOST_BUILTIN1(log2)
HOST_BUILTIN1(log10)
HOST_BUILTIN1(sin)
HOST_BUILTIN1(cos)
HOST_BUILTIN1(tan)
HOST_BUILTIN1(asin)
HOST_BUILTIN1(acos)
HOST_BUILTIN1(atan)
HOST_BUILTIN1(sinh)
HOST_BUILTIN1(cosh)
HOST_BUILTIN1(tanh)
HOST_BUILTIN1(asinh)
HOST_BUILTIN1(acosh)
HOST_BUILTIN1(atanh)
HOST_BUILTIN1(sqrt)
HOST_BUILTIN1(floor)
HOST_BUILTIN1(ceil)
HOST_BUILTIN1(round)
HOST_BUILTIN1(rint)
HOST_BUILTIN1(trunc)
HOST_BUILTIN1(fabs)
HOST_FLOAT1(rsqrt, float(1.0L / __builtin_sqrt(double(x))))
HOST_FLOAT1(fract, host_least(x - __builtin_floorf(x), 0x1.fffffep-1f))
HOST_FLOAT1(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x == 0 ? x : 0.0f)
HOST_FLOAT1(saturate, host_least(host_most(x, 0.0f), 1.0f))
HOST_FLOAT1(sinpi, float(__builtin_sin(__builtin_fmod(double(x), 2.0) * 3.14159265358979323846L)))
HOST_FLOAT1(cospi, float(__builtin_cos(__builtin_fmod(double(x), 2.0) * 3.14159265358979323846L)))
HOST_FLOAT1(tanpi, float(__builtin_tan(__builtin_fmod(double(x), 1.0) * 3.14159265358979323846L)))
HOST_FLOAT1(host_absolute, __builtin_fabsf(x))
HOST_BUILTIN2(pow)
HOST_FLOAT2(powr, __builtin_powf(x, y))
HOST_BUILTIN2(fmod)
HOST_BUILTIN2(atan2)
HOST_BUILTIN2(copysign)
HOST_BUILTIN2(fdim)
HOST_FLOAT2(fmin, host_least(x, y))
HOST_FLOAT2(fmax, host_most(x, y))
HOST_FLOAT2(step, y < x ? 0.0f : 1.0f)
HOST_FLOAT2(nextafter, __builtin_nextafterf(x, y))
HOST_FLOAT3(smoothstep, host_smooth(host_least(host_most((z - x) / (y - x), 0.0f), 1.0f)))
HOST_FLOAT3(fmin3, host_least(x, host_least(y, z)))
HOST_FLOAT3(fmax3, host_most(x, host_most(y, z)))

inline float host_fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline half host_fma(half x, half y, half z) { return half(host_to_odd(double(x) * double(y) + double(z))); }

template <class A, class B, class C>
inline host_if_floats<A, host_if_alike<A, B, host_if_alike<A, C, host_plain<A>>>> fma(const A &a, const B &b, const C &c) {
    typedef host_plain<A> V;
    return host_each<V>([](auto x, auto y, auto z) { return host_fma(x, y, z); }, V(a), V(b), V(c));
}

// Of numbers of any kind: two floats give the one that is no NaN.
#define HOST_ANY2(NAME, FLOATS, INTEGERS)                                                          \
    template <class A, class B> inline host_if_alike<A, B, host_plain<A>> NAME(const A &a, const B &b) { \
        typedef host_plain<A> V;                                                                   \
        if constexpr (host_floating<host_element<A>>::value) return FLOATS(a, b);                  \
        else return host_each<V>([](auto x, auto y) { return INTEGERS; }, V(a), V(b));             \
    }
HOST_ANY2(min, fmin, y < x ? y : x)
HOST_ANY2(max, fmax, x < y ? y : x)
#undef HOST_ANY2

template <class A, class B, class C> inline host_plain<A> min3(const A &a, const B &b, const C &c) { return min(a, min(b, c)); }
template <class A, class B, class C> inline host_plain<A> max3(const A &a, const B &b, const C &c) { return max(a, max(b, c)); }
template <class A, class B, class C> inline host_plain<A> median3(const A &a, const B &b, const C &c) {
    return max(min(a, b), min(max(a, b), c));
}

template <class A, class B, class C>
inline host_if_alike<A, B, host_if_alike<A, C, host_plain<A>>> clamp(const A &a, const B &low, const C &high) {
    typedef host_plain<A> V;
    return min(max(V(a), V(low)), V(high));
}

template <class A, class B, class C> inline host_if_floats<A, host_plain<A>> mix(const A &a, const B &b, const C &t) {
    typedef host_plain<A> V;
    const V x(a), y(b), s(t);
    return x + (y - x) * s;
}

template <class A> inline host_plain<A> abs(const A &a) {
    typedef host_plain<A> V;
    if constexpr (host_floating<host_element<A>>::value) return host_absolute(a);
    else return host_each<V>([](auto x) { return x < 0 ? -x : x; }, V(a));
}

template <class A, class C> inline host_if_vector<A, host_plain<A>> select(const A &a, const A &b, const C &c) {
    typedef host_plain<A> V;
    return host_each<V>([](auto x, auto y, bool z) { return z ? y : x; }, V(a), V(b), host_truth<V>(c));
}
template <class A> inline host_if_t<host_shape<A>::count == 0, A> select(A a, A b, bool c) { return c ? b : a; }

#define HOST_QUESTION(NAME, VALUE)                                                                 \
    inline bool NAME(float x) { return VALUE; }                                                    \
    inline bool NAME(half h) { const float x = h; return VALUE; }                                  \
    inline bool NAME(bfloat h) { const float x = h; return VALUE; }                                \
    template <class A> inline host_if_vector<A, host_truth<host_plain<A>>> NAME(const A &a) {      \
        typedef host_plain<A> V;                                                                   \
        return host_each<host_truth<V>>([](float x) { return VALUE; }, V(a));                      \
    }
HOST_QUESTION(isnan, __builtin_isnan(x) != 0)
HOST_QUESTION(isinf, __builtin_isinf(x) != 0)
HOST_QUESTION(isfinite, __builtin_isfinite(x) != 0)
HOST_QUESTION(isnormal, __builtin_isnormal(x) != 0)
HOST_QUESTION(signbit, __builtin_signbit(x) != 0)
#undef HOST_QUESTION

template <int N> inline bool any(const vec<bool, N> &v) {
    bool is = false;
    for (int i = 0; i < N; i++) is = is || v.of[i];
    return is;
}
template <int N> inline bool all(const vec<bool, N> &v) {
    bool is = true;
    for (int i = 0; i < N; i++) is = is && v.of[i];
    return is;
}
inline bool any(bool x) { return x; }
inline bool all(bool x) { return x; }

template <class A, class B, class V = typename host_joint<A, B>::type> inline host_element<V> dot(const A &a, const B &b) {
    const V x(a), y(b);
    host_element<V> sum = x.of[0] * y.of[0];
    for (int i = 1; i < host_shape<V>::count; i++) sum = sum + x.of[i] * y.of[i];
    return sum;
}
template <class A> inline host_if_vector<A, host_element<A>> length_squared(const A &a) { return dot(a, a); }
template <class A> inline host_if_vector<A, host_element<A>> length(const A &a) { return sqrt(dot(a, a)); }
template <class A> inline host_if_vector<A, host_plain<A>> normalize(const A &a) { return a * rsqrt(dot(a, a)); }
template <class A, class B> inline host_if_vector<A, host_element<A>> distance(const A &a, const B &b) { return length(a - b); }
template <class A, class B> inline host_if_vector<A, host_element<A>> distance_squared(const A &a, const B &b) { return length_squared(a - b); }
template <class T> inline vec<T, 3> cross(const vec<T, 3> &a, const vec<T, 3> &b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class A> inline host_if_floats<A, A> modf(const A &a, A &whole) { whole = trunc(a); return a - whole; }
template <class A> inline host_if_floats<A, A> sincos(const A &a, A &cosine) { cosine = cos(a); return sin(a); }
inline float ldexp(float x, int power) { return __builtin_ldexpf(x, power); }
inline half ldexp(half x, int power) { return half(__builtin_ldexpf(x, power)); }
inline float frexp(float x, int &power) { return __builtin_frexpf(x, &power); }
inline half frexp(half x, int &power) { return half(__builtin_frexpf(x, &power)); }
inline int ilogb(float x) { return __builtin_ilogbf(x); }
#undef HOST_FLOAT1
#undef HOST_FLOAT2
#undef HOST_FLOAT3
#undef HOST_BUILTIN1
#undef HOST_BUILTIN2

#define HOST_FUNCTIONS                                                                                          \
    using metal::exp; using metal::exp2; using metal::exp10; using metal::log; using metal::log2; using metal::log10; \
    using metal::sin; using metal::cos; using metal::tan; using metal::asin; using metal::acos; using metal::atan; \
    using metal::sinh; using metal::cosh; using metal::tanh; using metal::asinh; using metal::acosh; using metal::atanh; \
    using metal::sqrt; using metal::rsqrt; using metal::floor; using metal::ceil; using metal::round; using metal::rint; \
    using metal::trunc; using metal::fabs; using metal::abs; using metal::fract; using metal::sign; using metal::saturate; \
    using metal::pow; using metal::powr; using metal::fmod; using metal::atan2; using metal::fmin; using metal::fmax; \
    using metal::min; using metal::max; using metal::clamp; using metal::mix; using metal::fma; using metal::sincos; \
    using metal::sinpi; using metal::cospi; using metal::tanpi; using metal::normalize; using metal::length;
#define HOST_DIVIDE template <class A> inline A divide(const A &a, const A &b) { return a / b; }
namespace precise { HOST_FUNCTIONS HOST_DIVIDE }
namespace fast { HOST_FUNCTIONS HOST_DIVIDE }
#undef HOST_FUNCTIONS
#undef HOST_DIVIDE

}  // namespace metal
