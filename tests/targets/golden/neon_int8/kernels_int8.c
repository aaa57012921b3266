/* small CNN: int8. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"
#include "int8_assembly.h"
#include "fixed.h"

#pragma GCC diagnostic ignored "-Woverlength-strings" /* of assembly */

void depthwise_6e9e84(const int8_t *xa, const int8_t *xb, const int32_t *xc, const int32_t *xd, const int32_t *xe,
    int8_t *y)
{
    for (ptrdiff_t i0 = 0; i0 < 1; i0++) {
        for (ptrdiff_t i1 = 0; i1 < 8; i1++) {
            for (ptrdiff_t i2 = 0; i2 < 8; i2++) {
                for (ptrdiff_t i3 = 0; i3 < 8; i3++) {
                    for (ptrdiff_t i4 = 0; i4 < 1; i4++) {
                        const int32_t c = xc[0 + i3 + i4];
                        const int32_t d = xd[0 + i3 + i4];
                        const int32_t e = xe[0 + i3 + i4];
                        const int8_t *pa = xa + i0 * 800 + i1 * 80 + i2 * 8 + i3;
                        const int8_t *pb = xb + i3 + i4;
                        int32_t sum = c;
                        for (ptrdiff_t k0 = 0; k0 < 3; k0++) {
                            for (ptrdiff_t k1 = 0; k1 < 3; k1++) {
                                const int8_t a = pa[0 + k0 * 80 + k1 * 8];
                                const int8_t b = pb[0 + k0 * 24 + k1 * 8];
                                sum = sum + a * b;
                            }
                        }
                        *y++ = (int8_t)(clamped(times(sum, d, e), 0, 255) - 128);
                    }
                }
            }
        }
    }
}

/* Zero points, factors as mantissas in Q31 with shifts that are not positive, and limits are `numbers`. */
void int8_sum_half_a(const int8_t *a, const int8_t *b, const int32_t *numbers, int8_t *y, size_t steps, size_t rest)
{
    const int32_t zero_a = numbers[0];
    const int32_t zero_b = numbers[1];
    const int32_t zero_y = numbers[2];
    const int32_t times_a = numbers[3];
    const int32_t times_b = numbers[4];
    const int32_t times_y = numbers[5];
    const int32_t shift_a = numbers[6];
    const int32_t shift_b = numbers[7];
    const int32_t shift_y = numbers[8];
    const int32_t least = numbers[9];
    const int32_t most = numbers[10];
#if defined(__aarch64__)
    while (steps) {
        __asm__ volatile(
            /* factors */
            "dup v0.16b, %w[zero_a]\n dup v1.16b, %w[zero_b]\n dup v2.8h, %w[zero_y]\n dup v5.4s, %w[times_a]\n "
            "dup v28.4s, %w[shift_a]\n dup v6.4s, %w[times_b]\n dup v29.4s, %w[shift_b]\n "
            "dup v7.4s, %w[times_y]\n dup v30.4s, %w[shift_y]\n "
            /* limits */
            "dup v3.16b, %w[least]\n dup v4.16b, %w[most]\n "
            /* 16 elements */
            "0:\n"
            "ldr q8, [%[a]], #16\n ldr q9, [%[b]], #16\n ssubl v10.8h, v8.8b, v0.8b\n "
            "ssubl2 v11.8h, v8.16b, v0.16b\n ssubl v12.8h, v9.8b, v1.8b\n ssubl2 v13.8h, v9.16b, v1.16b\n "
            /* a on the scale of the sum */
            "sshll v16.4s, v10.4h, #15\n sshll2 v17.4s, v10.8h, #15\n sshll v18.4s, v11.4h, #15\n "
            "sshll2 v19.4s, v11.8h, #15\n shl v16.4s, v16.4s, #4\n shl v17.4s, v17.4s, #4\n "
            "shl v18.4s, v18.4s, #4\n shl v19.4s, v19.4s, #4\n "
            /* b */
            "sshll v20.4s, v12.4h, #15\n sshll2 v21.4s, v12.8h, #15\n sshll v22.4s, v13.4h, #15\n "
            "sshll2 v23.4s, v13.8h, #15\n shl v20.4s, v20.4s, #5\n shl v21.4s, v21.4s, #5\n "
            "shl v22.4s, v22.4s, #5\n shl v23.4s, v23.4s, #5\n " SCALED(20, 21, 22, 23, 6, 6, 6, 6, 29, 29, 29, 29)
            /* the sum, in bytes */
            "add v16.4s, v16.4s, v20.4s\n add v17.4s, v17.4s, v21.4s\n add v18.4s, v18.4s, v22.4s\n "
            "add v19.4s, v19.4s, v23.4s\n " SCALED(16, 17, 18, 19, 7, 7, 7, 7, 30, 30, 30, 30)
            "sqxtn v16.4h, v16.4s\n sqxtn2 v16.8h, v17.4s\n sqxtn v18.4h, v18.4s\n sqxtn2 v18.8h, v19.4s\n "
            "sqadd v16.8h, v16.8h, v2.8h\n sqadd v18.8h, v18.8h, v2.8h\n sqxtn v16.8b, v16.8h\n "
            "sqxtn2 v16.16b, v18.8h\n smax v16.16b, v16.16b, v3.16b\n smin v16.16b, v16.16b, v4.16b\n "
            "str q16, [%[y]], #16\n subs %[steps], %[steps], #1\n b.ne 0b\n "
            : [a] "+&r"(a), [b] "+&r"(b), [y] "+&r"(y), [steps] "+&r"(steps)
            : [zero_a] "r"(zero_a), [zero_b] "r"(zero_b), [zero_y] "r"(zero_y), [times_a] "r"(times_a),
              [times_b] "r"(times_b), [times_y] "r"(times_y), [shift_a] "r"(shift_a), [shift_b] "r"(shift_b),
              [shift_y] "r"(shift_y), [least] "r"(least), [most] "r"(most)
            : "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
                "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v28", "v29", "v30");
        if (rest) { /* once more, up to the end */
            a -= 16 - rest;
            b -= 16 - rest;
            y -= 16 - rest;
            steps = 1;
            rest = 0;
        }
    }
#else
    for (size_t i = 0; i < 16 * steps + rest; i++) {
        const int32_t left = times((a[i] - zero_a) * 1048576, times_a, shift_a);
        const int32_t right = times((b[i] - zero_b) * 1048576, times_b, shift_b);
        const int32_t scaled = times(left + right, times_y, shift_y);
        y[i] = (int8_t)(clamped(scaled, least - zero_y, most - zero_y) + zero_y);
    }
#endif
}
