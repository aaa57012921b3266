/* small CNN: depthwise. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"

#pragma GCC diagnostic ignored "-Woverlength-strings" /* of assembly */

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
        "ld1 {v4.4s, v5.4s, v6.4s, v7.4s}, [%[taps]], #64\n ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [%[taps]], #64\n "
        "ld1 {v12.4s, v13.4s, v14.4s, v15.4s}, [%[taps]], #64\n ld1 {v16.4s, v17.4s}, [%[taps]], #32\n "
        "movi v30.4s, #0\n fmov v31.4s, #6.0\n "
        /* one line: its first columns */
        "0:\n"
        "ld1 {v24.4s, v25.4s}, [%[x0]], %[step0]\n ld1 {v26.4s, v27.4s}, [%[x1]], %[step1]\n "
        "ld1 {v28.4s, v29.4s}, [%[x2]], %[step2]\n ld1 {v18.4s, v19.4s}, [%[w]]\n ld1 {v20.4s, v21.4s}, [%[w]]\n "
        "fmla v18.4s, v24.4s, v2.4s\n fmla v19.4s, v25.4s, v3.4s\n fmla v20.4s, v24.4s, v0.4s\n "
        "fmla v21.4s, v25.4s, v1.4s\n ld1 {v24.4s, v25.4s}, [%[x0]], %[step0]\n fmla v18.4s, v26.4s, v8.4s\n "
        "fmla v19.4s, v27.4s, v9.4s\n fmla v20.4s, v26.4s, v6.4s\n fmla v21.4s, v27.4s, v7.4s\n "
        "ld1 {v26.4s, v27.4s}, [%[x1]], %[step1]\n fmla v18.4s, v28.4s, v14.4s\n fmla v19.4s, v29.4s, v15.4s\n "
        "fmla v20.4s, v28.4s, v12.4s\n fmla v21.4s, v29.4s, v13.4s\n ld1 {v28.4s, v29.4s}, [%[x2]], %[step2]\n "
        /* 3 pixels at a time */
        "mov %[count], %[turns]\n "
        "1:\n"
        "ld1 {v22.4s, v23.4s}, [%[w]]\n fmla v18.4s, v24.4s, v4.4s\n fmla v19.4s, v25.4s, v5.4s\n "
        "fmla v20.4s, v24.4s, v2.4s\n fmla v21.4s, v25.4s, v3.4s\n fmla v22.4s, v24.4s, v0.4s\n "
        "fmla v23.4s, v25.4s, v1.4s\n ld1 {v24.4s, v25.4s}, [%[x0]], %[step0]\n fmla v18.4s, v26.4s, v10.4s\n "
        "fmla v19.4s, v27.4s, v11.4s\n fmla v20.4s, v26.4s, v8.4s\n fmla v21.4s, v27.4s, v9.4s\n "
        "fmla v22.4s, v26.4s, v6.4s\n fmla v23.4s, v27.4s, v7.4s\n ld1 {v26.4s, v27.4s}, [%[x1]], %[step1]\n "
        "fmla v18.4s, v28.4s, v16.4s\n fmla v19.4s, v29.4s, v17.4s\n fmla v20.4s, v28.4s, v14.4s\n "
        "fmla v21.4s, v29.4s, v15.4s\n fmla v22.4s, v28.4s, v12.4s\n fmla v23.4s, v29.4s, v13.4s\n "
        "ld1 {v28.4s, v29.4s}, [%[x2]], %[step2]\n fmax v18.4s, v18.4s, v30.4s\n fmax v19.4s, v19.4s, v30.4s\n "
        "fmin v18.4s, v18.4s, v31.4s\n fmin v19.4s, v19.4s, v31.4s\n st1 {v18.4s, v19.4s}, [%[y]], %[step]\n "
        "ld1 {v18.4s, v19.4s}, [%[w]]\n fmla v20.4s, v24.4s, v4.4s\n fmla v21.4s, v25.4s, v5.4s\n "
        "fmla v22.4s, v24.4s, v2.4s\n fmla v23.4s, v25.4s, v3.4s\n fmla v18.4s, v24.4s, v0.4s\n "
        "fmla v19.4s, v25.4s, v1.4s\n ld1 {v24.4s, v25.4s}, [%[x0]], %[step0]\n fmla v20.4s, v26.4s, v10.4s\n "
        "fmla v21.4s, v27.4s, v11.4s\n fmla v22.4s, v26.4s, v8.4s\n fmla v23.4s, v27.4s, v9.4s\n "
        "fmla v18.4s, v26.4s, v6.4s\n fmla v19.4s, v27.4s, v7.4s\n ld1 {v26.4s, v27.4s}, [%[x1]], %[step1]\n "
        "fmla v20.4s, v28.4s, v16.4s\n fmla v21.4s, v29.4s, v17.4s\n fmla v22.4s, v28.4s, v14.4s\n "
        "fmla v23.4s, v29.4s, v15.4s\n fmla v18.4s, v28.4s, v12.4s\n fmla v19.4s, v29.4s, v13.4s\n "
        "ld1 {v28.4s, v29.4s}, [%[x2]], %[step2]\n fmax v20.4s, v20.4s, v30.4s\n fmax v21.4s, v21.4s, v30.4s\n "
        "fmin v20.4s, v20.4s, v31.4s\n fmin v21.4s, v21.4s, v31.4s\n st1 {v20.4s, v21.4s}, [%[y]], %[step]\n "
        "ld1 {v20.4s, v21.4s}, [%[w]]\n fmla v22.4s, v24.4s, v4.4s\n fmla v23.4s, v25.4s, v5.4s\n "
        "fmla v18.4s, v24.4s, v2.4s\n fmla v19.4s, v25.4s, v3.4s\n fmla v20.4s, v24.4s, v0.4s\n "
        "fmla v21.4s, v25.4s, v1.4s\n ld1 {v24.4s, v25.4s}, [%[x0]], %[step0]\n fmla v22.4s, v26.4s, v10.4s\n "
        "fmla v23.4s, v27.4s, v11.4s\n fmla v18.4s, v26.4s, v8.4s\n fmla v19.4s, v27.4s, v9.4s\n "
        "fmla v20.4s, v26.4s, v6.4s\n fmla v21.4s, v27.4s, v7.4s\n ld1 {v26.4s, v27.4s}, [%[x1]], %[step1]\n "
        "fmla v22.4s, v28.4s, v16.4s\n fmla v23.4s, v29.4s, v17.4s\n fmla v18.4s, v28.4s, v14.4s\n "
        "fmla v19.4s, v29.4s, v15.4s\n fmla v20.4s, v28.4s, v12.4s\n fmla v21.4s, v29.4s, v13.4s\n "
        "ld1 {v28.4s, v29.4s}, [%[x2]], %[step2]\n fmax v22.4s, v22.4s, v30.4s\n fmax v23.4s, v23.4s, v30.4s\n "
        "fmin v22.4s, v22.4s, v31.4s\n fmin v23.4s, v23.4s, v31.4s\n st1 {v22.4s, v23.4s}, [%[y]], %[step]\n "
        "subs %[count], %[count], #1\n b.ne 1b\n "
        /* the last columns */
        "fmla v18.4s, v24.4s, v4.4s\n fmla v19.4s, v25.4s, v5.4s\n fmla v20.4s, v24.4s, v2.4s\n "
        "fmla v21.4s, v25.4s, v3.4s\n fmla v18.4s, v26.4s, v10.4s\n fmla v19.4s, v27.4s, v11.4s\n "
        "fmla v20.4s, v26.4s, v8.4s\n fmla v21.4s, v27.4s, v9.4s\n fmla v18.4s, v28.4s, v16.4s\n "
        "fmla v19.4s, v29.4s, v17.4s\n fmla v20.4s, v28.4s, v14.4s\n fmla v21.4s, v29.4s, v15.4s\n "
        "fmax v18.4s, v18.4s, v30.4s\n fmax v19.4s, v19.4s, v30.4s\n fmin v18.4s, v18.4s, v31.4s\n "
        "fmin v19.4s, v19.4s, v31.4s\n st1 {v18.4s, v19.4s}, [%[y]], %[step]\n fmax v20.4s, v20.4s, v30.4s\n "
        "fmax v21.4s, v21.4s, v30.4s\n fmin v20.4s, v20.4s, v31.4s\n fmin v21.4s, v21.4s, v31.4s\n "
        "st1 {v20.4s, v21.4s}, [%[y]], %[step]\n "
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
