// What the text of a kernel asks of the program that runs it.
#pragma once
#pragma GCC system_header
#include "host_types.h"

namespace host {

enum Flags : unsigned { NONE = 0, DEVICE = 1, THREADGROUP = 2 };
enum Element : int { FLOAT, HALF, BFLOAT };

// What the active threads of a simdgroup gave to an operation of all of them.
struct Lanes {
    uint32_t active;
    unsigned lane;
    alignas(16) unsigned char values[32][16];
};

// Elements of an 8x8 matrix: all of them with the first thread of the simdgroup, or two with each thread.
enum Holder : uint32_t { NOBODY = 0x7ab1e, LEADER, EVERYBODY };
struct Matrix {
    float all[64];
    uint32_t holder;
    Matrix() : holder(NOBODY) {}
    Matrix(const Matrix &) = default;
    Matrix &operator=(const Matrix &) = default;
};

void group_barrier(unsigned flags, int line);
void simdgroup_barrier(unsigned flags, int line);
// `what` tells apart the operations of a line.
const Lanes &exchange(const void *value, unsigned nbytes, int line, const char *what);
[[noreturn]] void fault(const char *what, int line);
void atomic_access(const void *address, unsigned nbytes, int line);  // reads and may write
void atomic_set(const void *address, unsigned nbytes, int line);     // writes

void fill(Matrix &m, const float *diagonal, float rest, int line);
void load(Matrix &m, Element kind, const void *from, long row_stride, long column_stride, int line);
void store(Matrix &m, Element kind, void *to, long row_stride, long column_stride, int line);
void multiply(Matrix &d, Element kind, Matrix &a, Matrix &b, Matrix *c, int line);
void spread(Matrix &m, float *two, int line);                                       // gives each thread its two elements
void gather(Matrix &m, const float *two, int line);  // takes them back

}  // namespace host
