// Matrices of 8x8 elements that a simdgroup holds together. Their operations are for all of its 32 threads.
#pragma once
#pragma GCC system_header
#include "host_simd.h"

namespace metal {

template <class T> struct host_kind {};
template <> struct host_kind<float> { static constexpr host::Element value = host::FLOAT; };
template <> struct host_kind<half> { static constexpr host::Element value = host::HALF; };
template <> struct host_kind<bfloat> { static constexpr host::Element value = host::BFLOAT; };

template <class T, int Columns, int Rows> struct simdgroup_matrix {
    static_assert(Columns == 8 && Rows == 8, "simdgroup matrices have 8 columns and 8 rows");
    host::Matrix of;
    vec<T, 2> two;

    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal, int line = __builtin_LINE()) {
        const float x = diagonal;
        host::fill(of, &x, 0.0f, line);
    }
    // The elements of this thread, to be read and changed in place.
    HOST_PLAIN vec<T, 2> &thread_elements(int line = __builtin_LINE()) {
        if (of.holder == host::EVERYBODY) return two;
        float pair[2];
        host::spread(of, pair, line);
        two.of[0] = T(pair[0]);
        two.of[1] = T(pair[1]);
        return two;
    }
    HOST_PLAIN host::Matrix &whole(int line) {
        if (of.holder == host::EVERYBODY) {
            const float pair[2] = {float(two.of[0]), float(two.of[1])};
            host::gather(of, pair, line);
        }
        return of;
    }
};

typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int C, int R> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(host_plain<T> x, int line = __builtin_LINE()) {
    simdgroup_matrix<T, C, R> m;
    host::fill(m.of, nullptr, x, line);
    return m;
}
template <class T, int C, int R> simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(host_plain<T> x, int line = __builtin_LINE()) {
    return simdgroup_matrix<T, C, R>(x, line);
}

template <class T>
void simdgroup_load(simdgroup_matrix<T, 8, 8> &m, const T *from, ulong elements_per_row = 8, vec<ulong, 2> origin = vec<ulong, 2>(0),
                    bool transposed = false, int line = __builtin_LINE()) {
    const long pitch = long(elements_per_row);
    const T *at = from + (transposed ? long(origin.x) * pitch + long(origin.y) : long(origin.y) * pitch + long(origin.x));
    host::load(m.of, host_kind<T>::value, at, transposed ? 1 : pitch, transposed ? pitch : 1, line);
}

template <class T>
void simdgroup_store(simdgroup_matrix<T, 8, 8> &m, T *to, ulong elements_per_row = 8, vec<ulong, 2> origin = vec<ulong, 2>(0),
                     bool transposed = false, int line = __builtin_LINE()) {
    const long pitch = long(elements_per_row);
    T *at = to + (transposed ? long(origin.x) * pitch + long(origin.y) : long(origin.y) * pitch + long(origin.x));
    host::store(m.whole(line), host_kind<T>::value, at, transposed ? 1 : pitch, transposed ? pitch : 1, line);
}

template <class T, class U, class V>
void simdgroup_multiply(simdgroup_matrix<T, 8, 8> &d, simdgroup_matrix<U, 8, 8> &a, simdgroup_matrix<V, 8, 8> &b, int line = __builtin_LINE()) {
    host::multiply(d.of, host_kind<T>::value, a.whole(line), b.whole(line), nullptr, line);
}

// d = a b + c
template <class T, class U, class V, class W>
void simdgroup_multiply_accumulate(simdgroup_matrix<T, 8, 8> &d, simdgroup_matrix<U, 8, 8> &a, simdgroup_matrix<V, 8, 8> &b,
                                   simdgroup_matrix<W, 8, 8> &c, int line = __builtin_LINE()) {
    host::multiply(d.of, host_kind<T>::value, a.whole(line), b.whole(line), &c.whole(line), line);
}

}  // namespace metal
