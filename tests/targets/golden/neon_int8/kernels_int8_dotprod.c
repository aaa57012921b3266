/* small CNN: int8. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"
#include "int8_assembly.h"
#include "fixed.h"
#include "int8_plain.h"

#pragma GCC diagnostic ignored "-Woverlength-strings" /* of assembly */

/* 8 rows of x at a time, times 8 packed columns of w. */
static void int8_strip_dotprod_8x8_1d_k9_only(const int8_t *x, size_t ldx, const void *w, int8_t *y, size_t ldy,
    size_t tiles, size_t depth, size_t count1, size_t pitch1)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n add x9, x8, %[ldx]\n add x10, x9, %[ldx]\n add x11, x10, %[ldx]\n "
        "add x12, x11, %[ldx]\n add x13, x12, %[ldx]\n add x14, x13, %[ldx]\n add x15, x14, %[ldx]\n "
        /* one tile: biases */
        "0:\n"
        "add x16, %[w], #112\n ld1 {v16.4s, v17.4s}, [x16]\n ld1 {v18.4s, v19.4s}, [x16]\n "
        "ld1 {v20.4s, v21.4s}, [x16]\n ld1 {v22.4s, v23.4s}, [x16]\n ld1 {v24.4s, v25.4s}, [x16]\n "
        "ld1 {v26.4s, v27.4s}, [x16]\n ld1 {v28.4s, v29.4s}, [x16]\n ld1 {v30.4s, v31.4s}, [x16], #32\n "
        /* the first weights */
        "mov x7, %[count1]\n "
        "2:\n"
        WEIGHTS4(8, 9, 10, 11) WEIGHTS4(12, 13, 14, 15)
        /* the last 9 */
        "ldr d0, [x8], #8\n ld1 {v0.b}[8], [x8], #1\n ldr d1, [x9], #8\n ld1 {v1.b}[8], [x9], #1\n "
        "ldr d2, [x10], #8\n ld1 {v2.b}[8], [x10], #1\n ldr d3, [x11], #8\n ld1 {v3.b}[8], [x11], #1\n "
        "ldr d4, [x12], #8\n ld1 {v4.b}[8], [x12], #1\n ldr d5, [x13], #8\n ld1 {v5.b}[8], [x13], #1\n "
        "ldr d6, [x14], #8\n ld1 {v6.b}[8], [x14], #1\n ldr d7, [x15], #8\n ld1 {v7.b}[8], [x15], #1\n "
        DOT4(16, 18, 20, 22, 8, 0, 1, 2, 3, 0) DOT4(24, 26, 28, 30, 8, 4, 5, 6, 7, 0)
        DOT4(17, 19, 21, 23, 9, 0, 1, 2, 3, 0) DOT4(25, 27, 29, 31, 9, 4, 5, 6, 7, 0)
        DOT4(16, 18, 20, 22, 10, 0, 1, 2, 3, 1) DOT4(24, 26, 28, 30, 10, 4, 5, 6, 7, 1)
        DOT4(17, 19, 21, 23, 11, 0, 1, 2, 3, 1) DOT4(25, 27, 29, 31, 11, 4, 5, 6, 7, 1)
        DOT4(16, 18, 20, 22, 12, 0, 1, 2, 3, 2) DOT4(24, 26, 28, 30, 12, 4, 5, 6, 7, 2)
        DOT4(17, 19, 21, 23, 13, 0, 1, 2, 3, 2) DOT4(25, 27, 29, 31, 13, 4, 5, 6, 7, 2)
        /* the next part of each row */
        "subs x7, x7, #1\n sub x16, x16, #32\n add x8, x8, %[jump1]\n add x9, x9, %[jump1]\n "
        "add x10, x10, %[jump1]\n add x11, x11, %[jump1]\n add x12, x12, %[jump1]\n add x13, x13, %[jump1]\n "
        "add x14, x14, %[jump1]\n add x15, x15, %[jump1]\n b.ne 2b\n "
        /* sums to bytes */
        "ldr q0, [%[w]]\n ldp q3, q4, [%[w], #48]\n ldp q5, q6, [%[w], #80]\n " RESULT2(16, 17) RESULT2(18, 19)
        RESULT2(20, 21) RESULT2(22, 23) RESULT2(24, 25) RESULT2(26, 27) RESULT2(28, 29) RESULT2(30, 31)
        /* results */
        "str d16, [%[y]]\n add %[y], %[y], %[ldy]\n str d18, [%[y]]\n add %[y], %[y], %[ldy]\n "
        "str d20, [%[y]]\n add %[y], %[y], %[ldy]\n str d22, [%[y]]\n add %[y], %[y], %[ldy]\n "
        "str d24, [%[y]]\n add %[y], %[y], %[ldy]\n str d26, [%[y]]\n add %[y], %[y], %[ldy]\n "
        "str d28, [%[y]]\n add %[y], %[y], %[ldy]\n str d30, [%[y]]\n add %[y], %[y], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n add x9, x9, %[next]\n add x10, x10, %[next]\n "
        "add x11, x11, %[next]\n add x12, x12, %[next]\n add x13, x13, %[next]\n add x14, x14, %[next]\n "
        "add x15, x15, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles)
        : [x] "r"(x), [ldx] "r"(ldx), [w] "r"(w), [ldy] "r"(ldy),
          [count1] "r"(count1), [jump1] "r"(pitch1 - depth),
          [next] "r"(8 * ldx - count1 * pitch1)
        : "cc", "memory", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x6", "x16", "x7", VECTORS);
#else
    const struct panel panel = {8, 8, 8, 1, 4, 0};
    plain_strip(x, ldx, w, y, ldy, tiles, panel, (struct walk){depth, count1, pitch1, 1, 0, 1, 0});
#endif
}

/* 8 lines of y, in tiles of 8 x 8. */
void int8_product_dotprod_64x8x27_4b49a9(const int8_t *x, const void *w, int8_t *y)
{
    const char *panel = w;
    for (size_t j = 0; j + 8 <= 8; j += 8) {
        for (size_t i = 0; i < 8; i++) {
            int8_strip_dotprod_8x8_1d_k9_only(x + i * 108, 6, panel, y + i * 64 + j, 8, 1, 9, 3, 54);
        }
        panel += 432;
    }
}

/* 8 rows of x at a time, times 8 packed columns of w. */
static void int8_strip_dotprod_8x8_k8_only(const int8_t *x, size_t ldx, const void *w, int8_t *y, size_t ldy,
    size_t tiles, size_t depth)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n add x9, x8, %[ldx]\n add x10, x9, %[ldx]\n add x11, x10, %[ldx]\n "
        "add x12, x11, %[ldx]\n add x13, x12, %[ldx]\n add x14, x13, %[ldx]\n add x15, x14, %[ldx]\n "
        /* one tile: biases */
        "0:\n"
        "add x16, %[w], #112\n ld1 {v16.4s, v17.4s}, [x16]\n ld1 {v18.4s, v19.4s}, [x16]\n "
        "ld1 {v20.4s, v21.4s}, [x16]\n ld1 {v22.4s, v23.4s}, [x16]\n ld1 {v24.4s, v25.4s}, [x16]\n "
        "ld1 {v26.4s, v27.4s}, [x16]\n ld1 {v28.4s, v29.4s}, [x16]\n ld1 {v30.4s, v31.4s}, [x16], #32\n "
        /* the first weights */
        WEIGHTS4(8, 9, 10, 11) WEIGHTS4(12, 13, 14, 15)
        /* the last 8 */
        "ldr d0, [x8], #8\n ldr d1, [x9], #8\n ldr d2, [x10], #8\n ldr d3, [x11], #8\n ldr d4, [x12], #8\n "
        "ldr d5, [x13], #8\n ldr d6, [x14], #8\n ldr d7, [x15], #8\n " DOT4(16, 18, 20, 22, 8, 0, 1, 2, 3, 0)
        DOT4(24, 26, 28, 30, 8, 4, 5, 6, 7, 0) DOT4(17, 19, 21, 23, 9, 0, 1, 2, 3, 0)
        DOT4(25, 27, 29, 31, 9, 4, 5, 6, 7, 0) DOT4(16, 18, 20, 22, 10, 0, 1, 2, 3, 1)
        DOT4(24, 26, 28, 30, 10, 4, 5, 6, 7, 1) DOT4(17, 19, 21, 23, 11, 0, 1, 2, 3, 1)
        DOT4(25, 27, 29, 31, 11, 4, 5, 6, 7, 1)
        /* sums to bytes */
        "ldr q0, [%[w]]\n ldp q3, q4, [%[w], #48]\n ldp q5, q6, [%[w], #80]\n " RESULT2(16, 17) RESULT2(18, 19)
        RESULT2(20, 21) RESULT2(22, 23) RESULT2(24, 25) RESULT2(26, 27) RESULT2(28, 29) RESULT2(30, 31)
        /* results */
        "str d16, [%[y]]\n add %[y], %[y], %[ldy]\n str d18, [%[y]]\n add %[y], %[y], %[ldy]\n "
        "str d20, [%[y]]\n add %[y], %[y], %[ldy]\n str d22, [%[y]]\n add %[y], %[y], %[ldy]\n "
        "str d24, [%[y]]\n add %[y], %[y], %[ldy]\n str d26, [%[y]]\n add %[y], %[y], %[ldy]\n "
        "str d28, [%[y]]\n add %[y], %[y], %[ldy]\n str d30, [%[y]]\n add %[y], %[y], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n add x9, x9, %[next]\n add x10, x10, %[next]\n "
        "add x11, x11, %[next]\n add x12, x12, %[next]\n add x13, x13, %[next]\n add x14, x14, %[next]\n "
        "add x15, x15, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles)
        : [x] "r"(x), [ldx] "r"(ldx), [w] "r"(w), [ldy] "r"(ldy),
          [next] "r"(8 * ldx - depth)
        : "cc", "memory", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x6", "x16", VECTORS);
#else
    const struct panel panel = {8, 8, 8, 1, 4, 0};
    plain_strip(x, ldx, w, y, ldy, tiles, panel, (struct walk){depth, 1, 0, 1, 0, 1, 0});
#endif
}

/* 1 lines of y, in tiles of 8 x 8. */
void int8_product_dotprod_64x8x8_b5dd50(const int8_t *x, const void *w, int8_t *y)
{
    const char *panel = w;
    for (size_t j = 0; j + 8 <= 8; j += 8) {
        int8_strip_dotprod_8x8_k8_only(x, 8, panel, y + j, 8, 8, 8);
        panel += 208;
    }
}

/* 1 rows of x at a time, times 10 packed columns of w. */
static void int8_strip_dotprod_1x10(const int8_t *x, size_t ldx, const void *w, int8_t *y, size_t ldy, size_t tiles,
    size_t depth)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n "
        /* one tile: biases */
        "0:\n"
        "add x16, %[w], #144\n ld1 {v10.4s, v11.4s, v12.4s}, [x16], #48\n "
        /* the first weights */
        WEIGHTS4(2, 3, 4, 5) WEIGHTS4(6, 7, 8, 9)
        /* 32 elements of each row */
        "mov x17, %[turns]\n "
        "1:\n"
        "ld1 {v0.4s, v1.4s}, [x8], #32\n subs x17, x17, #1\n " DOT(10, 2, 0, 0) DOT(11, 3, 0, 0)
        DOT(12, 4, 0, 0) DOT(10, 5, 0, 1) WEIGHTS4(2, 3, 4, 5) DOT(11, 6, 0, 1) DOT(12, 7, 0, 1)
        DOT(10, 8, 0, 2) DOT(11, 9, 0, 2) WEIGHTS4(6, 7, 8, 9) DOT(12, 2, 0, 2) DOT(10, 3, 0, 3)
        DOT(11, 4, 0, 3) DOT(12, 5, 0, 3) WEIGHTS4(2, 3, 4, 5) DOT(10, 6, 1, 0) DOT(11, 7, 1, 0)
        DOT(12, 8, 1, 0) DOT(10, 9, 1, 1) WEIGHTS4(6, 7, 8, 9) DOT(11, 2, 1, 1) DOT(12, 3, 1, 1)
        DOT(10, 4, 1, 2) DOT(11, 5, 1, 2) WEIGHTS4(2, 3, 4, 5) DOT(12, 6, 1, 2) DOT(10, 7, 1, 3)
        DOT(11, 8, 1, 3) DOT(12, 9, 1, 3) WEIGHTS4(6, 7, 8, 9) "b.ne 1b\n "
        /* sums to bytes */
        "ldr q0, [%[w]]\n ldp q3, q4, [%[w], #48]\n ldr q5, [%[w], #80]\n ldp q6, q7, [%[w], #96]\n "
        "ldr q8, [%[w], #128]\n " TIMES(10, 3) TIMES(11, 4) TIMES(12, 5) NUDGED(10) NUDGED(11) NUDGED(12)
        SHIFTED(10, 6) SHIFTED(11, 7) SHIFTED(12, 8) "sqxtn v10.4h, v10.4s\n sqxtn2 v10.8h, v11.4s\n "
        "sqxtn v12.4h, v12.4s\n sqadd v10.8h, v10.8h, v0.8h\n sqadd v12.8h, v12.8h, v0.8h\n "
        "sqxtn v10.8b, v10.8h\n sqxtn2 v10.16b, v12.8h\n "
        /* results */
        "mov x6, %[y]\n str d10, [x6], #8\n st1 {v10.h}[4], [x6], #2\n add %[y], %[y], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles)
        : [x] "r"(x), [ldx] "r"(ldx), [w] "r"(w), [ldy] "r"(ldy),
          [turns] "r"(depth / 32),
          [next] "r"(1 * ldx - depth)
        : "cc", "memory", "x8", "x6", "x16", "x17", VECTORS);
#else
    const struct panel panel = {1, 10, 12, 1, 4, 0};
    plain_strip(x, ldx, w, y, ldy, tiles, panel, (struct walk){depth, 1, 0, 1, 0, 1, 0});
#endif
}

/* 1 lines of y, in tiles of 1 x 12 or 10 columns. */
void int8_product_dotprod_1x10x512_925524(const int8_t *x, const void *w, int8_t *y)
{
    const char *panel = w;
    int8_strip_dotprod_1x10(x, 512, panel, y, 10, 1, 512);
}
