// Threads of a threadgroup as fibres: one takes thread after thread, and only where a thread waits another goes on.
#pragma once
#include "run_memory.h"

namespace host {

static Fibre outer, fibres[1025], *running = &outer, *idle[1025];
static unsigned idle_count, fibre_count;
static Thread *ready[1024];
static uint32_t ready_from, ready_count;

static void push_ready(Thread &t) {
    t.wait = RUNS;
    ready[(ready_from + ready_count++) & 1023] = &t;
}

// Goes on with another fibre, until one comes back to this.
static void switch_to(Fibre &to) {
    Fibre &from = *running;
    running = &to;
    if (_setjmp(from.place) == 0) {
        current = to.thread;
        if (to.has_started) _longjmp(to.place, 1);
        to.has_started = true;
        setcontext(&to.start);
    }
}

static void run_threads();

static Fibre &some_fibre() {
    if (idle_count) return *idle[--idle_count];
    Fibre &made = fibres[fibre_count];
    char *stack = reinterpret_cast<char *>(stacks) + STACK_BYTES * fibre_count++;
    mprotect(stack, 4096, PROT_NONE);
    getcontext(&made.start);
    made.start.uc_stack.ss_sp = stack;
    made.start.uc_stack.ss_size = STACK_BYTES;
    made.start.uc_link = nullptr;
    makecontext(&made.start, run_threads, 0);
    return made;
}

// The thread that runs cannot go on; returns when it can.
static void next_thread() {
    if (ready_count) {
        Thread &t = *ready[ready_from];
        ready_from = (ready_from + 1) & 1023;
        ready_count--;
        switch_to(*t.fibre);
    } else if (group.fresh < group.size) {
        switch_to(some_fibre());
    } else {
        switch_to(outer);
    }
}

static void check_traces(Simdgroup &s, uint32_t first, int line) {
    for (uint32_t i = 1; i < s.size; i++) {
        if (group.threads[first + i].matrix_trace != group.threads[first].matrix_trace) {
            stop(0, line, "the matrix operations of %s differ from those of %s in its simdgroup", thread_name(first + i), thread_name(first));
        }
    }
}

// All threads of a simdgroup wait or are through: those that wait at the first line of the text go on.
static void resolve(Simdgroup &s, uint32_t first) {
    int line = 0;
    const char *what = nullptr;
    for (uint32_t i = 0; i < s.size; i++) {
        const Thread &t = group.threads[first + i];
        if ((t.wait != AT_EXCHANGE && t.wait != AT_SIMDGROUP_BARRIER) || (line && t.line >= line)) continue;
        line = t.line;
        what = t.what;
    }
    if (!line) return;
    s.lanes.active = 0;
    bool is_barrier = false;
    for (uint32_t i = 0; i < s.size; i++) {
        Thread &t = group.threads[first + i];
        if ((t.wait != AT_EXCHANGE && t.wait != AT_SIMDGROUP_BARRIER) || t.line != line || t.what != what) continue;
        is_barrier = is_barrier || t.wait == AT_SIMDGROUP_BARRIER;
        s.lanes.active |= 1u << i;
        memcpy(s.lanes.values[i], t.given, 16);
    }
    for (uint32_t i = 0; i < s.size; i++) {
        const bool is_active = s.lanes.active >> i & 1;
        if (is_barrier && !is_active) {
            const Thread &t = group.threads[first + i];
            stop(0, line, "waits at a simdgroup_barrier that %s of its simdgroup never reaches: it %s", thread_name(first + i),
                 t.wait == FINISHED ? "returned" : "waits elsewhere");
        }
        if (is_active) {
            s.running++;
            push_ready(group.threads[first + i]);
        }
    }
    if (is_barrier) {
        s.order++;
        check_traces(s, first, line);
    }
}

// Leaves the thread waiting until it is ready.
static void wait(Wait where, int line, const char *what) {
    Thread &t = *current;
    Simdgroup &s = group.simdgroups[t.simdgroup];
    t.wait = where;
    t.line = line;
    t.what = what;
    if (--s.running == 0) resolve(s, t.local - t.lane);
    next_thread();
}

const Lanes &exchange(const void *value, unsigned nbytes, int line, const char *what) {
    Thread &t = *current;
    memcpy(t.given, value, nbytes);
    wait(AT_EXCHANGE, line, what);
    Lanes &lanes = group.simdgroups[t.simdgroup].lanes;
    lanes.lane = t.lane;
    return lanes;
}

void simdgroup_barrier(unsigned, int line) { wait(AT_SIMDGROUP_BARRIER, line, "simdgroup_barrier"); }

[[noreturn]] static void unreached(int line) {
    for (uint32_t i = 0; i < group.size; i++) {
        if (group.threads[i].wait != FINISHED) continue;
        current = nullptr;
        stop(0, line, "%u threads of threadgroup (%u, %u, %u) wait at a threadgroup_barrier that %u others never reach: %s returned", group.arrived,
             group.call.group[0], group.call.group[1], group.call.group[2], group.finished, thread_name(i));
    }
    abort();
}

static void pass_barrier() {
    tell_postponed();
    for (uint32_t first = 0; first < group.size; first += 32) {
        check_traces(group.simdgroups[first / 32], first, group.barrier_line);
        group.simdgroups[first / 32].running = group.simdgroups[first / 32].size;
    }
    if (group.flags & DEVICE) device_epoch = ++clock_now;
    if (group.flags & THREADGROUP) threadgroup_epoch = ++clock_now;
    group.arrived = 0;
    for (uint32_t i = 0; i < group.size; i++) push_ready(group.threads[i]);
}

void group_barrier(unsigned flags, int line) {
    if (group.arrived && group.barrier_line != line) {
        stop(0, line, "waits at a threadgroup_barrier while %u threads of the group wait at that of line %d", group.arrived, group.barrier_line);
    }
    group.barrier_line = line;
    group.flags = flags;
    group.arrived++;
    if (group.arrived == group.size) {
        Thread &t = *current;
        t.wait = AT_GROUP_BARRIER;
        pass_barrier();
        next_thread();
        return;
    }
    if (group.finished && group.arrived + group.finished == group.size) unreached(line);
    wait(AT_GROUP_BARRIER, line, "threadgroup_barrier");
}

static void start_thread(Thread &t, uint32_t local) {
    t.wait = RUNS;
    t.local = local;
    t.lane = local & 31;
    t.simdgroup = local >> 5;
    t.matrix_trace = 0;
    t.fibre = running;
    running->thread = current = &t;
    position(local, group.call.place);
    group.call.in_group = local;
    group.call.lane = t.lane;
    group.call.simdgroup = t.simdgroup;
}

static void finish_thread(Thread &t) {
    t.wait = FINISHED;
    group.finished++;
    if (group.arrived && group.arrived + group.finished == group.size) unreached(group.barrier_line);
    Simdgroup &s = group.simdgroups[t.simdgroup];
    if (--s.running == 0) resolve(s, t.local - t.lane);
}

// What a fibre does for ever.
static void run_threads() {
    for (;;) {
        while (group.fresh < group.size && !ready_count) {
            Thread &t = group.threads[group.fresh];
            start_thread(t, group.fresh++);
            group.kernel->call(group.call);
            finish_thread(t);
        }
        running->thread = nullptr;
        idle[idle_count++] = running;
        next_thread();
    }
}

static void run_group() {
    outer.has_started = true;
    group.fresh = group.arrived = group.finished = 0;
    group_start = device_epoch = threadgroup_epoch = ++clock_now;
    for (uint32_t first = 0; first < group.size; first += 32) {
        Simdgroup &s = group.simdgroups[first / 32];
        s.size = s.running = group.size - first < 32 ? group.size - first : 32;
        s.order = 0;
    }
    switch_to(some_fibre());
    current = nullptr;
    tell_postponed();
    for (uint32_t first = 0; first < group.size; first += 32) check_traces(group.simdgroups[first / 32], first, 0);
}

}  // namespace host
