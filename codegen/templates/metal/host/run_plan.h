// A plan as the file `run.txt` tells it: memory, buffers, dispatches, and which buffers are written to files.
#pragma once
#include <fcntl.h>

#include "run_matrix.h"

namespace host {

// Memory of the plan. `stamps` (one per byte, none where all is given) say who wrote it last.
struct Place {
    unsigned char *bytes;
    size_t nbytes;
    uint32_t *stamps;
    const char *because;
};

struct Buffer {
    unsigned place;
    size_t offset, nbytes;
    char *name;
};

struct Bound {
    unsigned buffer;
    size_t offset;
};

struct Dispatch {
    unsigned kernel, is_after_barrier, buffer_count, memory_count;
    uint32_t groups[3], threads[3];
    Bound buffers[32];
    size_t memories[32];
    unsigned char numbers[1024];
    unsigned numbers_bytes;
};

static Place *places;
static Buffer *buffers;
static Dispatch *dispatches;
static unsigned place_count, buffer_count, dispatch_count;
static FILE *told;

static size_t number() {
    size_t x;
    if (fscanf(told, "%zu", &x) != 1) stop(0, 0, "the description of the plan is broken");
    return x;
}

template <class T> static T *make(size_t count) { return static_cast<T *>(calloc(count + 1, sizeof(T))); }

static char *text() {
    char *line = nullptr;
    size_t room = 0;
    fgetc(told);
    const ssize_t n = getline(&line, &room, told);
    if (n > 0) line[n - 1] = 0;
    return line;
}

static void read_file(const char *name, unsigned char *to, size_t nbytes) {
    FILE *file = fopen(name, "rb");
    if (!file || fread(to, 1, nbytes, file) != nbytes) stop(0, 0, "%s has fewer than %zu bytes", name, nbytes);
    fclose(file);
}

// 0 is the heap, 1 the weights, then come inputs, then outputs.
static void read_places(const char *weights, bool checks) {
    const size_t heap = number(), weight_bytes = number(), inputs = number(), outputs = number();
    place_count = unsigned(2 + inputs + outputs);
    places = make<Place>(place_count);
    for (unsigned i = 0; i < place_count; i++) {
        Place &p = places[i];
        const bool is_input = i > 1 && i < 2 + inputs, is_made = i != 1 && !is_input;
        p.nbytes = i == 0 ? heap : i == 1 ? weight_bytes : number();
        p.because = i == 1 ? "which holds weights" : is_input ? "which is an input" : "";
        if (i == 1) {
            const int file = p.nbytes ? open(weights, O_RDONLY) : -1;
            if (file >= 0) p.bytes = static_cast<unsigned char *>(mmap(nullptr, p.nbytes, PROT_READ, MAP_PRIVATE, file, 0));
            continue;
        }
        p.bytes = static_cast<unsigned char *>(reserve(p.nbytes + 4096, PROT_READ | PROT_WRITE));
        if (is_made) memset(p.bytes, 0xff, p.nbytes);
        if (is_made && checks) p.stamps = static_cast<uint32_t *>(reserve(4 * p.nbytes + 4096, PROT_READ | PROT_WRITE));
        char name[32];
        snprintf(name, sizeof name, "in%u.bin", i - 2);
        if (is_input) read_file(name, p.bytes, p.nbytes);
    }
}

static void read_buffers() {
    buffer_count = unsigned(number());
    buffers = make<Buffer>(buffer_count);
    for (unsigned i = 0; i < buffer_count; i++) {
        buffers[i].place = unsigned(number());
        buffers[i].offset = number();
        buffers[i].nbytes = number();
        buffers[i].name = text();
    }
}

static void read_dispatches() {
    dispatch_count = unsigned(number());
    dispatches = make<Dispatch>(dispatch_count);
    for (unsigned i = 0; i < dispatch_count; i++) {
        Dispatch &d = dispatches[i];
        d.kernel = unsigned(number());
        d.is_after_barrier = unsigned(number());
        for (uint32_t &n : d.groups) n = uint32_t(number());
        for (uint32_t &n : d.threads) n = uint32_t(number());
        d.buffer_count = unsigned(number());
        for (unsigned j = 0; j < d.buffer_count; j++) d.buffers[j] = {unsigned(number()), 0}, d.buffers[j].offset = number();
        d.memory_count = unsigned(number());
        for (unsigned j = 0; j < d.memory_count; j++) d.memories[j] = number();
        d.numbers_bytes = unsigned(number());
        for (unsigned j = 0; j < d.numbers_bytes; j++) d.numbers[j] = static_cast<unsigned char>(number());
    }
}

static void run_grid(const Dispatch &d) {
    group.size = d.threads[0] * d.threads[1] * d.threads[2];
    group.call.simdgroups = (group.size + 31) / 32;
    memcpy(group.call.groups, d.groups, sizeof d.groups);
    memcpy(group.call.threads, d.threads, sizeof d.threads);
    uint32_t *at = group.call.group;
    for (at[2] = 0; at[2] < d.groups[2]; at[2]++) {
        for (at[1] = 0; at[1] < d.groups[1]; at[1]++) {
            for (at[0] = 0; at[0] < d.groups[0]; at[0]++) run_group();
        }
    }
}

}  // namespace host
