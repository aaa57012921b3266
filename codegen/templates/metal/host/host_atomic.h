// Atomics: threads switch at barriers alone, so an access is whole by itself; the program is told of it.
#pragma once
#pragma GCC system_header
#include "host_math.h"
#include "host_runtime.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T> struct atomic { T value; };
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

template <class T> struct host_itself { typedef T type; };
template <class T> using host_as = typename host_itself<T>::type;  // no deduction from such an argument

template <class T> HOST_PLAIN T atomic_load_explicit(const atomic<T> *at, memory_order, int line = __builtin_LINE()) {
    host::atomic_access(at, sizeof(T), line);
    return at->value;
}
template <class T> HOST_PLAIN void atomic_store_explicit(atomic<T> *at, host_as<T> x, memory_order, int line = __builtin_LINE()) {
    host::atomic_set(at, sizeof(T), line);
    at->value = x;
}
template <class T> HOST_PLAIN bool atomic_compare_exchange_weak_explicit(
    atomic<T> *at, T *expected, host_as<T> desired, memory_order, memory_order, int line = __builtin_LINE()) {
    host::atomic_access(at, sizeof(T), line);
    const bool is = __builtin_memcmp(&at->value, expected, sizeof(T)) == 0;
    if (is) at->value = desired;
    else *expected = at->value;
    return is;
}

#define HOST_ATOMIC(NAME, VALUE)                                                                                  \
    template <class T> HOST_PLAIN T atomic_##NAME##_explicit(atomic<T> *at, host_as<T> y, memory_order, int line = __builtin_LINE()) { \
        host::atomic_access(at, sizeof(T), line);                                                                 \
        const T x = at->value;                                                                                    \
        at->value = T(VALUE);                                                                                     \
        return x;                                                                                                 \
    }
HOST_ATOMIC(exchange, y)
HOST_ATOMIC(fetch_add, x + y)
HOST_ATOMIC(fetch_sub, x - y)
HOST_ATOMIC(fetch_min, y < x ? y : x)
HOST_ATOMIC(fetch_max, x < y ? y : x)
HOST_ATOMIC(fetch_and, x & y)
HOST_ATOMIC(fetch_or, x | y)
HOST_ATOMIC(fetch_xor, x ^ y)
#undef HOST_ATOMIC

}  // namespace metal
