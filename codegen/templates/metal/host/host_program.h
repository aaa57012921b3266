// What the program that runs a plan knows of the kernels in the text: the generated file lists them.
#pragma once
#include "host_runtime.h"

namespace host {

struct Call {
    void *buffers[32], *memories[32];
    uint32_t group[3], groups[3], place[3], threads[3], in_group, lane, simdgroup, simdgroups;
};

// `grain`: bytes of the smallest element that is told apart, 1, 2 or 4.
struct Parameter {
    const char *name;
    unsigned index, grain, nbytes;
    bool is_threadgroup, is_const;
};

struct Kernel {
    const char *name;
    void (*call)(const Call &);
    const Parameter *parameters;
    unsigned parameter_count;
};

extern const Kernel kernels[];

constexpr unsigned grain_of(size_t align) { return align > 4 ? 4u : unsigned(align); }

}  // namespace host
