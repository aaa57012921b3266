/* What inline assembly of several kinds of kernels repeats; arguments are the numbers of registers. */
#ifndef CINCEL_ASSEMBLY_H
#define CINCEL_ASSEMBLY_H

/* All vectors, for lists of what changes. */
#define VECTORS \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", \
    "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"

/* Four successive vectors of weights, and where the next ones lie. */
#define WEIGHTS4(a, b, c, d) \
    "ld1 {v" #a ".4s, v" #b ".4s, v" #c ".4s, v" #d ".4s}, [x16], #64\n "

/* 16 bytes of each of some rows, and where the next ones lie. */
#define ROWS2(a, b) \
    "ldr q" #a ", [x8], #16\n ldr q" #b ", [x9], #16\n "
#define ROWS4(a, b, c, d) ROWS2(a, b) \
    "ldr q" #c ", [x10], #16\n ldr q" #d ", [x11], #16\n "
#define ROWS8(a, b, c, d, e, f, g, h) ROWS4(a, b, c, d) \
    "ldr q" #e ", [x12], #16\n ldr q" #f ", [x13], #16\n ldr q" #g ", [x14], #16\n ldr q" #h ", [x15], #16\n "

/* Sums begin with 0. */
#define ZERO(a) \
    "movi v" #a ".4s, #0\n "
#define ZERO4(a, b, c, d) ZERO(a) ZERO(b) ZERO(c) ZERO(d)

#endif
