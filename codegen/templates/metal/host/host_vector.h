// Vectors of 2, 3 and 4 elements with the swizzles that kernels use, and packed vectors.
#pragma once
#pragma GCC system_header
#include "host_types.h"

namespace metal {

template <class T, int N> struct vec;

// Elements I... of a vector of N, as its member: read as a vector, written element by element.
template <class T, int N, int... I> struct host_swizzle {
    T of[N];
    typedef vec<T, sizeof...(I)> plain;
    operator plain() const { return plain(of[I]...); }
    template <class V> void write(const V &v) {
        int from = 0;
        ((of[I] = v[from++]), ...);
    }
    host_swizzle &operator=(const plain &v) { write(v); return *this; }
    host_swizzle(const host_swizzle &) = default;
    host_swizzle() = default;
    host_swizzle &operator=(const host_swizzle &v) { write(plain(v)); return *this; }
    template <class B> host_swizzle &operator+=(const B &b) { return *this = plain(*this) + b; }
    template <class B> host_swizzle &operator-=(const B &b) { return *this = plain(*this) - b; }
    template <class B> host_swizzle &operator*=(const B &b) { return *this = plain(*this) * b; }
    template <class B> host_swizzle &operator/=(const B &b) { return *this = plain(*this) / b; }
};

template <class T> struct host_shape {  // of a scalar
    typedef T plain, element;
    static constexpr int count = 0;
};
template <class T, int N> struct host_shape<vec<T, N>> {
    typedef vec<T, N> plain;
    typedef T element;
    static constexpr int count = N;
};
template <class T, int N, int... I> struct host_shape<host_swizzle<T, N, I...>> : host_shape<vec<T, sizeof...(I)>> {};
template <class A> using host_plain = typename host_shape<A>::plain;
template <class A> using host_element = typename host_shape<A>::element;

#define HOST_COMMON(N)                                                                                     \
    vec() = default;                                                                                       \
    vec(const vec &) = default;                                                                            \
    vec &operator=(const vec &v) { for (int i = 0; i < N; i++) of[i] = v.of[i]; return *this; }            \
    template <class S, class = host_if_t<host_integer<S>::value || host_floating<S>::value || host_same<S, double>::value>> \
    vec(S s) { for (int i = 0; i < N; i++) of[i] = T(s); }                                                 \
    template <class U, class = host_if_t<!host_same<U, T>::value>> explicit vec(const vec<U, N> &v) {      \
        for (int i = 0; i < N; i++) of[i] = T(v.of[i]);                                                    \
    }                                                                                                      \
    template <class U, int M, int... I, class = host_if_t<sizeof...(I) == N && !host_same<U, T>::value>>      \
    explicit vec(const host_swizzle<U, M, I...> &v) : vec(vec<U, N>(v)) {}                                 \
    T &operator[](int i) { return of[i]; }                                                                 \
    const T &operator[](int i) const { return of[i]; }

template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
    union {
        T of[2];
        struct { T x, y; };
        struct { T r, g; };
        host_swizzle<T, 2, 0, 1> xy;
        host_swizzle<T, 2, 1, 0> yx;
        host_swizzle<T, 2, 0, 0> xx;
        host_swizzle<T, 2, 1, 1> yy;
        host_swizzle<T, 2, 0, 1, 0, 1> xyxy;
    };
    HOST_COMMON(2)
    vec(T a, T b) : of{a, b} {}
};

template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {
    union {
        T of[3];
        struct { T x, y, z; };
        struct { T r, g, b; };
        host_swizzle<T, 3, 0, 1> xy;
        host_swizzle<T, 3, 1, 0> yx;
        host_swizzle<T, 3, 1, 2> yz;
        host_swizzle<T, 3, 0, 2> xz;
        host_swizzle<T, 3, 2, 1> zy;
        host_swizzle<T, 3, 0, 1, 2> xyz;
        host_swizzle<T, 3, 2, 1, 0> zyx;
        host_swizzle<T, 3, 0, 1, 2> rgb;
    };
    HOST_COMMON(3)
    vec(T a, T b, T c) : of{a, b, c} {}
    vec(const vec<T, 2> &a, T b) : of{a[0], a[1], b} {}
    vec(T a, const vec<T, 2> &b) : of{a, b[0], b[1]} {}
};

template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
    union {
        T of[4];
        struct { T x, y, z, w; };
        struct { T r, g, b, a; };
        host_swizzle<T, 4, 0, 1> xy;
        host_swizzle<T, 4, 0, 2> xz;
        host_swizzle<T, 4, 0, 3> xw;
        host_swizzle<T, 4, 1, 2> yz;
        host_swizzle<T, 4, 1, 3> yw;
        host_swizzle<T, 4, 2, 3> zw;
        host_swizzle<T, 4, 1, 0> yx;
        host_swizzle<T, 4, 3, 2> wz;
        host_swizzle<T, 4, 0, 1, 2> xyz;
        host_swizzle<T, 4, 1, 2, 3> yzw;
        host_swizzle<T, 4, 0, 1, 2> rgb;
        host_swizzle<T, 4, 0, 1, 2, 3> xyzw;
        host_swizzle<T, 4, 3, 2, 1, 0> wzyx;
        host_swizzle<T, 4, 1, 0, 3, 2> yxwz;
        host_swizzle<T, 4, 2, 3, 0, 1> zwxy;
        host_swizzle<T, 4, 0, 0, 0, 0> xxxx;
        host_swizzle<T, 4, 1, 1, 1, 1> yyyy;
        host_swizzle<T, 4, 2, 2, 2, 2> zzzz;
        host_swizzle<T, 4, 3, 3, 3, 3> wwww;
    };
    HOST_COMMON(4)
    vec(T a, T b, T c, T d) : of{a, b, c, d} {}
    vec(const vec<T, 2> &a, const vec<T, 2> &b) : of{a[0], a[1], b[0], b[1]} {}
    vec(const vec<T, 2> &a, T b, T c) : of{a[0], a[1], b, c} {}
    vec(T a, T b, const vec<T, 2> &c) : of{a, b, c[0], c[1]} {}
    vec(T a, const vec<T, 2> &b, T c) : of{a, b[0], b[1], c} {}
    vec(const vec<T, 3> &a, T b) : of{a[0], a[1], a[2], b} {}
    vec(T a, const vec<T, 3> &b) : of{a, b[0], b[1], b[2]} {}
};
#undef HOST_COMMON

// The type of the vectors in an operation of a and b, of which one may be a scalar; none if two vectors differ.
template <class A, class B, int M = host_shape<A>::count, int N = host_shape<B>::count> struct host_joint {};
template <class A, class B, int N> struct host_joint<A, B, N, N> : host_if<N != 0 && host_same<host_plain<A>, host_plain<B>>::value, host_plain<A>> {};
template <class A, class B> struct host_joint<A, B, 0, 0> {};
template <class A, class B, int N> struct host_joint<A, B, N, 0> { typedef host_plain<A> type; };
template <class A, class B, int N> struct host_joint<A, B, 0, N> { typedef host_plain<B> type; };
template <class V> using host_truth = vec<bool, host_shape<V>::count>;

#define HOST_BINARY(OP, RESULT)                                                       \
    template <class A, class B, class V = typename host_joint<A, B>::type>            \
    inline RESULT operator OP(const A &a, const B &b) {                               \
        const V x(a), y(b);                                                           \
        RESULT r;                                                                     \
        for (int i = 0; i < host_shape<V>::count; i++) r.of[i] = host_element<RESULT>(x.of[i] OP y.of[i]); \
        return r;                                                                     \
    }
#define HOST_CHANGE(OP)                                                               \
    HOST_BINARY(OP, V)                                                                \
    template <class T, int N, class B> inline vec<T, N> &operator OP##=(vec<T, N> &a, const B &b) { return a = a OP b; }
HOST_CHANGE(+)
HOST_CHANGE(-)
HOST_CHANGE(*)
HOST_CHANGE(/)
HOST_CHANGE(%)
HOST_CHANGE(&)
HOST_CHANGE(|)
HOST_CHANGE(^)
HOST_CHANGE(<<)
HOST_CHANGE(>>)
HOST_BINARY(==, host_truth<V>)
HOST_BINARY(!=, host_truth<V>)
HOST_BINARY(<, host_truth<V>)
HOST_BINARY(<=, host_truth<V>)
HOST_BINARY(>, host_truth<V>)
HOST_BINARY(>=, host_truth<V>)
HOST_BINARY(&&, host_truth<V>)
HOST_BINARY(||, host_truth<V>)
#undef HOST_BINARY
#undef HOST_CHANGE

#define HOST_UNARY(OP, RESULT)                                                                 \
    template <class A, class V = host_if_t<host_shape<A>::count != 0, host_plain<A>>>          \
    inline RESULT operator OP(const A &a) {                                                    \
        const V x(a);                                                                          \
        RESULT r;                                                                              \
        for (int i = 0; i < host_shape<V>::count; i++) r.of[i] = host_element<RESULT>(OP x.of[i]); \
        return r;                                                                              \
    }
HOST_UNARY(-, V)
HOST_UNARY(+, V)
HOST_UNARY(~, V)
HOST_UNARY(!, host_truth<V>)
#undef HOST_UNARY

// Elements one after the other, aligned as one of them.
template <class T, int N> struct packed_vec {
    T of[N];
    packed_vec() = default;
    packed_vec(const vec<T, N> &v) { for (int i = 0; i < N; i++) of[i] = v.of[i]; }
    operator vec<T, N>() const {
        vec<T, N> v;
        for (int i = 0; i < N; i++) v.of[i] = of[i];
        return v;
    }
    T &operator[](int i) { return of[i]; }
    const T &operator[](int i) const { return of[i]; }
};
template <class T, int N> struct host_shape<packed_vec<T, N>> : host_shape<vec<T, N>> {};

#define HOST_NAMES(T)                                                 \
    typedef vec<T, 2> T##2;                                           \
    typedef vec<T, 3> T##3;                                           \
    typedef vec<T, 4> T##4;                                           \
    typedef packed_vec<T, 2> packed_##T##2;                           \
    typedef packed_vec<T, 3> packed_##T##3;                           \
    typedef packed_vec<T, 4> packed_##T##4;
HOST_NAMES(bool)
HOST_NAMES(char)
HOST_NAMES(uchar)
HOST_NAMES(short)
HOST_NAMES(ushort)
HOST_NAMES(int)
HOST_NAMES(uint)
HOST_NAMES(long)
HOST_NAMES(ulong)
HOST_NAMES(half)
HOST_NAMES(bfloat)
HOST_NAMES(float)
#undef HOST_NAMES

}  // namespace metal
