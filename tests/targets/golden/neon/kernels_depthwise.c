/* small CNN: depthwise. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"

#pragma GCC diagnostic ignored "-Woverlength-strings" /* of assembly */

#if defined(__aarch64__)
/* Instructions of strips, by the numbers of their registers: weights w times channels x of a pixel, added to results y;
   eight channels of the next pixel of a row; the first values of eight results; these as they are stored; limits. */
#define TAP(y, x, w) "fmla v" #y ".4s, v" #x ".4s, v" #w ".4s\n "
#define PIXEL(a, b, row) "ld1 {v" #a ".4s, v" #b ".4s}, [%[x" #row "]], %[step" #row "]\n "
#define BIASES(a, b) "ld1 {v" #a ".4s, v" #b ".4s}, [%[w]]\n "
#define RESULT(a, b) "st1 {v" #a ".4s, v" #b ".4s}, [%[y]], %[step]\n "
#define AT_LEAST(y, limit) "fmax v" #y ".4s, v" #y ".4s, v" #limit ".4s\n "
#define AT_MOST(y, limit) "fmin v" #y ".4s, v" #y ".4s, v" #limit ".4s\n "
#endif

#if !defined(__aarch64__)
/* What strips of 8 channels do, without assembly. */
static void depthwise_twin_8_relu6(const float *const *x, const size_t *steps, const float *w, float *y,
    size_t channels, size_t lines, size_t out_width, size_t next_line, size_t rows, size_t columns, size_t stride,
    size_t left, size_t right)
{
    const size_t count = (out_width - 1) * stride + columns - left - right;
    for (size_t line = 0; line < lines; line++) {
        for (size_t i = 0; i < out_width; i++) {
            float32x4_t a0 = vld1q_f32(w);
            float32x4_t a1 = vld1q_f32(w + 4);
            for (size_t row = 0; row < rows; row++) {
                const float *from = x[row] + (steps[row] ? line * (count * channels + (ptrdiff_t)next_line / 4) : 0);
                for (size_t column = 0; column < columns; column++) {
                    const size_t at = i * stride + column - left; /* wraps around in the border */
                    if (at >= count)
                        continue;
                    const float *p = from + at * (steps[row] / 4), *tap = w + 8 * (1 + row * columns + column);
                    a0 = vfmaq_f32(a0, vld1q_f32(p), vld1q_f32(tap));
                    a1 = vfmaq_f32(a1, vld1q_f32(p + 4), vld1q_f32(tap + 4));
                }
            }
            const float32x4_t a0_0 = vmaxq_f32(a0, vdupq_n_f32(0.0f));
            const float32x4_t a0_1 = vminq_f32(a0_0, vdupq_n_f32(6.0f));
            vst1q_f32(y, a0_1);
            const float32x4_t a1_0 = vmaxq_f32(a1, vdupq_n_f32(0.0f));
            const float32x4_t a1_1 = vminq_f32(a1_0, vdupq_n_f32(6.0f));
            vst1q_f32(y + 4, a1_1);
            y += channels;
        }
    }
}
#endif

/* Lines of 8 channels: 3 x 3 taps at distances of 1, 1 and 1 columns of border. */
static void depthwise_strip_3x3_s1_8_relu6_07afc7(const float *const *x, const size_t *steps, const float *w, float *y,
    size_t channels, size_t lines, size_t out_width, size_t next_line)
{
#if defined(__aarch64__)
    const float *x0 = x[0];
    const float *x1 = x[1];
    const float *x2 = x[2];
    const size_t turns = (out_width - 2) / 3;
    size_t count;
    const float *taps;
    __asm__ volatile(
        /* weights */
        "add %[taps], %[w], #32\n ld1 {v0.4s, v1.4s, v2.4s, v3.4s}, [%[taps]], #64\n "
        "ld1 {v4.4s, v5.4s, v6.4s, v7.4s}, [%[taps]], #64\n "
        "ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [%[taps]], #64\n "
        "ld1 {v12.4s, v13.4s, v14.4s, v15.4s}, [%[taps]], #64\n ld1 {v16.4s, v17.4s}, [%[taps]], #32\n "
        "movi v30.4s, #0\n fmov v31.4s, #6.0\n "
        /* one line: its first columns */
        "0:\n"
        PIXEL(24, 25, 0) PIXEL(26, 27, 1) PIXEL(28, 29, 2) BIASES(18, 19) BIASES(20, 21) TAP(18, 24, 2)
        TAP(19, 25, 3) TAP(20, 24, 0) TAP(21, 25, 1) PIXEL(24, 25, 0) TAP(18, 26, 8) TAP(19, 27, 9)
        TAP(20, 26, 6) TAP(21, 27, 7) PIXEL(26, 27, 1) TAP(18, 28, 14) TAP(19, 29, 15) TAP(20, 28, 12)
        TAP(21, 29, 13) PIXEL(28, 29, 2)
        /* 3 pixels at a time */
        "mov %[count], %[turns]\n "
        "1:\n"
        BIASES(22, 23) TAP(18, 24, 4) TAP(19, 25, 5) TAP(20, 24, 2) TAP(21, 25, 3) TAP(22, 24, 0) TAP(23, 25, 1)
        PIXEL(24, 25, 0) TAP(18, 26, 10) TAP(19, 27, 11) TAP(20, 26, 8) TAP(21, 27, 9) TAP(22, 26, 6)
        TAP(23, 27, 7) PIXEL(26, 27, 1) TAP(18, 28, 16) TAP(19, 29, 17) TAP(20, 28, 14) TAP(21, 29, 15)
        TAP(22, 28, 12) TAP(23, 29, 13) PIXEL(28, 29, 2) AT_LEAST(18, 30) AT_LEAST(19, 30) AT_MOST(18, 31)
        AT_MOST(19, 31) RESULT(18, 19) BIASES(18, 19) TAP(20, 24, 4) TAP(21, 25, 5) TAP(22, 24, 2)
        TAP(23, 25, 3) TAP(18, 24, 0) TAP(19, 25, 1) PIXEL(24, 25, 0) TAP(20, 26, 10) TAP(21, 27, 11)
        TAP(22, 26, 8) TAP(23, 27, 9) TAP(18, 26, 6) TAP(19, 27, 7) PIXEL(26, 27, 1) TAP(20, 28, 16)
        TAP(21, 29, 17) TAP(22, 28, 14) TAP(23, 29, 15) TAP(18, 28, 12) TAP(19, 29, 13) PIXEL(28, 29, 2)
        AT_LEAST(20, 30) AT_LEAST(21, 30) AT_MOST(20, 31) AT_MOST(21, 31) RESULT(20, 21) BIASES(20, 21)
        TAP(22, 24, 4) TAP(23, 25, 5) TAP(18, 24, 2) TAP(19, 25, 3) TAP(20, 24, 0) TAP(21, 25, 1)
        PIXEL(24, 25, 0) TAP(22, 26, 10) TAP(23, 27, 11) TAP(18, 26, 8) TAP(19, 27, 9) TAP(20, 26, 6)
        TAP(21, 27, 7) PIXEL(26, 27, 1) TAP(22, 28, 16) TAP(23, 29, 17) TAP(18, 28, 14) TAP(19, 29, 15)
        TAP(20, 28, 12) TAP(21, 29, 13) PIXEL(28, 29, 2) AT_LEAST(22, 30) AT_LEAST(23, 30) AT_MOST(22, 31)
        AT_MOST(23, 31) RESULT(22, 23) "subs %[count], %[count], #1\n b.ne 1b\n "
        /* the last columns */
        TAP(18, 24, 4) TAP(19, 25, 5) TAP(20, 24, 2) TAP(21, 25, 3) TAP(18, 26, 10) TAP(19, 27, 11)
        TAP(20, 26, 8) TAP(21, 27, 9) TAP(18, 28, 16) TAP(19, 29, 17) TAP(20, 28, 14) TAP(21, 29, 15)
        AT_LEAST(18, 30) AT_LEAST(19, 30) AT_MOST(18, 31) AT_MOST(19, 31) RESULT(18, 19) AT_LEAST(20, 30)
        AT_LEAST(21, 30) AT_MOST(20, 31) AT_MOST(21, 31) RESULT(20, 21)
        /* the next line */
        "subs %[lines], %[lines], #1\n add %[x0], %[x0], %[next]\n add %[x1], %[x1], %[next]\n "
        "add %[x2], %[x2], %[next]\n b.ne 0b\n "
        : [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [y] "+r"(y), [lines] "+r"(lines), [taps] "=&r"(taps),
            [count] "=&r"(count)
        : [step0] "r"(steps[0]), [step1] "r"(steps[1]), [step2] "r"(steps[2]), [w] "r"(w), [step] "r"(4 * channels),
            [next] "r"(next_line), [turns] "r"(turns)
        : "cc", "memory",
          "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
          "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#else
    depthwise_twin_8_relu6(x, steps, w, y, channels, lines, out_width, next_line, 3, 3, 1, 1, 1);
#endif
}

/* Filters of 3 x 3, each of its own channel. */
void depthwise_3x3_s1_relu6_210359(const float *x, const float *w, float *y, size_t images, size_t height, size_t width,
    size_t channels, size_t out_height, size_t out_width, size_t begin, size_t end, size_t top, size_t block)
{
    static const float zeros[8] = {0}; /* a pixel of the border */
    const size_t pitch = width * channels;
    const size_t next_line = 4 * (pitch - (out_width) * channels);
    for (; images; images--) {
        size_t count;
        for (size_t line = begin; line < end; line += count) {
            /* Lines whose filters lie inside the image are done together, others one by one. */
            const ptrdiff_t from = (ptrdiff_t)(line * 1) - (ptrdiff_t)top;
            const ptrdiff_t room = (ptrdiff_t)height - 3 - from;
            count = from < 0 || room < 0 ? 1 : (size_t)room / 1 + 1;
            if (count > block)
                count = block;
            if (count > end - line)
                count = end - line;
            const float *rows[3], *at[3];
            size_t steps[3];
            for (size_t i = 0; i < 3; i++) {
                const ptrdiff_t row = from + (ptrdiff_t)i;
                const int is_inside = row >= 0 && row < (ptrdiff_t)height;
                rows[i] = is_inside ? x + (size_t)row * pitch : zeros;
                steps[i] = is_inside ? 4 * channels : 0;
            }
            const float *panel = w;
            for (size_t done = 0; done < channels;) {
                const size_t c = channels - done < 8 ? channels - 8 : done;
                const size_t place = line * out_width * channels + c;
                for (size_t i = 0; i < 3; i++)
                    at[i] = steps[i] ? rows[i] + c : rows[i];
                depthwise_strip_3x3_s1_8_relu6_07afc7(at, steps, panel, y + place, channels, count, out_width,
                    next_line);
                panel += 80;
                done = c + 8;
            }
        }
        x += height * pitch;
        y += out_height * out_width * channels;
    }
}
