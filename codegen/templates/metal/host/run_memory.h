// Checks of every access that the compiler's instrumentation tells of: bounds, memory that was never written, races.
//
// A region is what a parameter points to, in a slot of addresses of its own. Its cells (one per element) keep who wrote
// and who read last: a key of the barriers passed so far (`epoch`), those of the simdgroup alone (`order`), the thread.
#pragma once
#include "run_state.h"

namespace host {

struct Cell {
    uint64_t written, read;
};

enum Key : uint64_t {
    PRESENT = 1,
    ATOMIC = 2,       // of a write
    CONCURRENT = 4,   // of a write: by a dispatch that may run at the same time
    SEVERAL = 2,      // of a reading: by several threads of the simdgroup
    SIMDGROUPS = 4,   // of a reading: by several simdgroups
    ELSEWHERE = 8,    // of a reading: by another threadgroup too
    MARKS = 15,
};
enum : unsigned { WHO_SHIFT = 4, ORDER_SHIFT = 15, EPOCH_SHIFT = 28, WHO_MASK = 0x7ff, ORDER_MASK = 0x1fff };

struct Region {
    uintptr_t base;
    size_t nbytes;
    Cell *cells;
    unsigned shift;
    bool is_threadgroup, is_writable;
    const char *what;  // "parameter x"
    const char *because;  // why it is not written
    uint64_t *epoch;
    size_t committed, cells_committed;
    Cell *cell_memory;
};

enum : unsigned { SLOT_SHIFT = 33, SLOTS = 64 };
static const size_t ARENA_BYTES = size_t(SLOTS) << SLOT_SHIFT, STACK_BYTES = 256 << 10, STACKS_BYTES = STACK_BYTES * 1025;
static uintptr_t arena, stacks;
static Region regions[SLOTS];
static uint64_t clock_now, group_start, device_epoch, threadgroup_epoch;

static uint64_t epoch_of(uint64_t key) { return key >> EPOCH_SHIFT; }
static uint32_t who_of(uint64_t key) { return uint32_t(key >> WHO_SHIFT) & WHO_MASK; }
static uint32_t order_of(uint64_t key) { return uint32_t(key >> ORDER_SHIFT) & ORDER_MASK; }
static uint32_t simdgroup_of(uint32_t who) { return who < 1024 ? who >> 5 : who - 1024; }

struct Access {
    uintptr_t code;
    int line;
    uint32_t who;  // the thread; 1024 + its simdgroup for an operation of all of that
    size_t nbytes;
};

static const char *name_of(uint32_t who) {
    return who < 1024 ? thread_name(who) : "a matrix operation of the simdgroup";
}

[[noreturn]] __attribute__((noinline, cold)) static void race(const Region &r, const Access &a, size_t cell, uint64_t other, const char *now, const char *before) {
    const char *where = r.is_threadgroup ? "threadgroup memory" : "device memory";
    *postponed.text = 0;
    const bool elsewhere = (other & ELSEWHERE && *before == 'r') || epoch_of(other) < group_start;
    stop(a.code, a.line, "race: it %s %s (%s) at byte %zu, which %s %s with no barrier between", now, r.what, where, cell << r.shift,
         elsewhere ? "another threadgroup" : name_of(who_of(other)), before);
}

// Whether what another thread did is before what this one does now.
static inline bool is_ordered(const Region &r, uint64_t key, uint32_t who, uint32_t order) {
    const uint64_t epoch = epoch_of(key);
    if (epoch < group_start) return epoch == 0 || r.is_threadgroup;
    if (epoch < *r.epoch || who_of(key) == who) return true;
    return simdgroup_of(who_of(key)) == simdgroup_of(who) && order_of(key) != order;
}

static inline void note_reading(const Region &r, const Access &a, size_t i, uint64_t key, uint32_t order) {
    Cell &cell = r.cells[i];
    const uint64_t written = cell.written, read = cell.read;
    if (r.is_threadgroup && epoch_of(written) < group_start) {  // unless another thread writes it later: then that is a race
        postpone(a.code, a.line, "reads byte %zu of %s, which was never written", i << r.shift, r.what);
    } else if (!(written & PRESENT)) {
        stop(a.code, a.line, "reads byte %zu of %s, which was never written", i << r.shift, r.what);
    } else if (written & CONCURRENT && !epoch_of(written)) {
        stop(a.code, a.line, "reads byte %zu of %s that another dispatch writes, with no barrier between", i << r.shift, r.what);
    }
    if (!is_ordered(r, written, a.who, order)) race(r, a, i, written, "reads", "wrote");
    uint64_t marks = read & ELSEWHERE;
    if (!read || (r.is_threadgroup && epoch_of(read) < group_start)) {
        marks = 0;
    } else if (epoch_of(read) < group_start) {
        marks = ELSEWHERE;
    } else if (epoch_of(read) == *r.epoch) {
        if (who_of(read) == a.who) marks |= read & (order_of(read) == order ? MARKS & ~PRESENT : uint64_t(SIMDGROUPS | ELSEWHERE));
        else if (simdgroup_of(who_of(read)) != simdgroup_of(a.who)) marks |= SIMDGROUPS;
        else marks |= (read & SIMDGROUPS) | (order_of(read) == order ? uint64_t(SEVERAL) : 0);
    }
    cell.read = key | marks;
}

static inline void note_writing(const Region &r, const Access &a, size_t i, uint64_t key, uint32_t order) {
    Cell &cell = r.cells[i];
    const uint64_t written = cell.written, read = cell.read;
    const bool are_atomic = written & key & ATOMIC;
    if ((written & PRESENT) && !are_atomic && !is_ordered(r, written, a.who, order)) race(r, a, i, written, "writes", "wrote");
    if (read && !(r.is_threadgroup && epoch_of(read) < group_start)) {
        const bool is_now = epoch_of(read) == *r.epoch;
        const bool is_shared = is_now && (read & SEVERAL) && simdgroup_of(who_of(read)) == simdgroup_of(a.who) && order_of(read) == order;
        if ((read & ELSEWHERE) || (is_now && (read & SIMDGROUPS)) || is_shared || !is_ordered(r, read, a.who, order)) {
            race(r, a, i, read, "writes", "read");
        }
    }
    cell.written = key;
}

[[noreturn]] __attribute__((noinline, cold)) static void outside(const Region &r, const Access &a, long at, const char *does) {
    if (!r.what) stop(a.code, a.line, "%s %zu bytes that belong to none of its parameters", does, a.nbytes);
    const char *does_write = *does == 'w' ? "writes" : "reads";
    if (at < 0) stop(a.code, a.line, "%s %zu bytes of %s, %ld bytes before its beginning", does_write, a.nbytes, r.what, -at);
    stop(a.code, a.line, "%s %zu bytes of %s at byte %ld, %ld beyond its end at %zu", does_write, a.nbytes, r.what, at,
         at + long(a.nbytes) - long(r.nbytes), r.nbytes);
}

enum Kind { READ, WRITE, CHANGE, SET };  // the last two are atomic

template <Kind kind> static inline void check(const void *address, const Access &a) {
    const uintptr_t at = uintptr_t(address) - arena;
    if (at >= ARENA_BYTES) {
        if (uintptr_t(address) - stacks < STACKS_BYTES || uintptr_t(address) - uintptr_t(&__executable_start) < uintptr_t(&_end) - uintptr_t(&__executable_start)) return;
        stop(a.code, a.line, "%s %zu bytes at an address that belongs to none of its parameters", kind == READ ? "reads" : "writes", a.nbytes);
    }
    const Region &r = regions[at >> SLOT_SHIFT];
    const size_t from = uintptr_t(address) - r.base;
    if (from >= r.nbytes || a.nbytes > r.nbytes - from) outside(r, a, long(from), kind == READ ? "reads" : "writes");
    if (kind != READ && !r.is_writable) stop(a.code, a.line, "writes %zu bytes of %s, %s", a.nbytes, r.what, r.because);
    if (!r.cells) return;
    const uint32_t order = group.simdgroups[current->simdgroup].order & ORDER_MASK;
    const uint64_t key = *r.epoch << EPOCH_SHIFT | uint64_t(order) << ORDER_SHIFT | uint64_t(a.who) << WHO_SHIFT | PRESENT;
    for (size_t i = from >> r.shift; i <= (from + a.nbytes - 1) >> r.shift; i++) {
        if (kind == READ) note_reading(r, a, i, key, order);
        if (kind == CHANGE && !(r.cells[i].written & PRESENT)) note_reading(r, a, i, key, order);
        if (kind != READ) note_writing(r, a, i, key | (kind == WRITE ? 0 : uint64_t(ATOMIC)), order);
    }
}

// Addresses of a region of so many bytes; `skew` keeps the alignment that they have in their buffer.
static unsigned char *open_region(Region &r, unsigned slot, size_t nbytes, size_t skew, bool has_cells, unsigned grain) {
    const uintptr_t start = arena + (uintptr_t(slot) << SLOT_SHIFT) + (uintptr_t(1) << (SLOT_SHIFT - 1));
    r.base = start + skew;
    r.nbytes = nbytes;
    r.shift = grain == 4 ? 2 : grain == 2 ? 1 : 0;
    const size_t needed = (nbytes + skew + 64 + 4095) & ~size_t(4095);
    if (needed > uintptr_t(1) << (SLOT_SHIFT - 1)) stop(0, 0, "%s has %zu bytes, more than are checked", r.what, nbytes);
    if (needed > r.committed) {
        mprotect(reinterpret_cast<void *>(start), needed, PROT_READ | PROT_WRITE);
        r.committed = needed;
    }
    r.cells = nullptr;
    if (!has_cells) return reinterpret_cast<unsigned char *>(r.base);
    const size_t cells = ((nbytes >> r.shift) + 2) * sizeof(Cell);
    if (cells > r.cells_committed) {
        if (r.cell_memory) munmap(r.cell_memory, r.cells_committed);
        r.cell_memory = static_cast<Cell *>(reserve(cells, PROT_READ | PROT_WRITE));
        r.cells_committed = cells;
    } else {
        memset(r.cell_memory, 0, cells);
    }
    r.cells = r.cell_memory;
    return reinterpret_cast<unsigned char *>(r.base);
}

}  // namespace host
