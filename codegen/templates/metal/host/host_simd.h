// Barriers and the operations of all threads of a simdgroup or quad.
#pragma once
#pragma GCC system_header
#include "host_integer.h"
#include "host_runtime.h"

namespace metal {

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_device_and_threadgroup = 3, mem_texture = 4 };
inline mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }

inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE()) { host::group_barrier(uint(flags), line); }
inline void simdgroup_barrier(mem_flags flags, int line = __builtin_LINE()) { host::simdgroup_barrier(uint(flags), line); }

template <class T> HOST_PLAIN inline T host_value(const host::Lanes &lanes, unsigned lane) {
    T x;
    __builtin_memcpy(static_cast<void *>(&x), lanes.values[lane], sizeof(T));
    return x;
}

template <class T> HOST_PLAIN const host::Lanes &host_tell(T x, int line, const char *what) {
    static_assert(sizeof(T) <= 16, "operations of a simdgroup take scalars and vectors");
    return host::exchange(&x, sizeof(T), line, what);
}

template <class T> HOST_PLAIN const host::Lanes &host_give(T x, int line, const char *what) {
    typedef host_element<T> E;
    static_assert(sizeof(E) <= 4 && !host_same<E, bool>::value && !host_same<E, bfloat>::value,
                  "threads of a simdgroup exchange no bool, no bfloat and no integers of 64 bits");
    return host_tell(x, line, what);
}

// Combines what the active threads from..to-1 gave, in their order.
template <class T, class F> HOST_PLAIN T host_combined(const host::Lanes &lanes, unsigned from, unsigned to, T start, bool has_start, F f) {
    T all = start;
    for (unsigned i = from; i < to; i++) {
        if (!(lanes.active >> i & 1)) continue;
        all = has_start ? T(f(all, host_value<T>(lanes, i))) : host_value<T>(lanes, i);
        has_start = true;
    }
    return all;
}

#define HOST_COMBINE(NAME, VALUE)                                                                          \
    template <class T> HOST_PLAIN T simd_##NAME(T x, int line = __builtin_LINE()) {                        \
        return host_combined(host_give(x, line, __func__), 0, 32, x, false, [](T a, T b) { return VALUE; });         \
    }                                                                                                      \
    template <class T> HOST_PLAIN T quad_##NAME(T x, int line = __builtin_LINE()) {                        \
        const host::Lanes &lanes = host_give(x, line, __func__);                                                     \
        const unsigned first = lanes.lane & ~3u;                                                           \
        return host_combined(lanes, first, first + 4, x, false, [](T a, T b) { return VALUE; });           \
    }
HOST_COMBINE(sum, a + b)
HOST_COMBINE(product, a * b)
HOST_COMBINE(min, metal::min(a, b))
HOST_COMBINE(max, metal::max(a, b))
HOST_COMBINE(and, a & b)
HOST_COMBINE(or, a | b)
HOST_COMBINE(xor, a ^ b)
#undef HOST_COMBINE

#define HOST_PREFIX(NAME, VALUE, START)                                                                    \
    template <class T> HOST_PLAIN T simd_prefix_inclusive_##NAME(T x, int line = __builtin_LINE()) {       \
        const host::Lanes &lanes = host_give(x, line, __func__);                                                     \
        return host_combined(lanes, 0, lanes.lane + 1, x, false, [](T a, T b) { return VALUE; });          \
    }                                                                                                      \
    template <class T> HOST_PLAIN T simd_prefix_exclusive_##NAME(T x, int line = __builtin_LINE()) {       \
        const host::Lanes &lanes = host_give(x, line, __func__);                                                     \
        return host_combined(lanes, 0, lanes.lane, T(START), true, [](T a, T b) { return VALUE; });        \
    }
HOST_PREFIX(sum, a + b, 0)
HOST_PREFIX(product, a * b, 1)
#undef HOST_PREFIX

// What another thread gave.
template <class T> HOST_PLAIN T host_from(const host::Lanes &lanes, unsigned lane, int line) {
    if (lane > 31 || !(lanes.active >> lane & 1)) host::fault("takes the value of a thread that takes no part in the operation", line);
    return host_value<T>(lanes, lane);
}

template <class T> HOST_PLAIN T simd_shuffle(T x, ushort lane, int line = __builtin_LINE()) {
    return host_from<T>(host_give(x, line, __func__), lane, line);
}
template <class T> HOST_PLAIN T simd_broadcast(T x, ushort lane, int line = __builtin_LINE()) {
    return host_from<T>(host_give(x, line, __func__), lane, line);
}
template <class T> HOST_PLAIN T simd_broadcast_first(T x, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return host_value<T>(lanes, unsigned(__builtin_ctz(lanes.active)));
}
template <class T> HOST_PLAIN T simd_shuffle_xor(T x, ushort mask, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return host_from<T>(lanes, lanes.lane ^ mask, line);
}
template <class T> HOST_PLAIN T simd_shuffle_up(T x, ushort delta, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return lanes.lane < delta ? x : host_from<T>(lanes, lanes.lane - delta, line);
}
template <class T> HOST_PLAIN T simd_shuffle_down(T x, ushort delta, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return lanes.lane + delta > 31 ? x : host_from<T>(lanes, lanes.lane + delta, line);
}
template <class T> HOST_PLAIN T simd_shuffle_rotate_up(T x, ushort delta, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return host_from<T>(lanes, (lanes.lane - delta) & 31, line);
}
template <class T> HOST_PLAIN T simd_shuffle_rotate_down(T x, ushort delta, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return host_from<T>(lanes, (lanes.lane + delta) & 31, line);
}
template <class T> HOST_PLAIN T simd_shuffle_and_fill_up(T x, T filling, ushort delta, int line = __builtin_LINE()) {
    const host::Lanes lanes = host_give(x, line, "fill"), &more = host_give(filling, line, __func__);
    return host_from<T>(lanes.lane < delta ? more : lanes, (lanes.lane - delta) & 31, line);
}
template <class T> HOST_PLAIN T simd_shuffle_and_fill_down(T x, T filling, ushort delta, int line = __builtin_LINE()) {
    const host::Lanes lanes = host_give(x, line, "fill"), &more = host_give(filling, line, __func__);
    return host_from<T>(lanes.lane + delta > 31 ? more : lanes, (lanes.lane + delta) & 31, line);
}
template <class T> HOST_PLAIN T quad_shuffle(T x, ushort lane, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return host_from<T>(lanes, (lanes.lane & ~3u) + lane, line);
}
template <class T> HOST_PLAIN T quad_broadcast(T x, ushort lane, int line = __builtin_LINE()) { return quad_shuffle(x, lane, line); }
template <class T> HOST_PLAIN T quad_shuffle_xor(T x, ushort mask, int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_give(x, line, __func__);
    return host_from<T>(lanes, lanes.lane ^ (mask & 3), line);
}

HOST_PLAIN inline uint32_t host_ballot(bool x, int line) {
    const host::Lanes &lanes = host_tell(x, line, __func__);
    uint32_t is = 0;
    for (unsigned i = 0; i < 32; i++) {
        if ((lanes.active >> i & 1) && lanes.values[i][0]) is |= 1u << i;
    }
    return is;
}

struct simd_vote {
    typedef ulong vote_t;
    vote_t of;
    explicit simd_vote(vote_t v = 0) : of(v) {}
    explicit operator vote_t() const { return of; }
    bool all() const { return uint32_t(of) == 0xffffffffu; }
    bool any() const { return of != 0; }
};
inline simd_vote simd_ballot(bool x, int line = __builtin_LINE()) { return simd_vote(host_ballot(x, line)); }
inline simd_vote simd_active_threads_mask(int line = __builtin_LINE()) { return simd_vote(host_ballot(true, line)); }
inline bool simd_any(bool x, int line = __builtin_LINE()) { return host_ballot(x, line) != 0; }
inline bool simd_all(bool x, int line = __builtin_LINE()) { return host_ballot(!x, line) == 0; }
HOST_PLAIN inline bool simd_is_first(int line = __builtin_LINE()) {
    const host::Lanes &lanes = host_tell(true, line, __func__);
    return lanes.lane == unsigned(__builtin_ctz(lanes.active));
}

}  // namespace metal
