// The functions that instrumented code calls before its accesses; no library of the compiler is linked.
#pragma once
#include "run_memory.h"

#define HOOK extern "C" __attribute__((visibility("default"))) void
#define CODE uintptr_t(__builtin_return_address(0)) - 1

namespace host {

static inline Access access_here(uintptr_t code, size_t nbytes) { return {code, 0, current->local, nbytes}; }

[[noreturn]] __attribute__((noinline, cold)) static void misaligned(const void *address, size_t nbytes, uintptr_t code) {
    const uintptr_t at = uintptr_t(address) - arena;
    const char *what = at < ARENA_BYTES && regions[at >> SLOT_SHIFT].what ? regions[at >> SLOT_SHIFT].what : "its memory";
    stop(code, 0, "uses %zu bytes of %s at an address that is no multiple of the alignment of its type", nbytes, what);
}

static inline void check_aligned(const void *address, size_t nbytes, uintptr_t code) {
    if (uintptr_t(address) & (nbytes - 1)) misaligned(address, nbytes, code);
}

void atomic_access(const void *address, unsigned nbytes, int line) {
    if (!arena) return;
    if (uintptr_t(address) & (nbytes - 1)) misaligned(address, nbytes, 0);
    check<CHANGE>(address, {0, line, current->local, nbytes});
}

void atomic_set(const void *address, unsigned nbytes, int line) {
    if (!arena) return;
    if (uintptr_t(address) & (nbytes - 1)) misaligned(address, nbytes, 0);
    check<SET>(address, {0, line, current->local, nbytes});
}

static void check_range(const void *address, size_t nbytes, bool is_write, uintptr_t code) {
    if (!current || !nbytes) return;
    if (is_write) check<WRITE>(address, access_here(code, nbytes));
    else check<READ>(address, access_here(code, nbytes));
}

}  // namespace host

// `current` is set whenever code of a kernel runs; gcc and clang check alignment alike: `unaligned` says there is none.
#define HOOKS(N)                                                                                        \
    HOOK __tsan_read##N(void *at) { if (!host::current) return; host::check_aligned(at, N, CODE); host::check<host::READ>(at, host::access_here(CODE, N)); } \
    HOOK __tsan_write##N(void *at) { if (!host::current) return; host::check_aligned(at, N, CODE); host::check<host::WRITE>(at, host::access_here(CODE, N)); } \
    HOOK __tsan_unaligned_read##N(void *at) { host::check_range(at, N, false, CODE); }                  \
    HOOK __tsan_unaligned_write##N(void *at) { host::check_range(at, N, true, CODE); }                  \
    HOOK __tsan_volatile_read##N(void *at) { host::check_range(at, N, false, CODE); }                   \
    HOOK __tsan_volatile_write##N(void *at) { host::check_range(at, N, true, CODE); }                   \
    HOOK __tsan_read_write##N(void *at) { host::check_range(at, N, false, CODE); host::check_range(at, N, true, CODE); } \
    HOOK __tsan_unaligned_read_write##N(void *at) { host::check_range(at, N, false, CODE); host::check_range(at, N, true, CODE); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
HOOK __tsan_read_range(void *at, size_t nbytes) { host::check_range(at, nbytes, false, CODE); }
HOOK __tsan_write_range(void *at, size_t nbytes) { host::check_range(at, nbytes, true, CODE); }
HOOK __tsan_vptr_update(void *, void *) {}
HOOK __tsan_vptr_read(void *) {}
HOOK __tsan_func_entry(void *) {}
HOOK __tsan_func_exit() {}
HOOK __tsan_init() {}

// Of the checks of undefined behaviour: what they pass begins with a place in the source.
struct Place {
    const char *file;
    uint32_t line, column;
    int of_text() const {  // 0 in our headers
        const size_t n = strlen(file), m = strlen("model.metal");
        return n >= m && !strcmp(file + n - m, "model.metal") ? int(line) : 0;
    }
};
HOOK __ubsan_handle_type_mismatch_v1(const Place *place, uintptr_t at) {
    const uintptr_t from = at - host::arena;
    const char *what = from < host::ARENA_BYTES ? host::regions[from >> host::SLOT_SHIFT].what : nullptr;
    host::stop(CODE, place->of_text(), "uses %s at an address that is no multiple of the alignment of its type", what ? what : "memory");
}
HOOK __ubsan_handle_out_of_bounds(const Place *place, uintptr_t index) {
    host::stop(CODE, place->of_text(), "index %ld is beyond the end of an array", long(index));
}
HOOK __ubsan_handle_divrem_overflow(const Place *place, uintptr_t, uintptr_t) {
    host::stop(CODE, place->of_text(), "divides an integer by zero, or the least one by -1");
}

// Copies that the compiler leaves to the library: the linker sends them here (--wrap).
extern "C" void *__real_memcpy(void *, const void *, size_t);
extern "C" void *__real_memmove(void *, const void *, size_t);
extern "C" void *__real_memset(void *, int, size_t);
extern "C" void *__wrap_memcpy(void *to, const void *from, size_t nbytes) {
    host::check_range(from, nbytes, false, CODE);
    host::check_range(to, nbytes, true, CODE);
    return __real_memcpy(to, from, nbytes);
}
extern "C" void *__wrap_memmove(void *to, const void *from, size_t nbytes) {
    host::check_range(from, nbytes, false, CODE);
    host::check_range(to, nbytes, true, CODE);
    return __real_memmove(to, from, nbytes);
}
extern "C" void *__wrap_memset(void *to, int with, size_t nbytes) {
    host::check_range(to, nbytes, true, CODE);
    return __real_memset(to, with, nbytes);
}
extern "C" void *__tsan_memcpy(void *to, const void *from, size_t nbytes) { return __wrap_memcpy(to, from, nbytes); }
extern "C" void *__tsan_memmove(void *to, const void *from, size_t nbytes) { return __wrap_memmove(to, from, nbytes); }
extern "C" void *__tsan_memset(void *to, int with, size_t nbytes) { return __wrap_memset(to, with, nbytes); }
#undef HOOK
#undef HOOKS
#undef CODE
