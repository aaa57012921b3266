// The threads of a threadgroup while it runs, and how a fault is told.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "host_program.h"

extern "C" char __executable_start, _end;  // of the linker: where the program lies

namespace host {

enum Wait : uint8_t { RUNS, AT_GROUP_BARRIER, AT_SIMDGROUP_BARRIER, AT_EXCHANGE, FINISHED };

struct Fibre {
    jmp_buf place;
    ucontext_t start;
    bool has_started;
    struct Thread *thread;
};

struct Thread {
    Wait wait;
    int line;
    const char *what;
    uint32_t local, lane, simdgroup;
    uint64_t matrix_trace;  // of the matrix operations that it came by
    Fibre *fibre;
    alignas(16) unsigned char given[16];
};

struct Simdgroup {
    unsigned running, size;
    uint32_t order;  // how many barriers it passed
    Lanes lanes;
};

struct Group {
    const Kernel *kernel;
    unsigned dispatch;
    Call call;
    uint32_t size, fresh, arrived, finished;
    int barrier_line;
    unsigned flags;
    Thread threads[1024];
    Simdgroup simdgroups[32];
};

static Group group;
static Thread *current;  // the thread that runs; none between kernels

static void position(uint32_t local, uint32_t *to) {
    to[0] = local % group.call.threads[0];
    to[1] = local / group.call.threads[0] % group.call.threads[1];
    to[2] = local / group.call.threads[0] / group.call.threads[1];
}

// A fault as one line: the address of the instruction and the line of the text, 0 if not known, and the sentence.
struct Fault {
    char text[1200];
};
static Fault last, postponed;

static void compose(Fault &to, uintptr_t code, int line, const char *format, va_list rest) {
    const size_t room = sizeof to.text;
    int n = snprintf(to.text, room, "fault %lx %d ", code ? (unsigned long)(code - uintptr_t(&__executable_start)) : 0ul, line);
    if (current) {
        uint32_t at[3];
        position(current->local, at);
        n += snprintf(to.text + n, room - n, "kernel %s in dispatch %u, thread (%u, %u, %u) of threadgroup (%u, %u, %u): ", group.kernel->name,
                      group.dispatch, at[0], at[1], at[2], group.call.group[0], group.call.group[1], group.call.group[2]);
    } else if (group.kernel) {
        n += snprintf(to.text + n, room - n, "kernel %s in dispatch %u: ", group.kernel->name, group.dispatch);
    }
    vsnprintf(to.text + n, room - n, format, rest);
}

[[noreturn]] static void tell(const Fault &f) {
    puts(f.text);
    fflush(stdout);
    _exit(3);
}

// Ends the program with a fault; with the one that was postponed, if there is one.
[[noreturn]] static void stop(uintptr_t code, int line, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    compose(last, code, line, format, rest);
    va_end(rest);
    tell(*postponed.text ? postponed : last);
}

// A fault that what comes until the next barrier may explain better.
static void postpone(uintptr_t code, int line, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    if (!*postponed.text) compose(postponed, code, line, format, rest);
    va_end(rest);
}

static void tell_postponed() {
    if (*postponed.text) tell(postponed);
}

void fault(const char *what, int line) { stop(0, line, "%s", what); }

// The thread as words, in one of a few buffers.
static const char *thread_name(uint32_t local) {
    static char names[4][64];
    static int next;
    uint32_t at[3];
    position(local, at);
    char *to = names[next++ & 3];
    snprintf(to, sizeof names[0], "thread (%u, %u, %u)", at[0], at[1], at[2]);
    return to;
}

static void *reserve(size_t nbytes, int access) {
    void *made = mmap(nullptr, nbytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) stop(0, 0, "the system has no %zu bytes of addresses to run the plan in", nbytes);
    return made;
}

}  // namespace host
