/* Groups of instructions that products of halves repeat; arguments are the numbers of registers, and places in bytes. */
#ifndef CINCEL_HALF_ASSEMBLY_H
#define CINCEL_HALF_ASSEMBLY_H

#include "assembly.h"

/* Sums += eight columns of weights w times elements of rows: lane i of each. */
#define FMLA(s, w, x, i) \
    "fmla v" #s ".8h, v" #w ".8h, v" #x ".h[" #i "]\n "
#define FMLA2(s, t, w, x, y, i) FMLA(s, w, x, i) FMLA(t, w, y, i)
#define FMLA3(s, t, u, w, x, y, z, i) FMLA2(s, t, w, x, y, i) FMLA(u, w, z, i)
#define FMLA4(s, t, u, v, w, x, y, z, q, i) FMLA2(s, t, w, x, y, i) FMLA2(u, v, w, z, q, i)
#define FMLA5(r, s, t, u, v, w, x, y, z, q, p, i) FMLA3(r, s, t, w, x, y, z, i) FMLA2(u, v, w, q, p, i)
#define FMLA7(a, b, c, d, e, f, g, w, n, o, p, q, r, s, t, i) \
    FMLA4(a, b, c, d, w, n, o, p, q, i) FMLA3(e, f, g, w, r, s, t, i)
#define FMLA8(a, b, c, d, e, f, g, h, w, n, o, p, q, r, s, t, u, i) \
    FMLA4(a, b, c, d, w, n, o, p, q, i) FMLA4(e, f, g, h, w, r, s, t, u, i)

#define FMLAS2(s, t, w, v, x, i) FMLA(s, w, x, i) FMLA(t, v, x, i)

/* Steps of tiles that many layers have, whose registers are always the same: of 4 x 4 vectors, 5 x 4 and 8 x 2, and of 7
 * rows and the first, second or third vector. */
#define STEP4X4(a, b, c, d, x, y, z, q, i) \
    FMLA4(16, 20, 24, 28, a, x, y, z, q, i) FMLA4(17, 21, 25, 29, b, x, y, z, q, i) \
    FMLA4(18, 22, 26, 30, c, x, y, z, q, i) FMLA4(19, 23, 27, 31, d, x, y, z, q, i)
#define STEP5X4(i) \
    FMLA5(9, 13, 17, 21, 25, 5, 0, 1, 2, 3, 4, i) FMLA5(10, 14, 18, 22, 26, 6, 0, 1, 2, 3, 4, i) \
    FMLA5(11, 15, 19, 23, 27, 7, 0, 1, 2, 3, 4, i) FMLA5(12, 16, 20, 24, 28, 8, 0, 1, 2, 3, 4, i)
#define STEP8X2(w, v, i) \
    FMLA8(16, 18, 20, 22, 24, 26, 28, 30, w, 0, 1, 2, 3, 4, 5, 6, 7, i) \
    FMLA8(17, 19, 21, 23, 25, 27, 29, 31, v, 0, 1, 2, 3, 4, 5, 6, 7, i)
#define FIRST7(w, i) FMLA7(11, 14, 17, 20, 23, 26, 29, w, 0, 1, 2, 3, 4, 5, 6, i)
#define SECOND7(w, i) FMLA7(12, 15, 18, 21, 24, 27, 30, w, 0, 1, 2, 3, 4, 5, 6, i)
#define THIRD7(w, i) FMLA7(13, 16, 19, 22, 25, 28, 31, w, 0, 1, 2, 3, 4, 5, 6, i)

/* Eight biases a, in 32 bits: l and h. */
#define WIDENED(a, l, h) \
    "fcvtl v" #l ".4s, v" #a ".4h\n fcvtl2 v" #h ".4s, v" #a ".8h\n "
#define BIASES8(a, l, h) \
    "ldr q" #a ", [x16], #16\n " WIDENED(a, l, h)
#define BEGUN(l, h, at) \
    "stp q" #l ", q" #h ", [%[sums], #" #at "]\n "

/* Sums of 16 bits are added to those of 32 bits at a place, and are 0 again; the second way takes two registers. */
#define FOLDED(a, p, q, l, h, at) \
    "ldp q" #p ", q" #q ", [%[sums], #" #at "]\n " WIDENED(a, l, h) ZERO(a) \
    "fadd v" #p ".4s, v" #p ".4s, v" #l ".4s\n fadd v" #q ".4s, v" #q ".4s, v" #h ".4s\n " \
    BEGUN(p, q, at)
#define FOLDED_PARTS(a, p, q, at, next) \
    "fcvtl v" #p ".4s, v" #a ".4h\n ldr q" #q ", [%[sums], #" #at "]\n " \
    "fadd v" #q ".4s, v" #q ".4s, v" #p ".4s\n str q" #q ", [%[sums], #" #at "]\n " \
    "fcvtl2 v" #p ".4s, v" #a ".8h\n ldr q" #q ", [%[sums], #" #next "]\n " \
    "fadd v" #q ".4s, v" #q ".4s, v" #p ".4s\n str q" #q ", [%[sums], #" #next "]\n " ZERO(a)

/* Sums of 32 bits from a place, rounded. */
#define ROUNDED(a, l, h, at) \
    "ldp q" #l ", q" #h ", [%[sums], #" #at "]\n " \
    "fcvtn v" #a ".4h, v" #l ".4s\n fcvtn2 v" #a ".8h, v" #h ".4s\n "

/* Ends of a vector, and of four. */
#define AT_LEAST(a, limit) \
    "fmax v" #a ".8h, v" #a ".8h, v" #limit ".8h\n "
#define AT_MOST(a, limit) \
    "fmin v" #a ".8h, v" #a ".8h, v" #limit ".8h\n "
#define PLUS(a, b) \
    "fadd v" #a ".8h, v" #b ".8h, v" #a ".8h\n "
#define AT_LEAST4(a, b, c, d, limit) AT_LEAST(a, limit) AT_LEAST(b, limit) AT_LEAST(c, limit) AT_LEAST(d, limit)
#define AT_MOST4(a, b, c, d, limit) AT_MOST(a, limit) AT_MOST(b, limit) AT_MOST(c, limit) AT_MOST(d, limit)
#define PLUS4(a, b, c, d, e, f, g, h) PLUS(a, e) PLUS(b, f) PLUS(c, g) PLUS(d, h)

/* A row of a tile from where biases lie, to the result, and of a second operand. */
#define BIASES4(a, b, c, d) \
    "ld1 {v" #a ".4s, v" #b ".4s, v" #c ".4s, v" #d ".4s}, [x16]\n "
#define RESULT4(a, b, c, d) \
    "st1 {v" #a ".4s, v" #b ".4s, v" #c ".4s, v" #d ".4s}, [%[y]], %[ldy]\n "
#define SECOND4(a, b, c, d) \
    "ld1 {v" #a ".4s, v" #b ".4s, v" #c ".4s, v" #d ".4s}, [%[r]], %[ldy]\n "

#endif
