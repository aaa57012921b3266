// 8x8 matrices. The first thread of a simdgroup computes for all of it; the others leave a trace, which has to agree.
#pragma once
#include "run_threads.h"

namespace host {

typedef float Row __attribute__((vector_size(32)));

static float narrowed(float x, Element kind) {
    if (kind == FLOAT) return x;
    return kind == HALF ? metal::host_widen(metal::host_narrow(x)) : metal::host_widen_brain(metal::host_narrow_brain(x));
}

// Notes an operation; whether this thread has to do it.
static inline bool leads(int line, uint64_t detail) {
    Thread &t = *current;
    t.matrix_trace = (t.matrix_trace ^ uint64_t(line) ^ detail << 20) * 0x9e3779b97f4a7c15u;
    if (t.lane) return false;
    if (group.simdgroups[t.simdgroup].size != 32) fault("uses simdgroup matrices in a simdgroup of fewer than 32 threads", line);
    return true;
}

static inline void use(const Matrix &m, int line) {
    if (m.holder != LEADER) fault("uses a simdgroup matrix that was never given a value", line);
}

void fill(Matrix &m, const float *diagonal, float rest, int line) {
    m.holder = LEADER;
    if (!leads(line, 1)) return;
    for (int i = 0; i < 64; i++) m.all[i] = diagonal && i % 9 ? 0.0f : diagonal ? *diagonal : rest;
}

template <Kind kind> static void check_matrix(const void *at, unsigned nbytes, long row_stride, long column_stride, int line) {
    if (!arena) return;
    const Access row = {0, line, 1024 + current->simdgroup, size_t(8 * nbytes)}, one = {0, line, row.who, nbytes};
    const char *from = static_cast<const char *>(at);
    for (int i = 0; i < 8; i++) {
        if (column_stride == 1) check<kind>(from + i * row_stride * long(nbytes), row);
        else for (int j = 0; j < 8; j++) check<kind>(from + (i * row_stride + j * column_stride) * long(nbytes), one);
    }
}

void load(Matrix &m, Element kind, const void *from, long row_stride, long column_stride, int line) {
    m.holder = LEADER;
    if (!leads(line, uintptr_t(from) ^ uint64_t(row_stride) << 33)) return;
    check_matrix<READ>(from, kind == FLOAT ? 4 : 2, row_stride, column_stride, line);
    for (long i = 0; i < 8; i++) {
        for (long j = 0; j < 8; j++) {
            const long at = i * row_stride + j * column_stride;
            const uint16_t *narrow = static_cast<const uint16_t *>(from);
            float &to = m.all[i * 8 + j];
            if (kind == FLOAT) to = static_cast<const float *>(from)[at];
            else to = kind == HALF ? metal::host_widen(narrow[at]) : metal::host_widen_brain(narrow[at]);
        }
    }
}

void store(Matrix &m, Element kind, void *to, long row_stride, long column_stride, int line) {
    use(m, line);
    if (!leads(line, uintptr_t(to) ^ uint64_t(row_stride) << 33)) return;
    check_matrix<WRITE>(to, kind == FLOAT ? 4 : 2, row_stride, column_stride, line);
    for (long i = 0; i < 8; i++) {
        for (long j = 0; j < 8; j++) {
            const long at = i * row_stride + j * column_stride;
            uint16_t *narrow = static_cast<uint16_t *>(to);
            const float x = m.all[i * 8 + j];
            if (kind == FLOAT) static_cast<float *>(to)[at] = x;
            else narrow[at] = kind == HALF ? metal::host_narrow(x) : metal::host_narrow_brain(x);
        }
    }
}

void multiply(Matrix &d, Element kind, Matrix &a, Matrix &b, Matrix *c, int line) {
    use(a, line);
    use(b, line);
    if (c) use(*c, line);
    d.holder = LEADER;
    if (!leads(line, 2)) return;
    Row rows[8];
    for (int i = 0; i < 8; i++) {
        Row sum = {};
        if (c) memcpy(&sum, c->all + i * 8, 32);
        for (int k = 0; k < 8; k++) {
            Row x;
            memcpy(&x, b.all + k * 8, 32);
            sum += a.all[i * 8 + k] * x;
        }
        rows[i] = sum;
    }
    memcpy(d.all, rows, sizeof rows);
    if (kind != FLOAT) {
        for (float &x : d.all) x = narrowed(x, kind);
    }
}

// Where the two elements of a thread lie: Apple's GPUs give each quad a square of 4x4 in two halves.
static unsigned place_of(unsigned lane) {
    const unsigned quad = lane / 4, row = (quad & 4) + (lane / 2) % 4, column = (quad & 2) * 2 + (lane % 2) * 2;
    return row * 8 + column;
}

static void all_take_part(const Lanes &lanes, int line) {
    if (lanes.active != 0xffffffffu) fault("uses elements of a simdgroup matrix while other threads of the simdgroup do not", line);
}

void spread(Matrix &m, float *two, int line) {
    use(m, line);
    m.holder = EVERYBODY;
    const Matrix *mine = &m;
    const Lanes &lanes = exchange(&mine, sizeof mine, line, __func__);
    all_take_part(lanes, line);
    const Matrix *first;
    memcpy(&first, lanes.values[0], sizeof first);
    memcpy(two, first->all + place_of(current->lane), 8);
    exchange(&mine, sizeof mine, line, __func__);  // the first thread may change it from here on
}

void gather(Matrix &m, const float *two, int line) {
    const Lanes &lanes = exchange(two, 8, line, __func__);
    all_take_part(lanes, line);
    m.holder = LEADER;
    if (current->lane) return;
    for (unsigned i = 0; i < 32; i++) memcpy(m.all + place_of(i), lanes.values[i], 8);
}

}  // namespace host
