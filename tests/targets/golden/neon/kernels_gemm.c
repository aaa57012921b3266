/* small CNN: gemm. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"

#pragma GCC diagnostic ignored "-Woverlength-strings" /* of assembly */

#if defined(__aarch64__)
/* 8 elements of each of 8 rows times 8 columns; weights are loaded ahead. */
#define TURN_8X8 \
    "ldr q0, [x8], #16\n ldr q1, [x9], #16\n ldr q2, [x10], #16\n ldr q3, [x11], #16\n ldr q4, [x12], #16\n " \
    "ldr q5, [x13], #16\n ldr q6, [x14], #16\n ldr q7, [x15], #16\n subs x17, x17, #1\n " \
    "fmla v16.4s, v8.4s, v0.s[0]\n fmla v18.4s, v8.4s, v1.s[0]\n fmla v20.4s, v8.4s, v2.s[0]\n " \
    "fmla v22.4s, v8.4s, v3.s[0]\n fmla v24.4s, v8.4s, v4.s[0]\n fmla v26.4s, v8.4s, v5.s[0]\n " \
    "fmla v28.4s, v8.4s, v6.s[0]\n fmla v30.4s, v8.4s, v7.s[0]\n fmla v17.4s, v9.4s, v0.s[0]\n " \
    "fmla v19.4s, v9.4s, v1.s[0]\n fmla v21.4s, v9.4s, v2.s[0]\n fmla v23.4s, v9.4s, v3.s[0]\n " \
    "fmla v25.4s, v9.4s, v4.s[0]\n fmla v27.4s, v9.4s, v5.s[0]\n fmla v29.4s, v9.4s, v6.s[0]\n " \
    "fmla v31.4s, v9.4s, v7.s[0]\n fmla v16.4s, v10.4s, v0.s[1]\n fmla v18.4s, v10.4s, v1.s[1]\n " \
    "fmla v20.4s, v10.4s, v2.s[1]\n fmla v22.4s, v10.4s, v3.s[1]\n fmla v24.4s, v10.4s, v4.s[1]\n " \
    "fmla v26.4s, v10.4s, v5.s[1]\n fmla v28.4s, v10.4s, v6.s[1]\n fmla v30.4s, v10.4s, v7.s[1]\n " \
    "fmla v17.4s, v11.4s, v0.s[1]\n fmla v19.4s, v11.4s, v1.s[1]\n fmla v21.4s, v11.4s, v2.s[1]\n " \
    "fmla v23.4s, v11.4s, v3.s[1]\n fmla v25.4s, v11.4s, v4.s[1]\n fmla v27.4s, v11.4s, v5.s[1]\n " \
    "fmla v29.4s, v11.4s, v6.s[1]\n fmla v31.4s, v11.4s, v7.s[1]\n " \
    "ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [x16], #64\n fmla v16.4s, v12.4s, v0.s[2]\n " \
    "fmla v18.4s, v12.4s, v1.s[2]\n fmla v20.4s, v12.4s, v2.s[2]\n fmla v22.4s, v12.4s, v3.s[2]\n " \
    "fmla v24.4s, v12.4s, v4.s[2]\n fmla v26.4s, v12.4s, v5.s[2]\n fmla v28.4s, v12.4s, v6.s[2]\n " \
    "fmla v30.4s, v12.4s, v7.s[2]\n fmla v17.4s, v13.4s, v0.s[2]\n fmla v19.4s, v13.4s, v1.s[2]\n " \
    "fmla v21.4s, v13.4s, v2.s[2]\n fmla v23.4s, v13.4s, v3.s[2]\n fmla v25.4s, v13.4s, v4.s[2]\n " \
    "fmla v27.4s, v13.4s, v5.s[2]\n fmla v29.4s, v13.4s, v6.s[2]\n fmla v31.4s, v13.4s, v7.s[2]\n " \
    "fmla v16.4s, v14.4s, v0.s[3]\n fmla v18.4s, v14.4s, v1.s[3]\n fmla v20.4s, v14.4s, v2.s[3]\n " \
    "fmla v22.4s, v14.4s, v3.s[3]\n fmla v24.4s, v14.4s, v4.s[3]\n fmla v26.4s, v14.4s, v5.s[3]\n " \
    "fmla v28.4s, v14.4s, v6.s[3]\n fmla v30.4s, v14.4s, v7.s[3]\n fmla v17.4s, v15.4s, v0.s[3]\n " \
    "fmla v19.4s, v15.4s, v1.s[3]\n fmla v21.4s, v15.4s, v2.s[3]\n fmla v23.4s, v15.4s, v3.s[3]\n " \
    "fmla v25.4s, v15.4s, v4.s[3]\n fmla v27.4s, v15.4s, v5.s[3]\n fmla v29.4s, v15.4s, v6.s[3]\n " \
    "fmla v31.4s, v15.4s, v7.s[3]\n ld1 {v12.4s, v13.4s, v14.4s, v15.4s}, [x16], #64\n ldr q0, [x8], #16\n " \
    "ldr q1, [x9], #16\n ldr q2, [x10], #16\n ldr q3, [x11], #16\n ldr q4, [x12], #16\n ldr q5, [x13], #16\n " \
    "ldr q6, [x14], #16\n ldr q7, [x15], #16\n fmla v16.4s, v8.4s, v0.s[0]\n fmla v18.4s, v8.4s, v1.s[0]\n " \
    "fmla v20.4s, v8.4s, v2.s[0]\n fmla v22.4s, v8.4s, v3.s[0]\n fmla v24.4s, v8.4s, v4.s[0]\n " \
    "fmla v26.4s, v8.4s, v5.s[0]\n fmla v28.4s, v8.4s, v6.s[0]\n fmla v30.4s, v8.4s, v7.s[0]\n " \
    "fmla v17.4s, v9.4s, v0.s[0]\n fmla v19.4s, v9.4s, v1.s[0]\n fmla v21.4s, v9.4s, v2.s[0]\n " \
    "fmla v23.4s, v9.4s, v3.s[0]\n fmla v25.4s, v9.4s, v4.s[0]\n fmla v27.4s, v9.4s, v5.s[0]\n " \
    "fmla v29.4s, v9.4s, v6.s[0]\n fmla v31.4s, v9.4s, v7.s[0]\n fmla v16.4s, v10.4s, v0.s[1]\n " \
    "fmla v18.4s, v10.4s, v1.s[1]\n fmla v20.4s, v10.4s, v2.s[1]\n fmla v22.4s, v10.4s, v3.s[1]\n " \
    "fmla v24.4s, v10.4s, v4.s[1]\n fmla v26.4s, v10.4s, v5.s[1]\n fmla v28.4s, v10.4s, v6.s[1]\n " \
    "fmla v30.4s, v10.4s, v7.s[1]\n fmla v17.4s, v11.4s, v0.s[1]\n fmla v19.4s, v11.4s, v1.s[1]\n " \
    "fmla v21.4s, v11.4s, v2.s[1]\n fmla v23.4s, v11.4s, v3.s[1]\n fmla v25.4s, v11.4s, v4.s[1]\n " \
    "fmla v27.4s, v11.4s, v5.s[1]\n fmla v29.4s, v11.4s, v6.s[1]\n fmla v31.4s, v11.4s, v7.s[1]\n " \
    "ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [x16], #64\n fmla v16.4s, v12.4s, v0.s[2]\n " \
    "fmla v18.4s, v12.4s, v1.s[2]\n fmla v20.4s, v12.4s, v2.s[2]\n fmla v22.4s, v12.4s, v3.s[2]\n " \
    "fmla v24.4s, v12.4s, v4.s[2]\n fmla v26.4s, v12.4s, v5.s[2]\n fmla v28.4s, v12.4s, v6.s[2]\n " \
    "fmla v30.4s, v12.4s, v7.s[2]\n fmla v17.4s, v13.4s, v0.s[2]\n fmla v19.4s, v13.4s, v1.s[2]\n " \
    "fmla v21.4s, v13.4s, v2.s[2]\n fmla v23.4s, v13.4s, v3.s[2]\n fmla v25.4s, v13.4s, v4.s[2]\n " \
    "fmla v27.4s, v13.4s, v5.s[2]\n fmla v29.4s, v13.4s, v6.s[2]\n fmla v31.4s, v13.4s, v7.s[2]\n " \
    "fmla v16.4s, v14.4s, v0.s[3]\n fmla v18.4s, v14.4s, v1.s[3]\n fmla v20.4s, v14.4s, v2.s[3]\n " \
    "fmla v22.4s, v14.4s, v3.s[3]\n fmla v24.4s, v14.4s, v4.s[3]\n fmla v26.4s, v14.4s, v5.s[3]\n " \
    "fmla v28.4s, v14.4s, v6.s[3]\n fmla v30.4s, v14.4s, v7.s[3]\n fmla v17.4s, v15.4s, v0.s[3]\n " \
    "fmla v19.4s, v15.4s, v1.s[3]\n fmla v21.4s, v15.4s, v2.s[3]\n fmla v23.4s, v15.4s, v3.s[3]\n " \
    "fmla v25.4s, v15.4s, v4.s[3]\n fmla v27.4s, v15.4s, v5.s[3]\n fmla v29.4s, v15.4s, v6.s[3]\n " \
    "fmla v31.4s, v15.4s, v7.s[3]\n ld1 {v12.4s, v13.4s, v14.4s, v15.4s}, [x16], #64\n "
#endif

/* 8 rows of x at a time, times 8 packed columns of w. */
static void conv1_strip_8x8_k1_relu(const float *x, size_t ldx, const float *w, float *y, size_t ldy, size_t tiles,
    size_t depth, size_t count1, size_t pitch1)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n add x9, x8, %[ldx]\n add x10, x9, %[ldx]\n add x11, x10, %[ldx]\n add x12, x11, %[ldx]\n "
        "add x13, x12, %[ldx]\n add x14, x13, %[ldx]\n add x15, x14, %[ldx]\n "
        /* one tile: biases */
        "0:\n"
        "mov x16, %[w]\n ld1 {v16.4s, v17.4s}, [x16]\n ld1 {v18.4s, v19.4s}, [x16]\n ld1 {v20.4s, v21.4s}, [x16]\n "
        "ld1 {v22.4s, v23.4s}, [x16]\n ld1 {v24.4s, v25.4s}, [x16]\n ld1 {v26.4s, v27.4s}, [x16]\n "
        "ld1 {v28.4s, v29.4s}, [x16]\n ld1 {v30.4s, v31.4s}, [x16], #32\n "
        /* its weights, which are loaded ahead */
        "mov x7, %[count1]\n "
        "2:\n"
        "ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [x16], #64\n ld1 {v12.4s, v13.4s, v14.4s, v15.4s}, [x16], #64\n "
        /* 8 elements of each row */
        "mov x17, %[turns]\n "
        "1:\n"
        TURN_8X8
        "b.ne 1b\n "
        /* the last 1 */
        "ldr s0, [x8], #4\n ldr s1, [x9], #4\n ldr s2, [x10], #4\n ldr s3, [x11], #4\n ldr s4, [x12], #4\n "
        "ldr s5, [x13], #4\n ldr s6, [x14], #4\n ldr s7, [x15], #4\n fmla v16.4s, v8.4s, v0.s[0]\n "
        "fmla v18.4s, v8.4s, v1.s[0]\n fmla v20.4s, v8.4s, v2.s[0]\n fmla v22.4s, v8.4s, v3.s[0]\n "
        "fmla v24.4s, v8.4s, v4.s[0]\n fmla v26.4s, v8.4s, v5.s[0]\n fmla v28.4s, v8.4s, v6.s[0]\n "
        "fmla v30.4s, v8.4s, v7.s[0]\n fmla v17.4s, v9.4s, v0.s[0]\n fmla v19.4s, v9.4s, v1.s[0]\n "
        "fmla v21.4s, v9.4s, v2.s[0]\n fmla v23.4s, v9.4s, v3.s[0]\n fmla v25.4s, v9.4s, v4.s[0]\n "
        "fmla v27.4s, v9.4s, v5.s[0]\n fmla v29.4s, v9.4s, v6.s[0]\n fmla v31.4s, v9.4s, v7.s[0]\n "
        /* the next part of each row */
        "subs x7, x7, #1\n sub x16, x16, #96\n add x8, x8, %[jump1]\n add x9, x9, %[jump1]\n "
        "add x10, x10, %[jump1]\n add x11, x11, %[jump1]\n add x12, x12, %[jump1]\n add x13, x13, %[jump1]\n "
        "add x14, x14, %[jump1]\n add x15, x15, %[jump1]\n b.ne 2b\n "
        /* max, then stored */
        "movi v0.4s, #0\n fmax v16.4s, v16.4s, v0.4s\n fmax v17.4s, v17.4s, v0.4s\n "
        "st1 {v16.4s, v17.4s}, [%[y]], %[ldy]\n fmax v18.4s, v18.4s, v0.4s\n fmax v19.4s, v19.4s, v0.4s\n "
        "st1 {v18.4s, v19.4s}, [%[y]], %[ldy]\n fmax v20.4s, v20.4s, v0.4s\n fmax v21.4s, v21.4s, v0.4s\n "
        "st1 {v20.4s, v21.4s}, [%[y]], %[ldy]\n fmax v22.4s, v22.4s, v0.4s\n fmax v23.4s, v23.4s, v0.4s\n "
        "st1 {v22.4s, v23.4s}, [%[y]], %[ldy]\n fmax v24.4s, v24.4s, v0.4s\n fmax v25.4s, v25.4s, v0.4s\n "
        "st1 {v24.4s, v25.4s}, [%[y]], %[ldy]\n fmax v26.4s, v26.4s, v0.4s\n fmax v27.4s, v27.4s, v0.4s\n "
        "st1 {v26.4s, v27.4s}, [%[y]], %[ldy]\n fmax v28.4s, v28.4s, v0.4s\n fmax v29.4s, v29.4s, v0.4s\n "
        "st1 {v28.4s, v29.4s}, [%[y]], %[ldy]\n fmax v30.4s, v30.4s, v0.4s\n fmax v31.4s, v31.4s, v0.4s\n "
        "st1 {v30.4s, v31.4s}, [%[y]], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n add x9, x9, %[next]\n add x10, x10, %[next]\n "
        "add x11, x11, %[next]\n add x12, x12, %[next]\n add x13, x13, %[next]\n add x14, x14, %[next]\n "
        "add x15, x15, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles)
        : [x] "r"(x), [ldx] "r"(4 * ldx), [w] "r"(w), [ldy] "r"(4 * ldy),
          [turns] "r"(depth / 8),
          [count1] "r"(count1), [jump1] "r"(4 * (pitch1 - depth)),
          [next] "r"(4 * (8 * ldx - count1 * pitch1))
        : "cc", "memory",
          "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x6", "x16", "x17", "x7", "v0", "v1", "v2", "v3",
          "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19",
          "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#else
    for (; tiles; tiles--) {
        float32x4_t tile[8][2];
        for (size_t i = 0; i < 8; i++)
            for (size_t j = 0; j < 2; j++)
                tile[i][j] = vld1q_f32(w + 4 * j);
        const float *wi = w + 8;
        for (size_t s1 = 0; s1 < count1; s1++) {
            const size_t start = s1 * pitch1;
            for (size_t c = start; c < start + depth; c++, wi += 8)
                for (size_t i = 0; i < 8; i++)
                    for (size_t j = 0; j < 2; j++)
                        tile[i][j] = vfmaq_n_f32(tile[i][j], vld1q_f32(wi + 4 * j), x[i * ldx + c]);
        }
        for (size_t i = 0; i < 8; i++) {
            for (size_t j = 0; j < 2; j++) {
                const float32x4_t a = tile[i][j];
                const float32x4_t a_0 = vmaxq_f32(a, vdupq_n_f32(0.0f));
                vst1q_f32(y + 4 * j, a_0);
            }
            y += ldy;
        }
        x += 8 * ldx;
    }
#endif
}

/* 3 x 3 filters, 3 to 8 channels, 8 x 8 pixels, in tiles of 8 pixels x 8 filters. */
void conv_3x3_3_at_18x18_to_8_s2x2_relu(const float *x, const float *w, float *y, size_t begin, size_t last)
{
    for (size_t top = begin; top < last; top += 8) {
        const size_t end = top + 8 < last ? top + 8 : last;
        const float *panel = w;
        for (size_t j = 0; j + 8 <= 8; j += 8) {
            for (size_t i = top; i < end; i++) {
                const float *xi = x + i * 108;
                float *yi = y + i * 64;
                conv1_strip_8x8_k1_relu(xi, 6, panel, yi + j, 8, 1, 9, 3, 54);
            }
            panel += 28 * 8;

        }
    }
}

/* 8 rows of x at a time, times 8 packed columns of w. */
static void gemm_strip_8x8_add_dcb20b(const float *x, size_t ldx, const float *w, const float *r, float *y, size_t ldy,
    size_t tiles, size_t depth)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n add x9, x8, %[ldx]\n add x10, x9, %[ldx]\n add x11, x10, %[ldx]\n add x12, x11, %[ldx]\n "
        "add x13, x12, %[ldx]\n add x14, x13, %[ldx]\n add x15, x14, %[ldx]\n "
        /* one tile: biases */
        "0:\n"
        "mov x16, %[w]\n ld1 {v16.4s, v17.4s}, [x16]\n ld1 {v18.4s, v19.4s}, [x16]\n ld1 {v20.4s, v21.4s}, [x16]\n "
        "ld1 {v22.4s, v23.4s}, [x16]\n ld1 {v24.4s, v25.4s}, [x16]\n ld1 {v26.4s, v27.4s}, [x16]\n "
        "ld1 {v28.4s, v29.4s}, [x16]\n ld1 {v30.4s, v31.4s}, [x16], #32\n "
        /* its weights, which are loaded ahead */
        "ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [x16], #64\n ld1 {v12.4s, v13.4s, v14.4s, v15.4s}, [x16], #64\n "
        /* 8 elements of each row */
        "mov x17, %[turns]\n "
        "1:\n"
        TURN_8X8
        "b.ne 1b\n "
        /* add, then stored */
        "ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n fadd v16.4s, v16.4s, v0.4s\n fadd v17.4s, v17.4s, v1.4s\n "
        "st1 {v16.4s, v17.4s}, [%[y]], %[ldy]\n ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n fadd v18.4s, v18.4s, v0.4s\n "
        "fadd v19.4s, v19.4s, v1.4s\n st1 {v18.4s, v19.4s}, [%[y]], %[ldy]\n ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n "
        "fadd v20.4s, v20.4s, v0.4s\n fadd v21.4s, v21.4s, v1.4s\n st1 {v20.4s, v21.4s}, [%[y]], %[ldy]\n "
        "ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n fadd v22.4s, v22.4s, v0.4s\n fadd v23.4s, v23.4s, v1.4s\n "
        "st1 {v22.4s, v23.4s}, [%[y]], %[ldy]\n ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n fadd v24.4s, v24.4s, v0.4s\n "
        "fadd v25.4s, v25.4s, v1.4s\n st1 {v24.4s, v25.4s}, [%[y]], %[ldy]\n ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n "
        "fadd v26.4s, v26.4s, v0.4s\n fadd v27.4s, v27.4s, v1.4s\n st1 {v26.4s, v27.4s}, [%[y]], %[ldy]\n "
        "ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n fadd v28.4s, v28.4s, v0.4s\n fadd v29.4s, v29.4s, v1.4s\n "
        "st1 {v28.4s, v29.4s}, [%[y]], %[ldy]\n ld1 {v0.4s, v1.4s}, [%[r]], %[ldy]\n fadd v30.4s, v30.4s, v0.4s\n "
        "fadd v31.4s, v31.4s, v1.4s\n st1 {v30.4s, v31.4s}, [%[y]], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n add x9, x9, %[next]\n add x10, x10, %[next]\n "
        "add x11, x11, %[next]\n add x12, x12, %[next]\n add x13, x13, %[next]\n add x14, x14, %[next]\n "
        "add x15, x15, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles), [r] "+&r"(r)
        : [x] "r"(x), [ldx] "r"(4 * ldx), [w] "r"(w), [ldy] "r"(4 * ldy),
          [turns] "r"(depth / 8),
          [next] "r"(4 * (8 * ldx - depth))
        : "cc", "memory",
          "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x6", "x16", "x17", "v0", "v1", "v2", "v3", "v4",
          "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20",
          "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#else
    for (; tiles; tiles--) {
        float32x4_t tile[8][2];
        for (size_t i = 0; i < 8; i++)
            for (size_t j = 0; j < 2; j++)
                tile[i][j] = vld1q_f32(w + 4 * j);
        const float *wi = w + 8;
        for (size_t c = 0; c < depth; c++, wi += 8)
            for (size_t i = 0; i < 8; i++)
                for (size_t j = 0; j < 2; j++)
                    tile[i][j] = vfmaq_n_f32(tile[i][j], vld1q_f32(wi + 4 * j), x[i * ldx + c]);
        for (size_t i = 0; i < 8; i++) {
            for (size_t j = 0; j < 2; j++) {
                const float32x4_t a = tile[i][j];
                const float32x4_t b = vld1q_f32(r + 4 * j);
                const float32x4_t a_0 = vaddq_f32(a, b);
                vst1q_f32(y + 4 * j, a_0);
            }
            y += ldy;
            r += ldy;
        }
        x += 8 * ldx;
    }
#endif
}

/* y [m, n] = x [m, k] w + b in tiles of 8 x 8; w is packed
 * for panels of as many columns. */
void gemm_8x8_add_dcb20b(const float *x, const float *w, const float *r, float *y, size_t tiles, size_t n, size_t k,
    size_t block)
{
    while (tiles) {
        const size_t now = tiles < block ? tiles : block;
        const float *panel = w;
        size_t j = 0;
        for (; j + 8 <= n; j += 8) {
            gemm_strip_8x8_add_dcb20b(x, k, panel, r + j, y + j, n, now, k);

            panel += (k + 1) * 8;
        }
        x += now * 8 * k;
        y += now * 8 * n;
        r += now * 8 * n;
        tiles -= now;
    }
}

#if defined(__aarch64__)
/* 8 elements of each of 1 rows times 12 columns; weights are loaded ahead. */
#define TURN_1X12 \
    "ld1 {v0.4s, v1.4s}, [x8], #32\n subs x17, x17, #1\n fmla v10.4s, v2.4s, v0.s[0]\n " \
    "fmla v11.4s, v3.4s, v0.s[0]\n fmla v12.4s, v4.4s, v0.s[0]\n fmla v10.4s, v5.4s, v0.s[1]\n " \
    "ld1 {v2.4s, v3.4s, v4.4s, v5.4s}, [x16], #64\n fmla v11.4s, v6.4s, v0.s[1]\n fmla v12.4s, v7.4s, v0.s[1]\n " \
    "fmla v10.4s, v8.4s, v0.s[2]\n fmla v11.4s, v9.4s, v0.s[2]\n ld1 {v6.4s, v7.4s, v8.4s, v9.4s}, [x16], #64\n " \
    "fmla v12.4s, v2.4s, v0.s[2]\n fmla v10.4s, v3.4s, v0.s[3]\n fmla v11.4s, v4.4s, v0.s[3]\n " \
    "fmla v12.4s, v5.4s, v0.s[3]\n ld1 {v2.4s, v3.4s, v4.4s, v5.4s}, [x16], #64\n fmla v10.4s, v6.4s, v1.s[0]\n " \
    "fmla v11.4s, v7.4s, v1.s[0]\n fmla v12.4s, v8.4s, v1.s[0]\n fmla v10.4s, v9.4s, v1.s[1]\n " \
    "ld1 {v6.4s, v7.4s, v8.4s, v9.4s}, [x16], #64\n fmla v11.4s, v2.4s, v1.s[1]\n fmla v12.4s, v3.4s, v1.s[1]\n " \
    "fmla v10.4s, v4.4s, v1.s[2]\n fmla v11.4s, v5.4s, v1.s[2]\n ld1 {v2.4s, v3.4s, v4.4s, v5.4s}, [x16], #64\n " \
    "fmla v12.4s, v6.4s, v1.s[2]\n fmla v10.4s, v7.4s, v1.s[3]\n fmla v11.4s, v8.4s, v1.s[3]\n " \
    "fmla v12.4s, v9.4s, v1.s[3]\n ld1 {v6.4s, v7.4s, v8.4s, v9.4s}, [x16], #64\n "
#endif

/* 1 rows of x at a time, times 12 packed columns of w. */
static void gemm_strip_1x12(const float *x, size_t ldx, const float *w, float *y, size_t ldy, size_t tiles,
    size_t depth)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n "
        /* one tile: biases */
        "0:\n"
        "mov x16, %[w]\n ld1 {v10.4s, v11.4s, v12.4s}, [x16], #48\n "
        /* its weights, which are loaded ahead */
        "ld1 {v2.4s, v3.4s, v4.4s, v5.4s}, [x16], #64\n ld1 {v6.4s, v7.4s, v8.4s, v9.4s}, [x16], #64\n "
        /* 8 elements of each row */
        "mov x17, %[turns]\n "
        "1:\n"
        TURN_1X12
        "b.ne 1b\n "
        /* results */
        "st1 {v10.4s, v11.4s, v12.4s}, [%[y]], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles)
        : [x] "r"(x), [ldx] "r"(4 * ldx), [w] "r"(w), [ldy] "r"(4 * ldy),
          [turns] "r"(depth / 8),
          [next] "r"(4 * (1 * ldx - depth))
        : "cc", "memory",
          "x8", "x6", "x16", "x17", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",
          "v12");
#else
    for (; tiles; tiles--) {
        float32x4_t tile[1][3];
        for (size_t i = 0; i < 1; i++)
            for (size_t j = 0; j < 3; j++)
                tile[i][j] = vld1q_f32(w + 4 * j);
        const float *wi = w + 12;
        for (size_t c = 0; c < depth; c++, wi += 12)
            for (size_t i = 0; i < 1; i++)
                for (size_t j = 0; j < 3; j++)
                    tile[i][j] = vfmaq_n_f32(tile[i][j], vld1q_f32(wi + 4 * j), x[i * ldx + c]);
        for (size_t i = 0; i < 1; i++) {
            for (size_t j = 0; j < 3; j++) {
                const float32x4_t a = tile[i][j];
                vst1q_f32(y + 4 * j, a);
            }
            y += ldy;
        }
        x += 1 * ldx;
    }
#endif
}

/* 1 rows of x at a time, times 10 packed columns of w. */
static void gemm_strip_1x10(const float *x, size_t ldx, const float *w, float *y, size_t ldy, size_t tiles,
    size_t depth)
{
#if defined(__aarch64__)
    __asm__ volatile(
        /* the rows */
        "mov x8, %[x]\n "
        /* one tile: biases */
        "0:\n"
        "mov x16, %[w]\n ld1 {v10.4s, v11.4s, v12.4s}, [x16], #48\n "
        /* its weights, which are loaded ahead */
        "ld1 {v2.4s, v3.4s, v4.4s, v5.4s}, [x16], #64\n ld1 {v6.4s, v7.4s, v8.4s, v9.4s}, [x16], #64\n "
        /* 8 elements of each row */
        "mov x17, %[turns]\n "
        "1:\n"
        TURN_1X12
        "b.ne 1b\n "
        /* results */
        "stp q10, q11, [%[y], #0]\n add x6, %[y], #32\n str d12, [x6], #8\n add %[y], %[y], %[ldy]\n "
        /* the next tile */
        "subs %[tiles], %[tiles], #1\n add x8, x8, %[next]\n b.ne 0b\n "
        : [y] "+&r"(y), [tiles] "+&r"(tiles)
        : [x] "r"(x), [ldx] "r"(4 * ldx), [w] "r"(w), [ldy] "r"(4 * ldy),
          [turns] "r"(depth / 8),
          [next] "r"(4 * (1 * ldx - depth))
        : "cc", "memory",
          "x8", "x6", "x16", "x17", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",
          "v12");
#else
    for (; tiles; tiles--) {
        float32x4_t tile[1][3];
        for (size_t i = 0; i < 1; i++)
            for (size_t j = 0; j < 3; j++)
                tile[i][j] = vld1q_f32(w + 4 * j);
        const float *wi = w + 12;
        for (size_t c = 0; c < depth; c++, wi += 12)
            for (size_t i = 0; i < 1; i++)
                for (size_t j = 0; j < 3; j++)
                    tile[i][j] = vfmaq_n_f32(tile[i][j], vld1q_f32(wi + 4 * j), x[i * ldx + c]);
        for (size_t i = 0; i < 1; i++) {
            for (size_t j = 0; j < 3; j++) {
                const float32x4_t a = tile[i][j];
                store_f32(y + 4 * j, a, 10 - 4 * j);
            }
            y += ldy;
        }
        x += 1 * ldx;
    }
#endif
}

/* y [m, n] = x [m, k] w + b in tiles of 1 x 12 or 10 columns; w is packed
 * for panels of as many columns. */
void gemm_1x12_0_10(const float *x, const float *w, float *y, size_t tiles, size_t n, size_t k, size_t block)
{
    while (tiles) {
        const size_t now = tiles < block ? tiles : block;
        const float *panel = w;
        size_t j = 0;
        for (; j + 12 <= n; j += 12) {
            gemm_strip_1x12(x, k, panel, y + j, n, now, k);

            panel += (k + 1) * 12;
        }
        if (j < n) {
            gemm_strip_1x10(x, k, panel, y + j, n, now, k);

        }
        x += now * 1 * k;
        y += now * 1 * n;
        tiles -= now;
    }
}
