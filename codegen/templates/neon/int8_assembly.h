/* Groups of instructions that kernels of bytes repeat; arguments are the numbers of registers. */
#ifndef CINCEL_INT8_ASSEMBLY_H
#define CINCEL_INT8_ASSEMBLY_H

#include "assembly.h"

/* Sums += four columns of weights w times elements of rows: lane i of each. */
#define DOT(s, w, x, i) \
    "sdot v" #s ".4s, v" #w ".16b, v" #x ".4b[" #i "]\n "
#define DOT2(s, t, w, x, y, i) DOT(s, w, x, i) DOT(t, w, y, i)
#define DOT3(s, t, u, w, x, y, z, i) DOT2(s, t, w, x, y, i) DOT(u, w, z, i)
#define DOT4(s, t, u, v, w, x, y, z, q, i) DOT2(s, t, w, x, y, i) DOT2(u, v, w, z, q, i)

/* Steps of tiles that many layers have, whose sums are always the same: of 4 x 4 vectors, 4 x 2, 2 x 8 and 3 x 4. */
#define STEP4X4(a, b, c, d, x, y, z, q, i) \
    DOT4(16, 20, 24, 28, a, x, y, z, q, i) DOT4(17, 21, 25, 29, b, x, y, z, q, i) \
    DOT4(18, 22, 26, 30, c, x, y, z, q, i) DOT4(19, 23, 27, 31, d, x, y, z, q, i)
#define STEP4X2(a, b, x, y, z, q, i) \
    DOT4(16, 18, 20, 22, a, x, y, z, q, i) DOT4(17, 19, 21, 23, b, x, y, z, q, i)
#define HALF_STEP2X8(a, b, c, d, x, y, i) \
    DOT2(12, 20, a, x, y, i) DOT2(13, 21, b, x, y, i) DOT2(14, 22, c, x, y, i) DOT2(15, 23, d, x, y, i)
#define OTHER_STEP2X8(a, b, c, d, x, y, i) \
    DOT2(16, 24, a, x, y, i) DOT2(17, 25, b, x, y, i) DOT2(18, 26, c, x, y, i) DOT2(19, 27, d, x, y, i)
#define STEP3X4(a, b, c, d, x, y, z, i) \
    DOT3(14, 18, 22, a, x, y, z, i) DOT3(15, 19, 23, b, x, y, z, i) \
    DOT3(16, 20, 24, c, x, y, z, i) DOT3(17, 21, 25, d, x, y, z, i)
#define DOTS4(s, t, u, v, a, b, c, d, x, i) DOT(s, a, x, i) DOT(t, b, x, i) DOT(u, c, x, i) DOT(v, d, x, i)

/* Sums += two columns of weights w times those of pairs of rows. */
#define MATRIX(s, x, w) \
    "smmla v" #s ".4s, v" #x ".16b, v" #w ".16b\n "
#define MATRIX2(s, t, x, y, w) MATRIX(s, x, w) MATRIX(t, y, w)
#define MATRIX4(s, t, u, v, x, a, b, c, d) MATRIX(s, x, a) MATRIX(t, x, b) MATRIX(u, x, c) MATRIX(v, x, d)
#define LEFT4X8(x, y) \
    MATRIX2(13, 21, x, y, 5) MATRIX2(14, 22, x, y, 6) MATRIX2(15, 23, x, y, 7) MATRIX2(16, 24, x, y, 8)
#define RIGHT4X8(x, y) \
    MATRIX2(17, 25, x, y, 9) MATRIX2(18, 26, x, y, 10) MATRIX2(19, 27, x, y, 11) MATRIX2(20, 28, x, y, 12)
#define ZIPPED(l, h, a, b) \
    "zip1 v" #l ".2d, v" #a ".2d, v" #b ".2d\n zip2 v" #h ".2d, v" #a ".2d, v" #b ".2d\n "
#define UNZIPPED(a, b, c) \
    "uzp2 v" #c ".8h, v" #a ".8h, v" #b ".8h\n uzp1 v" #a ".8h, v" #a ".8h, v" #b ".8h\n "

/* 16 products of bytes in 16 bits, two in each; and pairs of these added to sums. */
#define LOW(p, w, x) \
    "smull v" #p ".8h, v" #w ".8b, v" #x ".8b\n "
#define HIGH(p, w, x) \
    "smlal2 v" #p ".8h, v" #w ".16b, v" #x ".16b\n "
#define PAIRS(s, p) \
    "sadalp v" #s ".4s, v" #p ".8h\n "
#define LOW4(p, q, r, s, w, a, b, c, d) LOW(p, w, a) LOW(q, w, b) LOW(r, w, c) LOW(s, w, d)
#define HIGH4(p, q, r, s, w, a, b, c, d) HIGH(p, w, a) HIGH(q, w, b) HIGH(r, w, c) HIGH(s, w, d)
#define PAIRS4(s, p, t, q, u, r, v, w) PAIRS(s, p) PAIRS(t, q) PAIRS(u, r) PAIRS(v, w)

#define SUMMED(a, b, c, d, biases) \
    "addp v" #a ".4s, v" #a ".4s, v" #b ".4s\n addp v" #c ".4s, v" #c ".4s, v" #d ".4s\n " \
    "addp v" #a ".4s, v" #a ".4s, v" #c ".4s\n add v" #a ".4s, v" #a ".4s, v" #biases ".4s\n "
#define COLUMNS2(p, q, r, s, t, u, v, x, w, y, a, b, c, d) \
    LOW4(p, q, r, s, w, a, b, c, d) LOW4(t, u, v, x, y, a, b, c, d) \
    HIGH4(p, q, r, s, w, a, b, c, d) HIGH4(t, u, v, x, y, a, b, c, d)

/* 16 products in 16 bits, the first ones and more of them; and all of these added to sums. */
#define TAP(p, q, x, w) \
    "smull v" #p ".8h, v" #x ".8b, v" #w ".8b\n " \
    "smull2 v" #q ".8h, v" #x ".16b, v" #w ".16b\n "
#define MORE(p, q, x, w) \
    "smlal v" #p ".8h, v" #x ".8b, v" #w ".8b\n " \
    "smlal2 v" #q ".8h, v" #x ".16b, v" #w ".16b\n "
#define ADDED(a, b, c, d, p, q) \
    "saddw v" #a ".4s, v" #a ".4s, v" #p ".4h\n " \
    "saddw2 v" #b ".4s, v" #b ".4s, v" #p ".8h\n " \
    "saddw v" #c ".4s, v" #c ".4s, v" #q ".4h\n " \
    "saddw2 v" #d ".4s, v" #d ".4s, v" #q ".8h\n "

/* Four vectors of sums times mantissas, rounded, then shifted, rounded half away from 0: `ssra` makes negative ones one
 * less. Then they are one vector of bytes, with the zero point, which v0 holds. */
#define TIMES(a, m) \
    "sqrdmulh v" #a ".4s, v" #a ".4s, v" #m ".4s\n "
#define NUDGED(a) \
    "ssra v" #a ".4s, v" #a ".4s, #31\n "
#define SHIFTED(a, s) \
    "srshl v" #a ".4s, v" #a ".4s, v" #s ".4s\n "
#define SCALED(a, b, c, d, m, n, o, p, s, t, u, v) \
    TIMES(a, m) TIMES(b, n) TIMES(c, o) TIMES(d, p) \
    NUDGED(a) NUDGED(b) NUDGED(c) NUDGED(d) \
    SHIFTED(a, s) SHIFTED(b, t) SHIFTED(c, u) SHIFTED(d, v)
#define BYTES(a, b, c, d) \
    "sqxtn v" #a ".4h, v" #a ".4s\n " \
    "sqxtn2 v" #a ".8h, v" #b ".4s\n " \
    "sqxtn v" #c ".4h, v" #c ".4s\n " \
    "sqxtn2 v" #c ".8h, v" #d ".4s\n " \
    "sqadd v" #a ".8h, v" #a ".8h, v0.8h\n " \
    "sqadd v" #c ".8h, v" #c ".8h, v0.8h\n " \
    "sqxtn v" #a ".8b, v" #a ".8h\n " \
    "sqxtn2 v" #a ".16b, v" #c ".8h\n "
#define BYTES2(a, b) \
    "sqxtn v" #a ".4h, v" #a ".4s\n sqxtn2 v" #a ".8h, v" #b ".4s\n " \
    "sqadd v" #a ".8h, v" #a ".8h, v0.8h\n sqxtn v" #a ".8b, v" #a ".8h\n "
#define BYTES1(a) \
    "sqxtn v" #a ".4h, v" #a ".4s\n sqadd v" #a ".8h, v" #a ".8h, v0.8h\n sqxtn v" #a ".8b, v" #a ".8h\n "
#define FACTORS(m, n, s, t) \
    "ldp q3, q4, [%[w], #" #m "]\n ldp q5, q6, [%[w], #" #n "]\n " \
    "ldp q7, q8, [%[w], #" #s "]\n ldp q9, q10, [%[w], #" #t "]\n "
#define STORED(a) \
    "st1 {v" #a ".16b}, [%[y]], %[ldy]\n "
#define RESULT(a, b, c, d, m, n, o, p, s, t, u, v) \
    SCALED(a, b, c, d, m, n, o, p, s, t, u, v) BYTES(a, b, c, d)
#define RESULT4(a, b, c, d) RESULT(a, b, c, d, 3, 4, 5, 6, 7, 8, 9, 10)
#define RESULT2(a, b) TIMES(a, 3) TIMES(b, 4) NUDGED(a) NUDGED(b) SHIFTED(a, 5) SHIFTED(b, 6) BYTES2(a, b)
#define RESULT1(a) TIMES(a, 3) NUDGED(a) SHIFTED(a, 4) BYTES1(a)

#endif
