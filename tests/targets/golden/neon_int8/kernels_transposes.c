/* small CNN: transposes. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"

/* Elements of 3 places become neighbours. */
void join_3_channels_8bit(const uint8_t *x, uint8_t *y, size_t columns, size_t s)
{
    const uint8_t *from = x;
    uint8_t *to = y;
    size_t i = 0;
    for (; i + 16 <= columns; i += 16) {
        uint8x16x3_t v;
        v.val[0] = vld1q_u8(from + i);
        v.val[1] = vld1q_u8(from + s + i);
        v.val[2] = vld1q_u8(from + 2 * s + i);
        vst3q_u8(to + 3 * i, v);
    }
    for (; i < columns; i++)
        for (size_t c = 0; c < 3; c++)
            to[3 * i + c] = from[c * s + i];
}
