// A dispatch with checks: what it is bound to is copied into regions, and what it wrote back; hazards between dispatches.
#pragma once
#include "run_plan.h"

namespace host {

// Who wrote a byte: a buffer in a dispatch. Stamp 0 is nobody.
struct Stamp {
    unsigned buffer, dispatch;
};
static Stamp *stamps;
static unsigned stamp_count = 1, barrier_at;  // the first dispatch since the last barrier

// Bytes of memory that a dispatch reads or may write; parameters that overlap share them.
struct Span {
    unsigned place, buffer, dispatch;
    size_t from, to;
    bool is_const;
    unsigned grain, slot;
    char what[200];
};
static Span *readings;  // since the last barrier
static unsigned reading_count;

static const Parameter *parameter_of(const Kernel &k, unsigned index, bool is_threadgroup) {
    for (unsigned i = 0; i < k.parameter_count; i++) {
        if (k.parameters[i].index == index && k.parameters[i].is_threadgroup == is_threadgroup) return &k.parameters[i];
    }
    return nullptr;
}

static bool overlap(const Span &a, const Span &b) { return a.place == b.place && a.from < b.to && b.from < a.to; }

static Span span_of(const Dispatch &d, unsigned i, unsigned index) {
    const Bound &bound = d.buffers[i];
    const Buffer &b = buffers[bound.buffer];
    const Parameter &p = *parameter_of(*group.kernel, i, false);
    if (bound.offset > b.nbytes) stop(0, 0, "parameter %s begins beyond the end of buffer %s", p.name, b.name);
    Span s = {b.place, bound.buffer, index, b.offset + bound.offset, b.offset + b.nbytes, p.is_const, p.grain, i, {}};
    snprintf(s.what, sizeof s.what, "parameter %s (buffer %s)", p.name, b.name);
    return s;
}

// The mark of a byte at the start of a dispatch: of what it may read, given by whom.
static uint64_t mark_of(const Span &s, size_t at) {
    const Place &p = places[s.place];
    if (!p.stamps) return PRESENT;
    const Stamp &by = stamps[p.stamps[at]];
    if (!p.stamps[at] || by.buffer != s.buffer) return 0;
    return by.dispatch >= barrier_at ? uint64_t(PRESENT | CONCURRENT) : uint64_t(PRESENT);
}

static bool are_given(const Span &s) {
    if (!places[s.place].stamps) return true;
    for (size_t i = s.from; i < s.to; i++) {
        const uint64_t mark = mark_of(s, i);
        if ((mark & CONCURRENT) && s.is_const) {
            stop(0, 0, "reads %s that dispatch %u writes, with no barrier between", s.what, stamps[places[s.place].stamps[i]].dispatch);
        }
        if (mark != PRESENT) return false;
    }
    return true;
}

// The first byte of the memory that the region of a span holds.
static size_t lowest(const Span *spans, unsigned count, unsigned slot) {
    size_t low = spans[slot].from;
    for (unsigned i = slot; i < count; i++) {
        if (spans[i].slot == slot && spans[i].from < low) low = spans[i].from;
    }
    return low;
}

static void open_slot(const Span *spans, unsigned count, unsigned slot) {
    Region &r = regions[slot];
    const size_t from = lowest(spans, count, slot);
    size_t to = 0;
    bool is_const = true, is_given = true;
    unsigned grain = 4;
    for (unsigned j = slot; j < count; j++) {
        const Span &s = spans[j];
        if (s.slot != slot) continue;
        to = s.to > to ? s.to : to;
        is_const = is_const && s.is_const;
        grain = s.grain < grain ? s.grain : grain;
        if (!are_given(s)) is_given = false;
    }
    const Place &p = places[spans[slot].place];
    r.what = spans[slot].what;
    r.is_writable = !is_const && p.stamps;
    r.because = is_const ? "which is const" : p.because;
    r.epoch = &device_epoch;
    r.is_threadgroup = false;
    unsigned char *bytes = open_region(r, slot, to - from, from & 255, r.is_writable || !is_given, grain);
    memcpy(bytes, p.bytes + from, to - from);
    for (unsigned j = slot; j < count && r.cells; j++) {
        const Span &s = spans[j];
        if (s.slot != slot) continue;
        for (size_t i = s.from; i < s.to; i++) r.cells[(i - from) >> r.shift].written |= mark_of(s, i);
    }
}

// One slot, the lower, for all that have one of two.
static void join(Span *spans, unsigned last, unsigned a, unsigned b) {
    for (unsigned i = 0; i <= last; i++) {
        if (spans[i].slot == a || spans[i].slot == b) spans[i].slot = a < b ? a : b;
    }
}

// Opens the regions of a dispatch's buffers: one for all that overlap, in the first one's slot.
static void open_regions(Span *spans, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (overlap(spans[j], spans[i])) join(spans, i, spans[i].slot, spans[j].slot);
        }
    }
    for (unsigned slot = 0; slot < count; slot++) {
        if (spans[slot].slot == slot) open_slot(spans, count, slot);
    }
    for (unsigned i = 0; i < count; i++) {
        const Region &r = regions[spans[i].slot];
        group.call.buffers[i] = reinterpret_cast<void *>(r.base + (spans[i].from - lowest(spans, count, spans[i].slot)));
    }
}

static void open_numbers(const Dispatch &d) {
    const unsigned slot = d.buffer_count;
    const Parameter *p = d.numbers_bytes ? parameter_of(*group.kernel, slot, false) : nullptr;
    if (!p) return;
    if (p->nbytes != d.numbers_bytes) stop(0, 0, "parameter %s has %u bytes, the numbers of the plan have %u", p->name, p->nbytes, d.numbers_bytes);
    static char what[200];
    snprintf(what, sizeof what, "parameter %s", p->name);
    Region &r = regions[slot];
    r.what = what;
    r.is_writable = r.is_threadgroup = false;
    r.because = "which is constant";
    r.epoch = &device_epoch;
    memcpy(open_region(r, slot, d.numbers_bytes, 0, false, 4), d.numbers, d.numbers_bytes);
    group.call.buffers[slot] = reinterpret_cast<void *>(r.base);
}

static void open_memories(const Dispatch &d) {
    static char names[32][200];
    for (unsigned i = 0; i < d.memory_count; i++) {
        const Parameter *p = parameter_of(*group.kernel, i, true);
        if (!p) continue;
        Region &r = regions[32 + i];
        snprintf(names[i], sizeof names[i], "parameter %s", p->name);
        r.what = names[i];
        r.is_writable = r.is_threadgroup = true;
        r.epoch = &threadgroup_epoch;
        memset(open_region(r, 32 + i, d.memories[i], 0, true, p->grain), 0xff, d.memories[i]);
        group.call.memories[i] = reinterpret_cast<void *>(r.base);
    }
}

// Copies what was written back, and looks for other dispatches that may run at the same time and touch it.
static void close_span(const Span &s, size_t low) {
    const Region &r = regions[s.slot];
    Place &p = places[s.place];
    if (!r.is_writable || s.is_const) return;
    stamps[stamp_count] = {s.buffer, s.dispatch};
    bool is_disputed = false;
    for (unsigned j = 0; j < reading_count; j++) is_disputed = is_disputed || (readings[j].dispatch != s.dispatch && overlap(readings[j], s));
    const unsigned char *bytes = reinterpret_cast<unsigned char *>(r.base);
    for (size_t i = s.from; i < s.to; i++) {
        if (!epoch_of(r.cells[(i - low) >> r.shift].written)) continue;
        const Stamp &by = stamps[p.stamps[i]];
        if (p.stamps[i] && by.dispatch >= barrier_at && by.dispatch != s.dispatch) {
            stop(0, 0, "writes %s where dispatch %u writes, with no barrier between", s.what, by.dispatch);
        }
        for (unsigned j = 0; is_disputed && j < reading_count; j++) {
            const Span &other = readings[j];
            if (other.dispatch == s.dispatch || other.place != s.place || i < other.from || i >= other.to) continue;
            stop(0, 0, "writes %s where dispatch %u reads %s, with no barrier between", s.what, other.dispatch, other.what);
        }
        p.bytes[i] = bytes[i - low];
        p.stamps[i] = stamp_count;
    }
    stamp_count++;
}

static void run_checked(unsigned index) {
    const Dispatch &d = dispatches[index];
    static Span spans[32];
    if (d.is_after_barrier) {
        barrier_at = index;
        reading_count = 0;
    }
    for (Region &r : regions) {
        r.what = nullptr;
        r.nbytes = 0;
    }
    for (unsigned i = 0; i < d.buffer_count; i++) spans[i] = span_of(d, i, index);
    open_regions(spans, d.buffer_count);
    open_numbers(d);
    open_memories(d);
    run_grid(d);
    for (unsigned i = 0; i < d.buffer_count; i++) {
        close_span(spans[i], lowest(spans, d.buffer_count, spans[i].slot));
    }
    for (unsigned i = 0; i < d.buffer_count; i++) {
        if (spans[i].place != 1) readings[reading_count++] = spans[i];
    }
}

static void start_checks() {
    arena = reinterpret_cast<uintptr_t>(reserve(ARENA_BYTES, PROT_NONE));
    stamps = make<Stamp>(32 * dispatch_count + 1);
    readings = make<Span>(32 * dispatch_count);
}

}  // namespace host
