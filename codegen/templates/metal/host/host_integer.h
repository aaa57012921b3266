// Functions of integers.
#pragma once
#pragma GCC system_header
#include "host_math.h"

namespace metal {

#define HOST_INTEGER1(NAME, VALUE)                                                                 \
    template <class A> inline host_if_integers<A, host_plain<A>> NAME(const A &a) {                \
        typedef host_plain<A> V;                                                                   \
        return host_each<V>([](auto x) { return VALUE; }, V(a));                                   \
    }
#define HOST_INTEGER2(NAME, VALUE)                                                                 \
    template <class A, class B> inline host_if_integers<A, host_if_alike<A, B, host_plain<A>>> NAME(const A &a, const B &b) { \
        typedef host_plain<A> V;                                                                   \
        return host_each<V>([](auto x, auto y) { return VALUE; }, V(a), V(b));                     \
    }

template <class T> constexpr int host_width = int(sizeof(T)) * 8;
template <class T> inline ulong host_pattern(T x) { return ulong(x) & (~ulong(0) >> (64 - host_width<T>)); }

template <class T> inline T host_high(T x, T y) {
    if constexpr (sizeof(T) == 8) {
        if constexpr (host_integer<T>::is_signed) return T((static_cast<__int128>(x) * y) >> 64);
        else return T((static_cast<unsigned __int128>(x) * y) >> 64);
    } else {
        return T((long(x) * long(y)) >> host_width<T>);
    }
}

template <class T> inline T host_rotated(T x, T by) {
    const int n = int(ulong(by) % host_width<T>);
    const ulong bits = host_pattern(x);
    return n ? T((bits << n) | (bits >> (host_width<T> - n))) : x;
}

template <class T> inline T host_reversed(T x) {
    ulong bits = host_pattern(x), turned = 0;
    for (int i = 0; i < host_width<T>; i++, bits >>= 1) turned = (turned << 1) | (bits & 1);
    return T(turned);
}

template <class T> inline T host_saturating_sum(T x, T y) {
    T sum;
    if (!__builtin_add_overflow(x, y, &sum)) return sum;
    return y < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max();
}

template <class T> inline T host_saturating_difference(T x, T y) {
    T difference;
    if (!__builtin_sub_overflow(x, y, &difference)) return difference;
    return x < y ? numeric_limits<T>::min() : numeric_limits<T>::max();
}

HOST_INTEGER1(popcount, __builtin_popcountl(host_pattern(x)))
HOST_INTEGER1(clz, x == 0 ? host_width<decltype(x)> : __builtin_clzl(host_pattern(x)) - (64 - host_width<decltype(x)>))
HOST_INTEGER1(ctz, x == 0 ? host_width<decltype(x)> : __builtin_ctzl(host_pattern(x)))
HOST_INTEGER1(reverse_bits, host_reversed(x))
HOST_INTEGER2(mulhi, host_high(x, y))
HOST_INTEGER2(rotate, host_rotated(x, y))
HOST_INTEGER2(absdiff, x < y ? y - x : x - y)
HOST_INTEGER2(addsat, host_saturating_sum(x, y))
HOST_INTEGER2(subsat, host_saturating_difference(x, y))
HOST_INTEGER2(hadd, (x & y) + ((x ^ y) >> 1))
HOST_INTEGER2(rhadd, (x | y) - ((x ^ y) >> 1))
#undef HOST_INTEGER1
#undef HOST_INTEGER2

template <class A> inline host_if_integers<A, A> madhi(A a, A b, A c) { return mulhi(a, b) + c; }
inline int mul24(int a, int b) { return a * b; }
inline uint mul24(uint a, uint b) { return a * b; }
inline int mad24(int a, int b, int c) { return a * b + c; }
inline uint mad24(uint a, uint b, uint c) { return a * b + c; }

template <class T> inline T extract_bits(T x, uint offset, uint bits) {
    if (bits == 0) return T(0);
    const int above = host_width<T> - int(bits);
    return T(T(host_pattern(x) << (above - int(offset))) >> above);
}
template <class T> inline T insert_bits(T base, T insert, uint offset, uint bits) {
    const ulong mask = bits >= 64 ? ~ulong(0) : ((ulong(1) << bits) - 1) << offset;
    return T((host_pattern(base) & ~mask) | ((host_pattern(insert) << offset) & mask));
}

}  // namespace metal
