// Runs a plan on the processor: `program weights.bin` in a folder with run.txt and in0.bin ..., which gets out0.bin ...
#include "run_checked.h"
#ifdef HOST_CHECKS
#include "run_hooks.h"
#else
void host::atomic_access(const void *, unsigned, int) {}
void host::atomic_set(const void *, unsigned, int) {}
#endif

namespace host {

static void run_plain(const Dispatch &d) {
    static unsigned char memory[32][65536] __attribute__((aligned(256)));
    for (unsigned i = 0; i < d.buffer_count; i++) {
        const Buffer &b = buffers[d.buffers[i].buffer];
        group.call.buffers[i] = places[b.place].bytes + b.offset + d.buffers[i].offset;
    }
    if (d.numbers_bytes) group.call.buffers[d.buffer_count] = const_cast<unsigned char *>(d.numbers);
    for (unsigned i = 0; i < d.memory_count; i++) {
        memset(memory[i], 0xff, d.memories[i]);
        group.call.memories[i] = memory[i];
    }
    run_grid(d);
}

static void write_file(size_t i, const char *kind, const unsigned char *from, size_t nbytes) {
    char name[64];
    snprintf(name, sizeof name, "out%zu.%s", i, kind);
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(from, 1, nbytes, file) != nbytes || fclose(file)) stop(0, 0, "%s cannot be written", name);
}

// Files of buffers: `needed` bytes of each (all where the plan says so) have to be written.
static void write_results(bool checks) {
    for (size_t count = number(), i = 0; i < count; i++) {
        const Buffer &b = buffers[number()];
        const size_t sizes = number(), width = number();
        size_t needed = number();
        if (sizes != size_t(-1)) {
            const Buffer &of = buffers[sizes];
            needed = width;
            for (size_t j = 0; j + 8 <= of.nbytes; j += 8) {
                long n;
                memcpy(&n, places[of.place].bytes + of.offset + j, 8);
                needed *= n > 0 ? size_t(n) : 0;
            }
            write_file(i, "sizes", places[of.place].bytes + of.offset, of.nbytes);
            if (needed > b.nbytes) stop(0, 0, "output %s has %zu bytes of room, its sizes ask for %zu", b.name, b.nbytes, needed);
        }
        const Place &p = places[b.place];
        for (size_t j = 0; checks && p.stamps && j < needed; j++) {
            const uint32_t by = p.stamps[b.offset + j];
            if (!by || buffers[stamps[by].buffer].name != b.name) stop(0, 0, "byte %zu of output %s was never written", j, b.name);
        }
        write_file(i, "bin", p.bytes + b.offset, needed);
    }
}

}  // namespace host

int main(int, char **arguments) {
    using namespace host;
#ifdef HOST_CHECKS
    const bool checks = true;
#else
    const bool checks = false;
#endif
    told = fopen("run.txt", "r");
    if (!told) return 1;
    stacks = reinterpret_cast<uintptr_t>(reserve(STACKS_BYTES, PROT_READ | PROT_WRITE));
    read_places(arguments[1], checks);
    read_buffers();
    read_dispatches();
    if (checks) start_checks();
    for (unsigned i = 0; i < dispatch_count; i++) {
        group.kernel = &kernels[dispatches[i].kernel];
        group.dispatch = i;
        if (checks) run_checked(i);
        else run_plain(dispatches[i]);
    }
    current = nullptr;
    group.kernel = nullptr;
    write_results(checks);
    return 0;
}
